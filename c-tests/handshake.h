/*
 * TLS handshakes in memory, for the C tests: a server context and a client
 * joined by a BIO pair, with a certificate made on the spot.
 */

#ifndef HANDSHAKE_H
#define HANDSHAKE_H

#include <pthread.h>

#include "library.h"

enum { NAME_LEN = 16, IV_LEN = 16, MAX_TICKETS = 4 };

static const int VERSIONS[] = {TLS1_2_VERSION, TLS1_3_VERSION};
/* In which there are tickets. */
#define FOR_EACH_VERSION(version)                                                          \
    for (int i_ = 0, version; i_ < VERSION_COUNT && (version = VERSIONS[i_]); i_++)

/* What a handshake came to. Free it with forget(). */
struct outcome {
    int done;    /* both sides finished */
    int resumed; /* the server took the ticket, and the client agrees */
    int alerts;  /* sent by either side, other than close_notify */
    int tickets; /* that the server sent, with something in them */
    unsigned char names[MAX_TICKETS][NAME_LEN]; /* their key names */
    SSL_SESSION *session; /* of the last ticket; of none: the connection's own */
    int reason;           /* SSL_R_*: the first error, if any */
    char error[160];
};

static inline void forget(struct outcome *outcome)
{
    SSL_SESSION_free(outcome->session);
    outcome->session = NULL;
}

static EVP_PKEY *test_key;
static X509 *test_cert;

/* A P-256 key. */
static inline EVP_PKEY *new_key(void)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *p256 = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    CHECK(p256 && EVP_PKEY_keygen_init(p256) == 1 &&
              EVP_PKEY_CTX_set_ec_paramgen_curve_nid(p256, NID_X9_62_prime256v1) == 1 &&
              EVP_PKEY_keygen(p256, &key) == 1,
          "no key can be made");
    EVP_PKEY_CTX_free(p256);
    return key;
}

/* What a certificate says of itself, but for names. */
static inline void fill_in(X509 *cert, EVP_PKEY *key, long serial)
{
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 24 * 3600);
    X509_set_pubkey(cert, key);
}

/* One of that name, by whom it names itself; not signed yet. */
static inline X509 *new_certificate(EVP_PKEY *key, long serial, const char *name)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_NAME_new();
    CHECK(cert && subject, "no certificate can be made");
    fill_in(cert, key, serial);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_subject_name(cert, subject);
    X509_set_issuer_name(cert, subject);
    X509_NAME_free(subject);
    return cert;
}

/* A self-signed P-256 certificate, made once per process. */
static inline void make_certificate(void)
{
    if (test_cert)
        return;
    test_key = new_key();
    test_cert = new_certificate(test_key, 1, "localhost");
    CHECK(X509_sign(test_cert, test_key, EVP_sha256()) > 0, "the certificate cannot be signed");
}

static inline void free_certificate(void)
{
    EVP_PKEY_free(test_key);
    X509_free(test_cert);
    test_key = NULL;
    test_cert = NULL;
}

static inline SSL_CTX *new_server(void)
{
    make_certificate();
    /* 0xMNN00PP0: patches are compatible, and what is tested is what was meant to be. */
    CHECK(OpenSSL_version_num() >> 20 == OPENSSL_VERSION_NUMBER >> 20,
          "headers of 0x%08lx, library of 0x%08lx", (unsigned long)OPENSSL_VERSION_NUMBER,
          OpenSSL_version_num());
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    CHECK_INT(SSL_CTX_use_certificate(ctx, test_cert), 1);
    CHECK_INT(SSL_CTX_use_PrivateKey(ctx, test_key), 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return ctx;
}

/* The ticket in a NewSessionTicket message (RFC 5077 3.3, RFC 8446 4.6.1). */
static inline const unsigned char *ticket_in(const unsigned char *message, size_t len,
                                             int version, size_t *ticket_len)
{
    size_t at = 4 + 4; /* header, lifetime */
    if (version == TLS1_3_VERSION && at + 4 < len)
        at += 4 + 1 + message[at + 4]; /* age_add, nonce */
    CHECK(at + 2 <= len, "a NewSessionTicket of %zu bytes", len);
    *ticket_len = (size_t)message[at] << 8 | message[at + 1];
    CHECK(at + 2 + *ticket_len <= len, "a ticket of %zu bytes in %zu", *ticket_len, len);
    return message + at + 2;
}

/* Sees every message of the server: what it sends is what counts. */
static void on_message(int sent, int version, int type, const void *data, size_t len, SSL *ssl,
                       void *arg)
{
    struct outcome *outcome = arg;
    const unsigned char *message = data;
    hand_on(sent, version, type, data, len, ssl, arg);
    if (type == SSL3_RT_ALERT && len == 2 && message[1] != SSL_AD_CLOSE_NOTIFY)
        outcome->alerts++;
    if (!sent || type != SSL3_RT_HANDSHAKE || len < 4 || message[0] != SSL3_MT_NEWSESSION_TICKET)
        return;
    size_t ticket_len;
    const unsigned char *ticket = ticket_in(message, len, SSL_version(ssl), &ticket_len);
    if (ticket_len == 0)
        return;
    CHECK(outcome->tickets < MAX_TICKETS, "more than %d tickets", MAX_TICKETS);
    CHECK(ticket_len > NAME_LEN + IV_LEN, "a ticket of %zu bytes", ticket_len);
    memcpy(outcome->names[outcome->tickets++], ticket, NAME_LEN);
}

static int on_session(SSL *client, SSL_SESSION *session)
{
    struct outcome *outcome = SSL_get_app_data(client);
    SSL_SESSION_free(outcome->session);
    outcome->session = session;
    return 1;
}

/* One step of a side; false once it can get no further. */
static inline int may_go_on(SSL *ssl, int rc)
{
    int error = SSL_get_error(ssl, rc);
    return rc == 1 || error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static inline void converse(SSL *server, SSL *client, struct outcome *outcome)
{
    char byte;
    int s = 0, c = 0;
    for (int round = 0; round < 50 && !(s == 1 && c == 1); round++) {
        if (c != 1 && !may_go_on(client, c = SSL_do_handshake(client)))
            break;
        if (s != 1 && !may_go_on(server, s = SSL_do_handshake(server)))
            break;
    }
    /* In TLS 1.3 the tickets come with the first data. */
    outcome->done = s == 1 && c == 1 && SSL_write(server, "x", 1) == 1 &&
                    SSL_read(client, &byte, 1) == 1;
    outcome->resumed = outcome->done && SSL_session_reused(server);
    if (outcome->done)
        CHECK_INT(SSL_session_reused(client), SSL_session_reused(server));
    outcome->reason = ERR_GET_REASON(ERR_peek_error());
    ERR_error_string_n(ERR_peek_error(), outcome->error, sizeof outcome->error);
    ERR_clear_error();
}

/* A session of its own for whoever may change it. */
static inline SSL_SESSION *copy_of(SSL_SESSION *session)
{
#if HAS_SESSION_DUP
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    CHECK(copy, "the session cannot be copied");
#else
    unsigned char *der = NULL;
    int len = i2d_SSL_SESSION(session, &der);
    CHECK(len > 0, "the session cannot be written");
    const unsigned char *read = der;
    SSL_SESSION *copy = d2i_SSL_SESSION(NULL, &read, len);
    CHECK(copy, "the session cannot be read");
    OPENSSL_free(der);
#endif
    return copy;
}

/* The clients' contexts, one for each of VERSIONS; any thread's, so made once. */
static SSL_CTX *client_ctxs[2];
static pthread_once_t client_ctxs_once = PTHREAD_ONCE_INIT;

/* A context for clients of one version, whose sessions go to their outcome. */
static inline SSL_CTX *as_client(SSL_CTX *ctx, int version)
{
    CHECK(ctx, "no SSL_CTX can be made");
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    return ctx;
}

static void make_client_ctxs(void)
{
    for (int i = 0; i < 2; i++)
        client_ctxs[i] = as_client(SSL_CTX_new(TLS_client_method()), VERSIONS[i]);
}

#if HAS_LIBCTX
static inline void make_nothing(void)
{
}

/* A key, a certificate and clients of that library context. */
static inline void make_all_in(OSSL_LIB_CTX *libctx, const char *properties, EVP_PKEY **key,
                               X509 **cert)
{
    *key = EVP_PKEY_Q_keygen(libctx, properties, "EC", "P-256");
    *cert = X509_new_ex(libctx, properties);
    EVP_MD *sha256 = EVP_MD_fetch(libctx, "SHA2-256", properties);
    CHECK(*key && *cert && sha256, "no key or certificate can be made");
    fill_in(*cert, *key, 1);
    CHECK(X509_sign(*cert, *key, sha256) > 0, "the certificate cannot be signed");
    EVP_MD_free(sha256);
    pthread_once(&client_ctxs_once, make_nothing);
    for (int i = 0; i < 2; i++) {
        SSL_CTX *ctx = SSL_CTX_new_ex(libctx, properties, TLS_client_method());
        client_ctxs[i] = as_client(ctx, VERSIONS[i]);
    }
}
#endif

/* Joins both sides; the client's sessions go to the outcome. */
static inline void join(SSL *client, SSL *server, struct outcome *outcome)
{
    BIO *near, *far;
    CHECK(client && server && BIO_new_bio_pair(&near, 65536, &far, 65536) == 1,
          "no connection can be made");
    SSL_set_bio(client, near, near);
    SSL_set_bio(server, far, far);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    SSL_set_app_data(client, outcome);
}

/* A connection that was not shut down takes its session with it. */
static inline void part(SSL *client, SSL *server)
{
    SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_set_shutdown(server, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
}

/* Connects to host `name` with `session`'s ticket, or without either. The session stays as it is. */
static inline struct outcome connect_to_host(SSL_CTX *server_ctx, int version, const char *name,
                                             SSL_SESSION *session)
{
    struct outcome outcome = {0};
    pthread_once(&client_ctxs_once, make_client_ctxs);
    SSL *client = SSL_new(client_ctxs[version == TLS1_3_VERSION]);
    SSL *server = SSL_new(server_ctx);
    join(client, server, &outcome);
    if (name)
        CHECK_INT(SSL_set_tlsext_host_name(client, name), 1);
    SSL_set_msg_callback(server, on_message);
    SSL_set_msg_callback_arg(server, &outcome);
    /* OpenSSL marks a session that was used; the caller may want it again. */
    SSL_SESSION *offered = session ? copy_of(session) : NULL;
    if (offered)
        CHECK_INT(SSL_set_session(client, offered), 1);

    converse(server, client, &outcome);
    if (outcome.done && !outcome.session)
        outcome.session = SSL_get1_session(client);

    part(client, server);
    SSL_SESSION_free(offered);
    SSL_free(client);
    SSL_free(server);
    return outcome;
}

static inline struct outcome connect_to(SSL_CTX *server_ctx, int version, SSL_SESSION *session)
{
    return connect_to_host(server_ctx, version, NULL, session);
}

#define CHECK_DONE(outcome)                                                                \
    CHECK((outcome).done && (outcome).alerts == 0, "the handshake failed with %d alerts: %s", \
          (outcome).alerts, (outcome).error)

/* A handshake that must work and be resumed, or not; for its session or its facts. */
#define CONNECT(ctx, version, session, expect_resumed)                                     \
    __extension__({                                                                        \
        struct outcome outcome_ = connect_to(ctx, version, session);                       \
        CHECK_DONE(outcome_);                                                              \
        CHECK(outcome_.resumed == (expect_resumed), "TLS 0x%04x, resumed: %d", version,    \
              outcome_.resumed);                                                           \
        outcome_;                                                                          \
    })

/* True if a ticket of `session` is resumed; CHECKs that the handshake works. */
static inline int resumes(SSL_CTX *ctx, int version, SSL_SESSION *session)
{
    struct outcome outcome = connect_to(ctx, version, session);
    CHECK_DONE(outcome);
    forget(&outcome);
    return outcome.resumed;
}

/*
 * Valgrind translates code when it first runs. What runs here, without a key of
 * the library, need not be translated in every child that comes after.
 */
static inline void warm_up(void)
{
    if (rounds(1, 0))
        return;
    SSL_CTX *ctx = new_server();
    FOR_EACH_VERSION(version)
    {
        struct outcome full = CONNECT(ctx, version, NULL, 0);
        CHECK_INT(resumes(ctx, version, full.session), 1);
        forget(&full);
    }
    SSL_CTX_free(ctx);
}

/* One element of DER: moves to what is behind it, and tells its tag and content. */
static inline const unsigned char *next_element(const unsigned char **at, unsigned char *tag,
                                                size_t *len)
{
    const unsigned char *from = *at + 2;
    *tag = **at;
    *len = (*at)[1];
    if (*len > 0x80)
        for (size_t width = *len - 0x80, i = (*len = 0); i < width; i++)
            *len = *len << 8 | *from++;
    *at = from + *len;
    return from;
}

/* The ticket in a session that is written as ASN.1: its element [10]. */
static inline unsigned char *ticket_in_der(unsigned char *der, size_t *len)
{
    unsigned char tag;
    const unsigned char *at = der, *content = next_element(&at, &tag, len), *end = content + *len;
    for (at = content; at < end;) {
        content = next_element(&at, &tag, len);
        if (tag == (0xa0 | 10))
            return (unsigned char *)next_element(&content, &tag, len);
    }
    CHECK(0, "the ticket is not in the session");
    return NULL;
}

/* The session with bit 0 of the ticket's byte `at` (from the end if < 0) flipped. */
static inline SSL_SESSION *flipped(SSL_SESSION *session, long at)
{
    unsigned char *der = NULL;
    size_t ticket_len;
    int len = i2d_SSL_SESSION(session, &der);
    CHECK(len > 0, "the session cannot be written");
    unsigned char *found = ticket_in_der(der, &ticket_len);
    CHECK(ticket_len > 64, "a session of %d bytes, ticket %zu", len, ticket_len);
    found[at < 0 ? (long)ticket_len + at : at] ^= 1;
    const unsigned char *read = der;
    SSL_SESSION *changed = d2i_SSL_SESSION(NULL, &read, len);
    CHECK(changed, "the changed session cannot be read");
    OPENSSL_free(der);
    return changed;
}

#endif
