/*
 * Every exported function: what it answers to NULL and to what is no size, and
 * what installing twice, uninstalling and freeing leave behind.
 */

#define _GNU_SOURCE
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>

#include "handshake.h"

static void before_the_first_error(void)
{
    CHECK_INT(strlen(tkt_last_error()), 0);
    CHECK(strcmp(tkt_version(), TKT_VERSION) == 0, "library %s, header %s", tkt_version(),
          TKT_VERSION);
    CHECK_INT(tkt_upkeep(), 24 * 3600 * 1000);
}

static void every_code_has_a_meaning(void)
{
    static const int unknown[] = {1, 2, -12, -13, INT_MIN, INT_MAX};
    for (int code = TKT_OK; code >= TKT_ERR_INTERNAL; code--) {
        CHECK(strlen(tkt_strerror(code)) > 3, "code %d is \"%s\"", code, tkt_strerror(code));
        for (int other = TKT_OK; other > code; other--)
            CHECK(strcmp(tkt_strerror(code), tkt_strerror(other)) != 0, "%d and %d are both \"%s\"",
                  code, other, tkt_strerror(code));
    }
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        CHECK_HAS(tkt_strerror(unknown[i]), "unknown");
}

static void null_is_an_argument_error(SSL_CTX *ctx)
{
    tkt_config cfg = config_of("api");
    tkt_counters counters = {.size = sizeof counters};
    tkt_tls_api api = TKT_TLS_API_INIT;

    CHECK_RC(tkt_install(NULL, NULL), TKT_ERR_ARGUMENT);
    CHECK_HAS(tkt_last_error(), "ctx is NULL");
    CHECK_RC(tkt_install(NULL, &cfg), TKT_ERR_ARGUMENT);
    CHECK_RC(tkt_install_api(NULL, &cfg, &api), TKT_ERR_ARGUMENT);
    CHECK_RC(tkt_install_api(NULL, NULL, NULL), TKT_ERR_ARGUMENT);
    CHECK_RC(tkt_install_api(ctx, &cfg, NULL), TKT_ERR_ARGUMENT);
    CHECK_HAS(tkt_last_error(), "TKT_TLS_API_INIT");
    CHECK_RC(tkt_uninstall(NULL), TKT_ERR_ARGUMENT);
    CHECK_RC(tkt_rotate(NULL), TKT_ERR_ARGUMENT);
    CHECK_HAS(tkt_last_error(), "tkt_rotate");
    CHECK_RC(tkt_revoke(NULL), TKT_ERR_ARGUMENT);
    CHECK_RC(tkt_stats(NULL, &counters), TKT_ERR_ARGUMENT);
    CHECK_RC(tkt_stats(ctx, NULL), TKT_ERR_ARGUMENT);
    CHECK_RC(tkt_config_from_env(NULL), TKT_ERR_ARGUMENT);
    CHECK_HAS(tkt_last_error(), "tkt_config_from_env");

    CHECK_RC(tkt_uninstall(ctx), TKT_ERR_NOT_INSTALLED);
    CHECK_RC(tkt_rotate(ctx), TKT_ERR_NOT_INSTALLED);
    CHECK_RC(tkt_revoke(ctx), TKT_ERR_NOT_INSTALLED);
    CHECK_RC(tkt_stats(ctx, &counters), TKT_ERR_NOT_INSTALLED);
    CHECK_HAS(tkt_last_error(), "not attached");
    CHECK_INT(counters.issued + counters.capacity, 0);

    /* A success does not clear the message, and another thread has its own. */
    CHECK_RC(tkt_config_from_env(&cfg), TKT_OK);
    CHECK_HAS(tkt_last_error(), "not attached");
}

/* `size` bytes on the heap that begin with a size: valgrind sees a read behind them. */
static void *sized(size_t room, const void *from, size_t size)
{
    void *copy = calloc(1, room);
    CHECK(copy, "no memory");
    if (from)
        memcpy(copy, from, room);
    memcpy(copy, &size, sizeof size);
    return copy;
}

static void a_config_of_any_size(SSL_CTX *ctx)
{
    static const size_t wrong[] = {0, 1, sizeof(size_t) - 1, 4097, SIZE_MAX / 2, SIZE_MAX};
    tkt_config cfg = config_of("api"), *copy;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        copy = sized(sizeof(size_t), NULL, wrong[i]);
        CHECK_RC(install(ctx, copy), TKT_ERR_CONFIG);
        CHECK_HAS(tkt_last_error(), "cfg.size");
        CHECK_RC(tkt_uninstall(ctx), TKT_ERR_NOT_INSTALLED);
        free(copy);
    }

    /* Half a pointer, which nobody must follow. */
    cfg.ring = "api";
    copy = sized(offsetof(tkt_config, ring) + 4, &cfg, offsetof(tkt_config, ring) + 4);
    CHECK_RC(install(ctx, copy), TKT_ERR_CONFIG);
    CHECK_HAS(tkt_last_error(), "cfg.size");
    free(copy);

    /* A program of an older version knows fewer members; the rest has its default. */
    cfg.rotate_every = 77;
    cfg.renew = 99;
    copy = sized(offsetof(tkt_config, lifetime), &cfg, offsetof(tkt_config, lifetime));
    CHECK_RC(install(ctx, copy), TKT_OK);
    tkt_counters counters = {.size = sizeof counters};
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    CHECK_INT(counters.rotate_every, 77);
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);
    free(copy);

    /* One of a newer version knows more: harmless as long as they are not used. */
    cfg.renew = 0;
    unsigned char newer[sizeof cfg + 64] = {0};
    size_t size = sizeof newer;
    memcpy(newer, &cfg, sizeof cfg);
    memcpy(newer, &size, sizeof size);
    CHECK_RC(install(ctx, (const tkt_config *)(void *)newer), TKT_OK);
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);
    newer[sizeof newer - 1] = 1;
    CHECK_RC(install(ctx, (const tkt_config *)(void *)newer), TKT_ERR_CONFIG);
    CHECK_HAS(tkt_last_error(), "does not know");
    CHECK_RC(tkt_uninstall(ctx), TKT_ERR_NOT_INSTALLED);
}

static void counters_of_any_size(SSL_CTX *ctx)
{
    static const size_t wrong[] = {0, 1, sizeof(size_t) - 1, 4097, SIZE_MAX};
    const size_t small = offsetof(tkt_counters, resumed_active);
    tkt_config cfg = config_of("api");
    union {
        tkt_counters counters;
        unsigned char bytes[sizeof(tkt_counters) + 64];
    } room;

    CHECK_RC(install(ctx, &cfg), TKT_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        size_t *size = sized(sizeof(size_t), NULL, wrong[i]);
        CHECK_RC(tkt_stats(ctx, (tkt_counters *)(void *)size), TKT_ERR_ARGUMENT);
        CHECK(*size == wrong[i], "size became %zu", *size);
        free(size);
    }
    tkt_counters *copy = sized(small, NULL, small);
    CHECK_RC(tkt_stats(ctx, copy), TKT_OK);
    CHECK_INT(copy->size, small);
    free(copy);

    memset(&room, 0xee, sizeof room);
    room.counters.size = sizeof room;
    CHECK_RC(tkt_stats(ctx, &room.counters), TKT_OK);
    CHECK_INT(room.counters.size, sizeof(tkt_counters));
    CHECK_INT(room.counters.capacity, 16384);
    for (size_t i = sizeof(tkt_counters); i < sizeof room; i++)
        CHECK(room.bytes[i] == 0xee, "byte %zu was written", i);
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);
}

static void a_table_that_lacks_something(SSL_CTX *ctx)
{
    tkt_config cfg = config_of("api");
    const tkt_tls_api whole = TKT_TLS_API_INIT;
    tkt_tls_api api;

    static const size_t wrong[] = {0, 1, sizeof api - 1, sizeof api + 1, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        tkt_tls_api *copy = sized(sizeof(size_t), NULL, wrong[i]);
        CHECK_RC(tkt_install_api(ctx, &cfg, copy), TKT_ERR_ARGUMENT);
        free(copy);
    }

#define WITHOUT(member, name)                                                              \
    do {                                                                                   \
        api = whole;                                                                       \
        api.member = NULL;                                                                 \
        CHECK_RC(tkt_install_api(ctx, &cfg, &api), TKT_ERR_TLS);                           \
        CHECK_HAS(tkt_last_error(), name);                                                 \
        CHECK_RC(tkt_uninstall(ctx), TKT_ERR_NOT_INSTALLED);                               \
    } while (0)
    WITHOUT(rand_bytes, "RAND_bytes");
    WITHOUT(ssl_version, "SSL_version");
    WITHOUT(ssl_ctx_get_timeout, "SSL_CTX_get_timeout");
    WITHOUT(ssl_ctx_get_ex_data, "SSL_CTX_get_ex_data");
    WITHOUT(ssl_ctx_set_ex_data, "SSL_CTX_set_ex_data");
    WITHOUT(evp_aes_256_cbc, "EVP_aes_256_cbc");
    WITHOUT(evp_cipher_init_ex, "EVP_CipherInit_ex");
#if HAS_EVP
    WITHOUT(ssl_ctx_set_tlsext_ticket_key_evp_cb, "callback");
    WITHOUT(evp_mac_init, "callback");
    WITHOUT(evp_mac_update, "callback");
#else
    WITHOUT(hmac_init_ex, "callback");
    WITHOUT(hmac_update, "callback");
#endif
#if IS_BORING
    WITHOUT(ssl_ctx_set_tlsext_ticket_key_cb, "callback");
    WITHOUT(ssl_ctx_get_ex_new_index, "ex_new_index");
#else
    WITHOUT(crypto_get_ex_new_index, "CRYPTO_get_ex_new_index");
    if (!HAS_EVP)
        WITHOUT(ssl_ctx_callback_ctrl, "callback");
#endif

    /* Only imported keys of 16 bytes need it. */
    api = whole;
    api.evp_aes_128_cbc = NULL;
    CHECK_RC(tkt_install_api(ctx, &cfg, &api), TKT_OK);
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);

    /* A table that was refused is forgotten. */
    CHECK_RC(tkt_install_api(ctx, &cfg, &whole), TKT_OK);
    FOR_EACH_VERSION(version)
    {
        struct outcome full = CONNECT(ctx, version, NULL, 0);
        CHECK_INT(resumes(ctx, version, full.session), 1);
        forget(&full);
    }
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);
}

/* The table and the library itself name the same context: the last one serves. */
static void both_ways_to_install(void)
{
    SSL_CTX *ctx = new_server();
    tkt_config table = config_of("table"), shared = config_of("shared");
    tkt_tls_api api = TKT_TLS_API_INIT;

    table.rotate_every = 11;
    shared.rotate_every = 22;
    for (int i = 0; i < 4; i++) {
        tkt_counters counters = {.size = sizeof counters};
        CHECK_RC(i % 2 ? tkt_install_api(ctx, &table, &api) : install(ctx, &shared), TKT_OK);
        CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
        CHECK_INT(counters.rotate_every, i % 2 ? 11 : 22);
        uint64_t before = counters.issued;
        struct outcome full = CONNECT(ctx, TLS1_2_VERSION, NULL, 0);
        forget(&full);
        CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
        CHECK_INT(counters.issued, before + 1);
    }
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);
    CHECK_RC(tkt_uninstall(ctx), TKT_ERR_NOT_INSTALLED);
    SSL_CTX_free(ctx);
}

static void installing_and_uninstalling(int version)
{
    SSL_CTX *ctx = new_server(), *other = new_server();
    tkt_config cfg = config_of("api");

    CHECK_RC(install(other, &cfg), TKT_OK);
    CHECK_RC(install(ctx, &cfg), TKT_OK);
    CHECK_RC(install(ctx, &cfg), TKT_OK);
    struct outcome ours = CONNECT(ctx, version, NULL, 0);
    CHECK_RC(install(ctx, &cfg), TKT_OK);
    CHECK_INT(resumes(ctx, version, ours.session), 1);

    /* Every handshake is a full one from now on. */
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);
    CHECK_RC(tkt_uninstall(ctx), TKT_ERR_NOT_INSTALLED);
    CHECK_INT(resumes(ctx, version, ours.session), 0);
    struct outcome none = CONNECT(ctx, version, NULL, 0);
    CHECK_INT(resumes(ctx, version, none.session), 0);
    if (none.tickets)
        CHECK(memcmp(ours.names[0], none.names[0], NAME_LEN) != 0, "the key names are the same");

    /* The keys stayed for the other context. */
    CHECK_RC(install(ctx, &cfg), TKT_OK);
    CHECK_INT(resumes(ctx, version, ours.session), 1);
    CHECK_INT(resumes(ctx, version, none.session), 0);

    /* Without any context they are erased at once. */
    CHECK_RC(tkt_uninstall(other), TKT_OK);
    CHECK_INT(resumes(ctx, version, ours.session), 1);
    CHECK_RC(tkt_uninstall(ctx), TKT_OK);
    CHECK_RC(install(ctx, &cfg), TKT_OK);
    CHECK_INT(resumes(ctx, version, ours.session), 0);
    SSL_CTX_free(other);

    forget(&ours);
    forget(&none);
    SSL_CTX_free(ctx);
}

/* What malloc() has given out; elsewhere than in glibc, what memory the process has. */
static size_t allocated(void)
{
#ifdef __GLIBC__
    return mallinfo2().uordblks;
#else
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    CHECK(statm && fscanf(statm, "%*u %zu", &pages) == 1, "no statm");
    fclose(statm);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
#endif
}

/* Programs install again whenever they read their configuration. */
static void repetition_costs_no_memory(void)
{
    SSL_CTX *ctx = new_server();
    tkt_config cfg = config_of("api");
    /* malloc() keeps some of what was freed; it takes a while until it has enough. */
    const int warm = rounds(4000, 100), all = warm + rounds(4000, 100);
    size_t before = 0;
    for (int i = 0; i < all; i++) {
        if (i == warm)
            before = allocated();
        CHECK_RC(install(ctx, &cfg), TKT_OK);
        if (i % 2)
            CHECK_RC(tkt_uninstall(ctx), TKT_OK);
    }
    size_t after = allocated();
    /* The smallest block that could be left behind by every second one is twice that. */
    if (rounds(1, 0))
        CHECK(after < before + 8 * (size_t)(all - warm), "%zu bytes more than %zu",
              after - before, before);
    SSL_CTX_free(ctx);
}

/* A thread with contexts of its own; its last error is its own, too. */
static void *use_contexts(void *arg)
{
    tkt_config cfg = config_of("threads");
    (void)arg;
    if (*tkt_last_error() != '\0')
        return "a new thread has an error";
    for (int i = 0; i < rounds(100, 10); i++) {
        tkt_counters counters = {.size = sizeof counters};
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        if (install(ctx, &cfg) != TKT_OK || install(ctx, &cfg) != TKT_OK)
            return "install";
        if (i % 10 == 0 && tkt_rotate(ctx) != TKT_OK)
            return "rotate";
        if (i % 25 == 0 && tkt_revoke(ctx) != TKT_OK)
            return "revoke";
        if (tkt_stats(ctx, &counters) != TKT_OK || tkt_upkeep() < 0)
            return "stats or upkeep";
        if (i % 2 == 0 && tkt_uninstall(ctx) != TKT_OK)
            return "uninstall";
        SSL_CTX_free(ctx);
    }
    return NULL;
}

static void threads(void)
{
    enum { THREADS = 8 };
    pthread_t all[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&all[i], NULL, use_contexts, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        CHECK_INT(pthread_join(all[i], &failed), 0);
        CHECK(!failed, "a thread failed at: %s", (const char *)failed);
    }
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    before_the_first_error();
    every_code_has_a_meaning();

    SSL_CTX *ctx = new_server();
    null_is_an_argument_error(ctx);
    a_table_that_lacks_something(ctx);
    a_config_of_any_size(ctx);
    counters_of_any_size(ctx);
    SSL_CTX_free(ctx);
    both_ways_to_install();

    FOR_EACH_VERSION(version)
    installing_and_uninstalling(version);
    repetition_costs_no_memory();
    threads();
    free_certificate();
    return 0;
}
