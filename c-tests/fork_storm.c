/*
 * Forks at any time, from several threads, while others do handshakes, make
 * and free contexts, install and rotate: no child finds a lock of ours taken
 * for ever, and no fork waits for one. What hangs is ended, and says where.
 *
 * OpenSSL's own locks do not survive that: without libtktrot, too, a child in
 * some hangs in SSL_CTX_new() or SSL_new() if another thread was in there at
 * the fork. So children that use OpenSSL are forked while no thread does.
 *
 * Under the shim (LD_PRELOAD), nothing is installed here: contexts are attached
 * as they are in any server.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "handshake.h"

enum { BUSY = 2, FORKERS = 4, TRIES = 1000, FEW_TRIES = 10, CHILD_SECONDS = 60 };

extern char **environ;

static int preloaded;
static SSL_CTX *ctx; /* attached before anything forks */
static pthread_rwlock_t in_openssl = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* --- what hangs is named --- */

static const char *volatile storm = "nothing";
static const char *volatile *doing; /* of each forker's child, in shared memory */
static __thread int me;             /* a forker's number */

static void say(const char *text)
{
    if (write(2, text, strlen(text)) < 0)
        _exit(2);
}

static void on_alarm(int number)
{
    (void)number;
    say("c-tests/fork_storm.c: the parent hangs while ");
    say(storm);
    say("\n");
    _exit(1);
}

/* --- threads that are in the middle of something --- */

static atomic_int stop, ready;

/* Keys from the kernel, since OpenSSL's generator has locks; see above. */
static int kernel_bytes(unsigned char *bytes, size_t len)
{
    return getentropy(bytes, len) == 0;
}

static void install_by_table(SSL_CTX *server)
{
    tkt_config cfg = config_of("storm");
    tkt_tls_api api = TKT_TLS_API_INIT;
    api.rand_bytes = api.rand_priv_bytes = kernel_bytes;
    cfg.rotate_every = 1;
    cfg.lifetime = 5;
    cfg.capacity = 4096;
    CHECK_RC(tkt_install_api(server, &cfg, &api), TKT_OK);
}

/* What tkt_install() does for one program, the shim does for another at its first SSL_new. */
static void serve(SSL_CTX *server)
{
    if (preloaded)
        SSL_free(SSL_new(server));
    else
        install_by_table(server);
}

static void full_and_resumed(SSL_CTX *server, int version)
{
    struct outcome full = CONNECT(server, version, NULL, 0);
    CHECK_INT(resumes(server, version, full.session), 1);
    forget(&full);
}

/* Contexts come and go, and each has a few connections. */
static void *use_openssl(void *arg)
{
    (void)arg;
    for (int i = 0; !stop; i++) {
        pthread_rwlock_rdlock(&in_openssl);
        SSL_CTX *mine = new_server();
        serve(mine);
        full_and_resumed(i % 2 ? mine : ctx, VERSIONS[i / 2 % 2]);
        SSL_CTX_free(mine);
        pthread_rwlock_unlock(&in_openssl);
        sleep_ms(1);
        if (i == 3)
            ready++;
    }
    return NULL;
}

/* In here nothing of OpenSSL is used that has a lock. */
static void use_what_is_ours(void)
{
    tkt_counters counters = {.size = sizeof counters};
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    if (preloaded) /* the generator is OpenSSL's */
        return;
    CHECK_RC(tkt_rotate(ctx), TKT_OK);
    CHECK(tkt_upkeep() >= 0, "%s", tkt_last_error());
    install_by_table(ctx);
}

static void *use_libtktrot(void *arg)
{
    (void)arg;
    ready++;
    while (!stop) {
        use_what_is_ours();
        sleep_ms(10);
    }
    return NULL;
}

/* --- children --- */

/* What threads had is lost in the child, which at an exit valgrind takes for a leak of the child. */
static void leave(void)
{
    doing[me] = "exec";
    execlp("true", "true", NULL);
    FAIL("there is no true(1)");
}

static pid_t fork_one(void)
{
    doing[me] = "the end of fork";
    pid_t child = fork();
    CHECK(child >= 0, "fork failed");
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* one that hangs ends with us */
    return child;
}

static void expect_end(pid_t child)
{
    expect_success_within(CHILD_SECONDS, child, &doing[me]);
}

static void fork_and_use_what_is_ours(int i)
{
    (void)i;
    pid_t child = fork_one();
    if (child == 0) {
        doing[me] = "our functions";
        use_what_is_ours();
        leave();
    }
    expect_end(child);
}

static void fork_and_handshake(int i)
{
    pthread_rwlock_wrlock(&in_openssl);
    pid_t child = fork_one();
    if (child == 0) {
        int version = VERSIONS[i % 2];
        if (i % 4 < 2) {
            doing[me] = "handshakes";
            full_and_resumed(ctx, version);
        } else {
            doing[me] = "a context of its own";
            SSL_CTX *own = new_server();
            serve(own);
            full_and_resumed(own, version);
            SSL_CTX_free(own);
        }
        leave();
    }
    pthread_rwlock_unlock(&in_openssl);
    expect_end(child);
}

static void vfork_and_exec(int i)
{
    (void)i;
    pid_t child = vfork();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(127);
    }
    CHECK(child > 0, "vfork failed");
    expect_end(child);
}

static void spawn(int i)
{
    (void)i;
    pid_t child;
    char *arguments[] = {"true", NULL};
    CHECK_INT(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ), 0);
    expect_end(child);
}

/* --- the storms --- */

static atomic_int left;
static void (*try)(int number);

static void *fork_on(void *arg)
{
    int number;
    me = *(int *)arg;
    while ((number = atomic_fetch_sub(&left, 1)) > 0)
        try(number);
    return NULL;
}

static void storm_of(const char *name, void (*one)(int number))
{
    pthread_t busy[BUSY + 1], forkers[FORKERS];
    int numbers[FORKERS];
    long long began = now_ms();
    storm = name;
    try = one;
    left = rounds(TRIES, FEW_TRIES);
    stop = ready = 0;
    for (int i = 0; i <= BUSY; i++)
        CHECK_INT(pthread_create(&busy[i], NULL, i < BUSY ? use_openssl : use_libtktrot,
                                  NULL), 0);
    while (ready <= BUSY)
        sleep_ms(1);
    for (int i = 0; i < FORKERS; i++) {
        numbers[i] = i;
        CHECK_INT(pthread_create(&forkers[i], NULL, fork_on, &numbers[i]), 0);
    }
    for (int i = 0; i < FORKERS; i++)
        CHECK_INT(pthread_join(forkers[i], NULL), 0);
    stop = 1;
    for (int i = 0; i <= BUSY; i++)
        CHECK_INT(pthread_join(busy[i], NULL), 0);
    full_and_resumed(ctx, TLS1_3_VERSION);
    printf("%s: %lld ms\n", name, now_ms() - began);
    fflush(stdout);
}

int main(void)
{
    const char *preload = getenv("LD_PRELOAD"); /* valgrind uses it, too */
    preloaded = preload && strstr(preload, "tktrot_preload");
    signal(SIGALRM, on_alarm);
    alarm(LIMIT_SECONDS);
    doing = mmap(NULL, FORKERS * sizeof *doing, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(doing != MAP_FAILED, "mmap failed");
    ctx = new_server();
    serve(ctx);
#ifndef __SANITIZE_ADDRESS__
    /* AddressSanitizer's own allocator takes no care of its locks over a fork. */
    storm_of("threads fork children that use what is ours", fork_and_use_what_is_ours);
    storm_of("threads fork children that do handshakes", fork_and_handshake);
#else
    (void)fork_and_use_what_is_ours, (void)fork_and_handshake;
#endif
    storm_of("threads vfork and exec", vfork_and_exec);
    storm_of("threads call posix_spawn", spawn);
    SSL_CTX_free(ctx);
    free_certificate();
    return 0;
}
