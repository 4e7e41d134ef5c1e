/*
 * A process with several TLS libraries, each in a module of its own, all
 * serving at the same time.
 *
 *   host own|shared MODULE...    each context has its own keys, or all have the same
 *   host reloaded ONE OTHER      one after the other, each where the other was
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

/*
 * The libraries stay; the modules, with the code that calls them, come and go, and
 * the one lies where the other lay: the address of a call tells nothing of it.
 */
static void reload(char **names)
{
    enum { RELOADS = 12 };
    unsigned long versions[2] = {0};
    void *former = NULL;
    int same_place = 0;
    for (int i = 0; i < RELOADS; i++) {
        struct served served;
        void *handle = dlopen(names[i % 2], RTLD_NOW | RTLD_LOCAL);
        CHECK(handle, "%s", dlerror());
        serve_fn *serve;
        *(void **)&serve = dlsym(handle, "serve");
        CHECK(serve, "%s", dlerror());
        same_place += *(void **)&serve == former;
        former = *(void **)&serve;
        serve(&served);
        CHECK(served.full > 0 && served.resumed == served.full && served.elsewhere == served.full,
              "libssl 0x%08lx: %d full, %d resumed, %d at another context", served.version,
              served.full, served.resumed, served.elsewhere);
        CHECK(i < 2 || versions[i % 2] == served.version, "not the library of before");
        versions[i % 2] = served.version;
        CHECK_INT(dlclose(handle), 0);
    }
    CHECK(versions[0] != versions[1], "both are 0x%08lx", versions[0]);
    CHECK(same_place > 0, "no module lay where the other had been: nothing was tried");
    printf("%d reloads, %d times where the other had been\n", RELOADS, same_place);
}

int main(int argc, char **argv)
{
    alarm(LIMIT_SECONDS);
    if (argc == 4 && strcmp(argv[1], "reloaded") == 0) {
        reload(argv + 2);
        return 0;
    }
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
