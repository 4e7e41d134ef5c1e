/* Between a process and its modules, each of which has a libssl of its own. */

#ifndef MODULE_H
#define MODULE_H

/* What came of a module's handshakes. */
struct served {
    unsigned long version; /* of its TLS library */
    int full;              /* full handshakes with a ticket */
    int resumed;           /* with that ticket, at the same context */
    int elsewhere;         /* with that ticket, at another context of the module */
    int keys;              /* names that followed another one: 1 if it was always the same */
    unsigned char name[16]; /* the key name of the first ticket */
};

typedef void serve_fn(struct served *served);

/* Exported by a module. */
serve_fn serve;

#endif
