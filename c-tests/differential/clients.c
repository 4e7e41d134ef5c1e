/* Client certificates. */

#include "differential.h"

static void visit_thrice(SSL_CTX *server, SSL_CTX *client)
{
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION *second = visit("second", server, client, first, "a.test");
    SSL_SESSION_free(visit("third", server, client, second, "a.test"));
    say_counts("counts", server);
}

static void asked(int version)
{
    SSL_CTX *server = new_server(version);
    ask_for_certificate(server, SSL_VERIFY_PEER);
    visit_thrice(server, new_certified_client(version));
}

static void asked_in_vain(int version)
{
    SSL_CTX *server = new_server(version);
    ask_for_certificate(server, SSL_VERIFY_PEER);
    visit_thrice(server, new_client(version));
}

static void required(int version)
{
    SSL_CTX *server = new_server(version);
    ask_for_certificate(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    visit_thrice(server, new_certified_client(version));
}

static void required_in_vain(int version)
{
    SSL_CTX *server = new_server(version);
    ask_for_certificate(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    visit_thrice(server, new_client(version));
}

/* libssl resumes no session there, by intent. One that it would have to refuse must not come up. */
static void without_id_context(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_id_context(server, (const unsigned char *)"", 0);
    ask_for_certificate(server, SSL_VERIFY_PEER);
    visit_thrice(server, new_certified_client(version));
}

static void without_id_context_in_vain(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_id_context(server, (const unsigned char *)"", 0);
    ask_for_certificate(server, SSL_VERIFY_PEER);
    visit_thrice(server, new_client(version));
}

/* As above, with a context for each connection, as inetd-like servers have it. */
static void context_for_each(int version)
{
    SSL_CTX *client = new_certified_client(version);
    SSL_SESSION *session = NULL;
    static const char *const LABELS[] = {"first", "second", "third"};
    for (int i = 0; i < 3; i++) {
        SSL_CTX *server = new_server(version);
        SSL_CTX_set_session_id_context(server, (const unsigned char *)"", 0);
        ask_for_certificate(server, SSL_VERIFY_PEER);
        SSL_SESSION *got = visit(LABELS[i], server, client, session, "a.test");
        SSL_SESSION_free(session);
        session = got;
        char key[32];
        snprintf(key, sizeof key, "SSL_CTX_free %d", i);
        OBSERVED_VOID(key, SSL_CTX_free(server));
    }
}

/* The id context is the connection's (Postfix, some of Apache), or changed for it. */
static void id_context_of_connection(int version)
{
    SSL_CTX *server = new_server(version), *client = new_certified_client(version);
    SSL_CTX_set_session_id_context(server, (const unsigned char *)"", 0);
    ask_for_certificate(server, SSL_VERIFY_PEER);
    SSL_SESSION *session = NULL;
    static const char *const LABELS[] = {"first", "second", "another"};
    for (int i = 0; i < 3; i++) {
        struct connection conn;
        begin(&conn, LABELS[i], server, client, session, "a.test");
        SSL_set_session_id_context(conn.server, (const unsigned char *)(i < 2 ? "one" : "two"), 3);
        shake(&conn);
        report(&conn);
        SSL_SESSION *got = finish(&conn);
        if (!session)
            session = got;
    }
}

/* redis, valkey: the mode is set on each SSL, after SSL_new. */
static void verify_on_connection(int version)
{
    static const struct {
        const char *label;
        int mode;
        int offers;
    } VISITS[] = {{"plain", SSL_VERIFY_NONE, 0},
                  {"plain again", SSL_VERIFY_NONE, 1},
                  {"asked, ticket of plain", SSL_VERIFY_PEER, 1},
                  {"asked", SSL_VERIFY_PEER, 0},
                  {"asked again", SSL_VERIFY_PEER, 1},
                  {"plain, ticket of asked", SSL_VERIFY_NONE, 1}};
    for (int of_context = 0; of_context < 2; of_context++) {
        SSL_CTX *server = new_server(version), *client = new_certified_client(version);
        SSL_SESSION *session = NULL;
        ask_for_certificate(server, of_context ? SSL_VERIFY_PEER : SSL_VERIFY_NONE);
        for (size_t i = 0; i < sizeof VISITS / sizeof *VISITS; i++) {
            struct connection conn;
            char label[64];
            snprintf(label, sizeof label, "%s, context %s", VISITS[i].label,
                     of_context ? "asks" : "does not");
            begin(&conn, label, server, client, VISITS[i].offers ? session : NULL, "a.test");
            SSL_set_verify(conn.server, VISITS[i].mode, NULL);
            shake(&conn);
            report(&conn);
            SSL_SESSION *got = finish(&conn);
            if (!VISITS[i].offers)
                session = got;
        }
    }
}

/* Two services of one process and one key ring: what one asks for the other does not. */
static void open_and_closed(int version)
{
    SSL_CTX *open = new_server(version), *closed = new_server(version);
    SSL_CTX *with = new_certified_client(version), *without = new_client(version);
    ask_for_certificate(closed, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    SSL_SESSION *of_open = visit("open", open, without, NULL, "a.test");
    SSL_SESSION_free(visit("open's at closed", closed, without, of_open, "a.test"));
    SSL_SESSION *of_closed = visit("closed", closed, with, NULL, "a.test");
    SSL_SESSION_free(visit("closed's at open", open, with, of_closed, "a.test"));
    SSL_SESSION_free(visit("closed's at closed", closed, with, of_closed, "a.test"));
}

/* The same service is given another policy while it serves. */
static void policy_changes(int version)
{
    SSL_CTX *server = new_server(version), *client = new_certified_client(version);
    SSL_SESSION *plain = visit("plain", server, client, NULL, "a.test");
    ask_for_certificate(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    SSL_SESSION_free(visit("plain's where required", server, client, plain, "a.test"));
    SSL_SESSION *required = visit("required", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("required again", server, client, required, "a.test"));
    SSL_CTX_set_verify(server, SSL_VERIFY_NONE, NULL);
    SSL_SESSION_free(visit("plain again", server, client, plain, "a.test"));
    SSL_SESSION_free(visit("required's where plain", server, client, required, "a.test"));
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    event(ssl, "verify %d error %d depth %d", ok, X509_STORE_CTX_get_error(store),
          X509_STORE_CTX_get_error_depth(store));
    return 1;
}

/* A verify callback that lets everybody in; the result remains, also over a resumption. */
static void verified_by_callback(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER, on_verify);
    visit_thrice(server, new_certified_client(version));
}

static void not_trusted(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER, NULL);
    visit_thrice(server, new_certified_client(version));
}

/* nginx: the servername callback sets what the switched context asks for. */
static SSL_CTX *closed_context;

static int switch_and_verify(SSL *ssl, int *alert, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert, (void)arg;
    event(ssl, "servername %s", name ? name : "-");
    if (name && name[0] == 'b') {
        SSL_set_SSL_CTX(ssl, closed_context);
        SSL_set_verify(ssl, SSL_CTX_get_verify_mode(closed_context),
                       SSL_CTX_get_verify_callback(closed_context));
    }
    return SSL_TLSEXT_ERR_OK;
}

static void asked_by_name(int version)
{
    SSL_CTX *server = new_server(version), *client = new_certified_client(version);
    closed_context = new_server(version);
    ask_for_certificate(closed_context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
    ready(closed_context);
    SSL_CTX_set_tlsext_servername_callback(server, switch_and_verify);
    SSL_SESSION *a = visit("a", server, client, NULL, "a.test");
    SSL_SESSION *b = visit("b", server, client, NULL, "b.test");
    SSL_SESSION_free(visit("b again", server, client, b, "b.test"));
    SSL_SESSION_free(visit("a's at b", server, client, a, "b.test"));
    SSL_SESSION_free(visit("b's at a", server, client, b, "a.test"));
    SSL_SESSION_free(visit("a again", server, client, a, "a.test"));
}

static void post_handshake(int version)
{
    SSL_SESSION *session = NULL;
    SSL_CTX *server = new_server(version), *client = new_certified_client(version);
    SSL_CTX_set_post_handshake_auth(client, 1);
    ask_for_certificate(server, SSL_VERIFY_NONE);
    for (int i = 0; i < 2; i++) {
        struct connection conn;
        begin(&conn, i ? "second" : "first", server, client, session, "a.test");
        shake(&conn);
        SSL_set_verify(conn.server, SSL_VERIFY_PEER | SSL_VERIFY_POST_HANDSHAKE, NULL);
        say(i ? "asked again" : "asked", "%d",
            OBSERVED(i ? "SSL_verify_client_post_handshake again" : "SSL_verify_client_post_handshake",
                     SSL_verify_client_post_handshake(conn.server)));
        step_server(&conn);
        read_client(&conn);
        read_server(&conn);
        exchange(&conn);
        report(&conn);
        SSL_SESSION *got = finish(&conn);
        if (!session)
            session = got;
    }
    say_counts("counts", server);
}

const struct scenario CLIENTS[] = {
    IN_BOTH(asked),
    IN_BOTH(asked_in_vain),
    IN_BOTH(required),
    IN_BOTH(required_in_vain),
    IN_BOTH(without_id_context),
    IN_BOTH(without_id_context_in_vain),
    IN_BOTH(context_for_each),
    IN_BOTH(id_context_of_connection),
    IN_BOTH(verify_on_connection),
    IN_BOTH(open_and_closed),
    IN_BOTH(policy_changes),
    IN_BOTH(verified_by_callback),
    IN_BOTH(not_trusted),
    IN_BOTH(asked_by_name),
    IN_13(post_handshake),
    {0},
};
