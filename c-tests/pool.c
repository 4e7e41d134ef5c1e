/*
 * Contexts come and go: a callback for each of 1024 at once, an error for one
 * more, and nothing left behind by those that are freed.
 */

#define _GNU_SOURCE
#include "handshake.h"

enum { PLACES = 1024 };

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

static void one_too_many(void)
{
    static SSL_CTX *all[PLACES];
    tkt_config cfg = config_of("pool");
    SSL_CTX *last = new_server();

    for (int i = 0; i < PLACES; i++) {
        all[i] = i % 128 == 0 ? new_server() : bare();
        CHECK_RC(tkt_install(all[i], &cfg), TKT_OK);
    }
    CHECK_RC(tkt_install(last, &cfg), TKT_ERR_POOL);
    CHECK_HAS(tkt_last_error(), "1024 contexts are attached already");
    CHECK_RC(tkt_uninstall(last), TKT_ERR_NOT_INSTALLED);
    serves(last); /* with the TLS library's own keys */
    struct outcome own = CONNECT(last, TLS1_2_VERSION, NULL, 0);

    /* Those that are attached are not touched: any of them opens any one's tickets. */
    struct outcome full = CONNECT(all[0], TLS1_3_VERSION, NULL, 0);
    for (int i = 0; i < PLACES; i += 128)
        CHECK_INT(resumes(all[i], TLS1_3_VERSION, full.session), 1);
    CHECK_RC(tkt_install(all[PLACES - 1], &cfg), TKT_OK);

    /* A place is free again when its context is freed. */
    for (int i = 100; i < 110; i++) {
        CHECK_RC(tkt_install(last, &cfg), TKT_ERR_POOL);
        SSL_CTX_free(all[i]);
        CHECK_RC(tkt_install(last, &cfg), TKT_OK);
        CHECK_INT(resumes(last, TLS1_3_VERSION, full.session), 1);
        CHECK_INT(resumes(last, TLS1_2_VERSION, own.session), 0);
        SSL_CTX_free(last);
        all[i] = bare();
        last = new_server();
        CHECK_RC(tkt_install(all[i], &cfg), TKT_OK);
    }
    forget(&full);
    forget(&own);
    for (int i = 0; i < PLACES; i++)
        SSL_CTX_free(all[i]);
    SSL_CTX_free(last);
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
    one_too_many();
    memory_stays_flat();
    free_certificate();
    return 0;
}
