/*
 * A TLS server that lives as stud does, and knows nothing of libtktrot:
 *
 *     stud -p PORT -n WORKERS -r DIRECTORY -u USER -P PIDFILE NAME CERT KEY [NAME CERT KEY]...
 *
 * As root it makes an SSL_CTX for each host; the first one takes connections,
 * the others take over by name. Then it gives up what it was: chroot, another
 * user, two forks and a new session. The master forks the workers and does
 * nothing but pause(): its SIGCHLD handler forks the replacement of a worker
 * that died, and that replacement serves inside the handler until it dies. A
 * worker serves one connection at a time. There is no reload; TERM ends all.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { MAX_HOSTS = 16, MAX_WORKERS = 64, REQUEST_SECONDS = 5 };

struct host {
    const char *name;
    SSL_CTX *ctx;
};

static struct host hosts[MAX_HOSTS];
static int host_count;
static pid_t workers[MAX_WORKERS];
static int worker_count = 1;
static int listener = -1;

static void die(const char *what)
{
    fprintf(stderr, "stud: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void die_tls(const char *what)
{
    fprintf(stderr, "stud: %s:\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int on_servername(SSL *ssl, int *alert, void *unused)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert, (void)unused;
    for (int i = 0; name != NULL && i < host_count; i++) {
        if (strcasecmp(name, hosts[i].name) == 0) {
            SSL_set_SSL_CTX(ssl, hosts[i].ctx);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static void add_host(const char *name, const char *cert, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL)
        die_tls("SSL_CTX_new");
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        die_tls(cert);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        die_tls(key);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    hosts[host_count++] = (struct host){name, ctx};
}

static void open_listener(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0)
        die("bind");
    if (listen(listener, 128) != 0)
        die("listen");
}

/* Reads a request to its end. Returns 0 if the client leaves or takes too long. */
static int read_request(SSL *ssl)
{
    char request[4096];
    int length = 0;
    while (length < (int)sizeof request - 1) {
        int got = SSL_read(ssl, request + length, (int)sizeof request - 1 - length);
        if (got <= 0)
            return 0;
        length += got;
        request[length] = '\0';
        if (strstr(request, "\r\n\r\n") != NULL)
            return 1;
    }
    return 0;
}

/* Answers with the name of the host whose SSL_CTX the connection has. */
static void answer(SSL *ssl)
{
    const char *name = "";
    char response[256];
    for (int i = 0; i < host_count; i++) {
        if (hosts[i].ctx == SSL_get_SSL_CTX(ssl))
            name = hosts[i].name;
    }
    int length = snprintf(response, sizeof response,
                          "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                          strlen(name), name);
    if (SSL_write(ssl, response, length) == length)
        SSL_shutdown(ssl);
}

static void serve_connection(int fd)
{
    struct timeval limit = {.tv_sec = REQUEST_SECONDS};
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL *ssl = SSL_new(hosts[0].ctx);
    if (ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1 && read_request(ssl))
        answer(ssl);
    SSL_free(ssl);
    ERR_clear_error();
    close(fd);
}

/* A worker's life. SIGCHLD stays blocked: it may never leave the handler. */
static void serve(void)
{
    sigset_t termination;
    sigemptyset(&termination);
    sigaddset(&termination, SIGTERM);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_UNBLOCK, &termination, NULL);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0)
            serve_connection(fd);
        else if (errno != EINTR && errno != ECONNABORTED)
            die("accept");
    }
}

static void start_worker(int number)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        serve();
    workers[number] = pid;
}

static void on_child(int number)
{
    int saved = errno;
    pid_t pid;
    (void)number;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        for (int i = 0; i < worker_count; i++) {
            if (workers[i] == pid)
                start_worker(i);
        }
    }
    errno = saved;
}

static void on_termination(int number)
{
    (void)number;
    for (int i = 0; i < worker_count; i++)
        kill(workers[i], SIGTERM);
    exit(0);
}

/* Either handler keeps the other from running. */
static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_NOCLDSTOP};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGCHLD);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(number, &action, NULL);
}

static void give_up_privileges(const char *directory, const char *user)
{
    struct passwd *entry = getpwnam(user);
    if (entry == NULL) {
        fprintf(stderr, "stud: there is no user %s\n", user);
        exit(1);
    }
    if (chroot(directory) != 0 || chdir("/") != 0)
        die(directory);
    if (setgroups(0, NULL) != 0 || setgid(entry->pw_gid) != 0 || setuid(entry->pw_uid) != 0)
        die(user);
}

static void fork_and_leave(void)
{
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0)
        exit(0);
}

/* `null` is /dev/null, opened where there was one. */
static void become_daemon(int null)
{
    fork_and_leave();
    if (setsid() < 0)
        die("setsid");
    fork_and_leave();
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    close(null);
}

static int open_or_die(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        die(path);
    return fd;
}

int main(int argc, char **argv)
{
    const char *directory = NULL, *user = NULL, *pid_path = NULL;
    int port = 0;
    for (int option; (option = getopt(argc, argv, "p:n:r:u:P:")) != -1;) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'n': worker_count = atoi(optarg); break;
        case 'r': directory = optarg; break;
        case 'u': user = optarg; break;
        case 'P': pid_path = optarg; break;
        default: return 2;
        }
    }
    int named = argc - optind;
    if (port <= 0 || worker_count < 1 || worker_count > MAX_WORKERS || directory == NULL ||
        user == NULL || pid_path == NULL || named < 3 || named > 3 * MAX_HOSTS || named % 3 != 0) {
        fprintf(stderr, "usage: stud -p PORT -n WORKERS -r DIRECTORY -u USER -P PIDFILE "
                        "NAME CERT KEY [NAME CERT KEY]...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    open_listener(port);
    for (int i = optind; i < argc; i += 3)
        add_host(argv[i], argv[i + 1], argv[i + 2]);
    int null = open_or_die("/dev/null", O_RDWR);
    int pid_file = open_or_die(pid_path, O_WRONLY | O_CREAT | O_TRUNC);
    give_up_privileges(directory, user);
    become_daemon(null);

    sigset_t mine;
    sigemptyset(&mine);
    sigaddset(&mine, SIGCHLD);
    sigaddset(&mine, SIGTERM);
    sigprocmask(SIG_BLOCK, &mine, NULL);
    handle(SIGCHLD, on_child);
    handle(SIGTERM, on_termination);
    for (int i = 0; i < worker_count; i++)
        start_worker(i);
    dprintf(pid_file, "%d\n", (int)getpid());
    close(pid_file);
    sigprocmask(SIG_UNBLOCK, &mine, NULL);
    for (;;)
        pause();
}
