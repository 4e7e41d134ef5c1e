/*
 * The differential test: a server that does everything that servers do, and
 * writes down all that an application can see of it. Run bare, under the shim
 * and linked with libtktrot (-DLINKED), what it writes may differ only where
 * `expected.txt` says so, and why.
 *
 * Each scenario is a process of its own. What it prints is lines `key: value`,
 * each key once; nothing that is random, an address or a time.
 */

#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define OPENSSL_SUPPRESS_DEPRECATED /* what servers still call */

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#ifdef LINKED
#include <tktrot.h>
#endif

#define IS_3 (OPENSSL_VERSION_NUMBER >= 0x30000000L)

/* What these replace is deprecated, and may not be there. */
#if OPENSSL_VERSION_NUMBER >= 0x30400000L
#define SSL_CTX_flush_sessions SSL_CTX_flush_sessions_ex
#define SSL_SESSION_get_time SSL_SESSION_get_time_ex
#endif

/* --- scenarios --- */

struct scenario {
    const char *name;
    void (*run)(int version);
    int version;
};

#define ANY(name) {#name, name, 0}
#define IN_12(name) {#name "/1.2", name, TLS1_2_VERSION}
#define IN_13(name) {#name "/1.3", name, TLS1_3_VERSION}
#define IN_BOTH(name) IN_12(name), IN_13(name)

/* One table for each topic; the last has no name. */
extern const struct scenario HANDSHAKES[], TICKETS[], CACHES[], NAMES[], CLIENTS[], OBJECTS[],
    THREADS[], PROCESSES[], TRACES[], CONTEXTS[], MEMORY[];

/* Prints a line of the scenario that runs. */
__attribute__((format(printf, 2, 3))) void say(const char *key, const char *format, ...);

/* The scenario cannot be: the reason is the test's own, and ends it. */
__attribute__((format(printf, 1, 2), noreturn)) void give_up(const char *format, ...);

/* This TLS library has nothing like it. */
#define NOT_IN_THIS_VERSION() say("scenario", "not in this version")

#define NEED(condition)                                                                    \
    do {                                                                                   \
        if (!(condition))                                                                  \
            give_up("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                  \
    } while (0)

/* So many rounds, or few where C_TESTS_BRIEF is set. */
int rounds(int all, int few);

/* --- what a call leaves behind (observe.c) --- */

struct text {
    size_t len;
    char bytes[6000];
};

__attribute__((format(printf, 2, 3))) void add(struct text *to, const char *format, ...);

/* Adds a word to a list. */
__attribute__((format(printf, 2, 3))) void add_word(struct text *to, const char *format, ...);

/* An error of the application's own on the queue, with a mark above it. */
void put_own_error(void);

/*
 * Around each call: puts an error of the application's own on the queue,
 * marks it, and sets errno; then tells what became of that, of what else is on the
 * queue, and of the thread. Where libssl would take an error for its own
 * (SSL_get_error), the queue is left empty.
 */
void enter(int with_own_error);

/* What the call left; empty if nothing. Empties the queue. */
const char *left(struct text *to);

#define OBSERVED(key, call)                                                                \
    __extension__({                                                                        \
        struct text left_ = {0};                                                           \
        enter(1);                                                                          \
        __typeof__(call) result_ = (call);                                                 \
        say_left(key, &left_);                                                             \
        result_;                                                                           \
    })

#define OBSERVED_VOID(key, call)                                                           \
    do {                                                                                   \
        struct text left_ = {0};                                                           \
        enter(1);                                                                          \
        call;                                                                              \
        say_left(key, &left_);                                                             \
    } while (0)

void say_left(const char *key, struct text *left);

/* Threads of this process; file descriptors that are open. */
int count_threads(void);
int count_descriptors(void);

/* --- contexts (world.c) --- */

enum { ECDSA_CERT, OTHER_ECDSA_CERT, ED25519_CERT, CLIENT_CERT, CERTS };

/* The first of a kind is made when it is asked for, and kept. */
X509 *certificate(int which);
EVP_PKEY *private_key(int which);

/* Another certificate for the same key and name. */
X509 *another_certificate(int which, int serial);

/* A server's context, with a certificate, no session cache and callbacks that are recorded. */
SSL_CTX *new_server(int version);

/* Without any of our callbacks and observations, as fast as can be. */
SSL_CTX *new_quiet_server(int version);

SSL_CTX *new_client(int version);

/* Where we are linked with libtktrot, installs it, once; else does nothing. */
void ready(SSL_CTX *ctx);

/* For a context that was made in an OSSL_LIB_CTX, with properties: the library has to be told. */
void ready_in(SSL_CTX *ctx, void *libctx, const char *properties);

/* The server asks for a client certificate, and knows the one of `new_certified_client`. */
void ask_for_certificate(SSL_CTX *ctx, int mode);
SSL_CTX *new_certified_client(int version);

/* What SSL_CTX_sess_*() counted. */
void say_counts(const char *key, SSL_CTX *ctx);

/* --- connections (connection.c) --- */

struct connection {
    const char *label;
    SSL *server, *client;
    int server_is, client_is;       /* SSL_ERROR_NONE, or where each stands */
    struct text servers, clients;   /* what each call of a side came to */
    struct text events;             /* what was called, in order */
    SSL_SESSION *session;           /* the client's newest */
    int sessions;                   /* that the client was given */
    int loud;                       /* prints and records */
};

/* Two SSLs and what joins them; a session is offered as a copy. */
void begin(struct connection *conn, const char *label, SSL_CTX *server, SSL_CTX *client,
           SSL_SESSION *offered, const char *host);

/* For SSLs that exist already. */
void begin_with(struct connection *conn, const char *label, SSL *server, SSL *client,
                SSL_SESSION *offered, const char *host);

/* Both sides, until each is done or can get no further; then data in both directions. */
void shake(struct connection *conn);

/* Only the handshake, then only the data. */
void handshake(struct connection *conn);
void exchange(struct connection *conn);

/* One call of SSL_do_handshake, of SSL_read. */
void step_server(struct connection *conn);
void step_client(struct connection *conn);
void read_server(struct connection *conn);
void read_client(struct connection *conn);

/* All that can be seen now. */
void report(struct connection *conn);

/* Shuts down and frees; the client's newest session, for the caller to free, or NULL. */
SSL_SESSION *finish(struct connection *conn);

/* As `finish`, with the SSLs alive, shut down. */
SSL_SESSION *finish_but_keep(struct connection *conn);

/* All of that. */
SSL_SESSION *visit(const char *label, SSL_CTX *server, SSL_CTX *client, SSL_SESSION *offered,
                   const char *host);

/* Silent: 2 if resumed, 1 if full, 0 if failed. Gives the session if asked. */
int quick(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *offered, const char *host,
          SSL_SESSION **session);
const char *outcome_name(int outcome);

/* The connection that an SSL belongs to; NULL for none. */
struct connection *connection_of(const SSL *ssl);

/* Something was called. */
__attribute__((format(printf, 2, 3))) void event(const SSL *ssl, const char *format, ...);

SSL_SESSION *copy_of(SSL_SESSION *session);

/* The session with a bit of byte `at` of its ticket flipped, from the end if < 0. */
SSL_SESSION *flipped(SSL_SESSION *session, long at);

/* Callbacks of every context. */
void record_callbacks(SSL_CTX *ctx);
int on_new_session(SSL *client, SSL_SESSION *session);

/* Moves time(2) of this program. */
extern long time_offset;

#endif
