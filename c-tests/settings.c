/*
 * Every setting: what cannot be used is told with its name, its value and what
 * is accepted, and installs nothing; what can be used takes effect.
 */

#define _GNU_SOURCE

#include "handshake.h"

enum { TEXT = 8192 };

/* The built-in keys serve a context to which nothing was done. */
static void is_not_installed(SSL_CTX *ctx)
{
    CHECK_RC(tkt_uninstall(ctx), TKT_ERR_NOT_INSTALLED);
    FOR_EACH_VERSION(version)
    {
        struct outcome full = CONNECT(ctx, version, NULL, 0);
        CHECK_INT(resumes(ctx, version, full.session), 1);
        forget(&full);
    }
}

/* --- members of tkt_config --- */

static char too_long[2001];

#define BAD(member_, value_, shown, accepted)                                              \
    do {                                                                                   \
        tkt_config cfg = config_of("settings");                                            \
        cfg.member_ = value_;                                                              \
        refuse(&cfg, "cfg." #member_, shown, accepted);                                    \
    } while (0)

static void refuse(const tkt_config *cfg, const char *name, const char *shown,
                   const char *accepted)
{
    SSL_CTX *ctx = new_server();
    CHECK_RC(tkt_install(ctx, cfg), TKT_ERR_CONFIG);
    CHECK_HAS(tkt_last_error(), name);
    CHECK_HAS(tkt_last_error(), shown);
    CHECK_HAS(tkt_last_error(), accepted);
    CHECK(!strstr(tkt_last_error(), "default applies"), "%s", tkt_last_error());
    is_not_installed(ctx);
    SSL_CTX_free(ctx);
}

static void bad_members(void)
{
    static const char *rings[] = {"../x", "a/b", ".hidden", "a b", "/dev/shm/x/", "/x/.."};
    for (size_t i = 0; i < sizeof rings / sizeof *rings; i++)
        BAD(ring, rings[i], rings[i], "an absolute path");
    BAD(ring, too_long, "xxxx", "at most 200");
    BAD(dir, "relative", "relative", "absolute path");
    BAD(label, too_long, "xxxx", "at most 255 bytes");
    BAD(label, too_long + sizeof too_long - 1 - 256, "xxxx", "at most 255 bytes");
    BAD(log, "nonsense", "nonsense", "stderr, syslog, none");
    BAD(capacity, 7, "\"7\"", "8 to 16384");
    BAD(capacity, 16385, "16385", "8 to 16384");
    BAD(capacity, UINT32_MAX, "4294967295", "8 to 16384");
    BAD(rotate_every, 86401, "86401", "allow_long");
    BAD(rotate_every, UINT32_MAX, "4294967295", "1 to 86400");
    BAD(lead, 1801, "1801", "at most half");
    BAD(lead, UINT32_MAX, "4294967295", "at most half");
    BAD(bind, TKT_BIND_NONE | TKT_BIND_CERT, "\"3\"", "TKT_BIND_NONE alone");
    BAD(bind, 16, "16", "TKT_BIND_NONE alone");
    BAD(renew, 3, "\"3\"", "TKT_RENEW_AUTO");
    BAD(renew, UINT32_MAX, "4294967295", "TKT_RENEW_AUTO");
    BAD(upkeep, 2, "\"2\"", "TKT_UPKEEP_THREAD");

    tkt_config cfg = config_of("settings");
    cfg.allow_long = 1;
    cfg.rotate_every = 604801;
    refuse(&cfg, "cfg.rotate_every", "604801", "1 to 604800");
    cfg = config_of("settings");
    cfg.rotate_every = 60;
    cfg.lifetime = 3600;
    cfg.capacity = 8;
    refuse(&cfg, "cfg.capacity", "\"8\"", "at least 64");
    cfg.rotate_every = 1;
    cfg.lifetime = 7 * 24 * 3600;
    cfg.capacity = 0;
    refuse(&cfg, "cfg.lifetime", "604800", "at most 16380");
    cfg.rotate_every = 0;
    cfg.lifetime = 604801;
    cfg.strict = 1;
    refuse(&cfg, "cfg.lifetime", "604801", "1 to 604800");
    cfg.rotate_every = 1;
    cfg.lifetime = 7 * 24 * 3600;
    cfg.strict = 0;
    /* Each problem is told, not only the first. */
    cfg.renew = 7;
    cfg.upkeep = 8;
    refuse(&cfg, "cfg.lifetime", "cfg.renew", "cfg.upkeep");
}

/* --- variables of the environment --- */

struct variable {
    const char *name, *value, *accepted;
};

static const struct variable BAD_VARIABLES[] = {
    {"TKTROT_RING", "../x", "an absolute path"},
    {"TKTROT_RING", "a b", "an absolute path"},
    {"TKTROT_RING", too_long, "at most 200"},
    {"TKTROT_DIR", "relative", "an absolute path"},
    {"TKTROT_CAPACITY", "7", "8 to 16384"},
    {"TKTROT_CAPACITY", "16385", "8 to 16384"},
    {"TKTROT_CAPACITY", "64k", "8 to 16384"},
    {"TKTROT_CAPACITY", "-64", "8 to 16384"},
    {"TKTROT_CAPACITY", "99999999999999999999", "8 to 16384"},
    {"TKTROT_ROTATE", "0", "1s to 24h"},
    {"TKTROT_ROTATE", "0s", "1s to 24h"},
    {"TKTROT_ROTATE", "25h", "1s to 24h"},
    {"TKTROT_ROTATE", "1w", "1s to 24h"},
    {"TKTROT_ROTATE", "1.5h", "1s to 24h"},
    {"TKTROT_ROTATE", "-5", "1s to 24h"},
    {"TKTROT_ROTATE", "s", "1s to 24h"},
    {"TKTROT_ROTATE", "1h30m", "1s to 24h"},
    {"TKTROT_ROTATE", "18446744073709551615d", "1s to 24h"},
    {"TKTROT_LIFETIME", "0", "1s to 7d"},
    {"TKTROT_LIFETIME", "long", "1s to 7d"},
    {"TKTROT_LABEL", too_long, "at most 255 bytes"},
    {"TKTROT_BIND", "all", "cert,verify,sni"},
    {"TKTROT_BIND", "cert,,sni", "cert,verify,sni"},
    {"TKTROT_BIND", "none,cert", "cert,verify,sni"},
    {"TKTROT_RENEW", "yes", "auto, always or never"},
    {"TKTROT_TAKEOVER", "maybe", "yes or no"},
    {"TKTROT_ONLY", "/usr/sbin/nginx", "base names"},
    {"TKTROT_ONLY", "nginx,,hitch", "base names"},
    {"TKTROT_UPKEEP", "none", "thread or callback"},
    {"TKTROT_LOG", "file.log", "stderr, syslog, none"},
    {"TKTROT_DISABLE", "2", "1 or 0"},
    {"TKTROT_STRICT", "yess", "1 or 0"},
    {"TKTROT_ROTATION", "1h", "ROTATE"},
    {"TKTROT_", "x", "ROTATE"},
};

/* Runs a test in a child; what it writes to stderr comes back in `text`. */
static void capture(void (*test)(const struct variable *), const struct variable *variable,
                    char text[TEXT])
{
    int ends[2];
    size_t len = 0;
    ssize_t got;
    CHECK_INT(pipe(ends), 0);
    pid_t child = fork_bounded();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        test(variable);
        _exit(0);
    }
    close(ends[1]);
    while (len < TEXT - 1 && (got = read(ends[0], text + len, TEXT - 1 - len)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    close(ends[0]);
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status 0x%x; %s=%.40s: %s", status,
          variable->name, variable->value, text);
}

static void check_message(const char *message, const struct variable *variable)
{
    char shown[100];
    snprintf(shown, sizeof shown, "%s=\"%.90s", variable->name, variable->value);
    CHECK_HAS(message, shown);
    CHECK_HAS(message, variable->accepted);
}

static void without_strict(const struct variable *variable)
{
    tkt_config cfg;
    tkt_counters counters = {.size = sizeof counters};
    SSL_CTX *ctx = new_server();
    /* The default directory is not ours to leave a ring in. */
    char path[TEXT];
    snprintf(path, sizeof path, "%s/settings.ring", getenv("TKTROT_DIR"));
    setenv("TKTROT_RING", path, 1);
    setenv(variable->name, variable->value, 1);
    CHECK_RC(tkt_config_from_env(&cfg), TKT_ERR_CONFIG);
    check_message(tkt_last_error(), variable);
    CHECK_RC(tkt_install(ctx, NULL), TKT_OK);
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    CHECK_INT(counters.rotate_every, 3600);
    CHECK_INT(counters.capacity, 16384);
    CHECK_INT(resumes(ctx, TLS1_3_VERSION, NULL), 0);
    SSL_CTX_free(ctx);
}

static void with_strict(const struct variable *variable)
{
    SSL_CTX *ctx = new_server();
    setenv(variable->name, variable->value, 1);
    setenv("TKTROT_STRICT", "1", 1);
    CHECK_RC(tkt_install(ctx, NULL), TKT_ERR_CONFIG);
    check_message(tkt_last_error(), variable);
    is_not_installed(ctx);
    CHECK_RC(tkt_install(ctx, NULL), TKT_ERR_CONFIG);
    SSL_CTX_free(ctx);
}

static void bad_variables(void)
{
    char text[TEXT];
    for (size_t i = 0; i < sizeof BAD_VARIABLES / sizeof *BAD_VARIABLES; i++) {
        const struct variable *variable = &BAD_VARIABLES[i];
        if (i > 0 && strcmp(variable->name, variable[-1].name) == 0 && !rounds(1, 0))
            continue;
        capture(without_strict, variable, text);
        CHECK_HAS(text, "warning");
        CHECK_HAS(text, "the default applies");
        check_message(text, variable);
        if (strcmp(variable->name, "TKTROT_STRICT") != 0)
            capture(with_strict, variable, text);
    }
}

static void disabled(void)
{
    tkt_config cfg;
    SSL_CTX *ctx = new_server();
    setenv("TKTROT_DISABLE", "1", 1);
    CHECK_RC(tkt_install(ctx, NULL), TKT_OK);
    is_not_installed(ctx);
    CHECK_RC(tkt_config_from_env(&cfg), TKT_OK);
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    is_not_installed(ctx);
    SSL_CTX_free(ctx);
}

static void good_variables(void)
{
    static const char *set[][2] = {
        {"TKTROT_RING", "good"},   {"TKTROT_ROTATE", "10m"},   {"TKTROT_LIFETIME", "2h"},
        {"TKTROT_CAPACITY", "99"}, {"TKTROT_LABEL", "shop"},   {"TKTROT_BIND", "sni, cert"},
        {"TKTROT_RENEW", "never"}, {"TKTROT_UPKEEP", "callback"}, {"TKTROT_STRICT", "yes"},
        {"TKTROT_TAKEOVER", "no"}, {"TKTROT_ONLY", "a,b"},     {"TKTROT_DISABLE", ""},
    };
    tkt_config cfg;
    tkt_counters counters = {.size = sizeof counters};
    SSL_CTX *ctx = new_server();
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        setenv(set[i][0], set[i][1], 1);
    CHECK_RC(tkt_config_from_env(&cfg), TKT_OK);
    CHECK(strcmp(cfg.ring, "good") == 0 && strcmp(cfg.label, "shop") == 0, "%s %s", cfg.ring,
          cfg.label);
    CHECK_INT(cfg.bind, TKT_BIND_SNI | TKT_BIND_CERT);
    CHECK_INT(cfg.renew, TKT_RENEW_NEVER);
    CHECK_INT(cfg.upkeep, TKT_UPKEEP_CALLBACK);
    CHECK_INT(cfg.strict, 1);
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    CHECK_INT(counters.rotate_every, 600);
    CHECK_INT(counters.lifetime, 7200);
    CHECK_INT(counters.capacity, 99);
    SSL_CTX_free(ctx);
}

/* --- what takes effect --- */

static SSL_CTX *labelled(const char *ring, const char *label, uint32_t bind)
{
    SSL_CTX *ctx = new_server();
    tkt_config cfg = config_of(ring);
    cfg.label = label;
    cfg.bind = bind;
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    return ctx;
}

static void labels_keep_services_apart(const char *ring, uint32_t bind, int expect_resumed)
{
    SSL_CTX *shop = labelled(ring, "shop", bind), *bank = labelled(ring, "bank", bind);
    SSL_CTX *twin = labelled(ring, "shop", bind);
    FOR_EACH_VERSION(version)
    {
        struct outcome full = CONNECT(shop, version, NULL, 0);
        CHECK_INT(resumes(twin, version, full.session), 1);
        struct outcome there = CONNECT(bank, version, full.session, expect_resumed);
        if (!expect_resumed)
            CHECK_INT(resumes(bank, version, there.session), 1);
        forget(&full);
        forget(&there);
    }
    SSL_CTX_free(shop);
    SSL_CTX_free(bank);
    SSL_CTX_free(twin);
}

static void schedule_of(uint32_t rotate_every, uint32_t lifetime, long timeout, uint64_t seen)
{
    tkt_counters counters = {.size = sizeof counters};
    char ring[32];
    snprintf(ring, sizeof ring, "schedule-%u-%u", rotate_every, lifetime);
    tkt_config cfg = config_of(ring);
    cfg.rotate_every = rotate_every;
    cfg.lifetime = lifetime;
    cfg.allow_long = rotate_every > 86400;
    SSL_CTX *ctx = new_server();
    SSL_CTX_set_timeout(ctx, timeout);
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    CHECK_RC(tkt_stats(ctx, &counters), TKT_OK);
    CHECK_INT(counters.rotate_every, rotate_every);
    CHECK_INT(counters.lifetime, seen);
    SSL_CTX_free(ctx);
}

/* A ring that is refused stops a strict program as often as it tries. */
static void strict_about_the_ring(void)
{
    tkt_config cfg = config_of("strict");
    SSL_CTX *ctx = new_server();
    cfg.dir = "/proc/self";
    cfg.strict = 1;
    for (int i = 0; i < 3; i++) {
        CHECK_RC(tkt_install(ctx, &cfg), TKT_ERR_RING);
        CHECK_HAS(tkt_last_error(), "/proc/self/strict.ring");
    }
    is_not_installed(ctx);
    cfg.strict = 0;
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
    SSL_CTX_free(ctx);
}

int main(void)
{
    alarm(LIMIT_SECONDS);
    memset(too_long, 'x', sizeof too_long - 1);

    make_certificate();
    warm_up();
    /* First, since a process reads its environment once. */
    bad_variables();
    in_child(good_variables);
    in_child(disabled);
    in_child(strict_about_the_ring);

    bad_members();
    schedule_of(77, 1234, 300, 1234);
    schedule_of(77, 0, 300, 300);
    schedule_of(60, 0, 0, 7200);
    schedule_of(86401, 8 * 24 * 3600, 300, 7 * 24 * 3600);
    labels_keep_services_apart("bound", 0, 0);
    labels_keep_services_apart("plain", TKT_BIND_NONE, 1);
    free_certificate();
    return 0;
}
