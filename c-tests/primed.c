/*
 * What is kept of keys from one ticket to the next is never served in place of
 * what holds now: not after a revocation, not for another certificate, not
 * while keys change under many threads.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "handshake.h"

enum { THREADS = 4 };

static tkt_counters counters_of(SSL_CTX *ctx)
{
    tkt_counters counters = {.size = sizeof counters};
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    return counters;
}

static SSL_CTX *server(const char *ring, uint32_t rotate_every)
{
    tkt_config cfg = config_of(ring);
    SSL_CTX *ctx = new_server();
    cfg.upkeep = TKT_UPKEEP_CALLBACK;
    cfg.rotate_every = rotate_every;
    cfg.lifetime = 600;
    cfg.capacity = 16384;
    CHECK_RC(install(ctx, &cfg), TKT_OK);
    return ctx;
}

/* Twice with each key: the first ticket keys what the second one copies. */
static void revoked_keys_open_nothing(void)
{
    SSL_CTX *ctx = server("revoked", 3600);
    for (int i = 0; i < 3; i++)
        FOR_EACH_VERSION(version)
        {
            struct outcome full = CONNECT(ctx, version, NULL, 0);
            CHECK_INT(resumes(ctx, version, full.session), 1);
            CHECK_INT(resumes(ctx, version, full.session), 1);
            CHECK_RC(tkt_revoke(ctx), TKT_OK);
            CHECK_INT(resumes(ctx, version, full.session), 0);
            forget(&full);
        }
    CHECK_INT(counters_of(ctx).errors, 0);
    SSL_CTX_free(ctx);
    free_certificate();
}

/* The same key, the same context, another leaf: another scope, from the next ticket on. */
static void a_replaced_certificate_is_seen(void)
{
    SSL_CTX *ctx = server("replaced", 3600);
    SSL_SESSION *before[2];
    for (int v = 0; v < 2; v++) {
        struct outcome full = CONNECT(ctx, VERSIONS[v], NULL, 0);
        before[v] = full.session;
        CHECK_INT(resumes(ctx, VERSIONS[v], before[v]), 1);
    }
    X509 *other = X509_dup(test_cert);
    CHECK(other, "no copy of the certificate");
    ASN1_INTEGER_set(X509_get_serialNumber(other), 4711);
    CHECK(X509_sign(other, test_key, EVP_sha256()) > 0, "it cannot be signed");
    CHECK_INT(SSL_CTX_use_certificate(ctx, other), 1);
    for (int v = 0; v < 2; v++) {
        CHECK_INT(resumes(ctx, VERSIONS[v], before[v]), 0);
        struct outcome full = CONNECT(ctx, VERSIONS[v], NULL, 0);
        CHECK_INT(resumes(ctx, VERSIONS[v], full.session), 1);
        forget(&full);
    }
    /* And back. */
    CHECK_INT(SSL_CTX_use_certificate(ctx, test_cert), 1);
    for (int v = 0; v < 2; v++) {
        CHECK_INT(resumes(ctx, VERSIONS[v], before[v]), 1);
        SSL_SESSION_free(before[v]);
    }
    X509_free(other);
    SSL_CTX_free(ctx);
    free_certificate();
}

static atomic_int stop, connections;
static SSL_CTX *shared;

static void *resume_on(void *arg)
{
    long number = (long)arg;
    for (int i = 0; !atomic_load(&stop); i++) {
        int version = VERSIONS[(i + number) % 2];
        struct outcome full = CONNECT(shared, version, NULL, 0);
        for (int again = 0; again < 3; again++)
            if (!resumes(shared, version, full.session)) {
                tkt_counters seen = counters_of(shared);
                FAIL("no resumption: %llu unknown, %llu expired, %llu errors, %llu unsealed",
                     (unsigned long long)seen.unknown, (unsigned long long)seen.expired,
                     (unsigned long long)seen.errors, (unsigned long long)seen.unsealed);
            }
        atomic_fetch_add(&connections, 4);
        forget(&full);
    }
    return NULL;
}

/* A key a second: every ticket opens, whichever of them it has, and each one gets its ticket. */
static void many_threads_while_keys_change(void)
{
    enum { KEYS = 4 };
    pthread_t threads[THREADS];
    shared = server("hammered", 1);
    int wanted = rounds(2000, 60);
    struct outcome first = CONNECT(shared, TLS1_2_VERSION, NULL, 0);
    forget(&first);
    uint64_t before = counters_of(shared).rotations;
    for (long i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, resume_on, (void *)i), 0);
    for (int i = 0; atomic_load(&connections) < wanted ||
                    counters_of(shared).rotations < before + KEYS; i++) {
        CHECK(i < 100 * LIMIT_SECONDS, "%d connections", connections);
        CHECK(tkt_upkeep() >= 0, "%s", tkt_last_error());
        sleep_ms(10);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    CHECK_INT(counters_of(shared).errors, 0);
    CHECK_INT(counters_of(shared).unsealed, 0);
    SSL_CTX_free(shared);
    free_certificate();
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    in_child(revoked_keys_open_nothing);
    in_child(a_replaced_certificate_is_seen);
    in_child(many_threads_while_keys_change);
    return 0;
}
