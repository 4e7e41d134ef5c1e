/* Loads each library that is named and asks it for its version: musl binds every symbol at that
 * moment, so one that only glibc has would show. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        const char *(*version)(void) = library ? (const char *(*)(void))dlsym(library, "tkt_version") : NULL;

        if (!version) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        printf("%s: version %s\n", argv[i], version());
    }
    return argc > 1 ? 0 : 2;
}
