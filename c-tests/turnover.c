/*
 * Ten thousand contexts, one after the other: none leaves memory behind, and
 * none leaves what it was to the next one, which may have its address.
 *
 * Under the shim (LD_PRELOAD), nothing is installed here; the tests of what
 * the shim knows of a context are for it.
 */

#define _GNU_SOURCE
#include <malloc.h>

#include "handshake.h"
#include "threads.h"

enum { WARM = 2000, CONTEXTS = 10000, PER_CONTEXT = 20 /* bytes */ };

static int preloaded, takeover;
static SSL_CTX *anchor; /* attached from beginning to end */

/* What tkt_install() does for one program, the shim does for another at its first SSL_new. */
static void attach(SSL_CTX *ctx)
{
    if (preloaded) {
        SSL_free(SSL_new(ctx));
    } else {
        tkt_config cfg = config_of("turnover");
        CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    }
}

/* Whether it has the ring's keys: a ticket of the anchor resumes, and one of its own at the anchor. */
static int has_the_keys(SSL_CTX *ctx, int version)
{
    struct outcome there = CONNECT(anchor, version, NULL, 0);
    struct outcome here = CONNECT(ctx, version, NULL, 0);
    int yes = resumes(ctx, version, there.session);
    CHECK_INT(resumes(anchor, version, here.session), yes);
    CHECK_INT(resumes(ctx, version, here.session), 1); /* whosever keys they are */
    forget(&there);
    forget(&here);
    return yes;
}

/* --- memory --- */

static void come_and_go(int contexts)
{
    for (int i = 0; i < contexts; i++) {
        if (i % 50 == 0) {
            SSL_CTX *ctx = new_server();
            attach(ctx);
            CHECK_INT(has_the_keys(ctx, VERSIONS[i / 50 % 2]), 1);
            SSL_CTX_free(ctx);
            continue;
        }
        SSL_CTX *ctx = SSL_CTX_new(i % 7 == 0 ? TLS_client_method() : TLS_server_method());
        CHECK(ctx, "no SSL_CTX can be made");
        if (i % 7 && i % 3)
            attach(ctx);
        SSL_CTX_free(ctx); /* some of them were never used */
    }
}

static long resident_bytes(void)
{
    long size, resident;
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file && fscanf(file, "%ld %ld", &size, &resident) == 2, "/proc/self/statm");
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

static void memory_stays_flat(void)
{
    come_and_go(rounds(WARM, 60));
    long in_use = (long)mallinfo2().uordblks, resident = resident_bytes();
    come_and_go(rounds(CONTEXTS - WARM, 100));
    in_use = (long)mallinfo2().uordblks - in_use;
    resident = resident_bytes() - resident;
    printf("%d contexts: %ld bytes more in use, %ld resident\n", CONTEXTS, in_use, resident);
    if (rounds(1, 0)) {
        CHECK(in_use < (CONTEXTS - WARM) * PER_CONTEXT, "%ld bytes more in use", in_use);
        CHECK(resident < (CONTEXTS - WARM) * 100, "%ld bytes more resident", resident);
    }
}

/* --- addresses --- */

/* An allocator for OpenSSL that keeps what was at one address, for the next who wants as much. */
static void *watched, *kept;
static __thread int main_thread, making;

static void *allocate(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    size_t room = making && kept ? malloc_usable_size(kept) : 0;
    if (size <= room && size + 48 > room) { /* malloc() may give some more than was asked for */
        void *again = kept;
        kept = NULL;
        return again;
    }
    return malloc(size);
}

static void *allocate_again(void *memory, size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return realloc(memory, size);
}

static void give_back(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    if (main_thread && memory && memory == watched) {
        watched = NULL;
        kept = memory;
        return;
    }
    free(memory);
}

static void free_for_the_next(SSL_CTX *ctx)
{
    watched = ctx;
    SSL_CTX_free(ctx);
    CHECK(kept == ctx, "the context was not freed");
}

/* A context at the address of the one that was freed. */
static SSL_CTX *at(SSL_CTX *address, const SSL_METHOD *method)
{
    making = 1;
    SSL_CTX *ctx = SSL_CTX_new(method);
    making = 0;
    CHECK(ctx == address, "the new context is at %p, not at %p", (void *)ctx, (void *)address);
    return ctx;
}

static void certify(SSL_CTX *ctx)
{
    CHECK_INT(SSL_CTX_use_certificate(ctx, test_cert), 1);
    CHECK_INT(SSL_CTX_use_PrivateKey(ctx, test_key), 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}

static SSL_CTX *server_at(SSL_CTX *address)
{
    SSL_CTX *ctx = at(address, TLS_server_method());
    certify(ctx);
    if (!preloaded) {
        tkt_counters counters = {.size = sizeof counters};
        CHECK_RC(tkt_stats(ctx, &counters), TKT_ERR_NOT_INSTALLED);
    }
    return ctx;
}

static void after_one_with_keys_of_its_own(int version)
{
    unsigned char keys[80];
    SSL_CTX *own = new_server();
    CHECK_INT(RAND_bytes(keys, sizeof keys), 1);
    CHECK_INT(SSL_CTX_set_tlsext_ticket_keys(own, keys, sizeof keys), 1);
    CHECK_INT(has_the_keys(own, version), preloaded && takeover);
    struct outcome full = CONNECT(own, version, NULL, 0);
    free_for_the_next(own);

    SSL_CTX *ctx = server_at(own);
    attach(ctx);
    CHECK_INT(has_the_keys(ctx, version), 1);
    CHECK_INT(resumes(ctx, version, full.session), preloaded && takeover);
    forget(&full);
    SSL_CTX_free(ctx);
}

static void after_one_of_a_client(int version)
{
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    CHECK(client, "no SSL_CTX can be made");
    SSL_free(SSL_new(client));
    free_for_the_next(client);

    SSL_CTX *ctx = server_at(client);
    attach(ctx);
    CHECK_INT(has_the_keys(ctx, version), 1);
    SSL_CTX_free(ctx);
}

static void swap_certificate(X509 **cert, EVP_PKEY **key)
{
    X509 *other_cert = *cert;
    EVP_PKEY *other_key = *key;
    *cert = test_cert;
    *key = test_key;
    test_cert = other_cert;
    test_key = other_key;
    make_certificate(); /* unless there is one */
}

static void after_one_with_another_certificate(int version)
{
    static X509 *cert;
    static EVP_PKEY *key;
    SSL_CTX *old = new_server();
    attach(old);
    struct outcome full = CONNECT(old, version, NULL, 0);
    CHECK_INT(resumes(anchor, version, full.session), 1);
    free_for_the_next(old);

    swap_certificate(&cert, &key);
    SSL_CTX *ctx = server_at(old);
    attach(ctx);
    CHECK_INT(resumes(ctx, version, full.session), 0);
    struct outcome own = CONNECT(ctx, version, NULL, 0);
    CHECK_INT(resumes(ctx, version, own.session), 1);
    CHECK_INT(resumes(anchor, version, own.session), 0);
    free_for_the_next(ctx);
    swap_certificate(&cert, &key);

    ctx = server_at(old);
    attach(ctx);
    CHECK_INT(resumes(ctx, version, full.session), 1);
    CHECK_INT(resumes(ctx, version, own.session), 0);
    SSL_CTX_free(ctx);
    forget(&full);
    forget(&own);
    if (version == TLS1_3_VERSION) {
        X509_free(cert);
        EVP_PKEY_free(key);
    }
}

int main(void)
{
    char tid[32];
    alarm(LIMIT_SECONDS);
    main_thread = 1;
    CHECK_INT(CRYPTO_set_mem_functions(allocate, allocate_again, give_back), 1);
    const char *preload = getenv("LD_PRELOAD"); /* valgrind uses it, too */
    const char *setting = getenv("TKTROT_TAKEOVER");
    preloaded = preload && strstr(preload, "tktrot_preload");
    takeover = !setting || strcmp(setting, "no") != 0;
    anchor = new_server();
    attach(anchor);
    FOR_EACH_VERSION(version)
    {
        after_one_with_keys_of_its_own(version);
        after_one_of_a_client(version);
        after_one_with_another_certificate(version);
    }
    memory_stays_flat();
    expect_upkeep_threads(1, tid);
    SSL_CTX_free(anchor);
    free_certificate();
    return 0;
}
