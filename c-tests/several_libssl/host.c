/*
 * A process with several TLS libraries, each in a module of its own, all
 * serving at the same time.
 *
 *   host own|shared MODULE...    each context has its own keys, or all have the same
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>

#include "module.h"

#include "../check.h"

enum { MOST = 8 };

static struct {
    serve_fn *serve;
    struct served served;
    pthread_t thread;
} modules[MOST];

static void *run(void *arg)
{
    size_t at = (size_t)arg;
    modules[at].serve(&modules[at].served);
    return NULL;
}

int main(int argc, char **argv)
{
    alarm(LIMIT_SECONDS);
    CHECK(argc > 2 && argc - 2 <= MOST, "usage: host own|shared MODULE...");
    int is_shared = strcmp(argv[1], "shared") == 0;
    size_t count = (size_t)argc - 2;
    for (size_t at = 0; at < count; at++) {
        void *handle = dlopen(argv[at + 2], RTLD_NOW | RTLD_LOCAL);
        CHECK(handle, "%s", dlerror());
        *(void **)&modules[at].serve = dlsym(handle, "serve");
        CHECK(modules[at].serve, "%s", dlerror());
    }
    for (size_t at = 0; at < count; at++)
        CHECK_INT(pthread_create(&modules[at].thread, NULL, run, (void *)at), 0);
    for (size_t at = 0; at < count; at++)
        CHECK_INT(pthread_join(modules[at].thread, NULL), 0);

    const struct served *first = &modules[0].served;
    for (size_t at = 0; at < count; at++) {
        const struct served *served = &modules[at].served;
        printf("libssl 0x%08lx: %d full, %d resumed, %d at another context, %d key names\n",
               served->version, served->full, served->resumed, served->elsewhere, served->keys);
        fflush(stdout);
        CHECK(served->full > 0, "no handshakes");
        CHECK_INT(served->resumed, served->full);
        CHECK_INT(served->elsewhere, is_shared ? served->full : 0);
        CHECK_INT(served->keys, 1);
        CHECK(at == 0 || (memcmp(first->name, served->name, sizeof first->name) == 0) == is_shared,
              "modules 0 and %zu: one key name: %d", at, !is_shared);
        CHECK(at == 0 || first->version != served->version, "both are 0x%08lx", first->version);
    }
    return 0;
}
