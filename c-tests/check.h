/*
 * Assertions of the C tests, and what every one of their programs needs. A
 * failure says where, what was expected and what was seen, and ends the
 * process at once; processes and loops are bounded.
 */

#ifndef CHECK_H
#define CHECK_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <tktrot.h>

/* Long enough for valgrind on a busy machine; a process that hangs ends here. */
enum { LIMIT_SECONDS = 900 };

#define FAIL(...)                                                                          \
    do {                                                                                   \
        dprintf(2, "%s:%d: ", __FILE__, __LINE__);                                         \
        dprintf(2, __VA_ARGS__);                                                           \
        dprintf(2, "\n");                                                                  \
        _exit(1);                                                                          \
    } while (0)

#define CHECK(condition, ...)                                                              \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            dprintf(2, "%s:%d: not so: %s: ", __FILE__, __LINE__, #condition);             \
            dprintf(2, __VA_ARGS__);                                                       \
            dprintf(2, "\n");                                                              \
            _exit(1);                                                                      \
        }                                                                                  \
    } while (0)

#define CHECK_INT(seen, wanted)                                                            \
    do {                                                                                   \
        long long seen_ = (long long)(seen), wanted_ = (long long)(wanted);                \
        if (seen_ != wanted_)                                                              \
            FAIL("%s is %lld, expected is %s, %lld", #seen, seen_, #wanted, wanted_);      \
    } while (0)

/* A call into the library; what it has to say about a failure is shown. */
#define CHECK_RC(call, wanted)                                                             \
    do {                                                                                   \
        int rc_ = (call);                                                                  \
        if (rc_ != (wanted))                                                               \
            FAIL("%s is %d, expected is %s; last error: %s", #call, rc_, #wanted,          \
                 tkt_last_error());                                                        \
    } while (0)

#define CHECK_HAS(text, part)                                                              \
    do {                                                                                   \
        const char *text_ = (text), *part_ = (part);                                       \
        if (!strstr(text_, part_))                                                         \
            FAIL("\"%s\" is not in \"%s\"", part_, text_);                                 \
    } while (0)

/* A configuration with a ring of its own in the directory that the test gave us. */
static inline tkt_config config_of(const char *ring)
{
    tkt_config cfg = TKT_CONFIG_INIT;
    cfg.dir = getenv("TKTROT_DIR");
    cfg.ring = ring;
    CHECK(cfg.dir, "set TKTROT_DIR to an empty directory on a tmpfs");
    return cfg;
}

/* Under valgrind, which is slow, loops that only repeat themselves are shorter. */
static inline int rounds(int all, int few)
{
    return getenv("C_TESTS_BRIEF") ? few : all;
}

static inline void sleep_ms(long ms)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&span, NULL);
}

static inline long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/*
 * Waits for a child of ours, which must end well, and in time. Its alarm is not
 * enough: whoever waits for a lock of the library has all signals blocked.
 * `doing`, if any, is what the child is at, in memory that it shares with us.
 */
static inline void expect_success_within(int seconds, pid_t child, const char *volatile *doing)
{
    int status = -1;
    pid_t ended;
    for (long long began = now_ms(); (ended = waitpid(child, &status, WNOHANG)) == 0;) {
        if (now_ms() - began > seconds * 1000LL) {
            kill(child, SIGKILL);
            FAIL("child %d hangs: %s", (int)child, doing ? *doing : "?");
        }
        sleep_ms(1);
    }
    CHECK_INT(ended, child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child %d ended with status 0x%x",
          (int)child, status);
}

static inline void expect_success(pid_t child)
{
    expect_success_within(LIMIT_SECONDS, child, NULL);
}

/* fork(); the child is bounded as its parent is. */
static inline pid_t fork_bounded(void)
{
    pid_t child = fork();
    CHECK(child >= 0, "fork failed");
    if (child == 0)
        alarm(LIMIT_SECONDS);
    return child;
}

/* Runs a test in a process of its own: what is set once per process is fresh. */
static inline void in_child(void (*test)(void))
{
    pid_t child = fork_bounded();
    if (child == 0) {
        test();
        _exit(0);
    }
    expect_success(child);
}

#endif
