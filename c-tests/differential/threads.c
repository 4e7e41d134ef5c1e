/* Threads: their stacks, their end, and many of them at once. */

#include "differential.h"

#include <sys/mman.h>

enum { CROWD = 4 };

static SSL_CTX *shared, *client;
static int results[3];
static int each;

static void *serve(void *arg)
{
    (void)arg;
    for (int i = 0; i < each; i++) {
        SSL_SESSION *session = NULL;
        __atomic_fetch_add(&results[quick(shared, client, NULL, "a.test", &session)], 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&results[quick(shared, client, session, "a.test", NULL)], 1, __ATOMIC_RELAXED);
        SSL_SESSION_free(session);
    }
    return NULL;
}

static void say_results(const char *key)
{
    say(key, "failed %d, full %d, resumed %d", results[0], results[1], results[2]);
    memset(results, 0, sizeof results);
}

static void crowd(int version)
{
    pthread_t threads[CROWD];
    shared = new_quiet_server(version);
    client = new_client(version);
    each = 40;
    for (int i = 0; i < CROWD; i++)
        NEED(pthread_create(&threads[i], NULL, serve, NULL) == 0);
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    say_results("connections");
}

/* A thread with as little room as daemons give it; what lies below is out of bounds. */
static void small_stack(int version)
{
    enum { SIZE = 64 * 1024 };
    pthread_attr_t attributes;
    pthread_t thread;
    shared = new_quiet_server(version);
    client = new_client(version);
    each = 2;
    pthread_attr_init(&attributes);
    NEED(pthread_attr_setstacksize(&attributes, SIZE) == 0);
    NEED(pthread_create(&thread, &attributes, serve, NULL) == 0);
    pthread_join(thread, NULL);
    say_results("connections");
}

static void *make_context(void *arg)
{
    int version = *(int *)arg;
    shared = new_quiet_server(version);
    serve(NULL);
    return NULL;
}

/* The first context of the process on such a thread. */
static void small_stack_first(int version)
{
    pthread_attr_t attributes;
    pthread_t thread;
    certificate(ECDSA_CERT);
    client = new_client(version);
    each = 2;
    pthread_attr_init(&attributes);
    NEED(pthread_attr_setstacksize(&attributes, 64 * 1024) == 0);
    NEED(pthread_create(&thread, &attributes, make_context, &version) == 0);
    pthread_join(thread, NULL);
    say_results("connections");
}

/* --- pthread_cancel, pending --- */

static struct {
    const char *name;
    int version;
    int made;    /* the call came to something */
    int went_on; /* the thread went on behind it */
    struct text trace;
} cancelled;

enum { IN_CTX_NEW, IN_SSL_NEW, IN_HANDSHAKE, IN_RESUMPTION, IN_FREE, IN_KEYS, STEPS };

static int step;
static SSL_SESSION *offered;

static void *cancel(void *arg)
{
    unsigned char keys[80] = {1};
    SSL_CTX *ctx = NULL;
    SSL *ssl = NULL;
    (void)arg;
    /* libssl has done here what it does once per thread. */
    quick(shared, client, NULL, "a.test", NULL);
    if (step != IN_CTX_NEW)
        ctx = new_quiet_server(cancelled.version);
    pthread_cancel(pthread_self());
    enter(1);
    switch (step) {
    case IN_CTX_NEW:
        ctx = SSL_CTX_new(TLS_server_method());
        cancelled.made = ctx != NULL;
        break;
    case IN_SSL_NEW:
        ssl = SSL_new(ctx);
        cancelled.made = ssl != NULL;
        break;
    case IN_HANDSHAKE:
        cancelled.made = quick(ctx, client, NULL, "a.test", NULL);
        break;
    case IN_RESUMPTION:
        cancelled.made = quick(shared, client, offered, "a.test", NULL);
        break;
    case IN_FREE:
        SSL_CTX_free(ctx);
        cancelled.made = 1;
        break;
    case IN_KEYS:
        cancelled.made = (int)SSL_CTX_set_tlsext_ticket_keys(ctx, keys, 80);
        break;
    }
    if (step == IN_CTX_NEW || step == IN_SSL_NEW)
        left(&cancelled.trace);
    cancelled.went_on = 1;
    pthread_testcancel();
    return NULL;
}

static void try_cancelling(int version, int first_context)
{
    static const char *const STEP_NAMES[] = {"SSL_CTX_new", "SSL_new",      "a handshake",
                                             "a resumption", "SSL_CTX_free", "own keys"};
    client = new_client(version);
    if (!first_context)
        certificate(ECDSA_CERT);
    shared = new_quiet_server(version);
    NEED(quick(shared, client, NULL, "a.test", &offered) == 1);
    for (step = 0; step < STEPS; step++) {
        pthread_t thread;
        void *end;
        memset(&cancelled, 0, sizeof cancelled);
        cancelled.version = version;
        NEED(pthread_create(&thread, NULL, cancel, NULL) == 0);
        pthread_join(thread, &end);
        say(STEP_NAMES[step], "came to %d, %s, then %s%s", cancelled.made,
            cancelled.went_on ? "went on" : "did not come back",
            end == PTHREAD_CANCELED ? "canceled" : "not canceled", cancelled.trace.bytes);
    }
}

static void cancelled_within(int version)
{
    try_cancelling(version, 0);
}

/* The first context of a process is where files are opened. */
static void *cancel_first(void *arg)
{
    (void)arg;
    OPENSSL_init_ssl(0, NULL);
    unsigned char byte;
    RAND_bytes(&byte, 1);
    pthread_cancel(pthread_self());
    cancelled.made = SSL_CTX_new(TLS_server_method()) != NULL;
    cancelled.went_on = 1;
    pthread_testcancel();
    return NULL;
}

static void cancelled_in_first_context(int version)
{
    pthread_t thread;
    void *end;
    /* What libcrypto does once is not ours to see. */
    OPENSSL_init_ssl(0, NULL);
    SSL_CTX_free(SSL_CTX_new(TLS_client_method()));
    NEED(pthread_create(&thread, NULL, cancel_first, NULL) == 0);
    pthread_join(thread, &end);
    say("SSL_CTX_new", "came to %d, %s, then %s", cancelled.made,
        cancelled.went_on ? "went on" : "did not come back",
        end == PTHREAD_CANCELED ? "canceled" : "not canceled");
    shared = new_quiet_server(version);
    client = new_client(version);
    say("a connection after that", "%s", outcome_name(quick(shared, client, NULL, "a.test", NULL)));
}

/* Cancellation disabled by the application stays so, and what is pending stays pending. */
static void *disabled(void *arg)
{
    int state, type;
    (void)arg;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    pthread_cancel(pthread_self());
    SSL_CTX *ctx = new_quiet_server(TLS1_3_VERSION);
    cancelled.made = quick(ctx, client, NULL, "a.test", NULL);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    add(&cancelled.trace, "%s, %s", state == PTHREAD_CANCEL_DISABLE ? "disabled" : "enabled",
        type == PTHREAD_CANCEL_ASYNCHRONOUS ? "asynchronous" : "deferred");
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    pthread_testcancel();
    return NULL;
}

static void cancellation_disabled(int version)
{
    pthread_t thread;
    void *end;
    client = new_client(version);
    certificate(ECDSA_CERT);
    NEED(pthread_create(&thread, NULL, disabled, NULL) == 0);
    pthread_join(thread, &end);
    say("cancellation", "%s; %s; then %s", cancelled.trace.bytes, outcome_name(cancelled.made),
        end == PTHREAD_CANCELED ? "canceled" : "not canceled");
}

/* --- what a lock of the application's protects --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int stop;

static void *serve_locked(void *arg)
{
    (void)arg;
    for (int i = 0; i < each; i++) {
        struct connection *conn = malloc(sizeof *conn);
        conn->loud = 0;
        SSL *one = SSL_new(client);
        pthread_mutex_lock(&lock);
        SSL *two = SSL_new(shared);
        pthread_mutex_unlock(&lock);
        begin_with(conn, NULL, two, one, NULL, "a.test");
        shake(conn);
        int done = conn->server_is == SSL_ERROR_NONE && conn->client_is == SSL_ERROR_NONE;
        __atomic_fetch_add(&results[done], 1, __ATOMIC_RELAXED);
        SSL_SESSION_free(finish(conn));
        free(conn);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void *poison(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    size_t *block = malloc(size + 16);
    if (!block)
        return NULL;
    *block = size;
    return (char *)block + 16;
}

static void bury(void *pointer, const char *file, int line)
{
    (void)file, (void)line;
    if (!pointer)
        return;
    size_t *block = (size_t *)((char *)pointer - 16);
    memset(pointer, 0xa5, *block);
    free(block);
}

static void *again(void *pointer, size_t size, const char *file, int line)
{
    void *other = poison(size, file, line);
    if (pointer && other) {
        size_t before = *(size_t *)((char *)pointer - 16);
        memcpy(other, pointer, before < size ? before : size);
        bury(pointer, file, line);
    }
    return other;
}

/*
 * The application takes its lock for SSL_new and for a new certificate, and not for
 * handshakes. Memory that was freed is overwritten: who reads it does not get far.
 */
static void replaced_under_lock(int version)
{
    pthread_t threads[CROWD];
    unsigned char *der = NULL;
    NEED(CRYPTO_set_mem_functions(poison, again, bury) == 1);
    X509 *cert = another_certificate(ECDSA_CERT, 7);
    int len = i2d_X509(cert, &der);
    shared = new_quiet_server(version);
    client = new_client(version);
    ready(shared);
    each = rounds(2000, 500);
    for (int i = 0; i < CROWD; i++)
        NEED(pthread_create(&threads[i], NULL, serve_locked, NULL) == 0);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        const unsigned char *read = der;
        X509 *fresh = d2i_X509(NULL, &read, len);
        pthread_mutex_lock(&lock);
        SSL_CTX_use_certificate(shared, fresh);
        pthread_mutex_unlock(&lock);
        X509_free(fresh);
    }
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    say("failed", "%d", results[0]);
}

/* Contexts that come and go while others serve; where we are linked, also installed and uninstalled. */
static void *turn_over(void *arg)
{
    int version = *(int *)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        SSL_CTX *ctx = new_quiet_server(version);
        if (quick(ctx, client, NULL, "a.test", NULL) == 0)
            __atomic_fetch_add(&results[0], 1, __ATOMIC_RELAXED);
        SSL_CTX_free(ctx);
#ifdef LINKED
        if (tkt_install(shared, NULL) != TKT_OK || tkt_uninstall(shared) != TKT_OK)
            __atomic_fetch_add(&results[2], 1, __ATOMIC_RELAXED);
#endif
    }
    return NULL;
}

static void turnover(int version)
{
    pthread_t threads[CROWD], other;
    shared = new_quiet_server(version);
    client = new_client(version);
    ready(shared);
    each = rounds(1500, 400);
    NEED(pthread_create(&other, NULL, turn_over, &version) == 0);
    for (int i = 0; i < CROWD; i++)
        NEED(pthread_create(&threads[i], NULL, serve_locked, NULL) == 0);
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    pthread_join(other, NULL);
    say("failed", "%d, not installed %d", results[0], results[2]);
}

const struct scenario THREADS[] = {
    IN_BOTH(crowd),
    IN_BOTH(small_stack),
    IN_BOTH(small_stack_first),
    IN_BOTH(cancelled_within),
    IN_13(cancelled_in_first_context),
    ANY(cancellation_disabled),
    IN_BOTH(replaced_under_lock),
    IN_BOTH(turnover),
    {0},
};
