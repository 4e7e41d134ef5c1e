/*
 * How LibreSSL's libssl differs where a server can notice: linked with OpenSSL 1.1.1's, whose functions
 * of these names are called openssl_*.
 *
 * - Servers issue no tickets in TLS 1.3.
 * - Some functions of OpenSSL are commands of SSL_ctrl(), and certificates cannot be gone through.
 * - A session has the name that was asked for, accepted or not, and where it is resumed under another
 *   one, that ends the handshake.
 */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

enum { GET_SESSION_REUSED = 8, OPTIONS = 32 };

SSL_CTX *openssl_SSL_CTX_new(const SSL_METHOD *method);
long openssl_SSL_ctrl(SSL *ssl, int command, long number, void *data);
long openssl_SSL_CTX_ctrl(SSL_CTX *ctx, int command, long number, void *data);
long openssl_SSL_CTX_callback_ctrl(SSL_CTX *ctx, int command, void (*callback)(void));

typedef int servername_fn(SSL *ssl, int *alert, void *arg);

/* The server's own servername callback, in a context; and the name that was asked for, in a connection. */
static int own_index, name_index;

static void free_name(void *ssl, void *name, CRYPTO_EX_DATA *data, int index, long number, void *arg)
{
    (void)ssl, (void)data, (void)index, (void)number, (void)arg;
    free(name);
}

static int has_no_name(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void *name, int index,
                       long number, void *arg)
{
    (void)to, (void)from, (void)index, (void)number, (void)arg;
    *(void **)name = NULL;
    return 1;
}

__attribute__((constructor)) static void begin(void)
{
    own_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    name_index = SSL_get_ex_new_index(0, NULL, NULL, has_no_name, free_name);
}

/* Before the extension is parsed, and its name is there no more. */
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
    enum { BEFORE = 5 };
    const unsigned char *sent;
    size_t len;
    (void)alert, (void)arg;
    free(SSL_get_ex_data(ssl, name_index));
    int is_named = SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &sent, &len);
    char *name = is_named && len > BEFORE ? strndup((const char *)sent + BEFORE, len - BEFORE) : NULL;
    SSL_set_ex_data(ssl, name_index, name);
    return SSL_CLIENT_HELLO_SUCCESS;
}

/* True if the session is of another name than the one that is asked for. */
static int is_of_another_name(SSL *ssl)
{
    const char *sent = SSL_get_ex_data(ssl, name_index);
    if (!SSL_session_reused(ssl) || !sent)
        return 0;
    const char *has = SSL_SESSION_get0_hostname(SSL_get_session(ssl));
    return !has || strcmp(has, sent) != 0;
}

static int on_servername(SSL *ssl, int *alert, void *arg)
{
    servername_fn *own = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), own_index);
    if (is_of_another_name(ssl)) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    int answer = own ? own(ssl, alert, arg) : SSL_TLSEXT_ERR_OK;
    return answer == SSL_TLSEXT_ERR_NOACK ? SSL_TLSEXT_ERR_OK : answer;
}

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
    SSL_CTX *ctx = openssl_SSL_CTX_new(method);
    if (ctx) {
        SSL_CTX_set_num_tickets(ctx, 0);
        SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
        openssl_SSL_CTX_callback_ctrl(ctx, SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
                                      (void (*)(void))on_servername);
    }
    return ctx;
}

long SSL_CTX_callback_ctrl(SSL_CTX *ctx, int command, void (*callback)(void))
{
    if (command == SSL_CTRL_SET_TLSEXT_SERVERNAME_CB)
        return SSL_CTX_set_ex_data(ctx, own_index, (void *)callback);
    return openssl_SSL_CTX_callback_ctrl(ctx, command, callback);
}

long SSL_ctrl(SSL *ssl, int command, long number, void *data)
{
    switch (command) {
    case GET_SESSION_REUSED: return SSL_session_reused(ssl);
    case OPTIONS: return (long)SSL_set_options(ssl, (unsigned long)number);
    case SSL_CTRL_SELECT_CURRENT_CERT:
    case SSL_CTRL_SET_CURRENT_CERT: return 0;
    default: return openssl_SSL_ctrl(ssl, command, number, data);
    }
}

long SSL_CTX_ctrl(SSL_CTX *ctx, int command, long number, void *data)
{
    switch (command) {
    case OPTIONS: return (long)SSL_CTX_set_options(ctx, (unsigned long)number);
    case SSL_CTRL_SELECT_CURRENT_CERT:
    case SSL_CTRL_SET_CURRENT_CERT: return 0;
    default: return openssl_SSL_CTX_ctrl(ctx, command, number, data);
    }
}
