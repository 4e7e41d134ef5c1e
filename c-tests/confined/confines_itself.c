/*
 * A TLS server that knows nothing of libtktrot, and confines itself before it
 * serves, in the usual order: user, limits, capabilities, filter of system calls.
 *
 *     confines_itself PORT CERT KEY STEP...
 *
 * Steps, which are done in the order given:
 *
 *     user         becomes nobody
 *     user-keeping becomes nobody, and keeps its permitted capabilities
 *     setrlimit    forbids itself threads (RLIMIT_NPROC 0) by that function; likewise
 *                  setrlimit64, prlimit, prlimit64
 *     other        calls prlimit for another process and without a new limit
 *     unseen       forbids itself threads by a system call, so that USR1 can allow them again
 *     open-files   sets another limit
 *     again        becomes what it is, twice in a row
 *     capabilities gives up what it has of them
 *     privileges   wants no new privileges (PR_SET_NO_NEW_PRIVS)
 *     filter       that, and a filter of system calls for its thread, which allows nearly all
 *     login        at SIGHUP becomes nobody who keeps one capability, and root again by that, as
 *                  ProFTPD does when a user logs in
 *     filter-all   one for all of its threads at once, by libseccomp
 *
 * Each step must do what it says, and leave errno as it is: without the shim all do.
 */

#define _GNU_SOURCE
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../servers/answer.h"

enum { NOBODY = 65534 };

static const char *step;

static void must(int done)
{
    if (!done)
        die(step);
}

static void become_nobody(void)
{
    must(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
}

static void forbid_threads(int rc)
{
    struct rlimit limit;
    must(rc == 0 && getrlimit(RLIMIT_NPROC, &limit) == 0);
    must(limit.rlim_cur == 0 && limit.rlim_max == 0);
}

static void limit_others(void)
{
    struct rlimit none = {0, 0}, own, old;
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    must(child > 0 && getrlimit(RLIMIT_NPROC, &own) == 0);
    must(prlimit(child, RLIMIT_NPROC, &none, &old) == 0 && old.rlim_cur == own.rlim_cur);
    must(prlimit(child, RLIMIT_NPROC, NULL, &old) == 0 && old.rlim_cur == 0);
    must(prlimit(0, RLIMIT_NPROC, NULL, &old) == 0 && old.rlim_cur == own.rlim_cur);
    kill(child, SIGKILL);
    must(waitpid(child, NULL, 0) == child);
    errno = 0;
    must(prlimit(child, RLIMIT_NPROC, &none, NULL) == -1 && errno == ESRCH);
    must(setrlimit(-1, &own) == -1 && errno == EINVAL);
}

/* 0 or all that is allowed, by a call that nobody can stand in front of. */
static void set_soft_limit(int forbids)
{
    struct rlimit limit;
    must(getrlimit(RLIMIT_NPROC, &limit) == 0);
    limit.rlim_cur = forbids ? 0 : limit.rlim_max;
    must(syscall(SYS_prlimit64, 0, RLIMIT_NPROC, &limit, NULL) == 0);
}

static void allow_threads(int signal)
{
    (void)signal;
    set_soft_limit(0);
}

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    must(syscall(SYS_capset, &header, none) == 0);
}

/* Of glibc, declared in libcap's header. */
extern int capset(void *header, const void *data);

static void keep(unsigned int effective, unsigned int permitted)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct some[2] = {{effective, permitted, 0}};
    errno = ENOTTY;
    must(capset(&header, some) == 0 && errno == ENOTTY);
}

static void log_in(int signal)
{
    const unsigned int setuids = 1U << CAP_SETUID;
    (void)signal;
    must(setreuid(NOBODY, 0) == 0);
    keep(0, setuids);
    must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    must(setreuid(NOBODY, NOBODY) == 0);
    keep(setuids, setuids);
    must(setresuid(-1, 0, -1) == 0);
}

static void want_no_privileges(void)
{
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    must(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
}

static void filter(void)
{
    struct sock_filter all[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
    struct sock_fprog program = {1, all};
    want_no_privileges();
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void filter_all(void)
{
    scmp_filter_ctx all = seccomp_init(SCMP_ACT_ALLOW);
    must(all != NULL && seccomp_attr_set(all, SCMP_FLTATR_CTL_TSYNC, 1) == 0);
    must(seccomp_rule_add(all, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(reboot), 0) == 0);
    must(seccomp_load(all) == 0);
    seccomp_release(all);
}

static int is(const char *name)
{
    return strcmp(step, name) == 0;
}

static void take(void)
{
    const struct rlimit none = {0, 0};
    const struct rlimit64 none64 = {0, 0};

    if (is("user")) {
        become_nobody();
    } else if (is("user-keeping")) {
        must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
        become_nobody();
    } else if (is("setrlimit")) {
        errno = ENOTTY;
        forbid_threads(setrlimit(RLIMIT_NPROC, &none));
        must(errno == ENOTTY);
    } else if (is("setrlimit64")) {
        forbid_threads(setrlimit64(RLIMIT_NPROC, &none64));
    } else if (is("prlimit")) {
        forbid_threads(prlimit(getpid(), RLIMIT_NPROC, &none, NULL));
    } else if (is("prlimit64")) {
        forbid_threads(prlimit64(0, RLIMIT_NPROC, &none64, NULL));
    } else if (is("other")) {
        limit_others();
    } else if (is("unseen")) {
        set_soft_limit(1);
        signal(SIGUSR1, allow_threads);
    } else if (is("open-files")) {
        struct rlimit files;
        must(getrlimit(RLIMIT_NOFILE, &files) == 0);
        must(setrlimit(RLIMIT_NOFILE, &files) == 0);
    } else if (is("again")) {
        for (int i = 0; i < 2; i++)
            must(setegid(getegid()) == 0 && seteuid(geteuid()) == 0);
    } else if (is("capabilities")) {
        drop_capabilities();
    } else if (is("privileges")) {
        want_no_privileges();
    } else if (is("login")) {
        signal(SIGHUP, log_in);
    } else if (is("filter")) {
        filter();
    } else if (is("filter-all")) {
        filter_all();
    } else {
        fprintf(stderr, "confines_itself: no step %s\n", step);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: confines_itself PORT CERT KEY STEP...\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *ctx = new_context(argv[2], argv[3]);
    SSL_free(SSL_new(ctx));
    int port = atoi(argv[1]);
    for (int i = 4; i < argc; i++) {
        step = argv[i];
        take();
    }
    int listener = listen_on(port);
    for (;;) {
        int tcp = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (tcp >= 0)
            answer(ctx, tcp, "ok");
    }
}
