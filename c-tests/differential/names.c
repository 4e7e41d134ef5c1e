/* Server names, and contexts that are switched by them. */

#include "differential.h"

static SSL_CTX *other_context;

static int switch_by_name(SSL *ssl, int *alert, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert, (void)arg;
    event(ssl, "servername %s", name ? name : "-");
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    if (strncmp(name, "b.", 2) == 0)
        event(ssl, "switched: %d", SSL_set_SSL_CTX(ssl, other_context) == other_context);
    if (strncmp(name, "alert.", 6) == 0)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

static int switch_by_hello(SSL *ssl, int *alert, void *arg)
{
    const unsigned char *bytes;
    size_t len;
    (void)alert, (void)arg;
    int has = SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &bytes, &len);
    event(ssl, "client_hello, name %d", has);
    if (has && len > 5 && memmem(bytes, len, "b.test", 6))
        event(ssl, "switched: %d", SSL_set_SSL_CTX(ssl, other_context) == other_context);
    return SSL_CLIENT_HELLO_SUCCESS;
}

static void try_names(SSL_CTX *server, SSL_CTX *client)
{
    SSL_SESSION *a = visit("a", server, client, NULL, "a.test");
    SSL_SESSION *b = visit("b", server, client, NULL, "b.test");
    SSL_SESSION_free(visit("a again", server, client, a, "a.test"));
    SSL_SESSION_free(visit("b again", server, client, b, "b.test"));
    SSL_SESSION_free(visit("b's at a", server, client, b, "a.test"));
    SSL_SESSION_free(visit("a's at b", server, client, a, "b.test"));
    SSL_SESSION_free(visit("a's without name", server, client, a, NULL));
    SSL_SESSION *none = visit("without name", server, client, NULL, NULL);
    SSL_SESSION_free(visit("without name again", server, client, none, NULL));
    SSL_SESSION_free(visit("without name at a", server, client, none, "a.test"));
    say_counts("counts", server);
    if (other_context)
        say_counts("counts of the other", other_context);
}

static void names(int version)
{
    try_names(new_server(version), new_client(version));
}

static SSL_CTX *new_other(int version)
{
    SSL_CTX *other = new_server(version);
    NEED(SSL_CTX_use_certificate(other, certificate(OTHER_ECDSA_CERT)) == 1);
    NEED(SSL_CTX_use_PrivateKey(other, private_key(OTHER_ECDSA_CERT)) == 1);
    return other;
}

static void switched_by_name(int version)
{
    SSL_CTX *server = new_server(version);
    other_context = new_other(version);
    ready(other_context);
    SSL_CTX_set_tlsext_servername_callback(server, switch_by_name);
    try_names(server, new_client(version));
}

/* The other one has no keys of ours: a server may install one context only. */
static void switched_to_untouched(int version)
{
    SSL_CTX *server = new_server(version);
    other_context = new_other(version);
    SSL_CTX_set_tlsext_servername_callback(server, switch_by_name);
    try_names(server, new_client(version));
}

static void switched_by_hello(int version)
{
    SSL_CTX *server = new_server(version);
    other_context = new_other(version);
    ready(other_context);
    SSL_CTX_set_client_hello_cb(server, switch_by_hello, NULL);
    try_names(server, new_client(version));
}

static void switched_before(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX *other = new_other(version);
    SSL_SESSION *session = NULL;
    ready(other);
    for (int i = 0; i < 3; i++) {
        static const char *const LABELS[] = {"first", "second", "not switched"};
        struct connection conn;
        begin(&conn, LABELS[i], server, client, session, "a.test");
        if (i < 2)
            say(i ? "switched again" : "switched", "%d",
                OBSERVED(i ? "SSL_set_SSL_CTX again" : "SSL_set_SSL_CTX",
                         SSL_set_SSL_CTX(conn.server, other)) == other);
        shake(&conn);
        report(&conn);
        SSL_SESSION *got = finish(&conn);
        if (!session)
            session = got;
    }
}

/* Freed as soon as a connection has it, as servers do that reload. */
static void switched_and_freed(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *session = NULL;
    for (int i = 0; i < 2; i++) {
        struct connection conn;
        SSL_CTX *other = new_other(version);
        ready(other);
        begin(&conn, i ? "second" : "first", server, client, session, "a.test");
        SSL_set_SSL_CTX(conn.server, other);
        SSL_CTX_free(other);
        shake(&conn);
        report(&conn);
        SSL_SESSION *got = finish(&conn);
        if (!session)
            session = got;
    }
}

static void refused_by_name(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_tlsext_servername_callback(server, switch_by_name);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("refused", server, client, NULL, "alert.test"));
    SSL_SESSION_free(visit("refused with a ticket", server, client, first, "alert.test"));
    SSL_SESSION_free(visit("after that", server, client, first, "a.test"));
}

static void spellings(int version)
{
    static const char *const SPELLINGS[] = {"a.test", "A.TEST", "a.test.", "xn--a.test", "a.tes", "a"};
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    for (size_t i = 0; i < sizeof SPELLINGS / sizeof *SPELLINGS; i++)
        SSL_SESSION_free(visit(SPELLINGS[i], server, client, first, SPELLINGS[i]));
}

static void long_names(int version)
{
    char name[256];
    SSL_CTX *server = new_server(version), *client = new_client(version);
    memset(name, 'x', sizeof name);
    for (int len = 253; len <= 255; len++) {
        char label[2][40];
        snprintf(label[0], sizeof label[0], "%d bytes", len);
        snprintf(label[1], sizeof label[1], "%d bytes again", len);
        name[len] = 0;
        SSL_SESSION *first = visit(label[0], server, client, NULL, name);
        SSL_SESSION_free(visit(label[1], server, client, first, name));
        name[len] = 'x';
        SSL_SESSION_free(first);
    }
}

/* The name in a ClientHello, changed on its way, as no client of OpenSSL's would send it. What the server
 * makes of it; the handshake itself cannot come to an end. */
static void malformed_names(int version)
{
    static const struct {
        const char *label;
        char bytes[6];
    } NAMES_[] = {
        {"nul in it", {'a', 0, 't', 'e', 's', 't'}},
        {"dots", {'.', '.', '.', '.', '.', '.'}},
        {"blanks", {' ', ' ', '\t', ' ', '/', '%'}},
    };
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    for (size_t i = 0; i < sizeof NAMES_ / sizeof *NAMES_; i++) {
        struct connection conn;
        char bytes[4096];
        begin(&conn, NAMES_[i].label, server, client, NULL, "a.test");
        step_client(&conn);
        int len = BIO_read(SSL_get_wbio(conn.server), bytes, sizeof bytes);
        char *name = memmem(bytes, (size_t)len, "a.test", 6);
        NEED(name);
        memcpy(name, NAMES_[i].bytes, 6);
        BIO_write(SSL_get_wbio(conn.client), bytes, len);
        step_server(&conn);
        step_client(&conn);
        step_server(&conn);
        report(&conn);
        SSL_SESSION_free(finish(&conn));
    }
    SSL_SESSION_free(visit("after that", server, client, first, "a.test"));
}

/* The server waits in its client_hello callback, as those do that look a certificate up. */
static int pauses;

static int pause_hello(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    event(ssl, "client_hello %d", pauses);
    return pauses-- > 0 ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_SUCCESS;
}

static void paused_in_hello(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_client_hello_cb(server, pause_hello, NULL);
    pauses = 2;
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    pauses = 2;
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
}

static int pause_cert(SSL *ssl, void *arg)
{
    (void)arg;
    event(ssl, "cert_cb %d", pauses);
    return pauses-- > 0 ? -1 : 1;
}

static void paused_in_cert_cb(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_cert_cb(server, pause_cert, NULL);
    pauses = 2;
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    pauses = 2;
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
}

/* A certificate for each connection, from the cert callback (as HAProxy and Traffic Server do). */
static int choose_cert(SSL *ssl, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int which = name && name[0] == 'b' ? OTHER_ECDSA_CERT : ECDSA_CERT;
    (void)arg;
    event(ssl, "cert_cb");
    SSL_certs_clear(ssl);
    return SSL_use_certificate(ssl, certificate(which)) == 1 &&
           SSL_use_PrivateKey(ssl, private_key(which)) == 1;
}

static void certificate_of_connection(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_cert_cb(server, choose_cert, NULL);
    try_names(server, new_client(version));
}

const struct scenario NAMES[] = {
    IN_BOTH(names),
    IN_BOTH(switched_by_name),
    IN_BOTH(switched_to_untouched),
    IN_BOTH(switched_by_hello),
    IN_BOTH(switched_before),
    IN_BOTH(switched_and_freed),
    IN_BOTH(refused_by_name),
    IN_BOTH(spellings),
    IN_BOTH(long_names),
    IN_BOTH(malformed_names),
    IN_BOTH(paused_in_hello),
    IN_BOTH(paused_in_cert_cb),
    IN_BOTH(certificate_of_connection),
    {0},
};
