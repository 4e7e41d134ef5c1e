/* Library contexts and providers of the application's own (OpenSSL 3), and very many SSL_CTXs. */

#include "differential.h"

#if IS_3
#include <openssl/provider.h>

static X509 *certificate_in(OSSL_LIB_CTX *libctx, EVP_PKEY *key)
{
    X509 *cert = X509_new_ex(libctx, NULL);
    NEED(cert && key);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    EVP_MD *md = EVP_MD_fetch(libctx, "SHA256", NULL);
    NEED(md && X509_sign(cert, key, md) > 0);
    EVP_MD_free(md);
    return cert;
}

static void try_in(OSSL_LIB_CTX *libctx, const char *properties, int version)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(libctx, NULL, "EC", "P-256");
    X509 *cert = certificate_in(libctx, key);
    SSL_CTX *server = OBSERVED("SSL_CTX_new_ex",
                               SSL_CTX_new_ex(libctx, properties, TLS_server_method()));
    SSL_CTX *client = SSL_CTX_new_ex(libctx, NULL, TLS_client_method());
    NEED(server && client && SSL_CTX_use_certificate(server, cert) == 1 &&
         SSL_CTX_use_PrivateKey(server, key) == 1);
    SSL_CTX_set_session_id_context(server, (const unsigned char *)"own", 3);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client, on_new_session);
    SSL_CTX_set_min_proto_version(client, version);
    SSL_CTX_set_max_proto_version(client, version);
    record_callbacks(server);
    ready_in(server, libctx, properties);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION *second = first ? visit("second", server, client, first, "a.test") : NULL;
    SSL_SESSION_free(second ? visit("third", server, client, second, "a.test") : NULL);
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
    OBSERVED_VOID("SSL_CTX_free", SSL_CTX_free(server));
    SSL_CTX_free(client);
    X509_free(cert);
    EVP_PKEY_free(key);
}
#endif

/* The documented way to be sure that nothing uses the default context by accident. */
static void own_library_context(int version)
{
#if IS_3
    NEED(OSSL_PROVIDER_load(NULL, "null"));
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    NEED(OSSL_PROVIDER_load(libctx, "default"));
    try_in(libctx, NULL, version);
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

static void own_properties(int version)
{
#if IS_3
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    NEED(OSSL_PROVIDER_load(libctx, "default"));
    try_in(libctx, "provider=default", version);
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

/* Nothing there fulfils them. */
static void impossible_properties(int version)
{
    (void)version;
#if IS_3
    SSL_CTX *ctx = OBSERVED("SSL_CTX_new_ex", SSL_CTX_new_ex(NULL, "fips=yes", TLS_server_method()));
    say("made", "%d", ctx != NULL);
#else
    NOT_IN_THIS_VERSION();
#endif
}

/* Freed with its providers, when no context of it is left; then the next one. */
static void library_context_freed(int version)
{
#if IS_3
    for (int i = 0; i < 3; i++) {
        char key[32];
        SSL_SESSION *session = NULL;
        OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
        OSSL_PROVIDER *provider = OSSL_PROVIDER_load(libctx, "default");
        EVP_PKEY *pkey = EVP_PKEY_Q_keygen(libctx, NULL, "EC", "P-256");
        X509 *cert = certificate_in(libctx, pkey);
        SSL_CTX *server = SSL_CTX_new_ex(libctx, NULL, TLS_server_method());
        SSL_CTX *client = new_client(version);
        NEED(SSL_CTX_use_certificate(server, cert) == 1 && SSL_CTX_use_PrivateKey(server, pkey) == 1);
        SSL_CTX_set_session_id_context(server, (const unsigned char *)"own", 3);
        ready_in(server, libctx, NULL);
        snprintf(key, sizeof key, "full %d", i);
        say(key, "%s", outcome_name(quick(server, client, NULL, "a.test", &session)));
        snprintf(key, sizeof key, "again %d", i);
        if (session)
            say(key, "%s", outcome_name(quick(server, client, session, "a.test", NULL)));
        SSL_SESSION_free(session);
        SSL_CTX_free(server);
        SSL_CTX_free(client);
        X509_free(cert);
        EVP_PKEY_free(pkey);
        OSSL_PROVIDER_unload(provider);
        OSSL_LIB_CTX_free(libctx);
    }
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

/* Two of them and the default one at once. */
static void two_library_contexts(int version)
{
#if IS_3
    OSSL_LIB_CTX *libctxs[3] = {OSSL_LIB_CTX_new(), OSSL_LIB_CTX_new(), NULL};
    SSL_CTX *servers[3], *client = new_client(version);
    SSL_SESSION *sessions[3];
    static const char *const WHICH[] = {"one", "two", "default"};
    for (int i = 0; i < 3; i++) {
        if (libctxs[i])
            NEED(OSSL_PROVIDER_load(libctxs[i], "default"));
        EVP_PKEY *pkey = EVP_PKEY_Q_keygen(libctxs[i], NULL, "EC", "P-256");
        X509 *cert = certificate_in(libctxs[i], pkey);
        servers[i] = SSL_CTX_new_ex(libctxs[i], NULL, TLS_server_method());
        NEED(SSL_CTX_use_certificate(servers[i], cert) == 1 &&
             SSL_CTX_use_PrivateKey(servers[i], pkey) == 1);
        SSL_CTX_set_session_id_context(servers[i], (const unsigned char *)"own", 3);
        ready_in(servers[i], libctxs[i], NULL);
    }
    for (int i = 0; i < 3; i++)
        say(WHICH[i], "%s", outcome_name(quick(servers[i], client, NULL, "a.test", &sessions[i])));
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            char key[32];
            snprintf(key, sizeof key, "%s at %s", WHICH[i], WHICH[k]);
            if (sessions[i])
                say(key, "%s", outcome_name(quick(servers[k], client, sessions[i], "a.test", NULL)));
        }
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

/* An own context is the thread's default one for the time of its handshakes. */
static void default_context_replaced(int version)
{
#if IS_3
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    NEED(OSSL_PROVIDER_load(libctx, "default"));
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    OSSL_LIB_CTX *before = OSSL_LIB_CTX_set0_default(libctx);
    SSL_CTX *another = new_server(version);
    SSL_SESSION_free(visit("in the own one", server, client, first, "a.test"));
    SSL_SESSION *second = visit("of the own one", another, client, NULL, "a.test");
    say("still the own one", "%d", OSSL_LIB_CTX_set0_default(before) == libctx);
    SSL_SESSION_free(visit("back", another, client, second, "a.test"));
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

/* More contexts with connections than anybody counts on. The last ones are like the first. */
static void very_many(int version)
{
    enum { MANY = 1100 };
    static SSL_CTX *all[MANY];
    int outcomes[3] = {0}, at_first[3] = {0};
    SSL_SESSION *first = NULL;
    SSL_CTX *client = new_client(version);
    for (int i = 0; i < MANY; i++) {
        SSL_SESSION *session = NULL;
        all[i] = new_quiet_server(version);
        NEED(quick(all[i], client, NULL, "a.test", &session) == 1);
        outcomes[quick(all[i], client, session, "a.test", NULL)]++;
        at_first[quick(all[i], client, first ? first : session, "a.test", NULL)]++;
        if (!first)
            first = session;
        else
            SSL_SESSION_free(session);
    }
    say("own tickets", "failed %d, full %d, resumed %d", outcomes[0], outcomes[1], outcomes[2]);
    say("the first one's", "failed %d, full %d, resumed %d", at_first[0], at_first[1], at_first[2]);
    for (int i = 0; i < MANY; i++)
        SSL_CTX_free(all[i]);
}

const struct scenario CONTEXTS[] = {
    IN_BOTH(own_library_context),
    IN_BOTH(own_properties),
    ANY(impossible_properties),
    IN_13(library_context_freed),
    IN_BOTH(two_library_contexts),
    IN_BOTH(default_context_replaced),
    IN_12(very_many),
    {0},
};
