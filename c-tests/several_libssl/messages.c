/*
 * A server with message callbacks (SSL_set_msg_callback(3)) that knows nothing of libtktrot, and
 * tells everything that they are shown. Whoever stands in front of them, it is the same.
 *
 *   messages
 */

#define _GNU_SOURCE
#define TEST_KNOWS_NOTHING
#include "../handshake.h"

enum { SET_CALLBACK = 15 };

static const char *shown_to;
static char an_argument[] = "a", another_argument[] = "another";
static SSL *served;

static const char *name_of(const void *arg)
{
    return arg == an_argument ? an_argument : arg == another_argument ? another_argument
           : arg          ? "unknown"
                          : "none";
}

static void tell(const char *who, int sent, int version, int type, const unsigned char *data,
                 size_t len, SSL *ssl, void *arg)
{
    int first = type == SSL3_RT_HANDSHAKE && len > 0 ? data[0] : -1;
    /* Signatures are of different lengths. */
    const int is_signed = first == SSL3_MT_CERTIFICATE || first == SSL3_MT_SERVER_KEY_EXCHANGE;
    size_t told = is_signed ? 0 : len;
    printf("%s, %s: sent %d, version %x, type %d, message %d of %zu bytes, argument %s%s\n", shown_to,
           who, sent, (unsigned)version, type, first, told, name_of(arg),
           ssl == served ? "" : ", another connection");
}

static void one(int sent, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
    tell("one", sent, version, type, data, len, ssl, arg);
}

static void other(int sent, int version, int type, const void *data, size_t len, SSL *ssl,
                  void *arg)
{
    tell("other", sent, version, type, data, len, ssl, arg);
}

/* Is the last one that it is shown. */
static void once(int sent, int version, int type, const void *data, size_t len, SSL *ssl, void *arg)
{
    tell("once", sent, version, type, data, len, ssl, arg);
    SSL_set_msg_callback(ssl, other);
    SSL_set_msg_callback_arg(ssl, another_argument);
}

/* --- ways to set them --- */

typedef void of_context(SSL_CTX *ctx);
typedef void of_connection(SSL_CTX *ctx, SSL *ssl);

static void nothing(SSL_CTX *ctx)
{
    (void)ctx;
}

static void nothing_more(SSL_CTX *ctx, SSL *ssl)
{
    (void)ctx, (void)ssl;
}

static void for_context(SSL_CTX *ctx)
{
    SSL_CTX_set_msg_callback(ctx, one);
    SSL_CTX_set_msg_callback_arg(ctx, an_argument);
}

static void for_connection(SSL_CTX *ctx, SSL *ssl)
{
    (void)ctx;
    SSL_set_msg_callback(ssl, other);
    SSL_set_msg_callback_arg(ssl, another_argument);
}

#if HAS_CALLBACK_CTRL
static void for_context_by_control(SSL_CTX *ctx)
{
    CHECK_INT(SSL_CTX_callback_ctrl(ctx, SET_CALLBACK, (void (*)(void))one), 1);
}

static void for_connection_by_control(SSL_CTX *ctx, SSL *ssl)
{
    (void)ctx;
    CHECK_INT(SSL_callback_ctrl(ssl, SET_CALLBACK, (void (*)(void))other), 1);
}
#endif

static void argument_only(SSL_CTX *ctx, SSL *ssl)
{
    (void)ctx;
    SSL_set_msg_callback_arg(ssl, another_argument);
}

static void none_for_connection(SSL_CTX *ctx, SSL *ssl)
{
    (void)ctx;
    SSL_set_msg_callback(ssl, NULL);
}

static void too_late_for_connection(SSL_CTX *ctx, SSL *ssl)
{
    (void)ssl;
    SSL_CTX_set_msg_callback(ctx, other);
}

static void once_for_connection(SSL_CTX *ctx, SSL *ssl)
{
    (void)ctx;
    SSL_set_msg_callback(ssl, once);
}

static const struct way {
    const char *name;
    of_context *of_context;
    of_connection *of_connection;
} WAYS[] = {
    {"nothing", nothing, nothing_more},
    {"context", for_context, nothing_more},
    {"connection", nothing, for_connection},
    {"both", for_context, for_connection},
    {"context, and another argument", for_context, argument_only},
    {"context, and none for the connection", for_context, none_for_connection},
    {"context, and another after the connection was made", for_context, too_late_for_connection},
    {"replaced in the callback", for_context, once_for_connection},
#if HAS_CALLBACK_CTRL
    {"context, by control", for_context_by_control, nothing_more},
    {"connection, by control", nothing, for_connection_by_control},
#endif
};

/* --- handshakes --- */

static SSL_SESSION *visit(SSL_CTX *ctx, const struct way *way, const char *name,
                          SSL_SESSION *session, int is_duplicate)
{
    struct outcome outcome = {0};
    char label[120];
    SSL *client = SSL_new(client_ctxs[0]), *server = SSL_new(ctx);
    way->of_connection(ctx, server);
#if HAS_DUP
    if (is_duplicate) {
        SSL *duplicate = SSL_dup(server);
        CHECK(duplicate, "a connection cannot be duplicated");
        SSL_free(server);
        server = duplicate;
    }
#endif
    served = server;
    snprintf(label, sizeof label, "%s, %s%s%s", way->name, name ? name : "no name",
             session ? ", with a ticket" : "", is_duplicate ? ", duplicate" : "");
    shown_to = label;
    join(client, server, &outcome);
    if (name)
        CHECK_INT(SSL_set_tlsext_host_name(client, name), 1);
    SSL_SESSION *offered = session ? copy_of(session) : NULL;
    if (offered)
        CHECK_INT(SSL_set_session(client, offered), 1);
    converse(server, client, &outcome);
    CHECK(outcome.done, "%s: %s", label, outcome.error);
    printf("%s: resumed %d\n", label, outcome.resumed);
    part(client, server);
    SSL_SESSION_free(offered);
    SSL_free(client);
    SSL_free(server);
    return outcome.session;
}

int main(void)
{
    static const char *const NAMES[] = {"a.test", NULL};
    alarm(LIMIT_SECONDS);
    pthread_once(&client_ctxs_once, make_client_ctxs);
    for (size_t at = 0; at < sizeof WAYS / sizeof *WAYS; at++)
        for (int i = 0; i < 2; i++)
            for (int is_duplicate = 0; is_duplicate <= HAS_DUP; is_duplicate++) {
                SSL_CTX *ctx = new_server();
                WAYS[at].of_context(ctx);
                SSL_SESSION *ticket = visit(ctx, &WAYS[at], NAMES[i], NULL, is_duplicate);
                SSL_SESSION_free(visit(ctx, &WAYS[at], NAMES[i], ticket, is_duplicate));
                SSL_SESSION_free(ticket);
                SSL_CTX_free(ctx);
            }
    SSL_CTX_free(client_ctxs[0]);
    SSL_CTX_free(client_ctxs[1]);
    free_certificate();
    return 0;
}
