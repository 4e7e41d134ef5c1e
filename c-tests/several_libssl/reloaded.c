/*
 * Plugins with different TLS libraries, loaded and unloaded in turn. The next
 * comes to lie where the last one was; its calls must reach its own library.
 *
 *   reloaded PLUGIN PLUGIN
 */

#define _GNU_SOURCE
#include <dlfcn.h>

#include "plugin.h"

#include "../check.h"

enum { ROUNDS = 40, PLUGINS = 2 };

/* What the plugin is linked with stays, as it would with any other user of it. */
static void keep(const char *plugin, const char *library)
{
    void *handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    CHECK(handle, "%s", dlerror());
    void *function = dlsym(handle, library);
    Dl_info info;
    CHECK(function && dladdr(function, &info), "%s has no %s", plugin, library);
    CHECK(dlopen(info.dli_fname, RTLD_NOW | RTLD_LOCAL), "%s", dlerror());
    dlclose(handle);
}

int main(int argc, char **argv)
{
    alarm(LIMIT_SECONDS);
    CHECK(argc == 1 + PLUGINS, "usage: reloaded PLUGIN PLUGIN");
    for (int i = 1; i <= PLUGINS; i++) {
        keep(argv[i], "SSL_CTX_new");
        keep(argv[i], "CRYPTO_free_ex_index");
    }
    unsigned long last_version = 0;
    void *last_place = NULL;
    int others_in_place = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct plugged plugged = {0};
        void *handle = dlopen(argv[1 + round % PLUGINS], RTLD_NOW | RTLD_LOCAL);
        CHECK(handle, "%s", dlerror());
        void *place = dlsym(handle, "plug");
        CHECK(place, "%s", dlerror());
        plug_fn *call;
        *(void **)&call = place;
        call(&plugged);
        printf("libssl 0x%08lx: %d contexts, %d connections\n", plugged.version, plugged.contexts,
               plugged.connections);
        fflush(stdout);
        CHECK_INT(plugged.contexts, 1);
        CHECK_INT(plugged.connections, 1);
        CHECK(plugged.version != last_version, "both plugins have 0x%08lx", last_version);
        others_in_place += place == last_place;
        last_version = plugged.version;
        last_place = place;
        CHECK_INT(dlclose(handle), 0);
        CHECK(!dlopen(argv[1 + round % PLUGINS], RTLD_NOW | RTLD_NOLOAD), "%s stays loaded",
              argv[1 + round % PLUGINS]);
    }
    CHECK(others_in_place > 0, "no plugin came to lie where the other was");
    return 0;
}
