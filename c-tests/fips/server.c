/*
 * A server whose cryptography is OpenSSL's FIPS provider and nothing else: its
 * tickets open over rotations, in TLS 1.2 and 1.3. Built twice: as it is it knows
 * nothing of libtktrot, for the shim; with -DLINKED it installs it itself.
 *
 *   server own|shared            in the default library context, as OPENSSL_CONF says
 *   server own|shared CONFIG     in one of its own, for which CONFIG is read
 *
 * own: nobody gives its two contexts keys, each has those of OpenSSL. shared: both
 * have the keys of a ring that rotates every second.
 */

#define _GNU_SOURCE

#include "../handshake.h"

#include <openssl/provider.h>

enum { ROTATIONS = 3, WAITS = 1000, WAIT_MS = 20, STEADY = 10 };

static OSSL_LIB_CTX *libctx;   /* NULL for the default one */
static const char *properties; /* what the server's contexts ask for */

static EVP_PKEY *key;
static X509 *cert;

#define COMES_FROM_FIPS(what, provider)                                                    \
    do {                                                                                   \
        const OSSL_PROVIDER *provider_ = (provider);                                       \
        CHECK(provider_ && strcmp(OSSL_PROVIDER_get0_name(provider_), "fips") == 0,        \
              "%s is another provider's", what);                                           \
    } while (0)

/* All that a ticket takes is the module's, and nothing that is not is to be had. */
static void expect_fips(void)
{
    CHECK_INT(OSSL_PROVIDER_available(libctx, "fips"), 1);
    CHECK_INT(OSSL_PROVIDER_available(libctx, "default"), 0);
    CHECK_INT(EVP_default_properties_is_fips_enabled(libctx), 1);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(libctx, "AES-256-CBC", properties);
    EVP_MD *md = EVP_MD_fetch(libctx, "SHA2-256", properties);
    EVP_MAC *mac = EVP_MAC_fetch(libctx, "HMAC", properties);
    CHECK(cipher && md && mac, "the module has not all that a ticket takes");
    COMES_FROM_FIPS("AES", EVP_CIPHER_get0_provider(cipher));
    COMES_FROM_FIPS("SHA-256", EVP_MD_get0_provider(md));
    COMES_FROM_FIPS("HMAC", EVP_MAC_get0_provider(mac));
    CHECK(EVP_MD_fetch(libctx, "MD5", properties) == NULL, "there is MD5");
    EVP_CIPHER_free(cipher);
    EVP_MD_free(md);
    EVP_MAC_free(mac);
    ERR_clear_error();
}

#ifdef LINKED
static int evp_callbacks;

static tkt_evp_callback count_evp(SSL_CTX *ctx, tkt_evp_callback callback)
{
    (void)ctx;
    evp_callbacks++;
    return callback;
}

/* An HMAC of the old kind is computed outside the module. */
static tkt_hmac_callback refuse_hmac(SSL_CTX *ctx, tkt_hmac_callback callback)
{
    (void)ctx, (void)callback;
    FAIL("the HMAC form was set");
}

/* With all that the library has, so that it is libtktrot's to choose the form. */
static void install_on(SSL_CTX *ctx)
{
    tkt_config cfg = config_of("fips");
    tkt_tls_api api = table_of(EVP), hmac = table_of(HMAC_);
    api.ssl_ctx_callback_ctrl = hmac.ssl_ctx_callback_ctrl;
    api.hmac_init_ex = hmac.hmac_init_ex;
    api.hmac_update = hmac.hmac_update;
    api.hmac_ctx_new = hmac.hmac_ctx_new;
    api.hmac_ctx_free = hmac.hmac_ctx_free;
    api.hmac_ctx_copy = hmac.hmac_ctx_copy;
    instead.of_evp = count_evp;
    instead.of_hmac = refuse_hmac;
    cfg.rotate_every = 1;
    cfg.libctx = libctx;
    cfg.properties = properties;
    int before = evp_callbacks;
    CHECK_RC(tkt_install_api(ctx, &cfg, &api), TKT_OK);
    CHECK_INT(evp_callbacks, before + 1);
}
#else
static void install_on(SSL_CTX *ctx)
{
    (void)ctx;
}
#endif

static SSL_CTX *new_context(int is_shared)
{
    SSL_CTX *ctx = libctx ? SSL_CTX_new_ex(libctx, properties, TLS_server_method())
                          : SSL_CTX_new(TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    CHECK_INT(SSL_CTX_use_certificate(ctx, cert), 1);
    CHECK_INT(SSL_CTX_use_PrivateKey(ctx, key), 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (is_shared)
        install_on(ctx);
    return ctx;
}

/* A ticket of each of some keys that follow each other opens at both contexts, to the end. */
static void rotations(SSL_CTX *one, SSL_CTX *other, int version)
{
    struct outcome of[ROTATIONS + 1];
    of[0] = CONNECT(one, version, NULL, 0);
    for (int i = 1; i <= ROTATIONS; i++) {
        of[i] = CONNECT(other, version, NULL, 0);
        for (int wait = 0; memcmp(of[i].names[0], of[i - 1].names[0], NAME_LEN) == 0; wait++) {
            CHECK(wait < WAITS, "no other key comes");
            sleep_ms(WAIT_MS);
            forget(&of[i]);
            of[i] = CONNECT(other, version, NULL, 0);
        }
        for (int k = 0; k <= i; k++) {
            CHECK_INT(resumes(one, version, of[k].session), 1);
            CHECK_INT(resumes(other, version, of[k].session), 1);
        }
        SSL_SESSION *forged = flipped(of[i].session, -1);
        CHECK_INT(resumes(one, version, forged), 0);
        SSL_SESSION_free(forged);
    }
    for (int i = 0; i <= ROTATIONS; i++)
        forget(&of[i]);
}

/* Each context has its own key, always the same. */
static void own_keys(SSL_CTX *one, SSL_CTX *other, int version)
{
    struct outcome first = CONNECT(one, version, NULL, 0);
    for (int i = 0; i < STEADY; i++) {
        struct outcome later = CONNECT(one, version, NULL, 0);
        CHECK(memcmp(later.names[0], first.names[0], NAME_LEN) == 0, "another key came");
        forget(&later);
        CHECK_INT(resumes(one, version, first.session), 1);
        CHECK_INT(resumes(other, version, first.session), 0);
    }
    forget(&first);
}

int main(int argc, char **argv)
{
    alarm(LIMIT_SECONDS);
    CHECK(argc == 2 || argc == 3, "usage: server own|shared [CONFIG]");
    int is_shared = strcmp(argv[1], "shared") == 0;
    if (argc == 3) {
        /* Whatever uses the default one by accident gets nothing there (OSSL_LIB_CTX(3)). */
        CHECK(OSSL_PROVIDER_load(NULL, "null"), "there is no null provider");
        libctx = OSSL_LIB_CTX_new();
        properties = "fips=yes";
        CHECK(libctx && OSSL_LIB_CTX_load_config(libctx, argv[2]) == 1, "%s cannot be read",
              argv[2]);
    }
    /* As SSL_CTX_new does. OpenSSL 3.0 adds the default provider where one is asked for before. */
    CHECK_INT(OPENSSL_init_ssl(0, NULL), 1);
    expect_fips();
    make_all_in(libctx, properties, &key, &cert);
    SSL_CTX *one = new_context(is_shared), *other = new_context(is_shared);
    FOR_EACH_VERSION(version)
    {
        if (is_shared)
            rotations(one, other, version);
        else
            own_keys(one, other, version);
    }
    expect_fips();
    SSL_CTX_free(one);
    SSL_CTX_free(other);
    for (int i = 0; i < 2; i++)
        SSL_CTX_free(client_ctxs[i]);
    X509_free(cert);
    EVP_PKEY_free(key);
    OSSL_LIB_CTX_free(libctx);
    return 0;
}
