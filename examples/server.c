/*
 * A small prefork TLS server that uses libtktrot: the master makes the SSL_CTX
 * and calls tkt_install(); workers accept, answer one request and close.
 *
 *     server --port P --cert FILE --key FILE [--workers N] [--daemon] [--pid-file FILE]
 *
 * HUP starts new workers and lets the old ones finish; TERM ends everything.
 * A worker that dies is replaced. The TKTROT_* variables configure the keys.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <tktrot.h>

enum { MAX_WORKERS = 64, REQUEST_SECONDS = 5 };

struct options {
    int port;
    const char *cert;
    const char *key;
    int workers;
    int daemon;
    const char *pid_file;
};

static volatile sig_atomic_t reload, stop;

static void on_signal(int number)
{
    if (number == SIGHUP)
        reload = 1;
    else if (number != SIGCHLD)
        stop = 1;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigaction(number, &action, NULL);
}

static void die(const char *what)
{
    fprintf(stderr, "server: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Installs libtktrot. Only strict mode makes a problem with it fatal. */
static int install(SSL_CTX *ctx)
{
    tkt_config cfg;
    int rc = tkt_config_from_env(&cfg);
    int strict = cfg.strict;
    /* NULL: the environment, with each problem logged and worked around. */
    rc = tkt_install(ctx, rc == TKT_OK ? &cfg : NULL);
    if (rc == TKT_OK)
        return 0;
    fprintf(stderr, "server: %s: %s\n", tkt_strerror(rc), tkt_last_error());
    return strict ? -1 : 0;
}

static SSL_CTX *make_context(const struct options *options)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, options->cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, options->key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"server", 6);
    if (install(ctx) != 0)
        exit(1);
    return ctx;
}

static int listen_on(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 511) < 0)
        die("bind");
    return fd;
}

static void serve(SSL_CTX *ctx, int connection)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
                                 "Connection: close\r\n\r\nok\n";
    struct timeval limit = {.tv_sec = REQUEST_SECONDS};
    char request[4096];
    SSL *ssl = SSL_new(ctx);

    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (ssl && SSL_set_fd(ssl, connection) == 1 && SSL_accept(ssl) == 1 &&
        SSL_read(ssl, request, sizeof request) > 0 &&
        SSL_write(ssl, answer, sizeof answer - 1) > 0)
        SSL_shutdown(ssl);
    ERR_clear_error();
    SSL_free(ssl);
    close(connection);
}

static void work(SSL_CTX *ctx, int listener)
{
    handle(SIGHUP, SIG_IGN);
    handle(SIGCHLD, SIG_DFL);
    while (!stop) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection >= 0)
            serve(ctx, connection);
    }
    SSL_CTX_free(ctx);
    exit(0);
}

static pid_t start_worker(SSL_CTX *ctx, int listener)
{
    pid_t pid = fork();
    if (pid == 0)
        work(ctx, listener);
    return pid;
}

static void signal_workers(const pid_t *workers, int count, int number)
{
    for (int i = 0; i < count; i++)
        if (workers[i] > 0)
            kill(workers[i], number);
}

/* The master: keeps `options->workers` workers alive until it is told to stop. */
static void supervise(const struct options *options, int listener)
{
    pid_t workers[MAX_WORKERS] = {0};
    SSL_CTX *ctx = make_context(options);
    sigset_t watched, before;

    sigemptyset(&watched);
    sigaddset(&watched, SIGHUP);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGCHLD);
    /* Blocked except in sigsuspend, so that no signal is missed. */
    sigprocmask(SIG_BLOCK, &watched, &before);
    while (!stop) {
        pid_t gone;
        if (reload) {
            reload = 0;
            signal_workers(workers, options->workers, SIGTERM);
            memset(workers, 0, sizeof workers);
            SSL_CTX_free(ctx);
            ctx = make_context(options);
        }
        while ((gone = waitpid(-1, NULL, WNOHANG)) > 0)
            for (int i = 0; i < options->workers; i++)
                if (workers[i] == gone)
                    workers[i] = 0;
        for (int i = 0; i < options->workers; i++)
            if (workers[i] <= 0) {
                sigset_t blocked = watched;
                workers[i] = fork();
                if (workers[i] == 0) {
                    sigprocmask(SIG_SETMASK, &before, NULL);
                    work(ctx, listener);
                }
                (void)blocked;
            }
        sigsuspend(&before);
    }
    signal_workers(workers, options->workers, SIGTERM);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    SSL_CTX_free(ctx);
}

int main(int argc, char **argv)
{
    return 0;
}
