/*
 * Nothing of ours is seen on a thread of the application: not on OpenSSL's error
 * queue, not in errno, not in its cancellation. And nothing of a context or a
 * connection is used after it is gone, or for another handshake than its own.
 *
 * Under the shim (LD_PRELOAD) no function of the library is called here.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>

#include "handshake.h"

#if HAS_LIBCTX
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/provider.h>
#endif

static int preloaded;

static void serve(SSL_CTX *ctx, const tkt_config *cfg)
{
    if (!preloaded)
        CHECK_RC(install(ctx, cfg), TKT_OK);
}

/* --- the error queue, and errno --- */

enum { OWN_REASON = 77 };

/* An entry of the application's, with a mark on it. */
static void put_own_entry(void)
{
    ERR_clear_error();
    ERR_put_error(ERR_LIB_USER, 0, OWN_REASON, "application.c", 1);
    ERR_set_mark();
    errno = EXDEV;
}

static void expect_own_entry(const char *what)
{
    CHECK(errno == EXDEV, "%s changed errno to %d", what, errno);
    CHECK(ERR_GET_REASON(ERR_peek_error()) == OWN_REASON &&
              ERR_GET_REASON(ERR_peek_last_error()) == OWN_REASON,
          "%s left 0x%lx on the error queue", what, ERR_peek_last_error());
    ERR_clear_error();
}

#define UNSEEN(call)                                                                       \
    do {                                                                                   \
        put_own_entry();                                                                   \
        (void)(call);                                                                      \
        expect_own_entry(#call);                                                           \
    } while (0)

static int draws_fail;

static int failing_rand(unsigned char *bytes, size_t len)
{
    if (draws_fail) {
        ERR_put_error(ERR_LIB_RAND, 0, 99, "rand.c", 1);
        errno = EIO;
        return 0;
    }
    return RAND_bytes(bytes, (int)len);
}

/* Every call that fails in the library leaves entries, as the library's own do. */
static void failing_calls(int version)
{
    tkt_tls_api api = TKT_TLS_API_INIT, empty = {.size = sizeof empty};
    tkt_config cfg = config_of("unnoticed"), bad = cfg, broken = config_of("broken");
    tkt_counters counters = {.size = sizeof counters};
    SSL_CTX *ctx = new_server(), *other = new_server();

    api.rand_bytes = api.rand_priv_bytes = failing_rand;
    api.ssl_ctx_get_timeout = timeout_of_hmac;
    bad.renew = 99;
    UNSEEN(tkt_install_api(ctx, &bad, &api));
    UNSEEN(tkt_install_api(ctx, &cfg, &empty));
    UNSEEN(tkt_uninstall(ctx));
    UNSEEN(tkt_install_api(ctx, &cfg, &api));
    UNSEEN(tkt_rotate(ctx));

    draws_fail = 1;
    UNSEEN(tkt_install_api(other, &broken, &api));
    UNSEEN(tkt_rotate(ctx));
    UNSEEN(tkt_revoke(ctx));
    UNSEEN(tkt_upkeep());
    UNSEEN(tkt_stats(ctx, &counters));
    for (int i = 0; i < 80; i++) { /* more than IVs that are drawn at once */
        struct outcome full = connect_to(ctx, version, NULL);
        CHECK(full.done && full.alerts == 0 && full.reason == 0, "a handshake saw: %s", full.error);
        forget(&full);
    }
    draws_fail = 0;
    UNSEEN(tkt_uninstall(ctx));
    put_own_entry();
    SSL_CTX_free(ctx);
    SSL_CTX_free(other);
    expect_own_entry("SSL_CTX_free");
}

/* --- cancellation --- */

static tkt_config thread_config;

static void *cancelled(void *made)
{
    pthread_cancel(pthread_self());
    int state = -1, type = -1;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    serve(ctx, &thread_config);
    SSL_free(SSL_new(ctx));
    SSL_CTX_free(ctx);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    *(int *)made = ctx && state == PTHREAD_CANCEL_ENABLE && type == PTHREAD_CANCEL_DEFERRED;
    pthread_testcancel();
    *(int *)made = 0;
    return NULL;
}

/* What the library opens, logs and draws has cancellation points that SSL_CTX_new() has not. */
static void cancellation(void)
{
    char log[200];
    thread_config = config_of("cancelled");
    snprintf(log, sizeof log, "%s/log", thread_config.dir);
    thread_config.log = log;
    thread_config.bind = TKT_BIND_NONE; /* which is told in a log line */
    SSL_CTX_free(SSL_CTX_new(TLS_client_method()));
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        void *result = NULL;
        int made = 0;
        CHECK_INT(pthread_create(&thread, NULL, cancelled, &made), 0);
        CHECK_INT(pthread_join(thread, &result), 0);
        CHECK(result == PTHREAD_CANCELED && made, "a cancellation was lost, or acted on in a call");
    }
}

/* --- names end with their handshake --- */

#if !IS_BORING
static struct outcome again(SSL *server, int version, const char *name, SSL_SESSION *session)
{
    struct outcome outcome = {0};
    pthread_once(&client_ctxs_once, make_client_ctxs);
    SSL *client = SSL_new(client_ctxs[version == TLS1_3_VERSION]);
    join(client, server, &outcome);
    CHECK_INT(SSL_set_tlsext_host_name(client, name), 1);
    SSL_SESSION *offered = session ? copy_of(session) : NULL;
    if (offered)
        CHECK_INT(SSL_set_session(client, offered), 1);
    converse(server, client, &outcome);
    if (outcome.done && !outcome.session)
        outcome.session = SSL_get1_session(client);
    part(client, server);
    SSL_SESSION_free(offered);
    SSL_free(client);
    return outcome;
}

static SSL_SESSION *by_id_for(SSL_CTX *ctx, const char *name)
{
    pthread_once(&client_ctxs_once, make_client_ctxs);
    SSL_CTX_set_options(client_ctxs[0], SSL_OP_NO_TICKET);
    struct outcome outcome = connect_to_host(ctx, TLS1_2_VERSION, name, NULL);
    CHECK_DONE(outcome);
    CHECK_INT(SSL_SESSION_has_ticket(outcome.session), 0);
    SSL_CTX_clear_options(client_ctxs[0], SSL_OP_NO_TICKET);
    return outcome.session;
}

/*
 * A connection opens and renews the victim's ticket, is cleared and used anew by
 * somebody who resumes by session id: his ticket is not one for the victim's name.
 */
static void names(void)
{
    tkt_config cfg = config_of("names");
    cfg.renew = TKT_RENEW_ALWAYS;
    SSL_CTX *ctx = new_server();
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER);
    serve(ctx, &cfg);
    struct outcome victim = connect_to_host(ctx, TLS1_2_VERSION, "victim.test", NULL);
    CHECK_DONE(victim);
    SSL_SESSION *by_id = by_id_for(ctx, "b.test");

    SSL *server = SSL_new(ctx);
    struct outcome resumed = again(server, TLS1_2_VERSION, "victim.test", victim.session);
    CHECK(resumed.done && resumed.resumed, "%s", resumed.error);
    CHECK_INT(SSL_clear(server), 1);
    struct outcome other = again(server, TLS1_2_VERSION, "b.test", by_id);
    CHECK(other.done && other.resumed, "%s", other.error);
    SSL_CTX_flush_sessions(ctx, 0x7fffffff);
    struct outcome attack = connect_to_host(ctx, TLS1_2_VERSION, "victim.test", other.session);
    CHECK_DONE(attack);
    CHECK(!attack.resumed, "a ticket that was issued at b.test opened at victim.test");

    /* A duplicate has nothing that the first frees. */
    CHECK_INT(SSL_clear(server), 1);
    SSL *duplicate = SSL_dup(server);
    CHECK(duplicate, "no duplicate");
    SSL_free(server);
    struct outcome by_duplicate = again(duplicate, TLS1_2_VERSION, "victim.test", victim.session);
    CHECK(by_duplicate.done && by_duplicate.resumed, "%s", by_duplicate.error);
    SSL_free(duplicate);

    SSL_SESSION_free(by_id);
    forget(&victim);
    forget(&resumed);
    forget(&other);
    forget(&attack);
    forget(&by_duplicate);
    SSL_CTX_free(ctx);
}
#endif

/* --- certificates that are replaced --- */

/*
 * Nobody but the context has them, so each is freed when the next one comes, and the
 * one after that may lie where it lay: it is another one all the same.
 */
static X509 *certificate_number(int i)
{
    X509 *cert = X509_dup(test_cert);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 200 + i);
    CHECK(X509_sign(cert, test_key, EVP_sha256()) > 0, "it cannot be signed");
    return cert;
}

static void replaced_certificates(int version)
{
    enum { REPLACEMENTS = 12, FORMER = 3 };
    tkt_config cfg = config_of("replaced");
    SSL_CTX *ctx = new_server();
    SSL_SESSION *former[FORMER] = {NULL};
    serve(ctx, &cfg);
    X509 *next = certificate_number(0);
    for (int i = 0; i < REPLACEMENTS; i++) {
        CHECK_INT(SSL_CTX_use_certificate(ctx, next), 1);
        X509_free(next);
        /* Where the one lay that was freed just now, if nobody else holds that. */
        next = certificate_number(i + 1);
        struct outcome full = CONNECT(ctx, version, NULL, 0);
        for (int at = 0; at < FORMER; at++)
            CHECK(!former[at] || !resumes(ctx, version, former[at]),
                  "a ticket of a former certificate opened after replacement %d", i);
        CHECK_INT(resumes(ctx, version, full.session), 1);
        SSL_SESSION_free(former[i % FORMER]);
        former[i % FORMER] = full.session;
    }
    for (int at = 0; at < FORMER; at++)
        SSL_SESSION_free(former[at]);
    X509_free(next);
    SSL_CTX_free(ctx);
}

/* --- a context whose policy changes with every connection --- */

static int accept_any(int ok, X509_STORE_CTX *store)
{
    (void)ok, (void)store;
    return 1;
}

static void policies(void)
{
    enum { NAMES = 40 };
    tkt_config cfg = config_of("policies");
    SSL_CTX *ctx = new_server();
    for (int i = 0; i < NAMES; i++) {
        X509 *ca = X509_dup(test_cert);
        char name[20];
        snprintf(name, sizeof name, "CA %d", i);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(ca), "CN", MBSTRING_ASC,
                                   (const unsigned char *)name, -1, -1, 0);
        CHECK_INT(SSL_CTX_add_client_CA(ctx, ca), 1);
        X509_free(ca);
    }
    serve(ctx, &cfg);
    const int warm = rounds(1000, 100), all = warm + rounds(3000, 200);
    size_t before = 0;
    for (int i = 0; i < all; i++) {
        if (i == warm)
            before = mallinfo2().uordblks;
        SSL_CTX_set_verify(ctx, i % 2 ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, accept_any);
        struct outcome full = CONNECT(ctx, VERSIONS[i / 2 % 2], NULL, 0);
        forget(&full);
    }
    size_t after = mallinfo2().uordblks;
    /* What was computed for one of them has a kilobyte and more. */
    CHECK(after < before + 100000 + 100 * (size_t)(all - warm), "%zu bytes more than %zu",
          after - before, before);
    SSL_CTX_free(ctx);
}

/* --- client certificates asked for without a session id context --- */

/* libssl ends a handshake that comes with such a ticket: there must be none. */
static void no_id_context(int version)
{
    tkt_config cfg = config_of("id-context");
    SSL_CTX *ctx = new_server();
    SSL_CTX_set_session_id_context(ctx, NULL, 0);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, accept_any);
    serve(ctx, &cfg);
    struct outcome first = CONNECT(ctx, version, NULL, 0);
    for (int i = 0; i < 3; i++) {
        struct outcome again = CONNECT(ctx, version, first.session, 0);
        forget(&first);
        first = again;
    }
    forget(&first);

    /* With one of its own it resumes. */
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"id", 2);
    first = CONNECT(ctx, version, NULL, 0);
    CHECK_INT(resumes(ctx, version, first.session), 1);
    forget(&first);
    SSL_CTX_free(ctx);
}

/* --- contexts of a library context of their own --- */

#if HAS_LIBCTX
/*
 * A provider whose algorithms are those of the default one, but with the property
 * "fips=yes": what a program that asks for it sees of a module for FIPS 140.
 */
static OSSL_PROVIDER *behind;
enum { OPERATIONS = 32, ALGORITHMS = 400 };
static OSSL_ALGORITHM as_fips[OPERATIONS][ALGORITHMS];
static char properties_of[OPERATIONS][ALGORITHMS][160];

static const OSSL_ALGORITHM *query_fips(void *context, int operation, int *no_store)
{
    (void)context;
    const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(behind, operation, no_store);
    if (!all || operation >= OPERATIONS)
        return NULL;
    for (int i = 0; i < ALGORITHMS - 1 && all[i].algorithm_names; i++) {
        char *text = properties_of[operation][i];
        int has_it = strstr(all[i].property_definition, "fips=") != NULL;
        snprintf(text, sizeof *properties_of[0], "%s%s", all[i].property_definition,
                 has_it ? "" : ",fips=yes");
        as_fips[operation][i] = all[i];
        as_fips[operation][i].property_definition = text;
    }
    return as_fips[operation];
}

static int fips_capabilities(void *context, const char *capability, OSSL_CALLBACK *callback,
                             void *arg)
{
    (void)context;
    return OSSL_PROVIDER_get_capabilities(behind, capability, callback, arg);
}

static const OSSL_DISPATCH FIPS_FUNCTIONS[] = {
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_fips},
    {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))fips_capabilities},
    {0, NULL}};

static int init_fips(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                     const OSSL_DISPATCH **out, void **context)
{
    (void)handle, (void)in;
    *out = FIPS_FUNCTIONS;
    *context = OSSL_PROVIDER_get0_provider_ctx(behind);
    return 1;
}

static int evp_callbacks, hmac_callbacks;

static tkt_evp_callback count_evp(SSL_CTX *ctx, tkt_evp_callback callback)
{
    (void)ctx;
    evp_callbacks++;
    return callback;
}

static tkt_hmac_callback count_hmac(SSL_CTX *ctx, tkt_hmac_callback callback)
{
    (void)ctx;
    hmac_callbacks++;
    return callback;
}

/* With all that a library has, so that it is ours to choose the form. */
static tkt_tls_api whole_table(void)
{
    tkt_tls_api api = table_of(EVP);
#if HAS_HMAC
    tkt_tls_api hmac = table_of(HMAC_);
    api.ssl_ctx_callback_ctrl = hmac.ssl_ctx_callback_ctrl;
    api.hmac_init_ex = hmac.hmac_init_ex;
    api.hmac_update = hmac.hmac_update;
    api.hmac_ctx_new = hmac.hmac_ctx_new;
    api.hmac_ctx_free = hmac.hmac_ctx_free;
    api.hmac_ctx_copy = hmac.hmac_ctx_copy;
#endif
    return api;
}

/* The query that the contexts are made with; NULL for none. */
static const char *properties;

static SSL_CTX *in_library_context(OSSL_LIB_CTX *libctx, X509 *cert, EVP_PKEY *key)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(libctx, properties, TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    CHECK_INT(SSL_CTX_use_certificate(ctx, cert), 1);
    CHECK_INT(SSL_CTX_use_PrivateKey(ctx, key), 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return ctx;
}

/* The documented way to be sure that nothing uses the default one (OSSL_LIB_CTX(3)). */
static void own_library_context(void)
{
    CHECK(OSSL_PROVIDER_load(NULL, "null"), "there is no null provider");
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    if (properties) {
        OSSL_LIB_CTX *other = OSSL_LIB_CTX_new();
        behind = OSSL_PROVIDER_load(other, "default");
        CHECK(behind && OSSL_PROVIDER_add_builtin(libctx, "tested", init_fips) == 1 &&
                  OSSL_PROVIDER_load(libctx, "tested"),
              "no provider");
    } else {
        CHECK(libctx && OSSL_PROVIDER_load(libctx, "default"), "no library context");
    }
    EVP_PKEY *key;
    X509 *cert;
    make_all_in(libctx, NULL, &key, &cert);

    SSL_CTX *one = in_library_context(libctx, cert, key);
    SSL_CTX *two = in_library_context(libctx, cert, key);
    tkt_config cfg = config_of("libctx");
    cfg.rotate_every = 1;
    if (!preloaded) {
        /* Not told where it is: the cause is named, and it keeps its own keys. */
        CHECK_RC(install(one, &cfg), TKT_ERR_TLS);
        CHECK_HAS(tkt_last_error(), "in the default library context");
        CHECK_HAS(tkt_last_error(), "cfg.libctx");
        CHECK_INT(ERR_peek_error(), 0);
        cfg.libctx = libctx;
        cfg.properties = properties;
        /* An HMAC of the old kind is none of a FIPS provider's. */
        tkt_tls_api api = whole_table();
        instead.of_evp = count_evp;
        instead.of_hmac = count_hmac;
        CHECK_RC(tkt_install_api(one, &cfg, &api), TKT_OK);
        CHECK_RC(tkt_install_api(two, &cfg, &api), TKT_OK);
        CHECK((evp_callbacks > 0 && hmac_callbacks == 0) || !properties, "the HMAC form was set");
        CHECK(hmac_callbacks == 2 * HAS_HMAC || properties, "the HMAC form was not set");
    }
    /* This provider has not all that a handshake needs. */
    for (int i = 0, version; !properties && i < 2 && (version = VERSIONS[i]); i++) {
        struct outcome full = CONNECT(one, version, NULL, 0);
        CHECK_INT(full.reason, 0);
        CHECK_INT(resumes(two, version, full.session), 1);
        /* Keys go on to be made, also by the upkeep thread. */
        struct outcome later = full;
        for (int i = 0; i < 500 && memcmp(later.names[0], full.names[0], NAME_LEN) == 0; i++) {
            sleep_ms(20);
            if (i)
                forget(&later);
            later = CONNECT(two, version, NULL, 0);
        }
        if (!preloaded) /* there the ring has an hour */
            CHECK(memcmp(later.names[0], full.names[0], NAME_LEN) != 0, "no other key came");
        CHECK_INT(resumes(one, version, later.session), 1);
        if (later.session != full.session)
            forget(&later);
        forget(&full);
    }
    SSL_CTX_free(one);
    SSL_CTX_free(two);
    for (int i = 0; i < 2; i++)
        SSL_CTX_free(client_ctxs[i]);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static const char *hidden;

static const OSSL_ALGORITHM *query_less(void *context, int operation, int *no_store)
{
    OSSL_ALGORITHM *all = (OSSL_ALGORITHM *)(void *)query_fips(context, operation, no_store);
    for (int i = 0; all && all[i].algorithm_names; i++)
        if (strstr(all[i].algorithm_names, hidden))
            all[i].algorithm_names = "HIDDEN";
    return all;
}

static int init_less(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                     const OSSL_DISPATCH **out, void **context)
{
    static const OSSL_DISPATCH FUNCTIONS[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_less},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))fips_capabilities},
        {0, NULL}};
    int done = init_fips(handle, in, out, context);
    *out = FUNCTIONS;
    return done;
}

/*
 * A context whose library context lacks what tickets need, made before or after the
 * server's first connection: what becomes of it is seen from outside.
 */
static void lacks_aes(int in_service)
{
    if (in_service) {
        SSL_CTX *ctx = new_server();
        struct outcome full = CONNECT(ctx, TLS1_3_VERSION, NULL, 0);
        CHECK_INT(resumes(ctx, TLS1_3_VERSION, full.session), 1);
        forget(&full);
        SSL_CTX_free(ctx);
    }
    hidden = "AES-256-CBC";
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new(), *other = OSSL_LIB_CTX_new();
    behind = OSSL_PROVIDER_load(other, "default");
    CHECK(behind && OSSL_PROVIDER_add_builtin(libctx, "tested", init_less) == 1 &&
              OSSL_PROVIDER_load(libctx, "tested"),
          "no provider");
    SSL_CTX *ctx = SSL_CTX_new_ex(libctx, NULL, TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    CHECK_INT(ERR_peek_error(), 0);
    SSL *ssl = SSL_new(ctx);
    CHECK(ssl, "no SSL can be made");
    CHECK_INT(ERR_peek_error(), 0);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    printf("it runs\n");
}

static void fips_properties(void)
{
    properties = "fips=yes";
    own_library_context();
}
#endif

int main(int argc, char **argv)
{
    alarm(LIMIT_SECONDS);
    const char *preload = getenv("LD_PRELOAD"); /* valgrind uses it, too */
    preloaded = preload && strstr(preload, "tktrot_preload");
#if HAS_LIBCTX
    if (argc > 1) {
        lacks_aes(strcmp(argv[1], "in-service") == 0);
        free_certificate();
        return 0;
    }
#else
    (void)argc, (void)argv;
#endif
#if HAS_LIBCTX
    in_child(own_library_context);
    in_child(fips_properties);
#endif
    in_child(cancellation);
    if (!preloaded) {
        FOR_EACH_VERSION(version)
        failing_calls(version);
    }
#if !IS_BORING
    names();
#endif
    FOR_EACH_VERSION(version)
    {
        no_id_context(version);
        replaced_certificates(version);
    }
    policies();
    free_certificate();
    return 0;
}
