/*
 * When the TLS library's random number generator fails: handshakes go on, no
 * key serves longer than it said, no key comes twice, and what is repaired
 * works again. Each case runs in a process of its own, with a table whose
 * generator the test commands.
 *
 *   generator [evp|hmac]    only that form of the callback
 */

#define _GNU_SOURCE

#include "handshake.h"

/* --- a generator on command --- */

enum mode { GOOD, FAILS, ZEROES, CONSTANT, PATTERN, REPEATS };

static enum mode private_mode, public_mode;
static unsigned char recorded[4096];
static size_t recorded_len, replayed;

static int draw(enum mode mode, int is_private, unsigned char *bytes, size_t len)
{
    switch (mode) {
    case GOOD:
        if (RAND_bytes(bytes, (int)len) != 1)
            return 0;
        if (is_private && recorded_len + len <= sizeof recorded) {
            memcpy(recorded + recorded_len, bytes, len);
            recorded_len += len;
        }
        return 1;
    case FAILS: return 0;
    case ZEROES: memset(bytes, 0, len); return 1;
    case CONSTANT: memset(bytes, 0x5a, len); return 1;
    case PATTERN:
        for (size_t i = 0; i < len; i++)
            bytes[i] = (unsigned char)i;
        return 1;
    case REPEATS:
        CHECK(recorded_len > 0, "nothing to repeat");
        for (size_t i = 0; i < len; i++)
            bytes[i] = recorded[replayed++ % recorded_len];
        return 1;
    }
    return 0;
}

static int private_bytes(unsigned char *bytes, size_t len)
{
    return draw(private_mode, 1, bytes, len);
}

static int public_bytes(unsigned char *bytes, size_t len)
{
    return draw(public_mode, 0, bytes, len);
}

static void break_generator(enum mode mode)
{
    private_mode = public_mode = mode;
}

static unsigned long says_1_1_1(void)
{
    return 0x1010117fUL;
}

/* The cipher keys that tickets were sealed with while nothing was drawn, as the TLS library is
 * given them. */
static unsigned char sealed_with[64][32];
static int sealed;

static int note_key(EVP_CIPHER_CTX *cipher, const EVP_CIPHER *type, ENGINE *engine,
                    const unsigned char *key, const unsigned char *iv, int enc)
{
    if (enc == 1 && key && private_mode == FAILS &&
        sealed < (int)(sizeof sealed_with / sizeof *sealed_with))
        memcpy(sealed_with[sealed++], key, sizeof *sealed_with);
    return EVP_CipherInit_ex(cipher, type, engine, key, iv, enc);
}

/* --- contexts --- */

/* The form that each case uses. */
static enum form form_used;

static SSL_CTX *server(const char *ring, uint32_t rotate_every, int is_old)
{
    tkt_tls_api api = table_of(form_used);
    tkt_config cfg = config_of(ring);
    SSL_CTX *ctx = new_server();

    api.rand_bytes = public_bytes;
    api.rand_priv_bytes = private_bytes;
    if (is_old)
        api.openssl_version_num = says_1_1_1;
    api.evp_cipher_init_ex = note_key;
    cfg.rotate_every = rotate_every;
    cfg.lifetime = 600;
    cfg.capacity = 16384; /* rotate_every = 1 keeps many keys */
    cfg.upkeep = TKT_UPKEEP_CALLBACK;
    cfg.log = "none";
    CHECK_RC(tkt_install_api(ctx, &cfg, &api), TKT_OK);
    return ctx;
}

static void done_with(SSL_CTX *ctx)
{
    SSL_CTX_free(ctx);
    free_certificate();
}

static tkt_counters counters_of(SSL_CTX *ctx)
{
    tkt_counters counters = {.size = sizeof counters};
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    return counters;
}

static int as_usual(int version)
{
    return version == TLS1_3_VERSION ? 2 : 1;
}

/* Where a TLS library can send no ticket, it does; the others send one that nobody can open. */
static int instead_of(int tickets)
{
    return OpenSSL_version_num() >= 0x30000060UL ? 0 : tickets;
}

static void brings_no_ticket(SSL_CTX *ctx, int version)
{
    uint64_t before = counters_of(ctx).issued;
    struct outcome outcome = CONNECT(ctx, version, NULL, 0);
    CHECK_INT(outcome.tickets, instead_of(as_usual(version)));
    CHECK_INT(counters_of(ctx).issued, before);
    if (outcome.tickets > 0)
        CHECK_INT(resumes(ctx, version, outcome.session), 0);
    forget(&outcome);
}

static void works(SSL_CTX *ctx)
{
    FOR_EACH_VERSION(version)
    {
        struct outcome full = CONNECT(ctx, version, NULL, 0);
        CHECK_INT(full.tickets, as_usual(version));
        CHECK_INT(resumes(ctx, version, full.session), 1);
        forget(&full);
    }
}

/* --- cases --- */

static void never_worked(enum mode mode)
{
    char ring[16];
    snprintf(ring, sizeof ring, "never-%d", mode);
    break_generator(mode);
    SSL_CTX *ctx = server(ring, 3600, 0);
    FOR_EACH_VERSION(version)
    brings_no_ticket(ctx, version);
    CHECK_RC(tkt_rotate(ctx), TKT_ERR_GENERATOR);
    CHECK_HAS(tkt_last_error(), "generator");
    tkt_counters counters = counters_of(ctx);
    CHECK(counters.generator_failures > 0 && counters.unsealed >= VERSION_COUNT, "failures %llu unsealed %llu",
          (unsigned long long)counters.generator_failures, (unsigned long long)counters.unsealed);
    CHECK_INT(counters.rotations, 0);
    CHECK_INT(counters.issued, 0);

    break_generator(GOOD);
    CHECK_RC(tkt_rotate(ctx), TKT_OK);
    works(ctx);
    CHECK_RC(tkt_revoke(ctx), TKT_OK);
    done_with(ctx);
}

static void fails_from_the_start(void) { never_worked(FAILS); }
static void gives_zeroes(void) { never_worked(ZEROES); }
static void gives_a_constant(void) { never_worked(CONSTANT); }
static void gives_a_pattern(void) { never_worked(PATTERN); }

/* What gave 0 there is a ticket that nobody can open, under a name and a key of its own. */
static void throw_away(void)
{
    enum { HANDSHAKES = 6 };
    unsigned char names[2 * HANDSHAKES][NAME_LEN];
    int count = 0;
    break_generator(FAILS);
    SSL_CTX *ctx = server(form_used == HMAC_ ? "old-hmac" : "old-evp", 3600, 1);
    FOR_EACH_VERSION(version)
    for (int i = 0; i < rounds(HANDSHAKES / 2, 2); i++) {
        struct outcome outcome = CONNECT(ctx, version, NULL, 0);
        CHECK_INT(outcome.tickets, as_usual(version));
        for (int ticket = 0; ticket < outcome.tickets; ticket++) {
            for (int other = 0; other < count; other++)
                CHECK(memcmp(names[other], outcome.names[ticket], NAME_LEN) != 0,
                      "tickets %d and %d have one name", count, other);
            memcpy(names[count++], outcome.names[ticket], NAME_LEN);
        }
        CHECK(sealed >= count, "%d keys for %d tickets", sealed, count);
        for (int key = 0; key < sealed; key++)
            for (int other = 0; other < key; other++)
                CHECK(memcmp(sealed_with[key], sealed_with[other], sizeof *sealed_with) != 0,
                      "tickets %d and %d are sealed with one key", key, other);
        CHECK_INT(resumes(ctx, version, outcome.session), 0);
        break_generator(GOOD);
        CHECK_INT(resumes(ctx, version, outcome.session), 0);
        CHECK_RC(tkt_revoke(ctx), TKT_OK);
        break_generator(FAILS);
        CHECK_RC(tkt_revoke(ctx), TKT_ERR_GENERATOR);
        forget(&outcome);
    }
    break_generator(GOOD);
    CHECK_RC(tkt_rotate(ctx), TKT_OK);
    works(ctx);
    done_with(ctx);
}

/* Only the IV cannot be had: no ticket rather than one with a bad IV. */
static void no_iv(void)
{
    SSL_CTX *ctx = server("no-iv", 3600, 0);
    for (enum mode mode = FAILS; mode <= CONSTANT; mode++) {
        public_mode = mode;
        FOR_EACH_VERSION(version)
        brings_no_ticket(ctx, version);
    }
    CHECK_INT(counters_of(ctx).generator_failures, 0);
    CHECK(counters_of(ctx).errors >= 3 * VERSION_COUNT, "%llu errors", (unsigned long long)counters_of(ctx).errors);
    public_mode = GOOD;
    works(ctx);
    done_with(ctx);
}

/* A generator that starts again (a snapshot, a bad fork) makes no key twice. */
static void repeats_itself(void)
{
    SSL_CTX *ctx = server("repeats", 3600, 0);
    struct outcome before = CONNECT(ctx, TLS1_2_VERSION, NULL, 0);
    for (int i = 0; i < rounds(20, 3); i++) {
        private_mode = REPEATS;
        CHECK_RC(tkt_rotate(ctx), TKT_ERR_GENERATOR);
        struct outcome again = CONNECT(ctx, TLS1_2_VERSION, before.session, 1);
        struct outcome fresh = CONNECT(ctx, TLS1_2_VERSION, NULL, 0);
        CHECK(memcmp(before.names[0], fresh.names[0], NAME_LEN) == 0, "the active key changed");
        forget(&again);
        forget(&fresh);
    }
    private_mode = GOOD;
    CHECK_RC(tkt_rotate(ctx), TKT_OK);
    struct outcome after = CONNECT(ctx, TLS1_2_VERSION, NULL, 0);
    CHECK(memcmp(before.names[0], after.names[0], NAME_LEN) != 0, "the active key stayed");
    CHECK_INT(resumes(ctx, TLS1_2_VERSION, before.session), 1);
    forget(&before);
    forget(&after);
    done_with(ctx);
}

/* A full handshake; true if one of its tickets is a good one. The last key may end between them. */
static int is_served(SSL_CTX *ctx)
{
    uint64_t before = counters_of(ctx).issued;
    struct outcome outcome = CONNECT(ctx, NEWEST, NULL, 0);
    int issued = (int)(counters_of(ctx).issued - before);
    CHECK(issued >= 0 && issued <= as_usual(NEWEST), "%d tickets were sealed", issued);
    CHECK_INT(outcome.tickets, issued + instead_of(as_usual(NEWEST) - issued));
    forget(&outcome);
    return issued > 0;
}

/* Longer than R: the present keys serve to their end, then tickets stop. */
static void fails_for_long(void)
{
    enum { ENOUGH_MS = 30000 };
    SSL_CTX *ctx = server("long", 1, 0);
    struct outcome first = CONNECT(ctx, NEWEST, NULL, 0);
    long long began = now_ms();
    int with_ticket = 0;

    break_generator(FAILS);
    public_mode = GOOD; /* IVs come from there */
    uint64_t keys = counters_of(ctx).rotations;
    CHECK(keys > 0, "no key was made");
    while (is_served(ctx)) {
        with_ticket++;
        CHECK(now_ms() - began < ENOUGH_MS, "tickets after %lld ms", now_ms() - began);
        sleep_ms(rounds(50, 500));
    }
    /* By the active key and its successors, which were made before. */
    CHECK(with_ticket > 0, "no ticket although there was a key");
    CHECK(counters_of(ctx).generator_failures > 0, "no failure was counted");
    CHECK_INT(counters_of(ctx).rotations, keys);

    /* What was sealed with them still opens, and brings no new ticket. */
    struct outcome again = CONNECT(ctx, NEWEST, first.session, 1);
    CHECK_INT(again.tickets, instead_of(tickets_at_resumption(NEWEST, NEWEST == TLS1_3_VERSION)));
    forget(&again);
    CHECK_INT(counters_of(ctx).rotations, keys);

    break_generator(GOOD);
    began = now_ms();
    while (!is_served(ctx)) {
        CHECK(now_ms() - began < ENOUGH_MS, "no ticket after %lld ms", now_ms() - began);
        sleep_ms(10);
    }
    works(ctx);
    CHECK_INT(resumes(ctx, NEWEST, first.session), 1);
    forget(&first);
    done_with(ctx);
}

int main(int argc, char **argv)
{
    (void)argc;
    alarm(LIMIT_SECONDS);
    form_used = uses_form(EVP, argv) ? EVP : HMAC_;
    CHECK(uses_form(form_used, argv), "this TLS library has no such form");
    in_child(fails_from_the_start);
    in_child(gives_zeroes);
    in_child(gives_a_constant);
    in_child(gives_a_pattern);
    in_child(throw_away);
    in_child(no_iv);
    in_child(repeats_itself);
    in_child(fails_for_long);
    if (form_used == EVP && uses_form(HMAC_, argv)) {
        form_used = HMAC_;
        in_child(throw_away);
    }
    return 0;
}
