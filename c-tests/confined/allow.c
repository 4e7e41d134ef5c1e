/* Runs a program that may make certain system calls only: the kernel kills it at any other.
 *
 *     allow FILE PROGRAM [ARGUMENT...]
 *
 * FILE has the names of those calls, one to a line. Names that this kernel's architecture does not
 * have are left out; execve is always allowed, since PROGRAM would not start without. */

#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *what, const char *on, int error)
{
    fprintf(stderr, "allow: %s %s: %s\n", what, on, strerror(error));
    exit(1);
}

static void allow(scmp_filter_ctx filter, const char *name)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR)
        return;
    int error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    /* A call of another architecture has a number below zero and no rule. */
    if (error != 0 && number >= 0)
        fail("cannot allow", name, -error);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: allow FILE PROGRAM [ARGUMENT...]\n");
        return 1;
    }
    FILE *file = fopen(argv[1], "r");
    if (file == NULL)
        fail("cannot open", argv[1], errno);
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL)
        fail("no filter for", argv[2], ENOMEM);
    char name[64];
    while (fscanf(file, "%63s", name) == 1)
        allow(filter, name);
    fclose(file);
    allow(filter, "execve");
    int error = seccomp_load(filter);
    if (error != 0)
        fail("cannot load a filter for", argv[2], -error);
    execv(argv[2], argv + 2);
    fail("cannot run", argv[2], errno);
}
