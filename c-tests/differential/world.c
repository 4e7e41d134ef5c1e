/* Certificates and contexts. */

#include "differential.h"

#include <sys/time.h>
#include <time.h>

long time_offset;

/* libssl's clock, where a scenario needs a ticket to be old. */
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += time_offset;
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec + time_offset;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

static EVP_PKEY *keys[CERTS];
static X509 *certs[CERTS];

EVP_PKEY *private_key(int which)
{
    if (keys[which])
        return keys[which];
    int kind = which == ED25519_CERT ? EVP_PKEY_ED25519 : EVP_PKEY_EC;
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_id(kind, NULL);
    NEED(maker && EVP_PKEY_keygen_init(maker) == 1);
    if (kind == EVP_PKEY_EC)
        NEED(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(maker, NID_X9_62_prime256v1) == 1);
    NEED(EVP_PKEY_keygen(maker, &keys[which]) == 1);
    EVP_PKEY_CTX_free(maker);
    return keys[which];
}

X509 *another_certificate(int which, int serial)
{
    EVP_PKEY *key = private_key(which);
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();
    NEED(cert && name);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 365 * 24 * 3600);
    X509_set_pubkey(cert, key);
    const char *who = which == CLIENT_CERT ? "client" : "server";
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)who, -1, -1, 0);
    X509_set_subject_name(cert, name);
    X509_set_issuer_name(cert, name);
    X509_NAME_free(name);
    NEED(X509_sign(cert, key, which == ED25519_CERT ? NULL : EVP_sha256()) > 0);
    return cert;
}

X509 *certificate(int which)
{
    if (!certs[which])
        certs[which] = another_certificate(which, 1 + which);
    return certs[which];
}

static void use(SSL_CTX *ctx, int which)
{
    NEED(SSL_CTX_use_certificate(ctx, certificate(which)) == 1);
    NEED(SSL_CTX_use_PrivateKey(ctx, private_key(which)) == 1);
}

static void only(SSL_CTX *ctx, int version)
{
    if (version) {
        SSL_CTX_set_min_proto_version(ctx, version);
        SSL_CTX_set_max_proto_version(ctx, version);
    }
}

/* What servers set; quick groups, so that all versions of OpenSSL agree. */
static void set_up_server(SSL_CTX *ctx, int version)
{
    NEED(ctx);
    use(ctx, ECDSA_CERT);
    only(ctx, version);
    NEED(SSL_CTX_set1_groups_list(ctx, "P-256:P-384") == 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"differential", 12);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}

SSL_CTX *new_quiet_server(int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    set_up_server(ctx, version);
    return ctx;
}

SSL_CTX *new_server(int version)
{
    static int made;
    char key[40];
    snprintf(key, sizeof key, "SSL_CTX_new %d", ++made);
    SSL_CTX *ctx = OBSERVED(key, SSL_CTX_new(TLS_server_method()));
    set_up_server(ctx, version);
    record_callbacks(ctx);
    return ctx;
}

SSL_CTX *new_client(int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    NEED(ctx);
    only(ctx, version);
    NEED(SSL_CTX_set1_groups_list(ctx, "P-256:P-384") == 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_new_session);
    return ctx;
}

SSL_CTX *new_certified_client(int version)
{
    SSL_CTX *ctx = new_client(version);
    use(ctx, CLIENT_CERT);
    return ctx;
}

void ask_for_certificate(SSL_CTX *ctx, int mode)
{
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate(CLIENT_CERT));
    SSL_CTX_add_client_CA(ctx, certificate(CLIENT_CERT));
    SSL_CTX_set_verify(ctx, mode, NULL);
}

void say_counts(const char *key, SSL_CTX *ctx)
{
    say(key, "accept %ld, good %ld, renegotiate %ld, hits %ld, cb_hits %ld, misses %ld, timeouts %ld, number %ld",
        SSL_CTX_sess_accept(ctx), SSL_CTX_sess_accept_good(ctx),
        SSL_CTX_sess_accept_renegotiate(ctx), SSL_CTX_sess_hits(ctx), SSL_CTX_sess_cb_hits(ctx),
        SSL_CTX_sess_misses(ctx), SSL_CTX_sess_timeouts(ctx), SSL_CTX_sess_number(ctx));
}

#ifdef LINKED
static int installed_index = -1;

static void say_numbered(const char *what, int number, const char *text)
{
    char key[64];
    snprintf(key, sizeof key, "%s, %d", what, number);
    say(key, "%s", text);
}

void ready_in(SSL_CTX *ctx, void *libctx, const char *properties)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int count;
    pthread_mutex_lock(&lock);
    if (installed_index < 0)
        installed_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (!SSL_CTX_get_ex_data(ctx, installed_index)) {
        struct text trace = {0};
        SSL_CTX_set_ex_data(ctx, installed_index, &installed_index);
        tkt_config cfg = TKT_CONFIG_INIT;
        tkt_config_from_env(&cfg);
        cfg.libctx = libctx;
        cfg.properties = properties;
        enter(1);
        int rc = tkt_install(ctx, libctx || properties ? &cfg : NULL);
        const char *found = left(&trace);
        /* To print would be a place to be cancelled at; and some say enough. */
        int state;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
        if (*found && count < 10)
            say_numbered("tkt_install leaves", ++count, found + 1);
        if (rc != TKT_OK && count < 10)
            say_numbered("tkt_install says", ++count, tkt_last_error());
        pthread_setcancelstate(state, NULL);
    }
    pthread_mutex_unlock(&lock);
}
#else
void ready_in(SSL_CTX *ctx, void *libctx, const char *properties)
{
    (void)ctx, (void)libctx, (void)properties;
}
#endif

void ready(SSL_CTX *ctx)
{
    ready_in(ctx, NULL, NULL);
}
