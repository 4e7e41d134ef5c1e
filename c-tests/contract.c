/*
 * The contract of the ticket key callback, over real handshakes: in the form
 * that tkt_install finds, and in each form through a table, where each call
 * passes a guard that looks at what it writes and returns.
 *
 *   contract [evp|hmac]    only that form
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "handshake.h"

/* --- the guard: between the TLS library and the callback of a context --- */

static int guard_index = -1; /* SSL_CTX ex_data: the callback behind the guard */
static size_t page_size;
static int calls[2];

/* A page with nothing behind it: what lies at its end cannot be overrun. */
static unsigned char *guard_page(void)
{
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *page =
        mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED, "mmap failed");
    CHECK_INT(mprotect(page + page_size, page_size, PROT_NONE), 0);
    return page;
}

static unsigned char *pages[2];

static void make_guard(void)
{
    pages[0] = guard_page();
    pages[1] = guard_page();
    guard_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static void protect_pages(int protection)
{
    for (int i = 0; i < 2; i++)
        CHECK_INT(mprotect(pages[i], page_size, protection), 0);
}

struct call {
    void *callback;
    SSL *ssl;
    EVP_CIPHER_CTX *cipher;
    void *mac;
    int is_hmac;
};

static int pass_on(const struct call *call, unsigned char *name, unsigned char *iv, int enc)
{
    if (call->is_hmac)
        return ((tkt_hmac_callback)call->callback)(call->ssl, name, iv, call->cipher, call->mac,
                                                   enc);
    return ((tkt_evp_callback)call->callback)(call->ssl, name, iv, call->cipher, call->mac, enc);
}

/*
 * Each of name and IV ends where its page does. To open a ticket both are
 * read-only, since they are part of the ClientHello. To seal one, what is not
 * answered with 1 is not written: some libraries send it all the same.
 */
static int guarded(struct call *call, unsigned char *name, unsigned char *iv, int enc)
{
    static const unsigned char unwritten[NAME_LEN] = {0xa5, 0x5a};
    unsigned char *name_at = pages[0] + page_size - NAME_LEN;
    unsigned char *iv_at = pages[1] + page_size - IV_LEN;

    CHECK(enc == 0 || enc == 1, "enc is %d", enc);
    calls[enc]++;
    call->callback = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(call->ssl), guard_index);
    memcpy(name_at, enc ? unwritten : name, NAME_LEN);
    memcpy(iv_at, enc ? unwritten : iv, IV_LEN);
    if (enc == 0)
        protect_pages(PROT_READ);
    int rc = pass_on(call, name_at, iv_at, enc);
    if (enc == 0)
        protect_pages(PROT_READ | PROT_WRITE);
    CHECK(rc >= 0 && rc <= (enc == 0 ? 2 : 1), "enc = %d: %d", enc, rc);
    if (enc == 1) {
        int written = memcmp(name_at, unwritten, NAME_LEN) && memcmp(iv_at, unwritten, IV_LEN);
        int untouched = !memcmp(name_at, unwritten, NAME_LEN) && !memcmp(iv_at, unwritten, IV_LEN);
        CHECK(rc == 1 ? written : untouched, "answer %d, name and IV written: %d", rc, written);
        memcpy(name, name_at, NAME_LEN);
        memcpy(iv, iv_at, IV_LEN);
    }
    return rc;
}

static int guarded_evp(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       struct evp_mac_ctx_st *mac, int enc)
{
    struct call call = {NULL, ssl, cipher, mac, 0};
    return guarded(&call, name, iv, enc);
}

static int guarded_hmac(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                        HMAC_CTX *mac, int enc)
{
    struct call call = {NULL, ssl, cipher, mac, 1};
    return guarded(&call, name, iv, enc);
}

static tkt_evp_callback guard_evp(SSL_CTX *ctx, tkt_evp_callback callback)
{
    SSL_CTX_set_ex_data(ctx, guard_index, (void *)callback);
    return callback ? guarded_evp : NULL;
}

static tkt_hmac_callback guard_hmac(SSL_CTX *ctx, tkt_hmac_callback callback)
{
    SSL_CTX_set_ex_data(ctx, guard_index, (void *)callback);
    return callback ? guarded_hmac : NULL;
}

/* --- ways to install --- */

enum way { PLAIN, EVP_TABLE, HMAC_TABLE, WAYS };
static const char *const WAY_NAMES[] = {"plain", "evp", "hmac"};
static int is_used[WAYS];

static void choose_ways(char **argv)
{
    is_used[PLAIN] = uses_form(DEFAULT_FORM, argv);
    is_used[EVP_TABLE] = uses_form(EVP, argv);
    is_used[HMAC_TABLE] = uses_form(HMAC_, argv);
    CHECK(is_used[EVP_TABLE] || is_used[HMAC_TABLE], "this TLS library has no such form");
}

#define FOR_EACH_WAY(one)                                                                  \
    for (enum way one = 0; one < WAYS; one++)                                              \
        if (is_used[one])

static void install_by(enum way way, SSL_CTX *ctx, const tkt_config *cfg)
{
    tkt_tls_api api = table_of(way == EVP_TABLE ? EVP : HMAC_);
    CHECK_RC(way == PLAIN ? install(ctx, cfg) : tkt_install_api(ctx, cfg, &api), TKT_OK);
}

/* --- what every way does --- */

static void resumption(SSL_CTX *ctx, int version)
{
    const int is_1_3 = version == TLS1_3_VERSION;
    struct outcome full = CONNECT(ctx, version, NULL, 0);
    CHECK_INT(full.tickets, is_1_3 ? 2 : 1);
    struct outcome again = CONNECT(ctx, version, full.session, 1);
    CHECK_INT(again.tickets, tickets_at_resumption(version, is_1_3 ? 1 : 0));
    if (is_1_3) {
        CHECK(memcmp(full.names[0], again.names[0], NAME_LEN) == 0, "the key changed");
        CHECK_INT(resumes(ctx, version, again.session), 1);
    }

    /* Name, IV, ticket, MAC: whatever is changed, a full handshake with a new ticket. */
    static const long places[] = {0, NAME_LEN - 1, NAME_LEN, NAME_LEN + IV_LEN - 1,
                                  NAME_LEN + IV_LEN, 64, -33, -32, -1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        SSL_SESSION *changed = flipped(full.session, places[i]);
        struct outcome other = CONNECT(ctx, version, changed, 0);
        CHECK_INT(other.tickets, is_1_3 ? 2 : 1);
        forget(&other);
        SSL_SESSION_free(changed);
    }
    CHECK_INT(resumes(ctx, version, full.session), 1);
    forget(&full);
    forget(&again);
}

static void rotation(SSL_CTX *ctx, int version)
{
    enum { KEYS = 6 };
    struct outcome with[KEYS];
    for (int i = 0; i < KEYS; i++) {
        with[i] = CONNECT(ctx, version, NULL, 0);
        for (int other = 0; other < i; other++) {
            CHECK(memcmp(with[i].names[0], with[other].names[0], NAME_LEN) != 0,
                  "keys %d and %d have one name", i, other);
            CHECK_INT(resumes(ctx, version, with[other].session), 1);
        }
        CHECK_RC(tkt_rotate(ctx), TKT_OK);
    }
    CHECK_RC(tkt_revoke(ctx), TKT_OK);
    struct outcome after = CONNECT(ctx, version, NULL, 0);
    CHECK_INT(resumes(ctx, version, after.session), 1);
    for (int i = 0; i < KEYS; i++) {
        CHECK_INT(resumes(ctx, version, with[i].session), 0);
        CHECK(memcmp(with[i].names[0], after.names[0], NAME_LEN) != 0, "a revoked key seals");
        forget(&with[i]);
    }
    forget(&after);
}

/* How many tickets a resumption brings. */
static void renewal(SSL_CTX *ctx, enum way way, tkt_config *cfg, int version)
{
    const int auto_tickets = version == TLS1_3_VERSION ? 1 : 0;
    const struct {
        uint32_t renew;
        int tickets;
    } rules[] = {{TKT_RENEW_AUTO, auto_tickets}, {TKT_RENEW_ALWAYS, 1}, {TKT_RENEW_NEVER, 0}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        cfg->renew = rules[i].renew;
        install_by(way, ctx, cfg);
        struct outcome full = CONNECT(ctx, version, NULL, 0);
        struct outcome again = CONNECT(ctx, version, full.session, 1);
        int wanted = tickets_at_resumption(version, rules[i].tickets);
        CHECK(again.tickets == wanted, "renew = %u, TLS 0x%04x: %d tickets",
              rules[i].renew, version, again.tickets);
        forget(&full);
        forget(&again);
    }
    cfg->renew = TKT_RENEW_AUTO;
    install_by(way, ctx, cfg);
}

static void counted(SSL_CTX *ctx)
{
    tkt_counters counters = {.size = sizeof counters};
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    CHECK(counters.issued > 10 && counters.resumed_active > 5 && counters.resumed_retired > 5 &&
              counters.unknown > 5 && counters.rotations > 6,
          "issued %llu active %llu retired %llu unknown %llu rotations %llu",
          (unsigned long long)counters.issued, (unsigned long long)counters.resumed_active,
          (unsigned long long)counters.resumed_retired, (unsigned long long)counters.unknown,
          (unsigned long long)counters.rotations);
    CHECK_INT(counters.errors, 0);
    CHECK_INT(counters.unsealed, 0);
    CHECK_INT(counters.generator_failures, 0);
}

#if IS_LIBRE
/* Its servers issue none in TLS 1.3, and the handshakes are as they were. */
static void nothing_in_1_3(SSL_CTX *ctx)
{
    tkt_counters before = {.size = sizeof before}, after = before;
    CHECK_RC(tkt_stats(ctx, &before), TKT_OK);
    for (int i = 0; i < 3; i++) {
        struct outcome outcome = CONNECT(ctx, TLS1_3_VERSION, NULL, 0);
        CHECK_INT(outcome.tickets, 0);
        forget(&outcome);
    }
    CHECK_RC(tkt_stats(ctx, &after), TKT_OK);
    CHECK_INT(after.issued, before.issued);
}
#endif

/* A ticket of one form opens in another: they seal the same. */
static void ways_agree(void)
{
    tkt_config cfg = config_of("agree");
    SSL_CTX *ctx[WAYS] = {NULL};
    FOR_EACH_WAY(way)
    {
        ctx[way] = new_server();
        install_by(way, ctx[way], &cfg);
    }
    FOR_EACH_VERSION(version)
    FOR_EACH_WAY(from)
    {
        struct outcome full = CONNECT(ctx[from], version, NULL, 0);
        FOR_EACH_WAY(to)
        CHECK(resumes(ctx[to], version, full.session), "%s to %s", WAY_NAMES[from], WAY_NAMES[to]);
        forget(&full);
    }
    FOR_EACH_WAY(way)
    SSL_CTX_free(ctx[way]);
}

int main(int argc, char **argv)
{
    (void)argc;
    alarm(LIMIT_SECONDS);
    choose_ways(argv);
    make_guard();
    instead.of_evp = guard_evp;
    instead.of_hmac = guard_hmac;
    FOR_EACH_WAY(way)
    {
        tkt_config cfg = config_of(WAY_NAMES[way]);
        SSL_CTX *ctx = new_server();
        calls[0] = calls[1] = 0;
        install_by(way, ctx, &cfg);
        FOR_EACH_VERSION(version)
        {
            resumption(ctx, version);
            rotation(ctx, version);
            renewal(ctx, way, &cfg, version);
        }
        counted(ctx);
#if IS_LIBRE
        nothing_in_1_3(ctx);
#endif
        CHECK((calls[0] > 20 && calls[1] > 20) == (way != PLAIN), "%s: the guard saw %d, %d",
              WAY_NAMES[way], calls[0], calls[1]);
        SSL_CTX_free(ctx);
    }
    ways_agree();
    free_certificate();
    return 0;
}
