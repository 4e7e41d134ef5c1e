/*
 * A ticket never lets anybody further than a full handshake would. Every pair of
 * policies and of ways to set them, for who issued the ticket and for where it
 * is presented: on the context, on the connection, by a ClientHello callback, by
 * a servername callback, and under the shim by a certificate callback; and some
 * of all their combinations, drawn anew each time. For a client without a certificate, and with one of either CA. The
 * ticket is issued by another context, or by another process.
 *
 *   bypass [evp|hmac]     linked, or under the shim if that is preloaded
 *
 * BYPASS_SEED in the environment repeats a run.
 */

#define _GNU_SOURCE
#include "handshake.h"
#include <openssl/x509v3.h>

/* --- who may come in --- */

enum policy { NOBODY_ASKED, OPTIONAL, REQUIRED, REQUIRED_OF_OTHER_CA, POLICIES };
static const char *const POLICY_NAMES[] = {"none", "optional", "required", "other CA"};

enum { NOT_SET = -1 };

enum client { ANONYMOUS, OF_CA, OF_OTHER_CA, CLIENTS };

/* Who sets which policy, in the order of a connection's life; NOT_SET, or an enum policy. */
struct place {
    int on_context, on_connection, by_hello, by_name;
    int keeps_policy; /* the servername callback switches the context, and sets no policy */
    int by_certificate;
};

/* A listener, and the contexts that its callbacks switch to. */
struct listener {
    struct place place;
    SSL_CTX *ctx, *of_hello, *of_name;
};

static int preloaded;
/* Whether there are certificate callbacks: then the shim keeps the policy of each server name. */
static int with_certificate_callbacks;
/* They are set on each connection. */
static int on_each_connection;
static EVP_PKEY *keys[CLIENTS];
static X509 *authorities[CLIENTS], *identities[CLIENTS];

/* By itself if nobody else issues it. */
static X509 *signed_by(EVP_PKEY *issuer_key, X509 *issuer, EVP_PKEY *key, const char *name)
{
    X509 *cert = new_certificate(key, 7, name);
    if (issuer) {
        X509_set_issuer_name(cert, X509_get_subject_name(issuer));
    } else {
        BASIC_CONSTRAINTS *ca = BASIC_CONSTRAINTS_new();
        CHECK(ca, "no extension can be made");
        ca->ca = 0xff;
        CHECK_INT(X509_add1_ext_i2d(cert, NID_basic_constraints, ca, 0, 0), 1);
        BASIC_CONSTRAINTS_free(ca);
    }
    CHECK(X509_sign(cert, issuer_key, EVP_sha256()) > 0, "it cannot be signed");
    return cert;
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

static SSL_CTX *context_with(enum policy policy, enum policy trusted)
{
    SSL_CTX *ctx = new_server();
    SSL_CTX_set_verify(ctx, mode_of(policy), NULL);
    SSL_CTX_set_client_CA_list(ctx, names_of(policy));
    CHECK_INT(X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), authority_of(trusted)), 1);
    return ctx;
}

/* What holds when libssl would take a session. */
static enum policy before(struct place place)
{
    int at_first = place.on_connection != NOT_SET ? place.on_connection : place.on_context;
    return place.by_hello != NOT_SET ? place.by_hello : at_first;
}

static enum policy at_last(struct place place)
{
    if (place.by_certificate != NOT_SET)
        return place.by_certificate;
    return place.by_name == NOT_SET || place.keeps_policy ? before(place)
                                                          : (enum policy)place.by_name;
}

static const char *described(struct place place)
{
    static char texts[2][200];
    static int which;
    const int set[] = {place.on_context, place.on_connection, place.by_hello, place.by_name,
                       place.by_certificate};
    static const char *const WHERE[] = {"on the context", "on the connection", "by ClientHello",
                                        "by servername", "by certificate callback"};
    char *text = texts[which++ % 2];
    *text = '\0';
    for (int i = 0; i < 5; i++)
        if (set[i] != NOT_SET)
            sprintf(text + strlen(text), "%s\"%s\" %s", i ? ", " : "", POLICY_NAMES[set[i]], WHERE[i]);
    return strcat(text, place.keeps_policy ? " (context only)" : "");
}

/* As careful servers do: what SSL_set_SSL_CTX leaves as it was is set, too. */
static void switch_to(SSL *ssl, SSL_CTX *ctx, enum policy policy, int keeps_policy)
{
    CHECK(SSL_set_SSL_CTX(ssl, ctx) == ctx, "the context cannot be switched");
    if (keeps_policy)
        return;
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(ctx), NULL);
    SSL_set_client_CA_list(ssl, names_of(policy));
}

static int on_servername(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    struct listener *at = SSL_get_app_data(ssl);
    switch_to(ssl, at->of_name, at_last(at->place), at->place.keeps_policy);
    return SSL_TLSEXT_ERR_OK;
}

/* Called in full handshakes only. */
static int on_certificate(SSL *ssl, void *arg)
{
    struct listener *at = SSL_get_app_data(ssl);
    (void)arg;
    SSL_set_verify(ssl, mode_of(at->place.by_certificate), NULL);
    SSL_set_client_CA_list(ssl, names_of(at->place.by_certificate));
    return 1;
}

static void on_hello(SSL *ssl, const unsigned char *name, size_t len)
{
    (void)name, (void)len;
    struct listener *at = SSL_get_app_data(ssl);
    switch_to(ssl, at->of_hello, at->place.by_hello, 0);
}

static struct listener listen_at(struct place place, enum form form)
{
    /* What is set on the connection has names of its own, and the context's authorities. */
    int trusted = place.on_connection != NOT_SET ? place.on_connection : place.on_context;
    if (place.by_certificate != NOT_SET)
        trusted = place.by_certificate;
    struct listener at = {place, context_with(place.on_context, trusted), NULL, NULL};
    if (place.by_hello != NOT_SET) {
        at.of_hello = context_with(place.by_hello, place.by_certificate == NOT_SET
                                                       ? place.by_hello
                                                       : place.by_certificate);
        use_client_hello(at.ctx);
    }
    if (place.by_name != NOT_SET) {
        at.of_name = context_with(at_last(place), at_last(place));
        SSL_CTX_set_tlsext_servername_callback(at.ctx, on_servername);
    }
    SSL_CTX *const all[] = {at.ctx, at.of_hello, at.of_name};
    for (int i = 0; i < 3; i++)
        if (all[i] && place.by_certificate != NOT_SET && !on_each_connection)
            use_cert_cb(all[i], on_certificate);
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
    SSL_CTX_free(at->of_hello);
    SSL_CTX_free(at->of_name);
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
    if (at->place.on_connection != NOT_SET) {
        SSL_set_verify(ssl, mode_of(at->place.on_connection), NULL);
        SSL_set_client_CA_list(ssl, names_of(at->place.on_connection));
    }
    if (at->place.by_certificate != NOT_SET && on_each_connection)
        use_cert_cb_of(ssl, on_certificate);
    return ssl;
}

static struct visit visit(struct listener *at, enum client as, int version, SSL_SESSION *ticket)
{
    struct outcome outcome = {0};
    pthread_once(&client_ctxs_once, make_client_ctxs);
    SSL *client = SSL_new(client_ctxs[version == TLS1_3_VERSION]), *server = connection_at(at);
    join(client, server, &outcome);
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
#if HAS_EVP
    X509 *peer = SSL_get1_peer_certificate(server);
#else
    X509 *peer = SSL_get_peer_certificate(server);
#endif
    if (visit.done && peer)
        visit.seen_as = X509_cmp(peer, identities[OF_CA]) == 0 ? OF_CA : OF_OTHER_CA;
    visit.verified = SSL_get_verify_result(server);
    X509_free(peer);
    part(client, server);
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

enum { WAYS = 6, NAMED = POLICIES * WAYS, DRAWN = 8, PLACES = NAMED + DRAWN };
static struct place places[PLACES];

/* What a listener has that is not what is to hold. */
static enum policy contrary(enum policy policy)
{
    return policy == NOBODY_ASKED ? REQUIRED : NOBODY_ASKED;
}

static int drawn_or_not(void)
{
    return rand() % 2 ? rand() % POLICIES : NOT_SET;
}

/* By a ClientHello callback, where the TLS library has one. */
static int by_hello(int policy)
{
    return HAS_CLIENT_HELLO ? policy : NOT_SET;
}

static void choose_places(void)
{
    const char *seed = getenv("BYPASS_SEED");
    unsigned drawn = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)now_ms();
    printf("BYPASS_SEED=%u\n", drawn);
    srand(drawn);
    for (int at = 0; at < NAMED; at++) {
        int policy = at % POLICIES, other = contrary(policy);
        const struct place early[WAYS] = {
            {policy, NOT_SET, NOT_SET, NOT_SET, 0, NOT_SET},
            {other, policy, NOT_SET, NOT_SET, 0, NOT_SET},
            {NOBODY_ASKED, NOT_SET, by_hello(policy), NOT_SET, 0, NOT_SET},
            {NOBODY_ASKED, NOT_SET, NOT_SET, policy, 0, NOT_SET},
            {REQUIRED, NOT_SET, NOT_SET, policy, 0, NOT_SET},
            {other, policy, NOT_SET, other, 1, NOT_SET},
        };
        const struct place late[WAYS] = {
            {policy, NOT_SET, NOT_SET, NOT_SET, 0, NOT_SET},
            {NOBODY_ASKED, NOT_SET, NOT_SET, NOT_SET, 0, policy},
            {other, NOT_SET, NOT_SET, NOT_SET, 0, policy},
            {NOBODY_ASKED, other, NOT_SET, NOT_SET, 0, policy},
            {NOBODY_ASKED, NOT_SET, NOT_SET, policy, 0, NOT_SET},
            {NOBODY_ASKED, NOT_SET, NOT_SET, other, 0, policy},
        };
        places[at] = (with_certificate_callbacks ? late : early)[at / POLICIES];
    }
    for (int at = NAMED; at < PLACES; at++) {
        struct place place = {rand() % POLICIES, drawn_or_not(), by_hello(drawn_or_not()), drawn_or_not(), 0,
                              with_certificate_callbacks ? drawn_or_not() : NOT_SET};
        place.keeps_policy = place.by_name != NOT_SET && rand() % 4 == 0;
        places[at] = place;
    }
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
            of[at][as] = ticket_of(places[at], form, as, version);
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
    expect_success(child);
}

/* --- the matrix --- */

static long cells, resumptions, by_servername, known_already;

/* A servername or certificate callback brings another policy in. */
static int changes_by_name(struct place place)
{
    return at_last(place) != before(place);
}

/* What its tickets are bound to: never to less than what was asked for. */
static enum policy bound_to(struct place place)
{
    return before(place) == NOBODY_ASKED ? before(place) : at_last(place);
}

/*
 * libssl takes a session before it calls the servername callback: where that
 * brings in another policy, nobody can know at that moment. Then a ticket is
 * good if it was issued under the same policy before any switch, for the same
 * name; what protects there is the server's own check afterwards. Once a process
 * has a certificate callback, which is not called at all then, the shim knows it
 * from full handshakes.
 */
static int is_decided_too_late(struct place issued, struct place presented)
{
    return !with_certificate_callbacks && changes_by_name(presented) &&
           bound_to(issued) == before(presented);
}

/*
 * Where nobody is asked, somebody may come with a session in which he has shown
 * his certificate: at a virtual host of a listener that asks nobody at first.
 * He is who he is seen as, and gets no further than without.
 */
static int has_shown_more(struct place issued, struct place presented, enum client as,
                          const struct visit *seen)
{
    return !with_certificate_callbacks && at_last(presented) == NOBODY_ASKED &&
           changes_by_name(issued) && before(issued) == NOBODY_ASKED && seen->seen_as == as &&
           seen->verified == X509_V_OK;
}

/*
 * The same place, and a client that may come in there, resumes; but where the
 * listener asks for a certificate that the virtual host does not want, or of
 * another CA: whoever has shown less may not be taken for one who has shown that.
 */
static int has_to_resume(struct place place)
{
    return !changes_by_name(place) || before(place) == NOBODY_ASKED;
}

static void present(int a, int b, enum client as, struct listener *at, int version,
                    SSL_SESSION *ticket)
{
    struct place issued = places[a], presented = places[b];
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
          "TLS 0x%04x, client %d, ticket of %s, at %s: done %d, resumed %d, seen as %d, verified %ld; "
          "a full handshake: %d, %d, %ld",
          version, as, described(issued), described(presented), seen.done, seen.resumed, seen.seen_as,
          seen.verified, full.done, full.seen_as, full.verified);
    if (a == b && full.done && has_to_resume(presented))
        CHECK(seen.resumed, "TLS 0x%04x, client %d, %s: its own ticket is not resumed", version, as,
              described(presented));
    SSL_SESSION_free(full.session);
    SSL_SESSION_free(seen.session);
}

static void matrix(enum form form, int version, int elsewhere)
{
    tickets of = {0};
    (elsewhere ? issue_elsewhere : issue)(of, form, version);
    for (int b = 0; b < PLACES; b += step()) {
        struct listener at = listen_at(places[b], form);
        for (int a = 0; a < PLACES; a += step())
            for (enum client as = 0; as < CLIENTS; as++)
                if (of[a][as])
                    present(a, b, as, &at, version, of[a][as]);
        close_listener(&at);
    }
    for (int at = 0; at < PLACES * CLIENTS; at++)
        SSL_SESSION_free(of[at / CLIENTS][at % CLIENTS]);
}

static void matrices(char **argv)
{
    choose_places();
    for (int elsewhere = 0; elsewhere < rounds(2, 1); elsewhere++)
        FOR_EACH_VERSION(version)
            for (enum form form = 0; form < FORMS; form++)
                if (uses_form(form, argv) && (!preloaded || form == DEFAULT_FORM))
                    matrix(form, version, elsewhere);
}

/* In a process in which nobody has set one for a context: the first that changes a policy is seen. */
static void with_callbacks_of_connections(char **argv)
{
    pid_t child = fork();
    CHECK(child >= 0, "no process");
    if (child == 0) {
        const struct place place = {NOBODY_ASKED, NOT_SET, NOT_SET, NOT_SET, 0, OPTIONAL};
        on_each_connection = 1;
        struct listener at = listen_at(place, DEFAULT_FORM);
        struct visit first = full_handshake(&at, OF_CA, NEWEST);
        CHECK(first.seen_as == OF_CA, "nobody was asked");
        SSL_SESSION_free(first.session);
        matrices(argv);
        close_listener(&at);
        _exit(0);
    }
    expect_success(child);
}

int main(int argc, char **argv)
{
    const char *preload = getenv("LD_PRELOAD"); /* valgrind uses it, too */
    (void)argc;
    alarm(LIMIT_SECONDS);
    preloaded = preload && strstr(preload, "tktrot_preload");
    on_client_hello = on_hello;
    make_identities();
    matrices(argv);
    /* BoringSSL and AWS-LC call a certificate callback before they take a session. */
    with_certificate_callbacks = preloaded && !IS_BORING && HAS_CERT_CB;
    if (with_certificate_callbacks) {
        with_callbacks_of_connections(argv);
        /* From here on sessions say where they are from. */
        SSL_CTX *first = new_server();
        use_cert_cb(first, on_certificate);
        matrices(argv);
        SSL_CTX_free(first);
    }
    printf("%ld cells, %ld resumed; otherwise than a full handshake: %ld where only the servername "
           "callback brings the policy, %ld who had shown a certificate where none is asked for\n",
           cells, resumptions, by_servername, known_already);
    CHECK(resumptions > cells / 20, "hardly anything resumes");
    free_identities();
    free_certificate();
    return 0;
}
