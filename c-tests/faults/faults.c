/*
 * Calls of the C library that fail on command, when it is libtktrot_preload.so
 * that calls. Preloaded beside it:
 *
 *   LD_PRELOAD="faults.so libtktrot_preload.so" FAULTS=/path/of/a/struct/control
 *
 * The file is mapped, shared by all processes of the server: a test commands
 * by writing to it, at any time, and reads from it what was done.
 */

#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* tests/faults/control.rs has the same. */
struct control {
    char functions[32];       /* their names, with a space between two */
    uint32_t error;           /* an errno value */
    uint32_t from;            /* the first call that fails; 1 is the next */
    uint32_t times;           /* how many fail; 0: all */
    _Atomic uint32_t armed;
    _Atomic uint32_t calls;   /* by the shim, while armed */
    _Atomic uint32_t failed;  /* of them, made to fail */
};

static struct control *control;
/* Where the shim's code is. */
static uintptr_t shim_begin, shim_end;

static int find_shim(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    if (strstr(info->dlpi_name, "libtktrot_preload.so") == NULL)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
            shim_begin = info->dlpi_addr + part->p_vaddr;
            shim_end = shim_begin + part->p_memsz;
        }
    }
    return 1;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    void *page;

    if (fd < 0)
        return;
    page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED)
        return;
    dl_iterate_phdr(find_shim, NULL);
    control = page;
}

static int is_shim(const void *at)
{
    return (uintptr_t)at >= shim_begin && (uintptr_t)at < shim_end;
}

static int is_meant(const char *name)
{
    const char *all = control->functions;
    size_t len = strlen(name);

    for (const char *at = all; (at = strstr(at, name)) != NULL; at += len)
        if ((at == all || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' '))
            return 1;
    return 0;
}

/* The errno value that this call fails with; 0 if it does not. */
static int fails(const char *function, const void *caller)
{
    if (control == NULL || !is_shim(caller))
        return 0;
    if (!atomic_load(&control->armed) || !is_meant(function))
        return 0;
    if (atomic_fetch_add(&control->calls, 1) + 1 < control->from)
        return 0;
    if (atomic_fetch_add(&control->failed, 1) >= control->times && control->times != 0) {
        atomic_fetch_sub(&control->failed, 1);
        return 0;
    }
    return (int)control->error;
}

#define CALLER __builtin_return_address(0)

/* The C library's, past our own: since 2.34 it is in libc itself, before in libdl. */
static __typeof__(&dlsym) real_dlsym(void)
{
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
    static __typeof__(&dlsym) real;

    for (size_t i = 0; real == NULL && i < sizeof versions / sizeof *versions; i++)
        real = (__typeof__(&dlsym))dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    return real;
}

/* The next definition, looked up at the first call: other constructors call before ours runs. */
#define REAL(name)                                                        \
    __extension__({                                                       \
        static __typeof__(&name) real;                                    \
        if (real == NULL)                                                 \
            real = (__typeof__(&name))real_dlsym()(RTLD_NEXT, #name);     \
        real;                                                             \
    })

/* A function that returns `bad` and sets errno. */
#define SETS_ERRNO(type, bad, name, parameters, arguments)                \
    type name parameters                                                  \
    {                                                                     \
        int error = fails(#name, CALLER);                                 \
        if (error == 0)                                                   \
            return REAL(name) arguments;                                  \
        errno = error;                                                    \
        return bad;                                                       \
    }

/* One that returns the errno value. */
#define RETURNS_ERROR(name, parameters, arguments)                        \
    int name parameters                                                   \
    {                                                                     \
        int error = fails(#name, CALLER);                                 \
        return error != 0 ? error : REAL(name) arguments;                 \
    }

/* --- files --- */

static mode_t mode_of(int flags, va_list rest)
{
    return (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
}

/* The mode is there only where a file may be made. */
#define OPENS(name, parameters, arguments)                                \
    int name parameters                                                   \
    {                                                                     \
        int error = fails(#name, CALLER);                                 \
        va_list rest;                                                     \
        mode_t mode;                                                      \
                                                                          \
        va_start(rest, flags);                                            \
        mode = mode_of(flags, rest);                                      \
        va_end(rest);                                                     \
        if (error == 0)                                                   \
            return REAL(name) arguments;                                  \
        errno = error;                                                    \
        return -1;                                                        \
    }

OPENS(open, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))

SETS_ERRNO(int, -1, fstat64, (int fd, struct stat64 *facts), (fd, facts))
SETS_ERRNO(int, -1, stat64, (const char *path, struct stat64 *facts), (path, facts))
SETS_ERRNO(int, -1, lstat64, (const char *path, struct stat64 *facts), (path, facts))
SETS_ERRNO(int, -1, statx,
           (int dir, const char *path, int flags, unsigned mask, struct statx *facts),
           (dir, path, flags, mask, facts))
SETS_ERRNO(int, -1, fstatfs, (int fd, struct statfs *facts), (fd, facts))
SETS_ERRNO(ssize_t, -1, pread64, (int fd, void *to, size_t len, off64_t at), (fd, to, len, at))
SETS_ERRNO(int, -1, ftruncate64, (int fd, off64_t len), (fd, len))
SETS_ERRNO(int, -1, getrlimit, (__rlimit_resource_t what, struct rlimit *limit), (what, limit))
SETS_ERRNO(int, -1, fallocate, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len))
SETS_ERRNO(int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
SETS_ERRNO(int, -1, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
SETS_ERRNO(ssize_t, -1, read, (int fd, void *bytes, size_t len), (fd, bytes, len))
SETS_ERRNO(ssize_t, -1, write, (int fd, const void *bytes, size_t len), (fd, bytes, len))
SETS_ERRNO(ssize_t, -1, readlink, (const char *path, char *to, size_t len), (path, to, len))
SETS_ERRNO(int, -1, close, (int fd), (fd))

/* renameat2 and getrandom, which the C library did not have for long. */
long syscall(long number, ...)
{
    int error = fails(number == SYS_getrandom ? "getrandom" : "syscall", CALLER);
    va_list rest;
    long a[6];

    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (error == 0)
        return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    errno = error;
    return -1;
}

/* --- memory --- */

SETS_ERRNO(void *, MAP_FAILED, mmap,
           (void *at, size_t len, int rights, int flags, int fd, off_t offset),
           (at, len, rights, flags, fd, offset))
SETS_ERRNO(int, -1, munmap, (void *at, size_t len), (at, len))
SETS_ERRNO(int, -1, mlock, (const void *at, size_t len), (at, len))
SETS_ERRNO(int, -1, madvise, (void *at, size_t len, int advice), (at, len, advice))

/* --- time, randomness, processes --- */

SETS_ERRNO(int, -1, clock_gettime, (clockid_t clock, struct timespec *now), (clock, now))
RETURNS_ERROR(clock_nanosleep,
              (clockid_t clock, int flags, const struct timespec *until, struct timespec *left),
              (clock, flags, until, left))
SETS_ERRNO(int, -1, nanosleep, (const struct timespec *span, struct timespec *left), (span, left))
SETS_ERRNO(int, -1, poll, (struct pollfd *set, nfds_t count, int limit), (set, count, limit))
SETS_ERRNO(int, -1, kill, (pid_t pid, int signal), (pid, signal))

/* --- threads and locks --- */

RETURNS_ERROR(pthread_create,
              (pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *with),
              (thread, attributes, run, with))
RETURNS_ERROR(pthread_attr_init, (pthread_attr_t *attributes), (attributes))
RETURNS_ERROR(pthread_setname_np, (pthread_t thread, const char *name), (thread, name))
RETURNS_ERROR(pthread_sigmask, (int how, const sigset_t *new, sigset_t *old), (how, new, old))
RETURNS_ERROR(pthread_mutex_init, (pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes),
              (mutex, attributes))
RETURNS_ERROR(pthread_mutexattr_init, (pthread_mutexattr_t *attributes), (attributes))
RETURNS_ERROR(pthread_mutexattr_setrobust, (pthread_mutexattr_t *attributes, int robust),
              (attributes, robust))
RETURNS_ERROR(pthread_mutexattr_setpshared, (pthread_mutexattr_t *attributes, int shared),
              (attributes, shared))
RETURNS_ERROR(pthread_mutex_trylock, (pthread_mutex_t *mutex), (mutex))

/* --- the loader --- */

SETS_ERRNO(void *, NULL, dlopen, (const char *path, int mode), (path, mode))
SETS_ERRNO(int, 0, dladdr, (const void *at, Dl_info *info), (at, info))

/* --- the TLS library's generator --- */

/* Where it does not fail but says that all is well, and gives zeroes. */
#define ZEROES ENODATA

/* As the library calls it: see RandBytes in src/tls/api.rs. */
typedef int generator(unsigned char *bytes, size_t len);

static generator *real_bytes, *real_priv_bytes;

static int draw(int error, generator *real, unsigned char *bytes, size_t len)
{
    if (error == 0)
        return real(bytes, len);
    if (error == ZEROES)
        memset(bytes, 0, len);
    return error == ZEROES;
}

static int our_bytes(unsigned char *bytes, size_t len)
{
    return draw(fails("RAND_bytes", CALLER), real_bytes, bytes, len);
}

static int our_priv_bytes(unsigned char *bytes, size_t len)
{
    return draw(fails("RAND_priv_bytes", CALLER), real_priv_bytes, bytes, len);
}

/*
 * The shim looks the generator up in the server's libssl, so that one of that
 * name in front is not seen; what it finds is replaced here. The TLS library's
 * own draws are left alone, without which no handshake would go on.
 *
 * What goes on does so by a jump, for which the optimizer is needed: with
 * RTLD_NEXT it matters who calls.
 */
__attribute__((optimize("O2"))) void *dlsym(void *restrict handle, const char *restrict name)
{
    int is_ours = control != NULL && is_shim(CALLER) && handle != RTLD_NEXT;

    if (is_ours && strcmp(name, "RAND_bytes") == 0) {
        real_bytes = (generator *)real_dlsym()(handle, name);
        return real_bytes == NULL ? NULL : (void *)our_bytes;
    }
    if (is_ours && strcmp(name, "RAND_priv_bytes") == 0) {
        real_priv_bytes = (generator *)real_dlsym()(handle, name);
        return real_priv_bytes == NULL ? NULL : (void *)our_priv_bytes;
    }
    return real_dlsym()(handle, name);
}
