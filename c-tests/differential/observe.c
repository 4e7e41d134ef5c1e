/* What a call leaves behind on its thread. */

#include "differential.h"

#include <dirent.h>
#include <fenv.h>
#include <signal.h>

enum { OWN_ERRNO = 4242, OWN_REASON = 142 };

int rounds(int all, int few)
{
    return getenv("C_TESTS_BRIEF") ? few : all;
}

void say(const char *key, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s: ", key);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    /* Whatever ends the process, what was seen until then is to be read. */
    fflush(stdout);
}

void give_up(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("cannot run: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    ERR_print_errors_fp(stdout);
    fflush(stdout);
    _exit(3);
}

static void add_all(struct text *to, const char *format, va_list arguments)
{
    size_t room = sizeof to->bytes - to->len;
    int len = vsnprintf(to->bytes + to->len, room, format, arguments);
    NEED(len >= 0 && (size_t)len < room);
    to->len += (size_t)len;
}

void add(struct text *to, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add_all(to, format, arguments);
    va_end(arguments);
}

void add_word(struct text *to, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (to->len)
        add(to, ", ");
    add_all(to, format, arguments);
    va_end(arguments);
}

static void raise_own(void)
{
#if IS_3
    ERR_raise(ERR_LIB_USER, OWN_REASON);
#else
    ERR_put_error(ERR_LIB_USER, 0, OWN_REASON, __FILE__, __LINE__);
#endif
}

void put_own_error(void)
{
    raise_own();
    ERR_set_mark();
}

static int is_own(unsigned long error)
{
    return ERR_GET_LIB(error) == ERR_LIB_USER && ERR_GET_REASON(error) == OWN_REASON;
}

static void add_error(struct text *to, unsigned long error)
{
    const char *library = ERR_lib_error_string(error);
    const char *reason = ERR_reason_error_string(error);
    if (is_own(error))
        add(to, " [own]");
    else if (library && reason)
        add(to, " [%s: %s]", library, reason);
    else
        add(to, " [library %d reason %d]", ERR_GET_LIB(error), ERR_GET_REASON(error));
}

static __thread int has_own_error;
static __thread int rounding_before, cancel_state_before, cancel_type_before;
static __thread sigset_t signals_before;

static void cancellation(int *state, int *type)
{
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, state);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, type);
    pthread_setcanceltype(*type, NULL);
    pthread_setcancelstate(*state, NULL);
}

void enter(int with_own_error)
{
    has_own_error = with_own_error;
    rounding_before = fegetround();
    cancellation(&cancel_state_before, &cancel_type_before);
    pthread_sigmask(SIG_BLOCK, NULL, &signals_before);
    ERR_clear_error();
    if (with_own_error)
        put_own_error();
    errno = OWN_ERRNO;
}

const char *left(struct text *to)
{
    int error = errno, state, type;
    sigset_t signals;
    if (error != OWN_ERRNO)
        add(to, " errno %d", error);
    /* Ours on top, and marked: whoever takes back what it put there itself comes down to it. */
    if (has_own_error && is_own(ERR_peek_last_error())) {
        if (!ERR_pop_to_mark())
            add(to, " own mark lost");
        else if (!is_own(ERR_peek_last_error()))
            add(to, " own error lost with the mark");
        else
            ERR_get_error();
        if (ERR_peek_error()) {
            add(to, " below the own error:");
            while (ERR_peek_error())
                add_error(to, ERR_get_error());
        }
    } else {
        if (has_own_error)
            add(to, " own error not on top, queue:%s", ERR_peek_error() ? "" : " empty");
        else if (ERR_peek_error())
            add(to, " queue:");
        while (ERR_peek_error())
            add_error(to, ERR_get_error());
    }
    if (fegetround() != rounding_before)
        add(to, " rounding changed");
    cancellation(&state, &type);
    if (state != cancel_state_before)
        add(to, " cancel state changed");
    if (type != cancel_type_before)
        add(to, " cancel type changed");
    pthread_sigmask(SIG_BLOCK, NULL, &signals);
    for (int signal = 1; signal < 32; signal++)
        if (sigismember(&signals, signal) != sigismember(&signals_before, signal))
            add(to, " signal %d %s", signal, sigismember(&signals, signal) ? "blocked" : "open");
    ERR_clear_error();
    return to->bytes;
}

void say_left(const char *key, struct text *to)
{
    const char *trace = left(to);
    say(key, "%s", *trace ? trace + 1 : "leaves nothing");
}

static int count_entries(const char *path)
{
    int count = 0;
    struct dirent *entry;
    DIR *directory = opendir(path);
    NEED(directory);
    while ((entry = readdir(directory)))
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

int count_threads(void)
{
    return count_entries("/proc/self/task");
}

int count_descriptors(void)
{
    return count_entries("/proc/self/fd") - 1;
}
