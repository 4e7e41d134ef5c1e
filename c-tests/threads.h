/* The library's own threads, as proc(5) shows them. */

#ifndef THREADS_H
#define THREADS_H

#include <dirent.h>

#include "check.h"

/* The threads named tktrot; `tid` is the last one's. */
static inline int upkeep_threads(char tid[32])
{
    int count = 0;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks, "/proc/self/task");
    while ((entry = readdir(tasks))) {
        char path[320], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (fscanf(file, "%31s", name) == 1 && strcmp(name, "tktrot") == 0) {
            count++;
            snprintf(tid, 32, "%.31s", entry->d_name);
        }
        fclose(file);
    }
    closedir(tasks);
    return count;
}

/* Waits until there are so many: a thread that was just made still has its maker's name. */
static inline void expect_upkeep_threads(int wanted, char tid[32])
{
    for (int i = 0; upkeep_threads(tid) != wanted; i++) {
        CHECK(i < 1000, "%d upkeep threads, expected are %d", upkeep_threads(tid), wanted);
        sleep_ms(10);
    }
}

#endif
