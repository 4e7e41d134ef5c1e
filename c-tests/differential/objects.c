/* Lives of SSLs and SSL_CTXs, and what is replaced while they live. */

#include "differential.h"

/* One SSL after another connection: SSL_clear. */
static void cleared(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    begin(&conn, "second", server, client, first, "a.test");
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish_but_keep(&conn));
    SSL *again = conn.server;
    SSL_free(conn.client);
    static const char *const LABELS[] = {"b on the same SSL", "b's ticket on the same SSL", "a's on the same SSL"};
    static const char *const HOSTS[] = {"b.test", "b.test", "a.test"};
    SSL_SESSION *of_b = NULL;
    for (int i = 0; i < 3; i++) {
        char key[40];
        snprintf(key, sizeof key, "SSL_clear %d", i);
        int rc = OBSERVED(key, SSL_clear(again));
        snprintf(key, sizeof key, "SSL_clear %d returns", i);
        say(key, "%d", rc);
        begin_with(&conn, LABELS[i], again, SSL_new(client), i == 1 ? of_b : i ? first : NULL, HOSTS[i]);
        shake(&conn);
        report(&conn);
        SSL_SESSION *got = finish_but_keep(&conn);
        if (i == 0)
            of_b = got;
        SSL_free(conn.client);
    }
    SSL_SESSION_free(visit("b's ticket", server, client, of_b, "b.test"));
    SSL_SESSION_free(visit("b's ticket at a", server, client, of_b, "a.test"));
    OBSERVED_VOID("SSL_free", SSL_free(again));
}

/* A name from before SSL_clear must not get into the next ticket. */
static void cleared_then_by_id(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version), *no_ticket = new_client(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER);
    SSL_CTX_set_options(no_ticket, SSL_OP_NO_TICKET);
    SSL_SESSION *a = visit("a", server, client, NULL, "a.test");
    SSL_SESSION *by_id = visit("b without a ticket", server, no_ticket, NULL, "b.test");
    begin(&conn, "a again", server, client, a, "a.test");
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish_but_keep(&conn));
    SSL_free(conn.client);
    SSL *again = conn.server;
    say("cleared", "%d", SSL_clear(again));
    begin_with(&conn, "b by id", again, SSL_new(client), by_id, "b.test");
    shake(&conn);
    report(&conn);
    SSL_SESSION *of_b = SSL_get1_session(conn.client);
    finish_but_keep(&conn);
    SSL_free(conn.client);
    SSL_free(again);
    SSL_CTX_flush_sessions(server, 0x7fffffff);
    SSL_SESSION_free(visit("b's ticket at b", server, client, of_b, "b.test"));
    SSL_SESSION_free(visit("b's ticket at a", server, client, of_b, "a.test"));
    SSL_SESSION_free(visit("b's ticket without name", server, client, of_b, NULL));
}

/* Copies of a connection that has not begun, of one that was, and of both freed. */
static void duplicated(int version)
{
    struct connection conn;
    /* Without any, OpenSSL 3.0 cannot copy an SSL whose data was set. */
    SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    ready(server);
    SSL *one = SSL_new(server);
    SSL_set_accept_state(one);
    SSL *two = OBSERVED("SSL_dup of a new one", SSL_dup(one));
    say("another", "%d", two && two != one);
    begin_with(&conn, "the copy", two, SSL_new(client), first, "a.test");
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));
    begin_with(&conn, "the original", one, SSL_new(client), first, "a.test");
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish_but_keep(&conn));
    SSL_free(conn.client);

    say("cleared", "%d", SSL_clear(one));
    SSL *three = OBSERVED("SSL_dup of a cleared one", SSL_dup(one));
    say("another again", "%d", three && three != one);
    OBSERVED_VOID("SSL_free of the original", SSL_free(one));
    if (three && three != one) {
        begin_with(&conn, "the copy of a cleared one", three, SSL_new(client), NULL, "b.test");
        shake(&conn);
        report(&conn);
        SSL_SESSION_free(finish(&conn));
    }
    SSL_SESSION_free(visit("after all", server, client, first, "a.test"));
}

static void context_counted(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    say("up_ref", "%d", OBSERVED("SSL_CTX_up_ref", SSL_CTX_up_ref(server)));
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    OBSERVED_VOID("SSL_CTX_free of one reference", SSL_CTX_free(server));
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    OBSERVED_VOID("SSL_CTX_free of the last", SSL_CTX_free(server));
}

/* A server that reloads: contexts go while their connections live. */
static void context_freed(int version)
{
    struct connection conns[3];
    static const char *const LABELS[] = {"first", "second", "third"};
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("before", server, client, NULL, "a.test");
    for (int i = 0; i < 3; i++) {
        begin(&conns[i], LABELS[i], server, client, i ? first : NULL, "a.test");
        if (i == 2)
            step_client(&conns[i]), step_server(&conns[i]);
    }
    OBSERVED_VOID("SSL_CTX_free", SSL_CTX_free(server));
    for (int i = 0; i < 3; i++) {
        shake(&conns[i]);
        report(&conns[i]);
        SSL_SESSION_free(finish(&conns[i]));
    }
    SSL_SESSION_free(first);
}

/* Between SSL_new and the handshake, and within: what a connection was made with is what counts. */
static SSL_CTX *replaced_context;
static X509 *replacement;

static int replace_by_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    if (replacement) {
        event(ssl, "replaced %d", SSL_CTX_use_certificate(replaced_context, replacement));
        X509_free(replacement);
        replacement = NULL;
    }
    return SSL_TLSEXT_ERR_OK;
}

static void certificate_replaced(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    X509 *cert = another_certificate(ECDSA_CERT, 1000);
    SSL_CTX_use_certificate(server, cert);
    X509_free(cert);
    SSL_CTX_set_tlsext_servername_callback(server, replace_by_name);
    replaced_context = server;
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("unchanged", server, client, first, "a.test"));

    begin(&conn, "after SSL_new", server, client, first, "a.test");
    cert = another_certificate(ECDSA_CERT, 1001);
    say("replaced after SSL_new", "%d",
        OBSERVED("SSL_CTX_use_certificate", SSL_CTX_use_certificate(server, cert)));
    X509_free(cert);
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));

    SSL_SESSION *second = visit("of the second", server, client, NULL, "a.test");
    replacement = another_certificate(ECDSA_CERT, 1002);
    SSL_SESSION_free(visit("within the handshake", server, client, second, "a.test"));
    replacement = another_certificate(ECDSA_CERT, 1003);
    SSL_SESSION_free(visit("within a full handshake", server, client, NULL, "a.test"));
    SSL_SESSION_free(visit("first again", server, client, first, "a.test"));
    SSL_SESSION_free(visit("second again", server, client, second, "a.test"));
}

/* Certificates of two kinds: loaded in another order they are the same service. */
static void two_certificates(int version)
{
    static const int ORDERS[2][2] = {{ECDSA_CERT, ED25519_CERT}, {ED25519_CERT, ECDSA_CERT}};
    SSL_CTX *servers[2], *client = new_client(version);
    for (int i = 0; i < 2; i++) {
        servers[i] = new_server(version);
        for (int k = 0; k < 2; k++) {
            NEED(SSL_CTX_use_certificate(servers[i], certificate(ORDERS[i][k])) == 1);
            NEED(SSL_CTX_use_PrivateKey(servers[i], private_key(ORDERS[i][k])) == 1);
        }
    }
    SSL_SESSION *first = visit("first", servers[0], client, NULL, "a.test");
    SSL_SESSION_free(visit("second", servers[0], client, first, "a.test"));
    SSL_SESSION_free(visit("loaded in another order", servers[1], client, first, "a.test"));
}

/* The private key and certificate go away altogether; tickets need neither. */
static void method_switched(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    begin(&conn, "another method", server, client, first, "a.test");
    say("switched", "%d", OBSERVED("SSL_set_ssl_method", SSL_set_ssl_method(conn.server, TLS_method())));
    SSL_set_accept_state(conn.server);
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));
}

/* One context for both directions, as proxies and Python have it. */
static void both_directions(int version)
{
    struct connection conn;
    SSL_CTX *both = OBSERVED("SSL_CTX_new for both", SSL_CTX_new(TLS_method()));
    NEED(SSL_CTX_use_certificate(both, certificate(ECDSA_CERT)) == 1);
    NEED(SSL_CTX_use_PrivateKey(both, private_key(ECDSA_CERT)) == 1);
    SSL_CTX_set_session_id_context(both, (const unsigned char *)"both", 4);
    SSL_CTX_set_min_proto_version(both, version);
    SSL_CTX_set_max_proto_version(both, version);
    SSL_CTX_set_session_cache_mode(both, SSL_SESS_CACHE_BOTH | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(both, on_new_session);
    record_callbacks(both);
    ready(both);
    SSL_SESSION *first = NULL;
    for (int i = 0; i < 2; i++) {
        begin_with(&conn, i ? "second" : "first", SSL_new(both), SSL_new(both), first, "a.test");
        shake(&conn);
        report(&conn);
        SSL_SESSION *got = finish(&conn);
        first = first ? first : got;
    }
    OBSERVED_VOID("SSL_CTX_free", SSL_CTX_free(both));
}

static void many_slots(int version)
{
    /* Data of the application's own, on context, connection and session. */
    int of_ctx = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    int of_ssl = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    int of_session = SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_ex_data(server, of_ctx, (void *)1);
    begin(&conn, "first", server, client, NULL, "a.test");
    SSL_set_ex_data(conn.server, of_ssl, (void *)2);
    shake(&conn);
    SSL_SESSION_set_ex_data(SSL_get_session(conn.server), of_session, (void *)3);
    say("kept", "%ld %ld %ld", (long)SSL_CTX_get_ex_data(server, of_ctx),
        (long)SSL_get_ex_data(conn.server, of_ssl),
        (long)SSL_SESSION_get_ex_data(SSL_get_session(conn.server), of_session));
    say("SSL_get_SSL_CTX", "%s", SSL_get_SSL_CTX(conn.server) == server ? "as given" : "another");
    report(&conn);
    SSL_SESSION_free(finish(&conn));
}

/* Arguments that are none. */
static void null_arguments(int version)
{
    (void)version;
    say("SSL_CTX_new", "%s", OBSERVED("SSL_CTX_new of no method", SSL_CTX_new(NULL)) ? "made" : "none");
    say("SSL_new", "%s", OBSERVED("SSL_new of no context", SSL_new(NULL)) ? "made" : "none");
    OBSERVED_VOID("SSL_CTX_free of none", SSL_CTX_free(NULL));
}

const struct scenario OBJECTS[] = {
    IN_BOTH(cleared),
    IN_12(cleared_then_by_id),
    IN_BOTH(duplicated),
    IN_BOTH(context_counted),
    IN_BOTH(context_freed),
    IN_BOTH(certificate_replaced),
    IN_BOTH(two_certificates),
    IN_BOTH(method_switched),
    IN_BOTH(both_directions),
    IN_BOTH(many_slots),
    ANY(null_arguments),
    {0},
};
