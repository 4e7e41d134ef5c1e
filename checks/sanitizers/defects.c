/*
 * Not a test but a test's control: does on purpose what each sanitizer must
 * not let pass, by name.
 */

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The compiler must not see that anything below is wrong, or is never used. */
static void *volatile kept;
static volatile int one = 1;

/* In libc, where UndefinedBehaviorSanitizer does not look. */
static int write_past_the_end(void)
{
    kept = malloc(8);
    memset(kept, 0, 8 + (size_t)one);
    free(kept);
    return 0;
}

static int use_after_free(void)
{
    char *bytes = malloc(8);
    kept = bytes;
    bytes[0] = 0;
    free(bytes);
    return ((volatile char *)kept)[0];
}

static int leak(void)
{
    kept = malloc(8);
    kept = NULL;
    return 0;
}

static int overflow_an_int(void)
{
    one = INT_MAX;
    one = one + 1;
    return 0;
}

static void *add_without_a_lock(void *arg)
{
    for (int i = 0; i < 1000; i++)
        one = one + 1;
    return arg;
}

static int race(void)
{
    pthread_t other;
    if (pthread_create(&other, NULL, add_without_a_lock, NULL) != 0)
        return 0;
    add_without_a_lock(NULL);
    return pthread_join(other, NULL);
}

/* Two locks, one after the other, and then the other way round. */
static int lock_in_two_orders(void)
{
    static pthread_mutex_t locks[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
    for (int first = 0; first < 2; first++) {
        pthread_mutex_lock(&locks[first]);
        pthread_mutex_lock(&locks[!first]);
        pthread_mutex_unlock(&locks[!first]);
        pthread_mutex_unlock(&locks[first]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*commit)(void);
    } defects[] = {
        {"overwrite", write_past_the_end},
        {"use-after-free", use_after_free},
        {"leak", leak},
        {"int-overflow", overflow_an_int},
        {"race", race},
        {"lock-order", lock_in_two_orders},
    };
    for (size_t i = 0; argc == 2 && i < sizeof defects / sizeof *defects; i++)
        if (strcmp(argv[1], defects[i].name) == 0)
            return defects[i].commit() & 0;
    return argc == 1 ? 0 : 2;
}
