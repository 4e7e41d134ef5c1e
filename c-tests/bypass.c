/*
 * A ticket never lets anybody further than a full handshake would. Every pair of
 * policies and of ways to set them, for who issued the ticket and for where it
 * is presented: on the context, on the connection, by a servername callback, by
 * a ClientHello callback; for a client without a certificate, and with one of
 * either CA. The ticket is issued by another context, or by another process.
 *
 *   bypass        linked, or under the shim if that is preloaded
 */

#define _GNU_SOURCE
#include "handshake.h"
#include <openssl/x509v3.h>

/* --- who may come in --- */

enum policy { NOBODY_ASKED, OPTIONAL, REQUIRED, REQUIRED_OF_OTHER_CA, POLICIES };
static const char *const POLICY_NAMES[] = {"none", "optional", "required", "other CA"};

enum way { ON_CONTEXT, ON_CONNECTION, BY_HELLO, BY_NAME, BY_NAME_FROM_STRICT, CONNECTION_THEN_NAME, WAYS };
static const char *const WAY_NAMES[] = {
    "on the context", "on the connection",      "by ClientHello callback",
    "by servername",  "by servername, from required", "on the connection, then servername",
};

enum client { ANONYMOUS, OF_CA, OF_OTHER_CA, CLIENTS };

struct place {
    enum policy policy;
    enum way way;
};

/* A listener, and the virtual host that its callbacks switch to. */
struct listener {
    struct place place;
    SSL_CTX *ctx, *vhost;
};

static int preloaded;
static EVP_PKEY *keys[CLIENTS];
static X509 *authorities[CLIENTS], *identities[CLIENTS];

static X509 *signed_by(EVP_PKEY *issuer_key, X509 *issuer, EVP_PKEY *key, const char *name)
{
    X509 *cert = X509_new();
    CHECK(cert, "no certificate can be made");
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 24 * 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer ? issuer : cert));
    if (!issuer) {
        X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");
        CHECK(ca && X509_add_ext(cert, ca, -1) == 1, "it is no CA's");
        X509_EXTENSION_free(ca);
    }
    CHECK(X509_sign(cert, issuer_key, EVP_sha256()) > 0, "it cannot be signed");
    return cert;
}

static EVP_PKEY *new_key(void)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *p256 = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    CHECK(p256 && EVP_PKEY_keygen_init(p256) == 1 &&
              EVP_PKEY_CTX_set_ec_paramgen_curve_nid(p256, NID_X9_62_prime256v1) == 1 &&
              EVP_PKEY_keygen(p256, &key) == 1,
          "no key can be made");
    EVP_PKEY_CTX_free(p256);
    return key;
}

static void make_identities(void)
{
    for (enum client of = OF_CA; of < CLIENTS; of++) {
        EVP_PKEY *ca = new_key();
        keys[of] = new_key();
        authorities[of] = signed_by(ca, NULL, ca, of == OF_CA ? "CA" : "other CA");
        identities[of] = signed_by(ca, authorities[of], keys[of], of == OF_CA ? "he" : "she");
        EVP_PKEY_free(ca);
    }
}

static void free_identities(void)
{
    for (enum client of = OF_CA; of < CLIENTS; of++) {
        EVP_PKEY_free(keys[of]);
        X509_free(authorities[of]);
        X509_free(identities[of]);
    }
}

/* --- places --- */

static int mode_of(enum policy policy)
{
    switch (policy) {
    case NOBODY_ASKED:
        return SSL_VERIFY_NONE;
    case OPTIONAL:
        return SSL_VERIFY_PEER;
    default:
        return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
}

static X509 *authority_of(enum policy policy)
{
    return authorities[policy == REQUIRED_OF_OTHER_CA ? OF_OTHER_CA : OF_CA];
}

static STACK_OF(X509_NAME) *names_of(enum policy policy)
{
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(authority_of(policy)));
    CHECK(names && name && sk_X509_NAME_push(names, name) > 0, "no names");
    return names;
}

static SSL_CTX *context_with(enum policy policy)
{
    SSL_CTX *ctx = new_server();
    SSL_CTX_set_verify(ctx, mode_of(policy), NULL);
    SSL_CTX_set_client_CA_list(ctx, names_of(policy));
    CHECK_INT(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authority_of(policy)), 1);
    return ctx;
}

/* As careful servers do: what SSL_set_SSL_CTX leaves as it was is set, too. */
static void switch_to_vhost(SSL *ssl)
{
    struct listener *at = SSL_get_app_data(ssl);
    CHECK(SSL_set_SSL_CTX(ssl, at->vhost) == at->vhost, "the context cannot be switched");
    if (at->place.way == CONNECTION_THEN_NAME)
        return;
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(at->vhost), NULL);
    SSL_set_client_CA_list(ssl, names_of(at->place.policy));
}

static int on_servername(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    switch_to_vhost(ssl);
    return SSL_TLSEXT_ERR_OK;
}

static void on_hello(SSL *ssl, const unsigned char *name, size_t len)
{
    (void)name, (void)len;
    switch_to_vhost(ssl);
}

/* What a listener has that is not what is to hold. */
static enum policy contrary(enum policy policy)
{
    return policy == NOBODY_ASKED ? REQUIRED : NOBODY_ASKED;
}

static enum policy at_first(struct place place)
{
    switch (place.way) {
    case BY_HELLO:
    case BY_NAME:
        return NOBODY_ASKED;
    case BY_NAME_FROM_STRICT:
        return REQUIRED;
    case ON_CONTEXT:
        return place.policy;
    default:
        return contrary(place.policy);
    }
}

static struct listener listen_at(struct place place, enum form form)
{
    struct listener at = {place, context_with(at_first(place)), context_with(place.policy)};
    switch (place.way) {
    case BY_HELLO:
        use_client_hello(at.ctx);
        break;
    case BY_NAME:
    case BY_NAME_FROM_STRICT:
    case CONNECTION_THEN_NAME:
        SSL_CTX_set_tlsext_servername_callback(at.ctx, on_servername);
        break;
    default:
        /* The connection's own names, and the context's authorities. */
        X509_STORE_add_cert(SSL_CTX_get_cert_store(at.ctx), authority_of(place.policy));
    }
    if (!preloaded) {
        tkt_config cfg = config_of("bypass");
        tkt_tls_api api = table_of(form);
        CHECK_RC(tkt_install_api(at.ctx, &cfg, &api), TKT_OK);
    }
    return at;
}

static void close_listener(struct listener *at)
{
    SSL_CTX_free(at->ctx);
    SSL_CTX_free(at->vhost);
}

/* --- handshakes --- */

struct visit {
    int done, resumed;
    enum client seen_as;
    long verified;
    SSL_SESSION *session;
};

static SSL *connection_at(struct listener *at)
{
    SSL *ssl = SSL_new(at->ctx);
    CHECK(ssl, "no connection can be made");
    SSL_set_app_data(ssl, at);
    if (at->place.way == ON_CONNECTION || at->place.way == CONNECTION_THEN_NAME) {
        SSL_set_verify(ssl, mode_of(at->place.policy), NULL);
        SSL_set_client_CA_list(ssl, names_of(at->place.policy));
    }
    return ssl;
}

static struct visit visit(struct listener *at, enum client as, int version, SSL_SESSION *ticket)
{
    struct outcome outcome = {0};
    pthread_once(&client_ctxs_once, make_client_ctxs);
    SSL *client = SSL_new(client_ctxs[version == TLS1_3_VERSION]), *server = connection_at(at);
    BIO *near, *far;
    CHECK(client && BIO_new_bio_pair(&near, 65536, &far, 65536) == 1, "no connection can be made");
    SSL_set_bio(client, near, near);
    SSL_set_bio(server, far, far);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    SSL_set_app_data(client, &outcome);
    CHECK_INT(SSL_set_tlsext_host_name(client, "a.test"), 1);
    if (as != ANONYMOUS) {
        CHECK_INT(SSL_use_certificate(client, identities[as]), 1);
        CHECK_INT(SSL_use_PrivateKey(client, keys[as]), 1);
    }
    SSL_SESSION *offered = ticket ? copy_of(ticket) : NULL;
    if (offered)
        CHECK_INT(SSL_set_session(client, offered), 1);
    converse(server, client, &outcome);

    struct visit visit = {outcome.done, outcome.resumed, ANONYMOUS, 0, outcome.session};
    X509 *peer = SSL_get_peer_certificate(server);
    if (visit.done && peer)
        visit.seen_as = X509_cmp(peer, identities[OF_CA]) == 0 ? OF_CA : OF_OTHER_CA;
    visit.verified = SSL_get_verify_result(server);
    X509_free(peer);
    SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_set_shutdown(server, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_SESSION_free(offered);
    SSL_free(client);
    SSL_free(server);
    return visit;
}

static struct visit full_handshake(struct listener *at, enum client as, int version)
{
    struct visit full = visit(at, as, version, NULL);
    CHECK_INT(full.resumed, 0);
    return full;
}

/* --- tickets of another context, or another process --- */

enum { PLACES = POLICIES * WAYS };

static struct place place_at(int which)
{
    return (struct place){which % POLICIES, which / POLICIES};
}

/* Twice: a linked library sees what a servername callback changed once a ticket is offered. */
static SSL_SESSION *ticket_of(struct place place, enum form form, enum client as, int version)
{
    struct listener at = listen_at(place, form);
    struct visit first = full_handshake(&at, as, version);
    struct visit again = {0};
    if (first.done && first.session) {
        again = visit(&at, as, version, first.session);
        CHECK(again.done, "who was let in is refused with the ticket");
    }
    if (again.session)
        SSL_SESSION_free(first.session);
    close_listener(&at);
    return again.session ? again.session : first.session;
}

typedef SSL_SESSION *tickets[PLACES][CLIENTS];

/* Under valgrind a few of each. */
static int step(void)
{
    return rounds(1, 7);
}

static void issue(tickets of, enum form form, int version)
{
    for (int at = 0; at < PLACES; at += step())
        for (enum client as = 0; as < CLIENTS; as++)
            of[at][as] = ticket_of(place_at(at), form, as, version);
}

static void write_all(int to, const void *bytes, size_t len)
{
    CHECK(write(to, bytes, len) == (ssize_t)len, "a pipe cannot be written");
}

static void read_all(int from, void *bytes, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t more = read(from, (char *)bytes + got, len - got);
        CHECK(more > 0, "a pipe ends early");
        got += (size_t)more;
    }
}

/* The process that issues has the ring before the other one has. */
static void issue_elsewhere(tickets of, enum form form, int version)
{
    int ends[2];
    CHECK_INT(pipe(ends), 0);
    pid_t child = fork();
    CHECK(child >= 0, "no process");
    if (child == 0) {
        issue(of, form, version);
        for (int at = 0; at < PLACES * CLIENTS; at++) {
            unsigned char *der = NULL;
            SSL_SESSION *session = of[at / CLIENTS][at % CLIENTS];
            int len = session ? i2d_SSL_SESSION(session, &der) : 0;
            write_all(ends[1], &len, sizeof len);
            if (session)
                write_all(ends[1], der, (size_t)len);
            OPENSSL_free(der);
        }
        _exit(0);
    }
    close(ends[1]);
    for (int at = 0; at < PLACES * CLIENTS; at++) {
        int len;
        unsigned char der[16384];
        const unsigned char *from = der;
        read_all(ends[0], &len, sizeof len);
        CHECK(len >= 0 && (size_t)len <= sizeof der, "a session of %d bytes", len);
        read_all(ends[0], der, (size_t)len);
        of[at / CLIENTS][at % CLIENTS] = len ? d2i_SSL_SESSION(NULL, &from, len) : NULL;
    }
    close(ends[0]);
    expect_success_within(60, child, NULL);
}

/* --- the matrix --- */

static long cells, resumptions, by_servername, known_already;

static int is_switched_by_name(enum way way)
{
    return way == BY_NAME || way == BY_NAME_FROM_STRICT;
}

/*
 * libssl takes a session before it calls the servername callback: where that
 * brings in another policy, nobody can know at that moment. Then a ticket is
 * good if it was issued under the same policy before any switch, for the same
 * name; what protects there is the server's own check afterwards.
 */
static int is_decided_too_late(struct place issued, struct place presented)
{
    if (!is_switched_by_name(presented.way))
        return 0;
    enum policy before = is_switched_by_name(issued.way) ? at_first(issued) : issued.policy;
    /* What is bound to less than the listener's asks for is bound to what held then. */
    if (is_switched_by_name(issued.way) && before != issued.policy && before != NOBODY_ASKED)
        before = issued.policy;
    return before == at_first(presented);
}

/*
 * Where nobody is asked, somebody may come with a session in which he has shown
 * his certificate: at a virtual host of a listener that asks nobody at first.
 * He is who he is seen as, and gets no further than without.
 */
static int has_shown_more(struct place issued, struct place presented, enum client as,
                          const struct visit *seen)
{
    return presented.policy == NOBODY_ASKED && is_switched_by_name(issued.way) &&
           at_first(issued) == NOBODY_ASKED && seen->seen_as == as && seen->verified == X509_V_OK;
}

/* The same place, and a client that may come in there, resumes. */
static int has_to_resume(struct place place)
{
    int changes = is_switched_by_name(place.way) && place.policy != at_first(place);
    /* The listener asks for a certificate that the virtual host does not want, or of another
     * CA: whoever has shown less may not be taken for one who has shown that. */
    return !changes || at_first(place) == NOBODY_ASKED;
}

static void present(int a, int b, enum client as, struct listener *at, int version,
                    SSL_SESSION *ticket)
{
    struct place issued = place_at(a), presented = place_at(b);
    struct visit full = full_handshake(at, as, version);
    struct visit seen = visit(at, as, version, ticket);
    cells++;
    resumptions += seen.resumed;
    int same = seen.done == full.done && seen.seen_as == full.seen_as &&
               (!seen.done || seen.verified == full.verified);
    int excused = seen.resumed && is_decided_too_late(issued, presented);
    by_servername += !same && excused;
    int more = seen.resumed && !excused && has_shown_more(issued, presented, as, &seen);
    known_already += !same && more;
    CHECK(same || excused || more,
          "TLS 0x%04x, client %d, ticket of \"%s\" %s, at \"%s\" %s: done %d, resumed %d, seen as %d, "
          "verified %ld; a full handshake: %d, %d, %ld",
          version, as, POLICY_NAMES[issued.policy], WAY_NAMES[issued.way],
          POLICY_NAMES[presented.policy], WAY_NAMES[presented.way], seen.done, seen.resumed,
          seen.seen_as, seen.verified, full.done, full.seen_as, full.verified);
    if (a == b && full.done && has_to_resume(presented))
        CHECK(seen.resumed, "TLS 0x%04x, client %d, \"%s\" %s: its own ticket is not resumed", version,
              as, POLICY_NAMES[issued.policy], WAY_NAMES[issued.way]);
    SSL_SESSION_free(full.session);
    SSL_SESSION_free(seen.session);
}

static void matrix(enum form form, int version, int elsewhere)
{
    tickets of = {0};
    (elsewhere ? issue_elsewhere : issue)(of, form, version);
    for (int b = 0; b < PLACES; b += step()) {
        struct listener at = listen_at(place_at(b), form);
        for (int a = 0; a < PLACES; a += step())
            for (enum client as = 0; as < CLIENTS; as++)
                if (of[a][as])
                    present(a, b, as, &at, version, of[a][as]);
        close_listener(&at);
    }
    for (int at = 0; at < PLACES * CLIENTS; at++)
        SSL_SESSION_free(of[at / CLIENTS][at % CLIENTS]);
}

int main(int argc, char **argv)
{
    const char *preload = getenv("LD_PRELOAD"); /* valgrind uses it, too */
    (void)argc;
    alarm(LIMIT_SECONDS);
    preloaded = preload && strstr(preload, "tktrot_preload");
    on_client_hello = on_hello;
    make_identities();
    for (int elsewhere = 0; elsewhere < rounds(2, 1); elsewhere++)
        FOR_EACH_VERSION(version)
            for (enum form form = 0; form < FORMS; form++)
                if (uses_form(form, argv) && (!preloaded || form == DEFAULT_FORM))
                    matrix(form, version, elsewhere);
    printf("%ld cells, %ld resumed; otherwise than a full handshake: %ld where only the servername "
           "callback brings the policy, %ld who had shown a certificate where none is asked for\n",
           cells, resumptions, by_servername, known_already);
    CHECK(resumptions > cells / 20, "hardly anything resumes");
    free_identities();
    free_certificate();
    return 0;
}
