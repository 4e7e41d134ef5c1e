/*
 * Everything that an application may change of its contexts while it serves, all
 * at once: certificates are replaced under a lock that protects the context,
 * policies change, contexts are installed, uninstalled, configured otherwise,
 * made and freed; meanwhile eight threads do handshakes, none of which fails.
 *
 *   upheaval [SECONDS]    for so long; without, a number of rounds
 */

#define _GNU_SOURCE
#include <stdatomic.h>

#include "handshake.h"

enum { THREADS = 8, CONTEXTS = 3, CERTIFICATES = 4 };

/* As a server has it: who makes a connection reads, who changes the context writes. */
static struct served {
    pthread_rwlock_t lock;
    SSL_CTX *ctx;
} served[CONTEXTS];

static unsigned char *certificates[CERTIFICATES];
static int certificate_lens[CERTIFICATES];
static atomic_int stop;
static long handshakes[THREADS], resumptions[THREADS];

/* A certificate that nobody else has: it is freed when the context has another one. */
static X509 *certificate(unsigned which)
{
    const unsigned char *der = certificates[which % CERTIFICATES];
    X509 *cert = d2i_X509(NULL, &der, certificate_lens[which % CERTIFICATES]);
    CHECK(cert, "no certificate");
    return cert;
}

static void make_certificates(void)
{
    make_certificate();
    for (int i = 0; i < CERTIFICATES; i++) {
        X509 *cert = X509_dup(test_cert);
        ASN1_INTEGER_set(X509_get_serialNumber(cert), 100 + i);
        CHECK(X509_sign(cert, test_key, EVP_sha256()) > 0, "it cannot be signed");
        certificate_lens[i] = i2d_X509(cert, &certificates[i]);
        X509_free(cert);
    }
}

static SSL *new_connection(struct served *at)
{
    pthread_rwlock_rdlock(&at->lock);
    SSL *ssl = SSL_new(at->ctx);
    pthread_rwlock_unlock(&at->lock);
    return ssl;
}

/* As connect_to_host(), but for the lock. */
static int handshake(struct served *at, int version, SSL_SESSION **session)
{
    struct outcome outcome = {0};
    SSL *client = SSL_new(client_ctxs[version == TLS1_3_VERSION]), *server = new_connection(at);
    join(client, server, &outcome);
    if (*session)
        CHECK_INT(SSL_set_session(client, *session), 1);
    converse(server, client, &outcome);
    CHECK(outcome.done && outcome.reason == 0, "a handshake failed: %s", outcome.error);
    part(client, server);
    SSL_free(client);
    SSL_free(server);
    SSL_SESSION_free(*session);
    *session = outcome.session;
    return outcome.resumed;
}

static void *visitor(void *number)
{
    const long self = (long)number;
    SSL_SESSION *sessions[CONTEXTS][2] = {{0}};
    for (unsigned i = (unsigned)self; !stop; i++) {
        int at = i % CONTEXTS, version = i / CONTEXTS % 2;
        resumptions[self] += handshake(&served[at], VERSIONS[version], &sessions[at][version]);
        __atomic_add_fetch(&handshakes[self], 1, __ATOMIC_RELAXED);
    }
    for (int i = 0; i < CONTEXTS * 2; i++)
        SSL_SESSION_free(sessions[i / 2][i % 2]);
    return NULL;
}

static tkt_config config_number(unsigned i)
{
    tkt_config cfg = config_of("upheaval");
    cfg.rotate_every = 1;
    cfg.lifetime = 3;
    cfg.label = i % 3 ? "one" : "another";
    cfg.renew = i % 5 ? TKT_RENEW_AUTO : TKT_RENEW_ALWAYS;
    return cfg;
}

static void change(unsigned i)
{
    struct served *at = &served[i % CONTEXTS];
    tkt_config cfg = config_number(i);
    switch (i / CONTEXTS % 8) {
    case 0:
    case 1:
    case 2: {
        X509 *cert = certificate(i / 7);
        pthread_rwlock_wrlock(&at->lock);
        CHECK_INT(SSL_CTX_use_certificate(at->ctx, cert), 1);
        pthread_rwlock_unlock(&at->lock);
        X509_free(cert);
        break;
    }
    case 3:
        pthread_rwlock_wrlock(&at->lock);
        SSL_CTX_set_verify(at->ctx, i % 2 ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
        pthread_rwlock_unlock(&at->lock);
        break;
    case 4:
        /* Under load, but not while the certificate is replaced. */
        pthread_rwlock_rdlock(&at->lock);
        for (int again = 0; again < 30; again++) {
            CHECK_RC(tkt_uninstall(at->ctx), TKT_OK);
            CHECK_RC(install(at->ctx, &cfg), TKT_OK);
        }
        pthread_rwlock_unlock(&at->lock);
        break;
    case 5:
        pthread_rwlock_rdlock(&at->lock);
        CHECK_RC(install(at->ctx, &cfg), TKT_OK);
        pthread_rwlock_unlock(&at->lock);
        break;
    case 6: {
        SSL_CTX *new = new_server();
        CHECK_RC(install(new, &cfg), TKT_OK);
        pthread_rwlock_wrlock(&at->lock);
        SSL_CTX *old = at->ctx;
        at->ctx = new;
        pthread_rwlock_unlock(&at->lock);
        SSL_CTX_free(old); /* its connections go on */
        break;
    }
    default:
        CHECK_RC(i % 2 ? tkt_rotate(at->ctx) : tkt_revoke(at->ctx), TKT_OK);
    }
}

static long sum(const long counts[])
{
    long all = 0;
    for (int i = 0; i < THREADS; i++)
        all += __atomic_load_n(&counts[i], __ATOMIC_RELAXED);
    return all;
}

int main(int argc, char **argv)
{
    const int seconds = argc > 1 ? atoi(argv[1]) : 0;
    alarm(seconds + LIMIT_SECONDS);
    make_certificates();
    pthread_once(&client_ctxs_once, make_client_ctxs);
    for (int i = 0; i < CONTEXTS; i++) {
        tkt_config cfg = config_number(i);
        pthread_rwlock_init(&served[i].lock, NULL);
        served[i].ctx = new_server();
        CHECK_RC(install(served[i].ctx, &cfg), TKT_OK);
    }
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, visitor, (void *)i), 0);
    const long long end = now_ms() + 1000LL * seconds;
    const long enough = rounds(3000, 300);
    unsigned changes = 0;
    for (; seconds ? now_ms() < end : sum(handshakes) < enough || changes <= 8 * CONTEXTS;
         changes++) {
        change(changes);
        sleep_ms(1);
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    printf("%u changes, %ld handshakes, %ld resumed\n", changes, sum(handshakes),
           sum(resumptions));
    CHECK(changes > 8 * CONTEXTS && sum(resumptions) > 0, "nothing happened");
    for (int i = 0; i < CONTEXTS; i++)
        SSL_CTX_free(served[i].ctx);
    for (int i = 0; i < CERTIFICATES; i++)
        OPENSSL_free(certificates[i]);
    for (int i = 0; i < 2; i++)
        SSL_CTX_free(client_ctxs[i]);
    free_certificate();
    return 0;
}
