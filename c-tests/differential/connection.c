/* Connections in memory, and all that can be seen of them. */

#include "differential.h"

static const char *name_of_error(int error)
{
    switch (error) {
    case SSL_ERROR_NONE:
        return "done";
    case SSL_ERROR_SSL:
        return "ssl";
    case SSL_ERROR_WANT_READ:
        return "want_read";
    case SSL_ERROR_WANT_WRITE:
        return "want_write";
    case SSL_ERROR_WANT_X509_LOOKUP:
        return "want_x509_lookup";
    case SSL_ERROR_SYSCALL:
        return "syscall";
    case SSL_ERROR_ZERO_RETURN:
        return "zero_return";
    case SSL_ERROR_WANT_ASYNC:
        return "want_async";
    case SSL_ERROR_WANT_ASYNC_JOB:
        return "want_async_job";
    case SSL_ERROR_WANT_CLIENT_HELLO_CB:
        return "want_client_hello_cb";
    default:
        return "?";
    }
}

struct connection *connection_of(const SSL *ssl)
{
    return ssl ? SSL_get_app_data((SSL *)ssl) : NULL;
}

void event(const SSL *ssl, const char *format, ...)
{
    struct connection *conn = connection_of(ssl);
    char word[512];
    va_list arguments;
    if (!conn || !conn->loud)
        return;
    va_start(arguments, format);
    vsnprintf(word, sizeof word, format, arguments);
    va_end(arguments);
    add_word(&conn->events, "%s", word);
}

/* --- callbacks of every context --- */

static const char *name_of_message(int type)
{
    static const char *const NAMES_[] = {
        [0] = "HelloRequest",        [1] = "ClientHello",       [2] = "ServerHello",
        [3] = "HelloVerifyRequest",  [4] = "NewSessionTicket",  [5] = "EndOfEarlyData",
        [8] = "EncryptedExtensions", [11] = "Certificate",      [12] = "ServerKeyExchange",
        [13] = "CertificateRequest", [14] = "ServerHelloDone",  [15] = "CertificateVerify",
        [16] = "ClientKeyExchange",  [20] = "Finished",         [22] = "CertificateStatus",
        [24] = "KeyUpdate",
    };
    int known = type >= 0 && (size_t)type < sizeof NAMES_ / sizeof *NAMES_ && NAMES_[type];
    return known ? NAMES_[type] : "?";
}

static void on_message(int sent, int version, int type, const void *data, size_t len, SSL *ssl,
                       void *arg)
{
    const unsigned char *bytes = data;
    (void)version, (void)arg;
    if (type == SSL3_RT_HANDSHAKE && len >= 4)
        event(ssl, "%c%s", sent ? '>' : '<', name_of_message(bytes[0]));
    else if (type == SSL3_RT_ALERT && len == 2)
        event(ssl, "%calert %s", sent ? '>' : '<', SSL_alert_desc_string_long(bytes[1]));
    else if (type == SSL3_RT_CHANGE_CIPHER_SPEC)
        event(ssl, "%cChangeCipherSpec", sent ? '>' : '<');
}

static void on_info(const SSL *ssl, int where, int rc)
{
    (void)rc;
    if (where & SSL_CB_HANDSHAKE_START)
        event(ssl, "(start)");
    if (where & SSL_CB_HANDSHAKE_DONE)
        event(ssl, "(done)");
}

static int on_servername(SSL *ssl, int *alert, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert, (void)arg;
    event(ssl, "servername %.20s", name ? name : "-");
    return SSL_TLSEXT_ERR_OK;
}

static void on_key_line(const SSL *ssl, const char *line)
{
    event(ssl, "key %.*s", (int)strcspn(line, " "), line);
}

void record_callbacks(SSL_CTX *ctx)
{
    SSL_CTX_set_msg_callback(ctx, on_message);
    SSL_CTX_set_info_callback(ctx, on_info);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    SSL_CTX_set_keylog_callback(ctx, on_key_line);
}

int on_new_session(SSL *client, SSL_SESSION *session)
{
    struct connection *conn = connection_of(client);
    if (!conn)
        return 0;
    event(client, "client gets a session");
    SSL_SESSION_free(conn->session);
    conn->session = session;
    conn->sessions++;
    return 1;
}

/* --- sessions --- */

SSL_SESSION *copy_of(SSL_SESSION *session)
{
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    NEED(copy);
    return copy;
}

SSL_SESSION *flipped(SSL_SESSION *session, long at)
{
    const unsigned char *ticket;
    unsigned char *der = NULL;
    size_t ticket_len;
    SSL_SESSION_get0_ticket(session, &ticket, &ticket_len);
    int len = i2d_SSL_SESSION(session, &der);
    NEED(len > 0 && ticket_len > 64);
    unsigned char *found = memmem(der, (size_t)len, ticket, ticket_len);
    NEED(found);
    found[at < 0 ? (long)ticket_len + at : at] ^= 1;
    const unsigned char *read = der;
    SSL_SESSION *changed = d2i_SSL_SESSION(NULL, &read, len);
    NEED(changed);
    OPENSSL_free(der);
    return changed;
}

/* --- both sides --- */

void begin_with(struct connection *conn, const char *label, SSL *server, SSL *client,
                SSL_SESSION *offered, const char *host)
{
    BIO *near, *far;
    int loud = conn->loud;
    memset(conn, 0, sizeof *conn);
    conn->loud = loud || label;
    conn->label = label;
    conn->server = server;
    conn->client = client;
    conn->server_is = conn->client_is = SSL_ERROR_WANT_READ;
    NEED(server && client && BIO_new_bio_pair(&near, 65536, &far, 65536) == 1);
    SSL_set_bio(client, near, near);
    SSL_set_bio(server, far, far);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    SSL_set_app_data(client, conn);
    SSL_set_app_data(server, conn);
    if (host)
        NEED(SSL_set_tlsext_host_name(client, host) == 1);
    if (offered) {
        SSL_SESSION *copy = copy_of(offered);
        NEED(SSL_set_session(client, copy) == 1);
        SSL_SESSION_free(copy);
    }
}

static void say_of(struct connection *conn, const char *what, const char *text)
{
    char key[128];
    snprintf(key, sizeof key, "%s, %s", conn->label, what);
    say(key, "%s", *text ? text : "-");
}

void begin(struct connection *conn, const char *label, SSL_CTX *server_ctx, SSL_CTX *client_ctx,
           SSL_SESSION *offered, const char *host)
{
    char key[128];
    conn->loud = 0;
    ready(server_ctx);
    SSL *client = SSL_new(client_ctx);
    if (!label) {
        begin_with(conn, NULL, SSL_new(server_ctx), client, offered, host);
        return;
    }
    snprintf(key, sizeof key, "%s, SSL_new", label);
    SSL *server = OBSERVED(key, SSL_new(server_ctx));
    begin_with(conn, label, server, client, offered, host);
}

/* What a call came to. With the queue as it was found empty: libssl takes what is on it for its own. */
static int note(struct connection *conn, struct text *to, SSL *ssl, int rc)
{
    int error_before_us = errno, error = SSL_get_error(ssl, rc);
    if (!conn->loud) {
        ERR_clear_error();
        return rc > 0 ? SSL_ERROR_NONE : error;
    }
    add_word(to, "%s", name_of_error(error));
    errno = error_before_us;
    left(to);
    return rc > 0 ? SSL_ERROR_NONE : error;
}

void step_server(struct connection *conn)
{
    if (conn->loud)
        enter(0);
    conn->server_is = note(conn, &conn->servers, conn->server, SSL_do_handshake(conn->server));
}

void step_client(struct connection *conn)
{
    if (conn->loud)
        enter(0);
    conn->client_is = note(conn, &conn->clients, conn->client, SSL_do_handshake(conn->client));
}

void read_server(struct connection *conn)
{
    char bytes[64];
    if (conn->loud)
        enter(0);
    note(conn, &conn->servers, conn->server, SSL_read(conn->server, bytes, sizeof bytes));
}

void read_client(struct connection *conn)
{
    char bytes[64];
    if (conn->loud)
        enter(0);
    note(conn, &conn->clients, conn->client, SSL_read(conn->client, bytes, sizeof bytes));
}

static int may_go_on(int error)
{
    return error != SSL_ERROR_SSL && error != SSL_ERROR_SYSCALL && error != SSL_ERROR_ZERO_RETURN;
}

void handshake(struct connection *conn)
{
    for (int round = 0; round < 20; round++) {
        if (conn->client_is == SSL_ERROR_NONE && conn->server_is == SSL_ERROR_NONE)
            return;
        /* Whoever failed has sent its alert: the other one reads it. */
        int either = may_go_on(conn->client_is) && may_go_on(conn->server_is);
        if (conn->client_is != SSL_ERROR_NONE && may_go_on(conn->client_is))
            step_client(conn);
        if (conn->server_is != SSL_ERROR_NONE && may_go_on(conn->server_is))
            step_server(conn);
        if (!either)
            return;
    }
}

void exchange(struct connection *conn)
{
    if (conn->client_is != SSL_ERROR_NONE || conn->server_is != SSL_ERROR_NONE) {
        /* In TLS 1.3 a client that is refused learns it afterwards. */
        if (conn->client_is == SSL_ERROR_NONE)
            read_client(conn);
        return;
    }
    if (conn->loud)
        enter(0);
    note(conn, &conn->servers, conn->server, SSL_write(conn->server, "x", 1));
    read_client(conn);
    if (conn->loud)
        enter(0);
    note(conn, &conn->clients, conn->client, SSL_write(conn->client, "y", 1));
    read_server(conn);
}

void shake(struct connection *conn)
{
    handshake(conn);
    exchange(conn);
}

static X509 *peer_of(SSL *ssl)
{
#if IS_3
    return SSL_get1_peer_certificate(ssl);
#else
    return SSL_get_peer_certificate(ssl);
#endif
}

static void add_name(struct text *to, X509 *cert)
{
    char name[128] = "none";
    if (cert)
        X509_NAME_oneline(X509_get_subject_name(cert), name, sizeof name);
    add_word(to, "%s", name);
}

static void add_session(struct text *to, SSL_SESSION *session)
{
    unsigned id_len = 0, context_len = 0;
    const unsigned char *alpn;
    size_t alpn_len;
    if (!session) {
        add_word(to, "none");
        return;
    }
    SSL_SESSION_get_id(session, &id_len);
    SSL_SESSION_get0_id_context(session, &context_len);
    SSL_SESSION_get0_alpn_selected(session, &alpn, &alpn_len);
    const SSL_CIPHER *cipher = SSL_SESSION_get0_cipher(session);
    const char *host = SSL_SESSION_get0_hostname(session);
    add_word(to, "protocol %04x", (unsigned)SSL_SESSION_get_protocol_version(session));
    add_word(to, "cipher %s", cipher ? SSL_CIPHER_get_name(cipher) : "none");
    add_word(to, "id %u", id_len);
    add_word(to, "id context %u", context_len);
    add_word(to, "timeout %ld", (long)SSL_SESSION_get_timeout(session));
    add_word(to, "age %s", (long)time(NULL) - (long)SSL_SESSION_get_time(session) < 1000 ? "young" : "old");
    add_word(to, "ticket %d hint %lu", SSL_SESSION_has_ticket(session),
             SSL_SESSION_get_ticket_lifetime_hint(session));
    add_word(to, "early data %u", (unsigned)SSL_SESSION_get_max_early_data(session));
    add_word(to, "host %s", host ? host : "none");
    add_word(to, "resumable %d", SSL_SESSION_is_resumable(session));
    add_word(to, "alpn %.*s", (int)alpn_len, alpn_len ? (const char *)alpn : "");
    add_word(to, "peer");
    add_name(to, SSL_SESSION_get0_peer(session));
}

static void add_side(struct text *to, SSL *ssl)
{
    X509 *peer = peer_of(ssl);
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl), *verified = SSL_get0_verified_chain(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    add_word(to, "reused %d", SSL_session_reused(ssl));
    add_word(to, "state %s", SSL_state_string_long(ssl));
    add_word(to, "version %s", SSL_get_version(ssl));
    add_word(to, "cipher %s", SSL_get_cipher_name(ssl));
    add_word(to, "servername %.24s type %d", name ? name : "none", SSL_get_servername_type(ssl));
    add_word(to, "verify %ld", SSL_get_verify_result(ssl));
    add_word(to, "peer");
    add_name(to, peer);
    add_word(to, "chain %d verified %d", chain ? sk_X509_num(chain) : -1,
             verified ? sk_X509_num(verified) : -1);
    add_word(to, "shutdown %d", SSL_get_shutdown(ssl));
    add_word(to, "pending %d", SSL_pending(ssl));
    X509_free(peer);
}

void report(struct connection *conn)
{
    struct text text = {0};
    if (!conn->loud)
        return;
    int done = conn->server_is == SSL_ERROR_NONE && conn->client_is == SSL_ERROR_NONE;
    say(conn->label, "%s", outcome_name(!done ? 0 : SSL_session_reused(conn->server) ? 2 : 1));
    say_of(conn, "calls of the server", conn->servers.bytes);
    say_of(conn, "calls of the client", conn->clients.bytes);
    say_of(conn, "events", conn->events.bytes);
    add_side(&text, conn->server);
    say_of(conn, "server", text.bytes);
    memset(&text, 0, sizeof text);
    add_session(&text, SSL_get_session(conn->server));
    say_of(conn, "server's session", text.bytes);
    memset(&text, 0, sizeof text);
    add_side(&text, conn->client);
    say_of(conn, "client", text.bytes);
    memset(&text, 0, sizeof text);
    add(&text, "%d given", conn->sessions);
    add_session(&text, conn->session);
    say_of(conn, "client's sessions", text.bytes);
    ERR_clear_error();
}

static void end(struct connection *conn)
{
    char key[128], word[64];
    if (!conn->loud) {
        SSL_set_shutdown(conn->client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_set_shutdown(conn->server, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        return;
    }
    memset(&conn->servers, 0, sizeof conn->servers);
    enter(0);
    int client = SSL_shutdown(conn->client);
    ERR_clear_error();
    enter(0);
    int server = SSL_shutdown(conn->server);
    snprintf(word, sizeof word, "client %d, server %d", client, server);
    add(&conn->servers, "%s", word);
    left(&conn->servers);
    snprintf(key, sizeof key, "%s, SSL_shutdown", conn->label);
    say(key, "%s", conn->servers.bytes);
}

SSL_SESSION *finish_but_keep(struct connection *conn)
{
    end(conn);
    SSL_set_app_data(conn->server, NULL);
    SSL_set_app_data(conn->client, NULL);
    return conn->session;
}

SSL_SESSION *finish(struct connection *conn)
{
    char key[128];
    SSL_SESSION *session = finish_but_keep(conn);
    if (conn->loud) {
        snprintf(key, sizeof key, "%s, SSL_free", conn->label);
        OBSERVED_VOID(key, SSL_free(conn->server));
    } else {
        SSL_free(conn->server);
    }
    SSL_free(conn->client);
    return session;
}

SSL_SESSION *visit(const char *label, SSL_CTX *server, SSL_CTX *client, SSL_SESSION *offered,
                   const char *host)
{
    struct connection conn;
    begin(&conn, label, server, client, offered, host);
    shake(&conn);
    report(&conn);
    return finish(&conn);
}

int quick(SSL_CTX *server, SSL_CTX *client, SSL_SESSION *offered, const char *host,
          SSL_SESSION **session)
{
    /* Too large for a small stack. */
    struct connection *conn = malloc(sizeof *conn);
    NEED(conn);
    begin(conn, NULL, server, client, offered, host);
    shake(conn);
    int done = conn->server_is == SSL_ERROR_NONE && conn->client_is == SSL_ERROR_NONE;
    int outcome = !done ? 0 : SSL_session_reused(conn->server) ? 2 : 1;
    SSL_SESSION *got = finish(conn);
    free(conn);
    if (session)
        *session = got;
    else
        SSL_SESSION_free(got);
    return outcome;
}

const char *outcome_name(int outcome)
{
    static const char *const OUTCOMES[] = {"failed", "full", "resumed"};
    return OUTCOMES[outcome];
}
