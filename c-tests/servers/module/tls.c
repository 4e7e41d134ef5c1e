/* What module/host loads: all of its TLS, with a TLS library that the host has nothing of. */

#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "../answer.h"

static SSL_CTX *ctx;

/* Makes the context, and a connection of it: from then on it has whatever it will have. */
void begin(const char *cert, const char *key)
{
    ctx = new_context(cert, key);
    SSL_free(SSL_new(ctx));
}

void serve(int tcp, const char *body)
{
    answer(ctx, tcp, body);
}

void end(void)
{
    SSL_CTX_free(ctx);
}
