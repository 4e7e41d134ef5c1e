/* Memory after very many of the same. */

#include "differential.h"

#include <malloc.h>

enum { MANY = 10000, FEW = 800, NOISE = 256 * 1024 };

/* In use on the heap; what was mapped beside it shows in the other. */
static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static size_t resident_pages(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    NEED(file && fscanf(file, "%*u %zu", &pages) == 1);
    fclose(file);
    return pages;
}

/* C_TESTS_ROUNDS asks for another number of rounds, and for the figures, which differ from run to run. */
static int asked_for(void)
{
    const char *text = getenv("C_TESTS_ROUNDS");
    return text ? atoi(text) : 0;
}

/* The first rounds fill what is kept for good; malloc keeps a little for itself, now here, now there. */
static void repeat(int version, void (*round)(int version, int number))
{
    int asked = asked_for(), all = asked > 0 ? asked : rounds(MANY, FEW), first = all / 5;
    size_t heap_before = 0, resident_before = 0;
    int descriptors = 0;
    for (int i = 0; i < first; i++)
        round(version, i);
    heap_before = heap();
    resident_before = resident_pages();
    descriptors = count_descriptors();
    for (int i = first; i < all; i++)
        round(version, i);
    size_t heap_after = heap(), resident_after = resident_pages();
    int descriptors_after = count_descriptors();
    long heap_grown = (long)(heap_after - heap_before), pages = (long)(resident_after - resident_before);
    if (asked > 0)
        say("figures", "rounds %d to %d, heap %zu to %zu bytes, resident %zu to %zu pages, descriptors %d to %d",
            first, all, heap_before, heap_after, resident_before, resident_after, descriptors,
            descriptors_after);
    say("heap", "%s", heap_grown > NOISE ? "grows" : "flat");
    say("resident memory", "%s", pages > 2048 ? "grows" : "flat");
    say("descriptors", "%+d", descriptors_after - descriptors);
}

static SSL_CTX *server, *client;
static SSL_SESSION *session;

static void set_up(int version)
{
    server = new_quiet_server(version);
    client = new_client(version);
    NEED(quick(server, client, NULL, "a.test", &session) == 1);
}

static void full_round(int version, int number)
{
    (void)version, (void)number;
    NEED(quick(server, client, NULL, "a.test", NULL) == 1);
}

static void memory_full(int version)
{
    set_up(version);
    repeat(version, full_round);
}

static void resumed_round(int version, int number)
{
    (void)version, (void)number;
    NEED(quick(server, client, session, "a.test", NULL) == 2);
}

static void memory_resumed(int version)
{
    set_up(version);
    repeat(version, resumed_round);
}

static void names_round(int version, int number)
{
    char name[32];
    (void)version;
    snprintf(name, sizeof name, "host%d.test", number);
    quick(server, client, number % 2 ? session : NULL, name, NULL);
}

static void memory_names(int version)
{
    set_up(version);
    repeat(version, names_round);
}

/* A context for each connection. */
static void context_round(int version, int number)
{
    (void)number;
    SSL_CTX *ctx = new_quiet_server(version);
    quick(ctx, client, session, "a.test", NULL);
    SSL_CTX_free(ctx);
}

static void memory_contexts(int version)
{
    set_up(version);
    repeat(version, context_round);
}

static void unused_context_round(int version, int number)
{
    (void)number;
    SSL_CTX_free(SSL_CTX_new(TLS_server_method()));
    SSL_CTX *ctx = new_quiet_server(version);
    ready(ctx);
    SSL_CTX_free(ctx);
}

static void memory_unused_contexts(int version)
{
    set_up(version);
    repeat(version, unused_context_round);
}

/* The policy alternates: which clients are known, and whether they are asked. */
static void policy_round(int version, int number)
{
    (void)version;
    SSL_CTX_set_verify(server, number % 2 ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_verify_depth(server, number % 7);
    quick(server, client, NULL, "a.test", NULL);
}

static void memory_policies(int version)
{
    set_up(version);
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    for (int i = 0; i < 100; i++) {
        char text[20];
        X509_NAME *name = X509_NAME_new();
        snprintf(text, sizeof text, "CA %d", i);
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)text, -1, -1, 0);
        sk_X509_NAME_push(names, name);
    }
    SSL_CTX_set_client_CA_list(server, names);
    repeat(version, policy_round);
}

/* The certificate is another one each time. */
static void certificate_round(int version, int number)
{
    static unsigned char *der;
    static int len;
    (void)version, (void)number;
    if (!der)
        len = i2d_X509(certificate(ECDSA_CERT), &der);
    const unsigned char *read = der;
    X509 *fresh = d2i_X509(NULL, &read, len);
    NEED(SSL_CTX_use_certificate(server, fresh) == 1);
    X509_free(fresh);
    quick(server, client, session, "a.test", NULL);
}

static void memory_certificates(int version)
{
    set_up(version);
    repeat(version, certificate_round);
}

/* One SSL for all connections. */
static SSL *only;

static void cleared_round(int version, int number)
{
    struct connection *conn = malloc(sizeof *conn);
    (void)version;
    conn->loud = 0;
    NEED(SSL_clear(only) == 1);
    begin_with(conn, NULL, only, SSL_new(client), number % 2 ? session : NULL, "a.test");
    shake(conn);
    SSL_SESSION_free(finish_but_keep(conn));
    SSL_free(conn->client);
    free(conn);
}

static void memory_cleared(int version)
{
    set_up(version);
    only = SSL_new(server);
    repeat(version, cleared_round);
}

static void duplicated_round(int version, int number)
{
    (void)version, (void)number;
    SSL *copy = SSL_dup(only);
    SSL_free(copy);
}

static void memory_duplicated(int version)
{
    set_up(version);
    only = SSL_new(server);
    SSL_set_accept_state(only);
    repeat(version, duplicated_round);
}

static void *thread(void *arg)
{
    (void)arg;
    quick(server, client, session, "a.test", NULL);
    return NULL;
}

static void thread_round(int version, int number)
{
    pthread_t one;
    (void)version, (void)number;
    NEED(pthread_create(&one, NULL, thread, NULL) == 0);
    pthread_join(one, NULL);
}

static void memory_threads(int version)
{
    set_up(version);
    repeat(version, thread_round);
}

/* Installed anew each time, where we are linked. */
static void installed_round(int version, int number)
{
    (void)version, (void)number;
#ifdef LINKED
    NEED(tkt_install(server, NULL) == TKT_OK);
    quick(server, client, session, "a.test", NULL);
    NEED(tkt_uninstall(server) == TKT_OK);
#else
    quick(server, client, session, "a.test", NULL);
#endif
}

static void memory_installed(int version)
{
    set_up(version);
    repeat(version, installed_round);
}

static void refused_round(int version, int number)
{
    struct connection *conn = malloc(sizeof *conn);
    (void)version;
    begin(conn, NULL, server, client, number % 2 ? session : NULL, "a.test");
    step_client(conn);
    step_server(conn);
    SSL_SESSION_free(finish(conn));
    free(conn);
}

/* Handshakes that end in the midst. */
static void memory_abandoned(int version)
{
    set_up(version);
    repeat(version, refused_round);
}

const struct scenario MEMORY[] = {
    IN_BOTH(memory_full),
    IN_BOTH(memory_resumed),
    IN_12(memory_names),
    IN_12(memory_contexts),
    IN_13(memory_unused_contexts),
    IN_12(memory_policies),
    IN_13(memory_certificates),
    IN_12(memory_cleared),
    IN_12(memory_duplicated),
    IN_12(memory_threads),
    IN_12(memory_installed),
    IN_BOTH(memory_abandoned),
    {0},
};
