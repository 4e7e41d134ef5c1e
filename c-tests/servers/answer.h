/* What every one of these servers does: listens, and answers one request for each connection. */

#ifndef ANSWER_H
#define ANSWER_H

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { REQUEST_SECONDS = 5 };

static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((in_port_t)port)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 256) < 0)
        die("cannot listen");
    return listener;
}

/* A client that says nothing does not keep us. */
static inline void limit_waits(int tcp)
{
    struct timeval limit = {.tv_sec = REQUEST_SECONDS};
    setsockopt(tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(tcp, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

#ifdef SSL_VERIFY_NONE /* <openssl/ssl.h> was included: this file has TLS */

static inline SSL_CTX *new_context(const char *cert, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_use_certificate_file(ctx, cert, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return ctx;
}

/* Reads a request of the connection and answers it with `body`. */
static inline void answer(SSL_CTX *ctx, int tcp, const char *body)
{
    char request[4096], response[256];
    int used = 0, read;
    SSL *ssl = SSL_new(ctx);
    limit_waits(tcp);
    if (!ssl || SSL_set_fd(ssl, tcp) != 1 || SSL_accept(ssl) != 1)
        goto end;
    do {
        read = SSL_read(ssl, request + used, (int)sizeof request - 1 - used);
        if (read <= 0)
            goto end;
        request[used += read] = '\0';
    } while (!strstr(request, "\r\n\r\n") && used < (int)sizeof request - 1);
    int length = snprintf(response, sizeof response,
                          "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                          strlen(body), body);
    if (SSL_write(ssl, response, length) == length)
        SSL_shutdown(ssl);
end:
    SSL_free(ssl);
    ERR_clear_error();
    close(tcp);
}

#endif
#endif
