/*
 * What differs between the TLS libraries that the C tests are built with, all
 * in one place: which forms of the ticket key callback there are, how we are
 * installed, and what goes by another name.
 *
 * With -DTEST_STATIC_TLS the TLS library is linked statically: then it is
 * passed as a table, always.
 */

#ifndef LIBRARY_H
#define LIBRARY_H

#define OPENSSL_SUPPRESS_DEPRECATED /* the HMAC form */

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "check.h"

#if defined(OPENSSL_IS_BORINGSSL) || defined(OPENSSL_IS_AWSLC)
#define IS_BORING 1
#define HAS_EVP 0
#define HAS_HMAC 1
#define SSL3_MT_NEWSESSION_TICKET SSL3_MT_NEW_SESSION_TICKET
#elif OPENSSL_VERSION_NUMBER >= 0x30000000L
#define IS_BORING 0
#define HAS_EVP 1
#ifdef OPENSSL_NO_DEPRECATED_3_0
#define HAS_HMAC 0
#else
#define HAS_HMAC 1
#endif
#else
#define IS_BORING 0
#define HAS_EVP 0
#define HAS_HMAC 1
#endif

/* Library contexts came with the EVP form. */
#define HAS_LIBCTX HAS_EVP

#ifdef LIBRESSL_VERSION_NUMBER
#define IS_LIBRE 1
#else
#define IS_LIBRE 0
#endif

/* SSL_SESSION_dup(), and callbacks for the ClientHello and for certificates. */
#define HAS_SESSION_DUP (!IS_BORING && !IS_LIBRE)
#define HAS_CLIENT_HELLO (!IS_LIBRE)
#define HAS_CERT_CB (!IS_LIBRE)
/* All certificates of a context can be found, and not only the current one. */
#define HAS_ALL_CERTS (!IS_BORING && !IS_LIBRE)
#define HAS_PSK (!IS_BORING && !IS_LIBRE)
/* SSL_dup(), SSL_callback_ctrl() and SSL_CTX_callback_ctrl(). */
#define HAS_DUP (!IS_BORING)
#define HAS_CALLBACK_CTRL (!IS_BORING)

/* The versions in which servers issue tickets; LibreSSL's do in none after TLS 1.2. */
enum { NEWEST = IS_LIBRE ? TLS1_2_VERSION : TLS1_3_VERSION, VERSION_COUNT = IS_LIBRE ? 1 : 2 };

/* The forms of the callback; tkt_install() takes the first that a library has. */
enum form { EVP, HMAC_, FORMS };
static const char *const FORM_NAMES[] = {"evp", "hmac"};
static const enum form DEFAULT_FORM = HAS_EVP ? EVP : HMAC_;

/* True where a test is to use that form: it is there, and asked for if any is, in argv[1]. */
static inline int uses_form(enum form form, char **argv)
{
    int is_asked_for = !argv[1] || strcmp(argv[1], FORM_NAMES[form]) == 0;
    CHECK(!argv[1] || strcmp(argv[1], "evp") == 0 || strcmp(argv[1], "hmac") == 0,
          "no form of the callback is called %s", argv[1]);
    return is_asked_for && (form == EVP ? HAS_EVP : HAS_HMAC);
}

/* BoringSSL and AWS-LC send two new tickets at each TLS 1.3 resumption, whatever we answer. */
static inline int tickets_at_resumption(int version, int asked_for)
{
    return version == TLS1_3_VERSION && IS_BORING ? 2 : asked_for;
}

/* As a host installs us that wants nothing special. */
static inline int install(SSL_CTX *ctx, const tkt_config *cfg)
{
#ifdef TEST_STATIC_TLS
    const tkt_tls_api api = TKT_TLS_API_INIT;
    return tkt_install_api(ctx, cfg, &api);
#else
    return tkt_install(ctx, cfg);
#endif
}

/* --- a table for one form, which tells when its callback is set --- */

/* What a test puts in place of a callback that is set; it may be the same, or NULL. */
static struct {
    tkt_evp_callback (*of_evp)(SSL_CTX *ctx, tkt_evp_callback callback);
    tkt_hmac_callback (*of_hmac)(SSL_CTX *ctx, tkt_hmac_callback callback);
} instead;

/* The address of this function is how we tell TLS libraries apart: a table has its own. */
static inline long timeout_of_evp(const SSL_CTX *ctx)
{
    return SSL_CTX_get_timeout(ctx);
}

static inline long timeout_of_hmac(const SSL_CTX *ctx)
{
    return (long)SSL_CTX_get_timeout(ctx);
}

#if HAS_EVP
static inline int set_evp(SSL_CTX *ctx, tkt_evp_callback callback)
{
    if (instead.of_evp)
        callback = instead.of_evp(ctx, callback);
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, callback);
}
#endif

#if IS_BORING
static inline int set_hmac(SSL_CTX *ctx, tkt_hmac_callback callback)
{
    if (instead.of_hmac)
        callback = instead.of_hmac(ctx, callback);
    return SSL_CTX_set_tlsext_ticket_key_cb(ctx, callback);
}
#elif HAS_HMAC
static inline long set_hmac(SSL_CTX *ctx, int command, void (*any)(void))
{
    if (IS_LIBRE && command == 15) /* SSL_CTRL_SET_MSG_CALLBACK */
        return SSL_CTX_callback_ctrl(ctx, command, any);
    CHECK_INT(command, 72); /* SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB */
    if (instead.of_hmac)
        any = (void (*)(void))instead.of_hmac(ctx, (tkt_hmac_callback)any);
    return SSL_CTX_callback_ctrl(ctx, command, any);
}
#endif

static inline tkt_tls_api table_of(enum form form)
{
    tkt_tls_api api = TKT_TLS_API_INIT;
    api.ssl_ctx_get_timeout = form == EVP ? timeout_of_evp : timeout_of_hmac;
#if HAS_EVP
    api.ssl_ctx_set_tlsext_ticket_key_evp_cb = set_evp;
#endif
#if HAS_HMAC
    if (form == HMAC_) {
        api.ssl_ctx_set_tlsext_ticket_key_evp_cb = NULL;
        api.evp_mac_init = NULL;
        api.evp_mac_update = NULL;
        api.hmac_init_ex = TKT_CAST(tkt_hmac_init_fn, HMAC_Init_ex);
        api.hmac_update = HMAC_Update;
        api.hmac_ctx_new = HMAC_CTX_new;
        api.hmac_ctx_free = HMAC_CTX_free;
        api.hmac_ctx_copy = TKT_CAST(tkt_hmac_copy_fn, HMAC_CTX_copy);
#if IS_BORING
        api.ssl_ctx_set_tlsext_ticket_key_cb = set_hmac;
#else
        api.ssl_ctx_callback_ctrl = set_hmac;
#endif
    }
#endif
    return api;
}

/* A message callback of a host's own is to be called by ours, or to hand on what it gets. */
static inline void hand_on(int sent, int version, int type, const void *data, size_t len,
                           SSL *ssl, void *arg)
{
#if IS_LIBRE && !defined(TEST_KNOWS_NOTHING)
    tkt_message(sent, version, type, data, len, ssl, arg);
#else
    (void)sent, (void)version, (void)type, (void)data, (void)len, (void)ssl, (void)arg;
#endif
}

/* --- the certificate callback --- */

static inline void use_cert_cb(SSL_CTX *ctx, int (*callback)(SSL *ssl, void *arg))
{
#if HAS_CERT_CB
    SSL_CTX_set_cert_cb(ctx, callback, NULL);
#else
    CHECK(0, "there is no such callback: %p, %p", (void *)ctx, (void *)callback);
#endif
}

static inline void use_cert_cb_of(SSL *ssl, int (*callback)(SSL *ssl, void *arg))
{
#if HAS_CERT_CB
    SSL_set_cert_cb(ssl, callback, NULL);
#else
    CHECK(0, "there is no such callback: %p, %p", (void *)ssl, (void *)callback);
#endif
}

/* --- the ClientHello callback --- */

/* Gets the server_name extension; of none, the length is 0. */
__attribute__((unused)) static void (*on_client_hello)(SSL *ssl, const unsigned char *name,
                                                       size_t len);

#if IS_BORING
static inline enum ssl_select_cert_result_t client_hello(const SSL_CLIENT_HELLO *hello)
{
    const unsigned char *name = NULL;
    size_t len = 0;
    SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_server_name, &name, &len);
    on_client_hello(hello->ssl, name, len);
    return ssl_select_cert_success;
}

static inline void use_client_hello(SSL_CTX *ctx)
{
    SSL_CTX_set_select_certificate_cb(ctx, client_hello);
}
#elif HAS_CLIENT_HELLO
static inline int client_hello(SSL *ssl, int *alert, void *arg)
{
    const unsigned char *name = NULL;
    size_t len = 0;
    (void)alert, (void)arg;
    SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &name, &len);
    on_client_hello(ssl, name, len);
    return SSL_CLIENT_HELLO_SUCCESS;
}

static inline void use_client_hello(SSL_CTX *ctx)
{
    SSL_CTX_set_client_hello_cb(ctx, client_hello, NULL);
}
#else
static inline void use_client_hello(SSL_CTX *ctx)
{
    (void)ctx;
    CHECK(0, "there is no such callback");
}
#endif

#endif
