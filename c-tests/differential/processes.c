/* The process: forks, users, limits, descriptors, threads that nobody asked for. */

#include "differential.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* A child's connection: resumes the session that came before, and writes its own. */
static void child(SSL_CTX *server, SSL_CTX *client, int from, int to, int number)
{
    unsigned char bytes[8192];
    char key[32];
    SSL_SESSION *offered = NULL, *session = NULL;
    if (number > 0) {
        ssize_t len = read(from, bytes, sizeof bytes);
        const unsigned char *at = bytes;
        offered = d2i_SSL_SESSION(NULL, &at, len);
        NEED(offered);
    }
    snprintf(key, sizeof key, "child %d", number);
    say(key, "%s", outcome_name(quick(server, client, offered, "a.test", &session)));
    unsigned char *out = bytes;
    SSL_SESSION *given = session ? session : offered;
    int len = given ? i2d_SSL_SESSION(given, NULL) : 0;
    NEED(given && len < (int)sizeof bytes);
    i2d_SSL_SESSION(given, &out);
    NEED(write(to, bytes, (size_t)len) == len);
}

static void forked(int version)
{
    int ends[2];
    SSL_CTX *server = new_server(version), *client = new_client(version);
    NEED(pipe2(ends, O_CLOEXEC) == 0);
    ready(server);
    for (int number = 0; number < 4; number++) {
        int status;
        fflush(stdout);
        pid_t pid = fork();
        NEED(pid >= 0);
        if (pid == 0) {
            alarm(100);
            child(server, client, ends[0], ends[1], number);
            _exit(0);
        }
        NEED(waitpid(pid, &status, 0) == pid);
        char key[32];
        snprintf(key, sizeof key, "end of child %d", number);
        say(key, "%x", status);
    }
    close(ends[0]);
    close(ends[1]);
}

/* A child of a process that served already; then the parent again. */
static void forked_in_service(int version)
{
    int status;
    SSL_SESSION *session = NULL;
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    say("before", "%s", outcome_name(quick(server, client, NULL, "a.test", &session)));
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        alarm(100);
        say("child", "%s", outcome_name(quick(server, client, session, "a.test", NULL)));
        say("child without a ticket", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
        SSL_CTX_free(server);
        SSL_CTX *another = new_quiet_server(version);
        say("child's own context", "%s", outcome_name(quick(another, client, NULL, "a.test", NULL)));
        exit(0);
    }
    NEED(waitpid(pid, &status, 0) == pid);
    say("end of the child", "%x", status);
    say("parent", "%s", outcome_name(quick(server, client, session, "a.test", NULL)));
}

/* exit(3) with everything alive. */
static void exits(int version)
{
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    say("connection", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
    fflush(stdout);
    exit(5);
}

static void threads(int version)
{
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    say("after SSL_CTX_new", "%d", count_threads());
    ready(server);
    SSL *ssl = SSL_new(server);
    say("after SSL_new", "%d", count_threads());
    SSL_free(ssl);
    NEED(quick(server, client, NULL, "a.test", NULL) == 1);
    say("after a connection", "%d", count_threads());
    SSL_CTX_free(server);
    say("after SSL_CTX_free", "%d", count_threads());
}

/*
 * Before its first connection a server gives up what it has: limits first, then namespaces,
 * for which it must be single-threaded, and users.
 */
static void sandboxed(int version)
{
    struct rlimit limit;
    struct rlimit64 limit64;
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    ready(server);
    NEED(getrlimit(RLIMIT_NPROC, &limit) == 0 && getrlimit64(RLIMIT_NPROC, &limit64) == 0);
    /* As HAProxy's workers do. */
    limit.rlim_cur = limit64.rlim_cur = 0;
    say("setrlimit", "%d", setrlimit(RLIMIT_NPROC, &limit));
    say("threads after setrlimit", "%d", count_threads());
    say("setrlimit64", "%d", setrlimit64(RLIMIT_NPROC, &limit64));
    say("prlimit", "%d", prlimit(0, RLIMIT_NPROC, &limit, NULL));
    say("threads after prlimit", "%d", count_threads());
    say("unshare", "%d", unshare(CLONE_NEWUSER));
    say("connection", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
}

/* No thread can be made: a server that forks cannot be told from one that is full. */
static void no_threads(int version)
{
    struct rlimit limit = {0, 0};
    SSL_SESSION *session = NULL;
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    ready(server);
    if (geteuid() == 0)
        NEED(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    say("setrlimit", "%d", setrlimit(RLIMIT_NPROC, &limit));
    say("first", "%s", outcome_name(quick(server, client, NULL, "a.test", &session)));
    say("second", "%s", outcome_name(quick(server, client, session, "a.test", NULL)));
    say("threads", "%d", count_threads());
}

/* Users are changed twice in a row, in all threads, by a signal that cannot be blocked. */
static void user_changed(int version)
{
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    NEED(quick(server, client, NULL, "a.test", NULL) == 1);
    for (int i = 0; i < 200; i++)
        NEED(setegid(getegid()) == 0 && seteuid(geteuid()) == 0);
    /* A thread that ends for it does so at once. */
    for (int i = 0; i < 50 && count_threads() > 1; i++)
        usleep(10000);
    say("threads", "%d", count_threads());
    say("connection", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
}

/* After fork and SIGSTOP, SIGCONT of the whole process. */
static void stopped(int version)
{
    int status;
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        alarm(100);
        NEED(quick(server, client, NULL, "a.test", NULL) == 1);
        for (int i = 0; i < 3; i++)
            raise(SIGSTOP);
        for (int i = 0; i < 30 && count_threads() > 1; i++)
            usleep(10000);
        say("threads", "%d", count_threads());
        say("connection", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
        _exit(0);
    }
    for (int i = 0; i < 3; i++) {
        NEED(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
        kill(pid, SIGCONT);
    }
    NEED(waitpid(pid, &status, 0) == pid);
    say("end", "%x", status);
}

/*
 * A daemon closes its standard error output, and the number becomes a client's socket. What is
 * written to it then goes to the client.
 */
static void standard_error_reused(int version)
{
    int ends[2];
    char bytes[4096];
    unsigned char keys[80] = {1};
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    ready(server);
    int saved = dup(2);
    NEED(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    NEED(dup2(ends[1], 2) == 2);
    SSL_CTX *own = new_quiet_server(version);
    SSL_CTX_set_tlsext_ticket_keys(own, keys, sizeof keys);
    say("own keys", "%s", outcome_name(quick(own, client, NULL, "a.test", NULL)));
    say("connection", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
    ssize_t len = read(ends[0], bytes, sizeof bytes);
    say("the client gets", "%s", len > 0 ? "what is not for it" : "nothing");
    dup2(saved, 2);
    close(saved);
    close(ends[0]);
    close(ends[1]);
}

/* All descriptors above 2 closed, as daemons do; the next ones have the numbers of what was there. */
static void descriptors_closed(int version)
{
    int ends[2];
    char bytes[64];
    SSL_SESSION *session = NULL;
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    ready(server);
    for (int file = 3; file < 64; file++)
        close(file);
    NEED(pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
    say("first", "%s", outcome_name(quick(server, client, NULL, "a.test", &session)));
    say("second", "%s", outcome_name(quick(server, client, session, "a.test", NULL)));
    SSL_CTX_free(server);
    server = new_quiet_server(version);
    say("a new context", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
    say("the pipe", "%s", read(ends[0], bytes, sizeof bytes) < 0 && errno == EAGAIN ? "open and empty" : "disturbed");
    close(ends[0]);
    close(ends[1]);
}

/* No descriptor can be had. */
static void no_descriptors(int version)
{
    struct rlimit limit, none;
    NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    certificate(ECDSA_CERT);
    SSL_CTX *client = new_client(version);
    NEED(RAND_bytes((unsigned char[1]){0}, 1) == 1);
    none = limit;
    none.rlim_cur = 0;
    NEED(setrlimit(RLIMIT_NOFILE, &none) == 0);
    SSL_CTX *server = OBSERVED("SSL_CTX_new", SSL_CTX_new(TLS_server_method()));
    NEED(server && SSL_CTX_use_certificate(server, certificate(ECDSA_CERT)) == 1 &&
         SSL_CTX_use_PrivateKey(server, private_key(ECDSA_CERT)) == 1);
    say("connection", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
    setrlimit(RLIMIT_NOFILE, &limit);
}

static SSL_CTX *served, *serving;

/* The end of a child that is to end by itself. */
static void say_end(pid_t pid)
{
    int status = 0;
    pid_t ended = 0;
    for (int i = 0; i < 2000 && ended == 0; i++, usleep(10000))
        ended = waitpid(pid, &status, WNOHANG);
    if (ended == 0) {
        kill(pid, SIGKILL);
        NEED(waitpid(pid, &status, 0) == pid);
    }
    say("end", ended == pid ? "%x" : "does not come (%x)", status);
}

static void *last_thread(void *unused)
{
    (void)unused;
    usleep(100000);
    say("connection", "%s", outcome_name(quick(serving, served, NULL, "a.test", NULL)));
    return NULL;
}

/* The main thread leaves the process to another one, with whose end it ends. */
static void main_thread_ends(int version)
{
    pthread_t thread;
    serving = new_quiet_server(version), served = new_client(version);
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        say("first connection", "%s", outcome_name(quick(serving, served, NULL, "a.test", NULL)));
        NEED(pthread_create(&thread, NULL, last_thread, NULL) == 0 && pthread_detach(thread) == 0);
        pthread_exit(NULL);
    }
    say_end(pid);
}

/* Nothing but read, write and exit of the one thread from then on. */
static void strict_mode(int version)
{
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        say("connection", "%s", outcome_name(quick(server, client, NULL, "a.test", NULL)));
        fflush(stdout);
        NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) == 0);
        syscall(SYS_exit, 3);
    }
    say_end(pid);
}

#define DENIED(call)                                                                       \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),                                       \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/*
 * A server that has all it needs, but for connections, lets itself be killed for anything else:
 * files, other processes, and where it has the shim also threads.
 */
static void filtered_before_the_first(int version)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        DENIED(SYS_openat),
        DENIED(SYS_statx),
        DENIED(SYS_newfstatat),
        DENIED(SYS_fstatfs),
        DENIED(SYS_prlimit64),
        DENIED(SYS_socket),
#ifdef SYS_open
        DENIED(SYS_open),
        DENIED(SYS_readlink),
#endif
#ifndef LINKED
        DENIED(SYS_kill),
        DENIED(SYS_clone),
        DENIED(SYS_clone3),
        DENIED(SYS_prctl),
        DENIED(SYS_clock_nanosleep),
        DENIED(SYS_gettid),
#endif
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    ready(server);
    /* What the TLS library itself opens when it is first used. */
    NEED(quick(new_quiet_server(version), client, NULL, NULL, NULL) == 1);
    fflush(stdout);
    pid_t pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        SSL_SESSION *session = NULL;
        NEED(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        NEED(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
        say("first", "%s", outcome_name(quick(server, client, NULL, "a.test", &session)));
        say("second", "%s", outcome_name(quick(server, client, session, "a.test", NULL)));
        fflush(stdout);
        syscall(SYS_exit_group, 0);
    }
    say_end(pid);
}

const struct scenario PROCESSES[] = {
    IN_BOTH(forked),
    IN_BOTH(forked_in_service),
    IN_13(exits),
    IN_13(threads),
    IN_13(sandboxed),
    IN_13(no_threads),
    IN_13(user_changed),
    IN_13(stopped),
    IN_13(standard_error_reused),
    IN_13(descriptors_closed),
    IN_13(no_descriptors),
    IN_13(main_thread_ends),
    IN_13(strict_mode),
    IN_BOTH(filtered_before_the_first),
    {0},
};
