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
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
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
    tkt_config environment;
    int rc = tkt_install(ctx, NULL);
    if (rc == TKT_OK)
        return 0;
    fprintf(stderr, "server: %s: %s\n", tkt_strerror(rc), tkt_last_error());
    tkt_config_from_env(&environment);
    return environment.strict ? -1 : 0;
}

/*
 * OpenSSL resumes a ticket only where the session id context is that of the
 * server that issued it. This one is what nginx computes for the same
 * certificate, so that nginx and this server can share a ring: SHA-1 over
 * "HTTP" and the SHA-1 fingerprint of the certificate.
 */
static void set_session_context(SSL_CTX *ctx)
{
    unsigned char fingerprint[EVP_MAX_MD_SIZE], context[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (!digest || X509_digest(SSL_CTX_get0_certificate(ctx), EVP_sha1(), fingerprint, &length) != 1 ||
        EVP_DigestInit_ex(digest, EVP_sha1(), NULL) != 1 ||
        EVP_DigestUpdate(digest, "HTTP", 4) != 1 ||
        EVP_DigestUpdate(digest, fingerprint, length) != 1 ||
        EVP_DigestFinal_ex(digest, context, &length) != 1 ||
        SSL_CTX_set_session_id_context(ctx, context, length) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    EVP_MD_CTX_free(digest);
}

static SSL_CTX *make_context(const struct options *options)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_use_certificate_chain_file(ctx, options->cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, options->key, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    set_session_context(ctx);
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
    /* Not blocking: of the workers that a connection wakes, one gets it. */
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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

/* Signals are handled only while a process waits, so that none comes too late. */
static void block_signals(sigset_t *before)
{
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGHUP);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, before);
}

/* A worker: serves connections until it is told to stop. */
static void work(SSL_CTX *ctx, int listener, const sigset_t *waiting)
{
    handle(SIGHUP, SIG_IGN);
    while (!stop) {
        struct pollfd ready = {.fd = listener, .events = POLLIN};
        if (ppoll(&ready, 1, NULL, waiting) <= 0)
            continue;
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection >= 0)
            serve(ctx, connection);
    }
    SSL_CTX_free(ctx);
    exit(0);
}

static void signal_all(const pid_t *workers, int count, int number)
{
    for (int i = 0; i < count; i++)
        if (workers[i] > 0)
            kill(workers[i], number);
}

/* Starts the workers that are missing. */
static void complete(pid_t *workers, int count, SSL_CTX *ctx, int listener,
                     const sigset_t *waiting)
{
    for (int i = 0; i < count; i++) {
        if (workers[i] > 0)
            continue;
        workers[i] = fork();
        if (workers[i] == 0)
            work(ctx, listener, waiting);
    }
}

static void forget_the_dead(pid_t *workers, int count)
{
    pid_t dead;
    while ((dead = waitpid(-1, NULL, WNOHANG)) > 0)
        for (int i = 0; i < count; i++)
            if (workers[i] == dead)
                workers[i] = 0;
}

/* The master: keeps the workers alive until it is told to stop. */
static void supervise(const struct options *options, SSL_CTX *ctx, int listener)
{
    pid_t workers[MAX_WORKERS] = {0};
    sigset_t waiting;

    block_signals(&waiting);
    while (!stop) {
        forget_the_dead(workers, options->workers);
        if (reload) {
            reload = 0;
            signal_all(workers, options->workers, SIGTERM);
            memset(workers, 0, sizeof workers);
            SSL_CTX_free(ctx);
            ctx = make_context(options);
        }
        complete(workers, options->workers, ctx, listener, &waiting);
        sigsuspend(&waiting);
    }
    signal_all(workers, options->workers, SIGTERM);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    SSL_CTX_free(ctx);
}

/* The parent leaves when the child is on its own. */
static void go_to_background(void)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        exit(0);
    setsid();
}

static void write_pid(const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file || fprintf(file, "%d\n", (int)getpid()) < 0 || fclose(file) != 0)
        die(path);
}

static int number(const char *text, int least, int most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "server: %s is not a number from %d to %d\n", text, least, most);
        exit(2);
    }
    return (int)value;
}

static struct options parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},     {"cert", required_argument, NULL, 'c'},
        {"key", required_argument, NULL, 'k'},      {"workers", required_argument, NULL, 'w'},
        {"daemon", no_argument, NULL, 'd'},         {"pid-file", required_argument, NULL, 'f'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.workers = 2};
    int letter;

    while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (letter) {
        case 'p': options.port = number(optarg, 1, 65535); break;
        case 'c': options.cert = optarg; break;
        case 'k': options.key = optarg; break;
        case 'w': options.workers = number(optarg, 1, MAX_WORKERS); break;
        case 'd': options.daemon = 1; break;
        case 'f': options.pid_file = optarg; break;
        default: exit(2);
        }
    }
    if (!options.port || !options.cert || !options.key || optind != argc) {
        fprintf(stderr, "usage: server --port P --cert FILE --key FILE [--workers N] "
                        "[--daemon] [--pid-file FILE]\n");
        exit(2);
    }
    return options;
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);

    handle(SIGPIPE, SIG_IGN);
    handle(SIGHUP, on_signal);
    handle(SIGTERM, on_signal);
    handle(SIGINT, on_signal);
    handle(SIGCHLD, on_signal);

    /* The keys are installed while the process has its first privileges, and
     * before it forks: workers inherit them. */
    SSL_CTX *ctx = make_context(&options);
    int listener = listen_on(options.port);
    if (options.daemon)
        go_to_background();
    if (options.pid_file)
        write_pid(options.pid_file);
    supervise(&options, ctx, listener);
    return 0;
}
