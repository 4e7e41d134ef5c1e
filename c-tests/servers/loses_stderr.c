/*
 * What a daemon may do to its standard error after it has made an SSL_CTX: it
 * closes descriptor 2, and something else gets that number. Then it sets ticket
 * keys of its own, which the shim tells.
 *
 *     loses_stderr CERT KEY WHAT
 *
 * WHAT has that number then:
 *
 *     same      what had it before
 *     nothing   it stays closed
 *     null      /dev/null
 *     socket    a client's connection
 *     pipe      a pipe
 *     data      a file with data
 *     appended  a file that is appended to, open once
 *     log       one that is open twice: the server's error log, put there on purpose
 *     full      nothing, and no descriptor can be opened
 *
 * It tells what came there, and what came to the system's log, for which it needs root: it has
 * a /dev of its own.
 */

#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "answer.h"

static int ends[2] = {-1, -1};

static void must(int done, const char *what)
{
    if (!done)
        die(what);
}

/* One in a /dev of our own. */
static int system_log(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    int log = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(unshare(CLONE_NEWNS) == 0, "unshare");
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mount");
    must(mount("tmpfs", "/dev", "tmpfs", 0, NULL) == 0, "mount /dev");
    must(log >= 0 && bind(log, (struct sockaddr *)&address, sizeof address) == 0, "/dev/log");
    return log;
}

/* A file without a name, to read what came there. */
static int file(int flags, char *path)
{
    strcpy(path, "/tmp/loses_stderr-XXXXXX");
    int reader = mkstemp(path);
    must(reader >= 0, path);
    int writer = open(path, flags | O_CLOEXEC);
    must(writer >= 0, path);
    unlink(path);
    ends[0] = reader;
    return writer;
}

static void put_on_stderr(int writer)
{
    must(dup2(writer, 2) == 2, "dup2");
}

static void lose(const char *what, int null)
{
    char path[64];
    int writer = -1, keep = 0;

    if (strcmp(what, "same") == 0)
        return;
    if (strcmp(what, "null") == 0) {
        writer = null;
    } else if (strcmp(what, "socket") == 0) {
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
        writer = ends[1];
    } else if (strcmp(what, "pipe") == 0) {
        must(pipe2(ends, O_CLOEXEC) == 0, "pipe");
        writer = ends[1];
    } else if (strcmp(what, "data") == 0) {
        writer = file(O_RDWR, path);
    } else if (strcmp(what, "appended") == 0) {
        writer = file(O_WRONLY | O_APPEND, path);
        /* So that it is open once. */
        close(ends[0]);
        ends[0] = -1;
    } else if (strcmp(what, "log") == 0) {
        writer = file(O_WRONLY | O_APPEND, path);
        keep = 1;
    }
    close(2);
    if (writer < 0)
        return;
    put_on_stderr(writer);
    if (!keep)
        close(writer);
}

static void show(const char *name, int fd, int is_socket)
{
    char text[4096];
    ssize_t length = -1;
    if (fd >= 0)
        length = is_socket ? recv(fd, text, sizeof text, MSG_DONTWAIT) : read(fd, text, sizeof text);
    printf("%s: %.*s\n", name, length > 0 ? (int)length : 0, text);
}

int main(int argc, char **argv)
{
    unsigned char keys[256] = {1};
    if (argc != 4) {
        fprintf(stderr, "usage: loses_stderr CERT KEY WHAT\n");
        return 2;
    }
    const char *what = argv[3];
    SSL_CTX *ctx = new_context(argv[1], argv[2]);
    SSL_free(SSL_new(ctx));
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), log = system_log();
    lose(what, null);
    if (strcmp(what, "full") == 0) {
        struct rlimit none = {0, 0};
        must(setrlimit(RLIMIT_NOFILE, &none) == 0, "setrlimit");
    }

    long size = SSL_CTX_get_tlsext_ticket_keys(ctx, NULL, 0);
    errno = ENOTTY;
    must(SSL_CTX_set_tlsext_ticket_keys(ctx, keys, size) == 1, "ticket keys");
    must(errno == ENOTTY, "errno");

    if (strcmp(what, "appended") == 0)
        printf("there: %s\n", lseek(2, 0, SEEK_END) > 0 ? "something" : "");
    else if (strcmp(what, "pipe") == 0)
        must(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0, "fcntl");
    if (strcmp(what, "appended") != 0)
        show("there", ends[0], strcmp(what, "socket") == 0);
    show("syslog", log, 1);
    return 0;
}
