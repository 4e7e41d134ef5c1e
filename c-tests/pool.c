/*
 * Contexts come and go: a callback for each of 992 at once, for those beyond one
 * that all share that are alike, an error for what is like none, and nothing
 * left behind by those that are freed.
 */

#define _GNU_SOURCE
#include "handshake.h"

enum { PLACES = 992, SHARED = 32, ALIKE = 40 };

/* Contexts share what takes time to make; these have no certificate. */
static SSL_CTX *bare(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    return ctx;
}

static void serves(SSL_CTX *ctx)
{
    FOR_EACH_VERSION(version)
    {
        struct outcome full = CONNECT(ctx, version, NULL, 0);
        CHECK_INT(resumes(ctx, version, full.session), 1);
        forget(&full);
    }
}

static void resumes_everywhere(SSL_CTX *const contexts[], int count, int step, int version)
{
    struct outcome full = CONNECT(contexts[0], version, NULL, 0);
    for (int i = 0; i < count; i += step)
        CHECK_INT(resumes(contexts[i], version, full.session), 1);
    forget(&full);
}

/* Those that are alike share one callback, and are told apart all the same. */
static void beyond_the_places(SSL_CTX *first)
{
    static SSL_CTX *alike[ALIKE], *labelled[SHARED];
    tkt_config cfg = config_of("pool");

    for (int i = 0; i < ALIKE; i++) {
        alike[i] = new_server();
        CHECK_RC(tkt_install(alike[i], &cfg), TKT_OK);
        CHECK_RC(tkt_install(alike[i], &cfg), TKT_OK);
    }
    FOR_EACH_VERSION(version)
    {
        resumes_everywhere(alike, ALIKE, 7, version);
        struct outcome full = CONNECT(first, version, NULL, 0);
        CHECK_INT(resumes(alike[1], version, full.session), 1);

        /* One that is uninstalled is full of the others' tickets no more; they go on. */
        CHECK_RC(tkt_uninstall(alike[0]), TKT_OK);
        CHECK_RC(tkt_uninstall(alike[0]), TKT_ERR_NOT_INSTALLED);
        CHECK_INT(resumes(alike[0], version, full.session), 0);
        CHECK_INT(resumes(alike[1], version, full.session), 1);
        CHECK_RC(tkt_install(alike[0], &cfg), TKT_OK);
        CHECK_INT(resumes(alike[0], version, full.session), 1);
        forget(&full);
    }

    /* Each that is like no other needs a place; some are left, one is that of the retired. */
    char label[32];
    cfg.label = label;
    for (int i = 0; i < SHARED - 2; i++) {
        snprintf(label, sizeof label, "label %d", i);
        labelled[i] = new_server();
        CHECK_RC(tkt_install(labelled[i], &cfg), TKT_OK);
    }
    SSL_CTX *last = new_server();
    snprintf(label, sizeof label, "one too many");
    CHECK_RC(tkt_install(last, &cfg), TKT_ERR_POOL);
    CHECK_HAS(tkt_last_error(), "992 contexts have a callback of their own, 32 more are shared");
    CHECK_RC(tkt_uninstall(last), TKT_ERR_NOT_INSTALLED);
    serves(last); /* with the TLS library's own keys */

    SSL_CTX_free(labelled[3]);
    CHECK_RC(tkt_install(last, &cfg), TKT_OK);
    serves(last);
    for (int i = 0; i < SHARED - 2; i++)
        if (i != 3)
            SSL_CTX_free(labelled[i]);
    for (int i = 0; i < ALIKE; i++)
        SSL_CTX_free(alike[i]);
    SSL_CTX_free(last);
}

static void more_than_places(void)
{
    static SSL_CTX *all[PLACES];
    tkt_config cfg = config_of("pool");

    for (int i = 0; i < PLACES; i++) {
        all[i] = i % 124 == 0 ? new_server() : bare();
        CHECK_RC(tkt_install(all[i], &cfg), TKT_OK);
    }
    for (int i = 0; i < 2; i++)
        beyond_the_places(all[0]);
    resumes_everywhere(all, PLACES, 124, TLS1_3_VERSION);
    CHECK_RC(tkt_install(all[PLACES - 1], &cfg), TKT_OK);
    for (int i = 0; i < PLACES; i++)
        SSL_CTX_free(all[i]);
}

static long resident_pages(void)
{
    long size, resident;
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file && fscanf(file, "%ld %ld", &size, &resident) == 2, "/proc/self/statm");
    fclose(file);
    return resident;
}

/* A new context at an old address has nothing of the one that was there. */
static void come_and_go(int cycles)
{
    tkt_config cfg = config_of("cycles");
    tkt_counters counters = {.size = sizeof counters};
    for (int i = 0; i < cycles; i++) {
        SSL_CTX *ctx = bare();
        CHECK_RC(tkt_stats(ctx, &counters), TKT_ERR_NOT_INSTALLED);
        CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
        if (i % 3 == 0)
            CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
        if (i % 5 == 0)
            CHECK_RC(tkt_uninstall(ctx), TKT_OK);
        SSL_CTX_free(ctx);
    }
}

static void memory_stays_flat(void)
{
    come_and_go(rounds(2000, 50));
    long before = resident_pages();
    come_and_go(rounds(10000, 100));
    long grown = (resident_pages() - before) * sysconf(_SC_PAGESIZE) / 1024;
    /* 10000 contexts that keep 100 bytes each were 1000 KiB. */
    if (rounds(1, 0))
        CHECK(grown < 800, "resident memory grew by %ld KiB", grown);

    SSL_CTX *ctx = new_server();
    tkt_config cfg = config_of("cycles");
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    serves(ctx);
    SSL_CTX_free(ctx);
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    more_than_places();
    memory_stays_flat();
    free_certificate();
    return 0;
}
