/*
 * A plugin with a TLS library of its own, which tells what that library made:
 * it is called for each new context and connection. All calls are of functions
 * that every OpenSSL has, so that plugins with different ones have the same
 * layout.
 */

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "plugin.h"

static void on_new(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *count)
{
    (void)parent, (void)ptr, (void)data, (void)index, (void)argl;
    ++*(int *)count;
}

void plug(struct plugged *plugged)
{
    int contexts = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, &plugged->contexts, on_new,
                                           NULL, NULL);
    int connections = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, &plugged->connections,
                                              on_new, NULL, NULL);
    plugged->version = OpenSSL_version_num();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL *ssl = ctx ? SSL_new(ctx) : NULL;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    /* Nothing of the plugin's may be called when it is gone. */
    CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL, connections);
    CRYPTO_free_ex_index(CRYPTO_EX_INDEX_SSL_CTX, contexts);
}
