/*
 * A server that gets its TLS from a module (RTLD_LOCAL), as servers with
 * plug-ins do, and changes it for a fresh copy at run time.
 *
 *     host PORT CERT KEY MODULE RELOADS
 *
 * After each connection the module is closed and loaded again RELOADS times.
 * An answer tells how often that was done, and after how many of those the
 * TLS library had gone, too.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>

#include "../answer.h"

static const char *path;
static void *module;
static void (*begin)(const char *cert, const char *key);
static void (*serve)(int tcp, const char *body);
static void (*end)(void);

static void *function(const char *name)
{
    void *found = dlsym(module, name);
    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

static void load(void)
{
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&begin = function("begin");
    *(void **)&serve = function("serve");
    *(void **)&end = function("end");
}

static int is_loaded(const char *name)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
    if (handle)
        dlclose(handle);
    return handle != NULL;
}

static void unload(void)
{
    end();
    dlclose(module);
    if (is_loaded(path)) {
        fprintf(stderr, "%s: closed, and still there\n", path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    char body[64];
    int reloads = 0, library_gone = 0;

    if (argc != 6) {
        fprintf(stderr, "usage: host PORT CERT KEY MODULE RELOADS\n");
        return 2;
    }
    path = argv[4];
    signal(SIGPIPE, SIG_IGN);
    load();
    begin(argv[2], argv[3]);
    for (int listener = listen_on(atoi(argv[1]));;) {
        int tcp = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (tcp < 0)
            continue;
        snprintf(body, sizeof body, "%d %d", reloads, library_gone);
        serve(tcp, body);
        for (int i = 0; i < atoi(argv[5]); i++) {
            unload();
            reloads++;
            library_gone += !is_loaded("libssl.so.3");
            load();
            begin(argv[2], argv[3]);
        }
    }
}
