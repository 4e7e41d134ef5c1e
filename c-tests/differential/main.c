/*
 * differential [NAME...]: runs all scenarios, or those whose names begin so, each
 * in a process of its own.
 *
 *   C_TESTS_BRIEF     set: few rounds where memory is watched
 *   C_TESTS_ROUNDS    so many, and the figures are written, for people to read
 */

#include "differential.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { LIMIT_SECONDS = 300 };

static const struct scenario *const TOPICS[] = {HANDSHAKES, TICKETS, CACHES,    NAMES,
                                                CLIENTS,    OBJECTS, CONTEXTS,  THREADS,
                                                PROCESSES,  TRACES,  MEMORY};

static int lines_in(int file)
{
    char bytes[4096];
    ssize_t len;
    int lines = 0;
    lseek(file, 0, SEEK_SET);
    while ((len = read(file, bytes, sizeof bytes)) > 0)
        for (ssize_t at = 0; at < len; at++)
            lines += bytes[at] == '\n';
    return lines;
}

/* What is written to the standard error output is shown, and its lines are counted. */
static void show(int file)
{
    char bytes[4096];
    ssize_t len;
    lseek(file, 0, SEEK_SET);
    while ((len = read(file, bytes, sizeof bytes)) > 0)
        if (write(2, bytes, (size_t)len) != len)
            return;
}

static void run(const struct scenario *scenario)
{
    int status, errors = memfd_create("stderr", MFD_CLOEXEC);
    NEED(errors >= 0);
    printf("[%s]\n", scenario->name);
    fflush(stdout);
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        /* Whoever asks for more rounds takes the time. */
        alarm(getenv("C_TESTS_ROUNDS") ? 0 : LIMIT_SECONDS);
        /* Whoever runs us in the background may have set them. */
        for (int number = 1; number < 32; number++)
            signal(number, SIG_DFL);
        dup2(errors, 2);
        int before = count_descriptors();
        scenario->run(scenario->version);
        say("descriptors at the end", "%+d", count_descriptors() - before);
        _exit(0);
    }
    NEED(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        say("ended by", "signal %d", WTERMSIG(status));
    else
        say("exit status", "%d", WEXITSTATUS(status));
    say("lines on the standard error output", "%d", lines_in(errors));
    fflush(stdout);
    show(errors);
    close(errors);
}

static int is_wanted(const char *name, char **wanted)
{
    int is = !*wanted;
    for (; *wanted; wanted++)
        is |= strncmp(name, *wanted, strlen(*wanted)) == 0;
    return is;
}

int main(int argc, char **argv)
{
    (void)argc;
    for (size_t topic = 0; topic < sizeof TOPICS / sizeof *TOPICS; topic++)
        for (const struct scenario *scenario = TOPICS[topic]; scenario->name; scenario++)
            if (is_wanted(scenario->name, argv + 1))
                run(scenario);
    return 0;
}
