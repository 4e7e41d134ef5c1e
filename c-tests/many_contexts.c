/*
 * Ten thousand certificates behind three listeners: a place of the pool is for
 * a context that connections are made of, not for one that they are switched
 * to. Then listeners fill it up, and those beyond share places.
 *
 * Under the shim (LD_PRELOAD), no function of the library is called here.
 */

#define _GNU_SOURCE
#include "handshake.h"

enum { LISTENERS = 3, MANY = 1200, HOSTS = 10000, STEP = 97 };

static SSL_CTX *hosts[HOSTS], *listeners[MANY];
static int host_count, switches, preloaded;

static int on_servername(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    int host = name ? atoi(name + 1) : -1;
    if (host < 0 || host >= host_count)
        return SSL_TLSEXT_ERR_NOACK;
    CHECK(SSL_set_SSL_CTX(ssl, hosts[host]) == hosts[host], "no switch to host %d", host);
    switches++;
    return SSL_TLSEXT_ERR_OK;
}

/* A context for one host: the key is shared, the certificate is not. */
static SSL_CTX *host_with(int serial)
{
    X509 *cert = X509_dup(test_cert);
    CHECK(cert, "no certificate can be made");
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 2 + serial);
    CHECK(X509_sign(cert, test_key, EVP_sha256()) > 0, "it cannot be signed");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    CHECK_INT(SSL_CTX_use_certificate(ctx, cert), 1);
    CHECK_INT(SSL_CTX_use_PrivateKey(ctx, test_key), 1);
    X509_free(cert);
    return ctx;
}

/* What tkt_install() does for one server, the shim does for another at its first SSL_new. */
static void serve(SSL_CTX *ctx)
{
    if (preloaded) {
        SSL *ssl = SSL_new(ctx);
        CHECK(ssl, "no SSL can be made");
        SSL_free(ssl);
    } else {
        tkt_config cfg = config_of("many");
        CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    }
}

static struct outcome to_host(int listener, int version, int host, SSL_SESSION *session)
{
    char name[32];
    snprintf(name, sizeof name, "h%d.test", host);
    int before = switches;
    struct outcome outcome = connect_to_host(listeners[listener], version, name, session);
    CHECK_DONE(outcome);
    CHECK_INT(switches, before + 1);
    return outcome;
}

/* Every host's ticket resumes at each of the listeners, for this host and for no other. */
static void samples(void)
{
    int handshakes = 0;
    for (int host = 0, turn = 0; host < host_count; host += STEP, turn++) {
        int version = VERSIONS[turn % 2], listener = turn % LISTENERS;
        struct outcome full = to_host(listener, version, host, NULL);
        struct outcome again = to_host((listener + 1) % LISTENERS, version, host, full.session);
        struct outcome other = to_host(listener, version, (host + 1) % host_count, full.session);
        CHECK(!full.resumed && again.resumed && !other.resumed, "host %d: %d %d %d", host,
              full.resumed, again.resumed, other.resumed);
        handshakes += 3;
        forget(&full);
        forget(&again);
        forget(&other);
    }
    printf("%d hosts, %d handshakes, %d switches\n", host_count, handshakes, switches);
}

/* More listeners than the pool has places: each has the ring's keys. */
static void fill_up(void)
{
    for (int i = LISTENERS; i < MANY; i++) {
        int speaks = i == MANY - 1 || i == MANY - 2;
        listeners[i] = speaks ? new_server() : SSL_CTX_new(TLS_server_method());
        CHECK(listeners[i], "no SSL_CTX can be made");
        serve(listeners[i]);
    }
    FOR_EACH_VERSION(version)
    {
        struct outcome first = CONNECT(listeners[0], version, NULL, 0);
        struct outcome last = CONNECT(listeners[MANY - 1], version, first.session, 1);
        struct outcome own = CONNECT(listeners[MANY - 1], version, NULL, 0);
        CHECK_INT(resumes(listeners[MANY - 2], version, own.session), 1);
        CHECK_INT(resumes(listeners[0], version, own.session), 1);
        forget(&first);
        forget(&last);
        forget(&own);
    }
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    const char *preload = getenv("LD_PRELOAD"); /* valgrind uses it, too */
    preloaded = preload && strstr(preload, "tktrot_preload");
    host_count = rounds(HOSTS, 200);
    make_certificate();
    for (int i = 0; i < host_count; i++)
        hosts[i] = host_with(i);
    for (int i = 0; i < LISTENERS; i++) {
        listeners[i] = new_server();
        SSL_CTX_set_tlsext_servername_callback(listeners[i], on_servername);
        serve(listeners[i]);
    }
    samples();
    fill_up();
    for (int i = 0; i < MANY; i++)
        SSL_CTX_free(listeners[i]);
    for (int i = 0; i < host_count; i++)
        SSL_CTX_free(hosts[i]);
    free_certificate();
    return 0;
}
