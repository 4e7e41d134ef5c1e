/*
 * A ticket opens only where it was issued. Each cell of the matrix is a real
 * handshake: a ticket of context A is offered to context B, which has the same
 * keys and the same session id context, so that nothing but the scope can
 * refuse it. Where a part of the scope differs, a full handshake follows.
 *
 *   scope [evp|hmac]    only that form of the callback
 */

#define _GNU_SOURCE
#include "handshake.h"
#include <openssl/rsa.h>

/* --- the parts --- */

enum label { SAME_LABEL, OTHER_LABEL, LABELS };
static const char *const LABEL_NAMES[] = {"same", "other"};
static const char *const LABEL_VALUES[] = {"shop", "mail"};

enum certificate { SAME_CERT, OTHER_CERT, CERTS };
static const char *const CERT_NAMES[] = {"same", "other"};

enum policy { SAME_POLICY, ASKS_NOT, OTHER_CAS, OTHER_DEPTH, POLICIES };
static const char *const POLICY_NAMES[] = {"same", "mode", "CAs", "depth"};

/* The host that the ticket was issued for, and the one that it is offered to: as it is spelled. */
static const struct hosts {
    const char *issued, *offered;
    int same;
} HOSTS[] = {
    {"a.test", "a.test", 1}, {"a.test", "A.test", 0},
#if !IS_LIBRE /* which takes that for no name */
    {"a.test", "a.test.", 0},
#endif
    {"a.test", "b.test", 0}, {"a.test", NULL, 0},     {NULL, NULL, 1},
    {NULL, "a.test", 0},
};
enum { HOST_PAIRS = sizeof HOSTS / sizeof *HOSTS };

enum change { NO_SWITCH, BY_SERVERNAME, BY_CLIENT_HELLO };
enum { SWITCHES = HAS_CLIENT_HELLO ? 3 : 2 };
static const char *const SWITCH_NAMES[] = {"none", "sni", "hello"};

static int is_used[FORMS];

#define FOR_EACH_FORM(one)                                                                 \
    for (enum form one = 0; one < FORMS; one++)                                            \
        if (is_used[one])

/* --- certificates --- */

enum { SERIALS = 5 };
static X509 *certs[SERIALS];

/* One key, and everything but the serial number is the same. */
static X509 *certificate(int serial)
{
    make_certificate();
    if (!certs[serial]) {
        certs[serial] = X509_dup(test_cert);
        CHECK(certs[serial], "no certificate can be made");
        ASN1_INTEGER_set(X509_get_serialNumber(certs[serial]), 100 + serial);
        CHECK(X509_sign(certs[serial], test_key, EVP_sha256()) > 0, "it cannot be signed");
    }
    return certs[serial];
}

static SSL_CTX *server_with(X509 *cert)
{
    SSL_CTX *ctx = new_server();
    CHECK_INT(SSL_CTX_use_certificate(ctx, cert), 1);
    return ctx;
}

/* --- switching to a virtual host's context --- */

/* The second is for b.test, the first for everybody else. */
static SSL_CTX *vhosts[2];
static int switches;

/* The verification stays as it was: SSL_set_SSL_CTX changes nothing of it but the CA names. */
static void switch_to(SSL *ssl, int b)
{
    const STACK_OF(X509_NAME) *names = SSL_CTX_get_client_CA_list(SSL_get_SSL_CTX(ssl));
    SSL_set_client_CA_list(ssl, SSL_dup_CA_list((STACK_OF(X509_NAME) *)names));
    CHECK(SSL_set_SSL_CTX(ssl, vhosts[b]) == vhosts[b], "the context cannot be switched");
    switches++;
}

static int on_servername(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    switch_to(ssl, name && strcmp(name, "b.test") == 0);
    return SSL_TLSEXT_ERR_OK;
}

static void switch_by_client_hello(SSL *ssl, const unsigned char *name, size_t len)
{
    switch_to(ssl, len > 0 && memmem(name, len, "b.test", 6) != NULL);
}

/* --- contexts --- */

static int hmac_callbacks;

static tkt_hmac_callback count_hmac(SSL_CTX *ctx, tkt_hmac_callback callback)
{
    (void)ctx;
    hmac_callbacks++;
    return callback;
}

static void install_form(enum form form, SSL_CTX *ctx, const tkt_config *cfg)
{
    if (form == DEFAULT_FORM) {
        CHECK_RC(install(ctx, cfg), TKT_OK);
        return;
    }
    tkt_tls_api api = table_of(form);
    int before = hmac_callbacks;
    CHECK_RC(tkt_install_api(ctx, cfg, &api), TKT_OK);
    CHECK(hmac_callbacks == before + 1, "the HMAC callback was not set");
}

struct place {
    enum label label;
    enum certificate cert;
    enum policy policy;
    enum change change;
    enum form form;
};

/* Names of CAs: what a client is told, nothing is verified with them. */
static void name_ca(SSL_CTX *ctx, X509 *ca)
{
    CHECK_INT(SSL_CTX_add_client_CA(ctx, ca), 1);
}

static SSL_CTX *server_at(const struct place *place, tkt_config cfg)
{
    SSL_CTX *ctx = server_with(certificate(place->cert));
    name_ca(ctx, certificate(2));
    SSL_CTX_set_verify(ctx, place->policy == ASKS_NOT ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (place->policy == OTHER_CAS)
        name_ca(ctx, certificate(3));
    else if (place->policy == OTHER_DEPTH)
        SSL_CTX_set_verify_depth(ctx, 3);
    if (place->change == BY_SERVERNAME)
        SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    else if (place->change == BY_CLIENT_HELLO)
        use_client_hello(ctx);
    cfg.label = LABEL_VALUES[place->label];
    install_form(place->form, ctx, &cfg);
    return ctx;
}

/* --- the matrix --- */

/* What is bound to by default. */
enum { ALL_PARTS = TKT_BIND_CERT | TKT_BIND_VERIFY | TKT_BIND_SNI };

static int resumes_at(SSL_CTX *ctx, int version, const char *name, SSL_SESSION *session)
{
    struct outcome outcome = connect_to_host(ctx, version, name, session);
    CHECK_DONE(outcome);
    forget(&outcome);
    return outcome.resumed;
}

static SSL_SESSION *ticket_for(SSL_CTX *ctx, int version, const char *name)
{
    struct outcome full = connect_to_host(ctx, version, name, NULL);
    CHECK_DONE(full);
    CHECK_INT(full.resumed, 0);
    CHECK(full.tickets > 0, "no ticket");
    return full.session;
}

static int expected(const struct place *b, const struct hosts *hosts, uint32_t bind)
{
    if (bind == TKT_BIND_NONE)
        return 1; /* plain keys */
    if (bind == 0)
        bind = ALL_PARTS;
    return b->label == SAME_LABEL && (b->cert == SAME_CERT || !(bind & TKT_BIND_CERT)) &&
           (b->policy == SAME_POLICY || !(bind & TKT_BIND_VERIFY)) &&
           (hosts->same || !(bind & TKT_BIND_SNI));
}

/* LibreSSL itself ends a handshake that resumes a session of another name, if it has a name. */
static int is_fatal(const struct hosts *hosts)
{
    return IS_LIBRE && !hosts->same && hosts->offered;
}

/* Offers A's tickets, one for each pair of hosts, to B; draws what came of it. */
static int cells(const struct place *b, const tkt_config *cfg, int version,
                        SSL_SESSION *const tickets[], char drawn[HOST_PAIRS + 1])
{
    SSL_CTX *ctx = server_at(b, *cfg);
    /* Whether it has a session id context is known from its first session on. */
    struct outcome first = connect_to_host(ctx, version, NULL, NULL);
    CHECK_DONE(first);
    forget(&first);
    for (int i = 0; i < HOST_PAIRS; i++) {
        int before = switches;
        struct outcome seen = connect_to_host(ctx, version, HOSTS[i].offered, tickets[i]);
        int wanted = expected(b, &HOSTS[i], cfg->bind);
        if (wanted && is_fatal(&HOSTS[i])) {
            CHECK(!seen.done, "a session of %s goes on as %s", HOSTS[i].issued, HOSTS[i].offered);
            drawn[i] = '!';
            forget(&seen);
            continue;
        }
        CHECK(seen.done && seen.alerts == 0 && seen.resumed == wanted,
              "%s, TLS 0x%04x, switch by %s: label %s, certificate %s, policy %s, %s -> %s: "
              "done %d, alerts %d, resumed %d and not %d: %s",
              FORM_NAMES[b->form], version, SWITCH_NAMES[b->change], LABEL_NAMES[b->label],
              CERT_NAMES[b->cert], POLICY_NAMES[b->policy],
              HOSTS[i].issued ? HOSTS[i].issued : "-", HOSTS[i].offered ? HOSTS[i].offered : "-",
              seen.done, seen.alerts, seen.resumed, wanted, seen.error);
        CHECK(switches > before || b->change == NO_SWITCH, "the context was not switched");
        if (!seen.resumed) { /* with tickets that are good here */
            CHECK_INT(seen.tickets, version == TLS1_3_VERSION ? 2 : 1);
            CHECK_INT(resumes_at(ctx, version, HOSTS[i].offered, seen.session), 1);
        }
        drawn[i] = seen.resumed ? 'R' : '-';
        forget(&seen);
    }
    drawn[HOST_PAIRS] = '\0';
    SSL_CTX_free(ctx);
    return HOST_PAIRS;
}

enum { COLUMNS = SWITCHES * VERSION_COUNT };

/* Each form and kind of switch is a column; A has them, too, and nothing else that is special. */
static void column(int at, enum form form, struct place *a, int *version)
{
    *a = (struct place){SAME_LABEL, SAME_CERT, SAME_POLICY, at / VERSION_COUNT, form};
    *version = VERSIONS[at % VERSION_COUNT];
}

static void matrix(const char *ring, uint32_t bind, enum form form, const char *title)
{
    static SSL_SESSION *tickets[COLUMNS][HOST_PAIRS];
    tkt_config cfg = config_of(ring);
    cfg.bind = bind;
    struct place place;
    int version, count = 0, resumed = 0;

    printf("\n%s, %s callback\n%-20s", title, FORM_NAMES[form], "switch by");
    for (int at = 0; at < COLUMNS; at++) {
        column(at, form, &place, &version);
        SSL_CTX *a = server_at(&place, cfg);
        for (int i = 0; i < HOST_PAIRS; i++)
            tickets[at][i] = ticket_for(a, version, HOSTS[i].issued);
        SSL_CTX_free(a);
        printf(" %-9s", SWITCH_NAMES[place.change]);
    }
    printf("\n%-7s%-6s%-7s", "label", "cert", "policy");
    for (int at = 0; at < COLUMNS; at++)
        printf(" TLS %-5s", VERSIONS[at % VERSION_COUNT] == TLS1_3_VERSION ? "1.3" : "1.2");

    const int all = LABELS * CERTS * POLICIES;
    for (int row = 0; row < all; row += rounds(1, 15)) {
        enum label label = row / (CERTS * POLICIES);
        enum certificate cert = row / POLICIES % CERTS;
        enum policy policy = row % POLICIES;
        printf("\n%-7s%-6s%-7s", LABEL_NAMES[label], CERT_NAMES[cert], POLICY_NAMES[policy]);
        for (int at = 0; at < COLUMNS; at++) {
            char drawn[HOST_PAIRS + 1];
            column(at, form, &place, &version);
            place.label = label, place.cert = cert, place.policy = policy;
            count += cells(&place, &cfg, version, tickets[at], drawn);
            for (const char *cell = drawn; *cell; cell++)
                resumed += *cell == 'R';
            printf(" %-9s", drawn);
        }
    }
    printf("\n%d cells, %d resumed, each as it must be\n", count, resumed);
    for (int at = 0; at < COLUMNS; at++)
        for (int i = 0; i < HOST_PAIRS; i++)
            SSL_SESSION_free(tickets[at][i]);
}

static void matrices(void)
{
    printf("R: resumed, -: full handshake, !: ended by LibreSSL. In each cell, ticket of -> offered to:");
    for (int i = 0; i < HOST_PAIRS; i++)
        printf(" %s->%s", HOSTS[i].issued ? HOSTS[i].issued : "none",
               HOSTS[i].offered ? HOSTS[i].offered : "none");
    printf("\n");
    FOR_EACH_FORM(form)
    matrix("scope", 0, form, "bound to all parts");
    if (rounds(1, 0)) {
        /* What shows that it is the scope that refuses, each part its own share. */
        const enum form one = is_used[EVP] ? EVP : HMAC_, other = is_used[HMAC_] ? HMAC_ : EVP;
        matrix("plain", TKT_BIND_NONE, one, "bound to nothing");
        matrix("scope", ALL_PARTS & ~TKT_BIND_CERT, one, "without the certificate");
        matrix("scope", ALL_PARTS & ~TKT_BIND_VERIFY, one, "without the policy");
        matrix("scope", ALL_PARTS & ~TKT_BIND_SNI, other, "without the host name");
    }
}

/* --- renewal --- */

/* A renewed TLS 1.2 ticket is for the host that it was renewed for: the one of the first. */
static void renewal(enum form form, enum change change)
{
    static const char *const NAMES[] = {"a.test", "b.test", NULL};
    tkt_config cfg = config_of("scope");
    cfg.renew = TKT_RENEW_ALWAYS;
    struct place place = {SAME_LABEL, SAME_CERT, SAME_POLICY, change, form};
    SSL_CTX *ctx = server_at(&place, cfg);
    for (int own = 0; own < 3; own++) {
        SSL_SESSION *ticket = ticket_for(ctx, TLS1_2_VERSION, NAMES[own]);
        for (int generation = 0; generation < 3; generation++) {
            struct outcome again = connect_to_host(ctx, TLS1_2_VERSION, NAMES[own], ticket);
            CHECK_DONE(again);
            CHECK_INT(again.resumed, 1);
            CHECK_INT(again.tickets, 1);
            SSL_SESSION_free(ticket);
            ticket = again.session;
            for (int at = 0; at < 3; at++)
                CHECK_INT(resumes_at(ctx, TLS1_2_VERSION, NAMES[at], ticket), at == own);
        }
        SSL_SESSION_free(ticket);
    }
    SSL_CTX_free(ctx);
}

/* --- a certificate that is replaced while the server runs --- */

static void replaced_certificate(enum form form, int version)
{
    tkt_config cfg = config_of("scope");
    SSL_CTX *ctx = server_with(certificate(0));
    install_form(form, ctx, &cfg);
    SSL_SESSION *tickets[4];
    for (int serial = 0; serial < 4; serial++) {
        /* The last one is the first again. */
        CHECK_INT(SSL_CTX_use_certificate(ctx, certificate(serial % 3)), 1);
        tickets[serial] = ticket_for(ctx, version, NULL);
        for (int issued = 0; issued <= serial; issued++)
            CHECK_INT(resumes(ctx, version, tickets[issued]), issued % 3 == serial % 3);
    }
    for (int serial = 0; serial < 4; serial++)
        SSL_SESSION_free(tickets[serial]);
    SSL_CTX_free(ctx);
}

/* --- several certificates --- */

static EVP_PKEY *rsa_key;
static X509 *rsa_cert;

static void make_rsa(void)
{
    EVP_PKEY_CTX *rsa = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
    CHECK(rsa && EVP_PKEY_keygen_init(rsa) == 1 &&
              EVP_PKEY_CTX_set_rsa_keygen_bits(rsa, 2048) == 1 &&
              EVP_PKEY_keygen(rsa, &rsa_key) == 1,
          "no key can be made");
    EVP_PKEY_CTX_free(rsa);
    rsa_cert = X509_dup(certificate(0));
    CHECK(rsa_cert && X509_set_pubkey(rsa_cert, rsa_key) == 1 &&
              X509_sign(rsa_cert, rsa_key, EVP_sha256()) > 0,
          "no certificate can be made");
}

static SSL_CTX *server_with_both(int rsa_first, X509 *other, enum form form)
{
    tkt_config cfg = config_of("scope");
    SSL_CTX *ctx = new_server();
    for (int second = 0; second < 2; second++) {
        int is_rsa = second != rsa_first;
        CHECK_INT(SSL_CTX_use_certificate(ctx, is_rsa ? rsa_cert : other), 1);
        CHECK_INT(SSL_CTX_use_PrivateKey(ctx, is_rsa ? rsa_key : test_key), 1);
    }
    install_form(form, ctx, &cfg);
    return ctx;
}

/* Hosts that have the same ones agree, whichever they loaded first, and others do not. */
static void several_certificates(enum form form, int version)
{
    if (!HAS_ALL_CERTS)
        return;
    SSL_CTX *a = server_with_both(1, certificate(0), form);
    SSL_CTX *b = server_with_both(0, certificate(0), form);
    SSL_CTX *other = server_with_both(1, certificate(1), form);
    SSL_CTX *one = server_with(certificate(0));
    tkt_config cfg = config_of("scope");
    install_form(form, one, &cfg);
    SSL_SESSION *ticket = ticket_for(a, version, NULL);
    CHECK_INT(resumes(b, version, ticket), 1);
    CHECK_INT(resumes(other, version, ticket), 0);
    CHECK_INT(resumes(one, version, ticket), 0);
#if HAS_ALL_CERTS
    CHECK_INT(SSL_CTX_set_current_cert(a, SSL_CERT_SET_FIRST), 1);
    CHECK_INT(resumes(a, version, ticket), 1);
#endif
    SSL_SESSION_free(ticket);
    SSL_CTX_free(a);
    SSL_CTX_free(b);
    SSL_CTX_free(other);
    SSL_CTX_free(one);
}

/* --- a certificate that comes from a callback --- */

static int give_certificate(SSL *ssl, void *arg)
{
    (void)arg;
    return SSL_use_certificate(ssl, certificate(0)) == 1 && SSL_use_PrivateKey(ssl, test_key) == 1;
}

static SSL_CTX *server_without_certificate(enum form form)
{
    tkt_config cfg = config_of("scope");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    use_cert_cb(ctx, give_certificate);
    install_form(form, ctx, &cfg);
    return ctx;
}

/* The context has none, and its tickets are bound to that. */
static void certificate_from_callback(enum form form, int version)
{
    tkt_config cfg = config_of("scope");
    SSL_CTX *a = server_without_certificate(form), *b = server_without_certificate(form);
    SSL_CTX *other = server_with(certificate(0));
    install_form(form, other, &cfg);
    SSL_SESSION *ticket = ticket_for(a, version, "a.test");
    for (int again = 0; again < 2; again++) {
        CHECK_INT(resumes_at(a, version, "a.test", ticket), 1);
        CHECK_INT(resumes_at(b, version, "a.test", ticket), 1);
        CHECK_INT(resumes_at(b, version, "b.test", ticket), 0);
        CHECK_INT(resumes_at(other, version, "a.test", ticket), 0);
    }
    SSL_SESSION_free(ticket);
    SSL_CTX_free(a);
    SSL_CTX_free(b);
    SSL_CTX_free(other);
}

/* --- a client without a certificate --- */

/*
 * One server is open, the other requires a client certificate; whoever has
 * none comes with a ticket of the first. True if that gets him in.
 */
static int gets_in(uint32_t bind, enum form form, int version)
{
    tkt_config cfg = config_of("scope");
    cfg.bind = bind;
    SSL_CTX *open = server_with(certificate(0)), *closed = server_with(certificate(0));
    install_form(form, open, &cfg);
    install_form(form, closed, &cfg);
    /* Whether it has a session id context is known from its first session on. */
    struct outcome first = connect_to_host(closed, version, "a.test", NULL);
    CHECK_DONE(first);
    forget(&first);
    SSL_CTX_set_verify(closed, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);

    SSL_SESSION *ticket = ticket_for(open, version, "a.test");
    CHECK_INT(resumes_at(open, version, "a.test", ticket), 1);
    struct outcome honest = connect_to_host(closed, version, "a.test", NULL);
    CHECK_INT(honest.done, 0);
    struct outcome attack = connect_to_host(closed, version, "a.test", ticket);
    CHECK_INT(attack.resumed, attack.done);
    if (!attack.done)
        CHECK(attack.reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "%s", attack.error);
    forget(&honest);
    forget(&attack);
    SSL_SESSION_free(ticket);
    SSL_CTX_free(open);
    SSL_CTX_free(closed);
    return attack.done;
}

/* --- contexts without any certificate --- */

#if HAS_PSK
static int external_psks;

static unsigned int give_psk(unsigned char *psk, unsigned int room)
{
    CHECK(room >= 32, "room for %u bytes", room);
    memset(psk, 7, 32);
    return 32;
}

/* In TLS 1.3 it is also asked about tickets. */
static unsigned int find_psk(SSL *ssl, const char *identity, unsigned char *psk, unsigned int room)
{
    (void)ssl;
    if (strcmp(identity, "somebody") != 0)
        return 0;
    external_psks++;
    return give_psk(psk, room);
}

static unsigned int offer_psk(SSL *ssl, const char *hint, char *identity, unsigned int room,
                              unsigned char *psk, unsigned int psk_room)
{
    (void)ssl, (void)hint;
    snprintf(identity, room, "somebody");
    return give_psk(psk, psk_room);
}

/* A server that is known by a shared secret alone. */
static SSL_CTX *server_with_psk(const char *label, enum form form)
{
    tkt_config cfg = TKT_CONFIG_INIT;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(ctx, "no SSL_CTX can be made");
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_psk_server_callback(ctx, find_psk);
    cfg.ring = "psk";
    cfg.label = label;
    install_form(form, ctx, &cfg);
    return ctx;
}

static void shared_secret_alone(enum form form, int version)
{
    SSL_CTX *shop = server_with_psk("shop", form), *mail = server_with_psk("mail", form);
    SSL_CTX *shop_again = server_with_psk("shop", form);
    struct outcome other = CONNECT(vhosts[0], version, NULL, 0); /* makes the clients */
    forget(&other);
    SSL_CTX *client = client_ctxs[version == TLS1_3_VERSION];
    SSL_CTX_set_psk_client_callback(client, offer_psk);
    struct outcome first = connect_to(shop, version, NULL);
    CHECK_DONE(first);
    CHECK(first.tickets > 0, "no ticket");
    /* In TLS 1.3 what a shared secret begins counts as resumed, too. */
    SSL_CTX *const there[] = {shop, shop_again, mail};
    for (int i = 0; i < 3; i++) {
        external_psks = 0;
        struct outcome again = connect_to(there[i], version, first.session);
        CHECK_DONE(again);
        CHECK(external_psks == (i == 2), "TLS 0x%04x, server %d: %d times by the secret", version,
              i, external_psks);
        CHECK(again.resumed == (i < 2 || version == TLS1_3_VERSION), "server %d", i);
        forget(&again);
    }
    SSL_CTX_set_psk_client_callback(client, NULL);
    forget(&first);
    for (int i = 0; i < 3; i++)
        SSL_CTX_free(there[i]);
}
#endif

#if !IS_BORING && OPENSSL_VERSION_NUMBER >= 0x30200000L
/* A server that is known by its key alone (RFC 7250). */
static SSL_CTX *server_with_raw_key(EVP_PKEY *key, const char *label, enum form form)
{
    static unsigned char raw[] = {TLSEXT_cert_type_rpk};
    tkt_config cfg = TKT_CONFIG_INIT;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    CHECK(ctx && SSL_CTX_use_PrivateKey(ctx, key) == 1, "no SSL_CTX can be made");
    CHECK_INT(SSL_CTX_set1_server_cert_type(ctx, raw, sizeof raw), 1);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"test", 4);
    cfg.ring = "raw";
    cfg.label = label;
    install_form(form, ctx, &cfg);
    return ctx;
}

static void raw_key_alone(enum form form, int version)
{
    static unsigned char raw[] = {TLSEXT_cert_type_rpk, TLSEXT_cert_type_x509};
    EVP_PKEY *key = new_key();
    SSL_CTX *shop = server_with_raw_key(key, "shop", form);
    SSL_CTX *shop_again = server_with_raw_key(key, "shop", form);
    SSL_CTX *mail = server_with_raw_key(key, "mail", form);
    struct outcome other = CONNECT(vhosts[0], version, NULL, 0);
    forget(&other);
    SSL_CTX *client = client_ctxs[version == TLS1_3_VERSION];
    CHECK_INT(SSL_CTX_set1_server_cert_type(client, raw, sizeof raw), 1);
    struct outcome first = CONNECT(shop, version, NULL, 0);
    CHECK(first.tickets > 0, "no ticket");
    struct outcome here = CONNECT(shop, version, first.session, 1);
    struct outcome there = CONNECT(shop_again, version, first.session, 1);
    struct outcome elsewhere = CONNECT(mail, version, first.session, 0);
    CHECK_INT(SSL_CTX_set1_server_cert_type(client, NULL, 0), 1);
    forget(&first), forget(&here), forget(&there), forget(&elsewhere);
    SSL_CTX_free(shop), SSL_CTX_free(shop_again), SSL_CTX_free(mail);
    EVP_PKEY_free(key);
}
#endif

int main(int argc, char **argv)
{
    (void)argc;
    alarm(LIMIT_SECONDS);
    for (enum form form = 0; form < FORMS; form++)
        is_used[form] = uses_form(form, argv);
    CHECK(is_used[EVP] || is_used[HMAC_], "this TLS library has no such form");
    instead.of_hmac = count_hmac;
    on_client_hello = switch_by_client_hello;
    for (int b = 0; b < 2; b++)
        vhosts[b] = server_with(certificate(2 + b));
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_rsa();
    matrices();
    printf("\nclient without certificate, with the ticket of an open server\n");
    FOR_EACH_FORM(form)
    {
        for (int change = 0; change < SWITCHES; change += rounds(1, SWITCHES))
            renewal(form, change);
        FOR_EACH_VERSION(version)
        {
            replaced_certificate(form, version);
            several_certificates(form, version);
            if (HAS_CERT_CB)
                certificate_from_callback(form, version);
#if HAS_PSK
            shared_secret_alone(form, version);
#endif
#if !IS_BORING && OPENSSL_VERSION_NUMBER >= 0x30200000L
            raw_key_alone(form, version);
#endif
            CHECK_INT(gets_in(0, form, version), 0);
            /* The same without that part gets in: this test can see it. */
            CHECK_INT(gets_in(TKT_BIND_CERT | TKT_BIND_SNI, form, version), 1);
            CHECK_INT(gets_in(TKT_BIND_NONE, form, version), 1);
            printf("%-4s TLS %s: refused; not bound to the policy, it gets in\n",
                   FORM_NAMES[form], version == TLS1_3_VERSION ? "1.3" : "1.2");
        }
    }
    EVP_PKEY_free(rsa_key);
    X509_free(rsa_cert);
    for (int b = 0; b < 2; b++)
        SSL_CTX_free(vhosts[b]);
    for (int serial = 0; serial < SERIALS; serial++)
        X509_free(certs[serial]);
    free_certificate();
    return 0;
}
