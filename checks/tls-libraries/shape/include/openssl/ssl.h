#ifndef SHAPE_SSL_H
#define SHAPE_SSL_H
#include_next <openssl/ssl.h>

#define SSL_session_reused(ssl) ((int)SSL_ctrl((ssl), 8, 0, NULL))
#define SSL_get_options(ssl) SSL_ctrl((ssl), 32, 0, NULL)
#define SSL_set_options(ssl, options) SSL_ctrl((ssl), 32, (options), NULL)
#define SSL_CTX_get_options(ctx) SSL_CTX_ctrl((ctx), 32, 0, NULL)
#define SSL_CTX_set_options(ctx, options) SSL_CTX_ctrl((ctx), 32, (options), NULL)
#endif
