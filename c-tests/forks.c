/*
 * Servers fork: daemons, workers, from any thread and out of signal handlers.
 * Keys and locks survive that, and the upkeep thread comes back in the child.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "handshake.h"
#include "threads.h"

enum { MOST_WORKERS = 8, ROOM = 4096 };

static void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "mmap failed");
    return memory;
}

/*
 * How the child of a process with threads ends well. What those threads had is
 * lost in the child, which at an exit valgrind takes for a leak of the child.
 */
static void leave(void)
{
    execlp("true", "true", NULL);
    FAIL("there is no true(1)");
}

/* --- a daemon and its workers --- */

struct board {
    atomic_int written, failed, left;
    struct {
        int len[2];
        unsigned char der[2][ROOM];
    } sessions[MOST_WORKERS];
};

static struct board *board;
static int worker_count;

static void work(SSL_CTX *ctx, int me)
{
    for (int v = 0; v < 2; v++) {
        struct outcome full = CONNECT(ctx, VERSIONS[v], NULL, 0);
        unsigned char *der = board->sessions[me].der[v];
        CHECK(i2d_SSL_SESSION(full.session, NULL) <= ROOM, "a session needs more room");
        board->sessions[me].len[v] = i2d_SSL_SESSION(full.session, &der);
        forget(&full);
    }
    atomic_fetch_add(&board->written, 1);
    for (int i = 0; atomic_load(&board->written) < worker_count; i++) {
        CHECK(i < 100 * LIMIT_SECONDS, "%d workers of %d", board->written, worker_count);
        sleep_ms(10);
    }
    for (int issuer = 0; issuer < worker_count; issuer++)
        for (int v = 0; v < 2; v++) {
            const unsigned char *der = board->sessions[issuer].der[v];
            SSL_SESSION *session = d2i_SSL_SESSION(NULL, &der, board->sessions[issuer].len[v]);
            CHECK(session, "worker %d left no session", issuer);
            CHECK(resumes(ctx, VERSIONS[v], session), "worker %d, ticket of %d", me, issuer);
            SSL_SESSION_free(session);
        }
}

/* The process that installs is gone when the workers issue their first ticket. */
static void daemonized_workers(void)
{
    int ends[2];
    char byte;
    CHECK_INT(pipe(ends), 0);
    board = shared_memory(sizeof *board);
    worker_count = rounds(MOST_WORKERS, 2);
    pid_t launcher = fork_bounded();
    if (launcher == 0) {
        SSL_CTX *ctx = new_server();
        tkt_config cfg = config_of("workers");
        CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
        pid_t daemon = fork_bounded();
        if (daemon == 0) {
            pid_t workers[MOST_WORKERS];
            setsid();
            close(ends[0]);
            for (int i = 0; i < worker_count; i++) {
                workers[i] = fork_bounded();
                if (workers[i] == 0) {
                    work(ctx, i);
                    _exit(0);
                }
            }
            for (int i = 0; i < worker_count; i++)
                expect_success(workers[i]);
            SSL_CTX_free(ctx);
            CHECK_INT(write(ends[1], "k", 1), 1);
        }
        _exit(0);
    }
    close(ends[1]);
    expect_success(launcher);
    CHECK_INT(read(ends[0], &byte, 1), 1); /* 0: the daemon failed, and said so */
    close(ends[0]);
}

/* --- forks while other threads are at work --- */

static atomic_int stop;
static SSL_CTX *shared_ctx;

static void *install_and_rotate(void *arg)
{
    const tkt_tls_api *api = arg;
    tkt_config cfg = config_of("busy");
    cfg.upkeep = TKT_UPKEEP_CALLBACK;
    while (!stop) {
        CHECK_RC(tkt_install_api(shared_ctx, &cfg, api), TKT_OK);
        int rc = tkt_rotate(shared_ctx);
        CHECK(rc == TKT_OK, "%d: %s", rc, tkt_last_error());
        CHECK(tkt_upkeep() >= 0, "%s", tkt_last_error());
        sleep_ms(0);
    }
    return NULL;
}

/*
 * The keys come from getrandom(2) here: OpenSSL's generator has locks, and a
 * child of a process whose other threads use OpenSSL may inherit them, taken.
 */
static int kernel_bytes(unsigned char *bytes, size_t len)
{
    return getentropy(bytes, len) == 0;
}

static void forks_beside_a_thread_that_installs(void)
{
    pthread_t thread;
    tkt_config cfg = config_of("busy");
    tkt_tls_api api = TKT_TLS_API_INIT;
    api.rand_bytes = api.rand_priv_bytes = kernel_bytes;
    cfg.upkeep = TKT_UPKEEP_CALLBACK;
    shared_ctx = new_server();
    CHECK_RC(tkt_install_api(shared_ctx, &cfg, &api), TKT_OK); /* opens the ring */
    CHECK_INT(pthread_create(&thread, NULL, install_and_rotate, &api), 0);
    for (int i = 0; i < rounds(200, 20); i++) {
        pid_t child = fork_bounded();
        if (child == 0) {
            tkt_config own = config_of("busy");
            CHECK_RC(tkt_install_api(shared_ctx, &own, &api), TKT_OK);
            CHECK_RC(tkt_rotate(shared_ctx), TKT_OK);
            struct outcome full = CONNECT(shared_ctx, VERSIONS[i % 2], NULL, 0);
            /* So many rotations fill the ring: it may be a full handshake by now. */
            resumes(shared_ctx, VERSIONS[i % 2], full.session);
            forget(&full);
            leave();
        }
        expect_success(child);
    }
    stop = 1;
    CHECK_INT(pthread_join(thread, NULL), 0);
    SSL_CTX_free(shared_ctx);
    free_certificate();
}

/* The upkeep thread is ours: no fork happens while it is in the TLS library. */
static atomic_int inside;
static sem_t entered;

static int slow_bytes(unsigned char *bytes, size_t len)
{
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (strcmp(name, "tktrot") == 0) {
        inside = 1;
        sem_post(&entered);
        sleep_ms(5);
        inside = 0;
    }
    return RAND_priv_bytes(bytes, (int)len);
}

static void no_fork_inside_the_generator(void)
{
    tkt_tls_api api = TKT_TLS_API_INIT;
    tkt_config cfg = config_of("inside");
    SSL_CTX *ctx = new_server();
    int met = 0;
    api.rand_priv_bytes = slow_bytes;
    cfg.rotate_every = 1;
    CHECK_INT(sem_init(&entered, 0, 0), 0);
    CHECK_RC(tkt_install_api(ctx, &cfg, &api), TKT_OK);
    struct outcome full = CONNECT(ctx, TLS1_3_VERSION, NULL, 0); /* starts the thread */
    forget(&full);
    for (long long began = now_ms(); met < 3 && now_ms() - began < 30000;) {
        if (sem_wait(&entered) != 0 || !inside)
            continue;
        met++;
        pid_t child = fork_bounded();
        if (child == 0) {
            CHECK(!inside, "forked while the upkeep thread is in the generator");
            leave();
        }
        expect_success(child);
    }
    CHECK_INT(met, 3);
    SSL_CTX_free(ctx);
    free_certificate();
}

/* stud forks in its SIGCHLD handler, whatever it was doing, also forking. */
static atomic_int forks_in_handler;

static void fork_again(int number)
{
    (void)number;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child > 0 && waitpid(child, NULL, 0) == child)
        forks_in_handler++;
}

static void forks_in_a_signal_handler(void)
{
    SSL_CTX *ctx = new_server();
    tkt_config cfg = config_of("handler");
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct sigaction action = {.sa_handler = fork_again, .sa_flags = SA_RESTART};

    cfg.upkeep = TKT_UPKEEP_CALLBACK;
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    sigaction(SIGUSR1, &action, NULL);
    CHECK_INT(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    for (int i = 0; i < rounds(3000, 20); i++) {
        /* Once, at another moment of each fork. */
        struct itimerspec once = {.it_value.tv_nsec = 1000 * (1 + i % 400)};
        CHECK_INT(timer_settime(timer, 0, &once, NULL), 0);
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        CHECK_INT(waitpid(child, NULL, 0), child);
    }
    CHECK(forks_in_handler > 0, "the handler never ran");
    timer_delete(timer);
    struct outcome full = CONNECT(ctx, TLS1_3_VERSION, NULL, 0);
    forget(&full);
    SSL_CTX_free(ctx);
    free_certificate();
}

/* --- the upkeep thread --- */

static unsigned long long blocked_signals(const char *tid)
{
    char path[64], line[256];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", tid);
    FILE *file = fopen(path, "re");
    CHECK(file, "%s", path);
    while (fgets(line, sizeof line, file))
        sscanf(line, "SigBlk: %llx", &mask);
    fclose(file);
    return mask;
}

static void expect_one_thread(SSL_CTX *ctx)
{
    char tid[32];
    CHECK_INT(upkeep_threads(tid), 0);
    for (int i = 0; i < 5; i++) {
        struct outcome full = CONNECT(ctx, VERSIONS[i % 2], NULL, 0);
        forget(&full);
    }
    expect_upkeep_threads(1, tid);
    unsigned long long blocked = blocked_signals(tid);
    for (int number = 1; number < SIGRTMAX; number++) { /* the last one is valgrind's own */
        if (number == SIGKILL || number == SIGSTOP || (number > 31 && number < SIGRTMIN))
            continue;
        CHECK(blocked >> (number - 1) & 1, "signal %d is not blocked: %llx", number, blocked);
    }
}

static SSL_CTX *with_upkeep(const char *ring, uint32_t upkeep)
{
    SSL_CTX *ctx = new_server();
    tkt_config cfg = config_of(ring);
    cfg.upkeep = upkeep;
    cfg.rotate_every = 1;
    cfg.lifetime = 5;
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    return ctx;
}

static uint64_t rotations_of(SSL_CTX *ctx)
{
    tkt_counters counters = {.size = sizeof counters};
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    return counters.rotations;
}

static void the_thread(void)
{
    SSL_CTX *ctx = with_upkeep("thread", TKT_UPKEEP_THREAD);
    expect_one_thread(ctx);
    /* Keys are made although nothing connects and nobody asks. */
    uint64_t before = rotations_of(ctx);
    for (int i = 0; rotations_of(ctx) < before + 2; i++) {
        CHECK(i < 300, "%llu rotations", (unsigned long long)rotations_of(ctx));
        sleep_ms(100);
    }
    pid_t child = fork_bounded();
    if (child == 0) {
        expect_one_thread(ctx);
        leave();
    }
    expect_success(child);
    SSL_CTX_free(ctx);
    free_certificate();
}

static void no_thread(void)
{
    char tid[32];
    SSL_CTX *ctx = with_upkeep("callback", TKT_UPKEEP_CALLBACK);
    for (int i = 0; i < 5; i++) {
        struct outcome full = CONNECT(ctx, VERSIONS[i % 2], NULL, 0);
        forget(&full);
    }
    CHECK_INT(upkeep_threads(tid), 0);
    uint64_t before = rotations_of(ctx);
    for (int i = 0; rotations_of(ctx) < before + 2; i++) {
        int wait = tkt_upkeep();
        CHECK(wait >= 0 && wait <= 24 * 3600 * 1000, "wait %d ms", wait);
        CHECK(wait <= 1000, "R is 1 s, and upkeep wants to be called in %d ms", wait);
        CHECK(i < 1000, "%llu rotations", (unsigned long long)rotations_of(ctx));
        sleep_ms(wait + 1);
    }
    CHECK_INT(upkeep_threads(tid), 0);
    SSL_CTX_free(ctx);
    free_certificate();
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    warm_up();
    daemonized_workers();
#ifndef __SANITIZE_ADDRESS__
    /* AddressSanitizer's own allocator takes no care of its locks over a fork. */
    in_child(forks_beside_a_thread_that_installs);
#else
    (void)forks_beside_a_thread_that_installs;
#endif
    in_child(no_fork_inside_the_generator);
    in_child(forks_in_a_signal_handler);
    in_child(the_thread);
    in_child(no_thread);
    return 0;
}
