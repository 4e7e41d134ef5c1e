/* Sessions that the server keeps, inside libssl and outside. */

#include "differential.h"

static SSL_SESSION *kept;
static int answers;

static int on_new(SSL *ssl, SSL_SESSION *session)
{
    event(ssl, "cache: new");
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

static SSL_SESSION *on_get(SSL *ssl, const unsigned char *id, int len, int *copy)
{
    unsigned own = 0;
    const unsigned char *is = kept ? SSL_SESSION_get_id(kept, &own) : NULL;
    int is_it = is && own == (unsigned)len && memcmp(is, id, own) == 0;
    event(ssl, "cache: get, %s", is_it ? "found" : "not found");
    *copy = 1;
    return is_it && answers ? kept : NULL;
}

static void on_remove(SSL_CTX *ctx, SSL_SESSION *session)
{
    static int count;
    char key[32];
    (void)ctx, (void)session;
    snprintf(key, sizeof key, "cache: removed %d", ++count);
    say(key, "yes");
}

static void try_cache(SSL_CTX *server, SSL_CTX *client)
{
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION *second = first ? visit("second", server, client, first, "a.test") : NULL;
    SSL_SESSION_free(first ? visit("first again", server, client, first, "a.test") : NULL);
    SSL_SESSION_free(second ? visit("third", server, client, second, "a.test") : NULL);
    say_counts("counts", server);
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
}

static void internal_cache(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER);
    try_cache(server, new_client(version));
}

/* A cache without tickets: by session id in 1.2, stateful tickets in 1.3. */
static void stateful(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER);
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    try_cache(server, new_client(version));
}

static void external_cache(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(server, on_new);
    SSL_CTX_sess_set_get_cb(server, on_get);
    SSL_CTX_sess_set_remove_cb(server, on_remove);
    answers = 1;
    try_cache(server, new_client(version));
}

static void external_cache_stateful(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    SSL_CTX_sess_set_new_cb(server, on_new);
    SSL_CTX_sess_set_get_cb(server, on_get);
    SSL_CTX_sess_set_remove_cb(server, on_remove);
    answers = 1;
    SSL_CTX *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    answers = 0;
    SSL_SESSION_free(visit("third", server, client, first, "a.test"));
    say_counts("counts", server);
}

/* Removed from the cache by hand; a ticket does not care, a session id does. */
static void removed_from_cache(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER);
    SSL_CTX_sess_set_remove_cb(server, on_remove);
    begin(&conn, "first", server, client, NULL, "a.test");
    shake(&conn);
    report(&conn);
    SSL_SESSION *of_server = SSL_get1_session(conn.server);
    SSL_SESSION *first = finish(&conn);
    say("removed", "%d", OBSERVED("SSL_CTX_remove_session", SSL_CTX_remove_session(server, of_server)));
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    say_counts("counts", server);
}

static void flushed_cache(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_AUTO_CLEAR);
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    OBSERVED_VOID("SSL_CTX_flush_sessions", SSL_CTX_flush_sessions(server, (long)time(NULL) + 100000));
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    say_counts("counts", server);
}

static int make_id(SSL *ssl, unsigned char *id, unsigned *len)
{
    event(ssl, "session id of %u", *len);
    memset(id, 7, *len);
    return 1;
}

static void own_session_ids(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER);
    SSL_CTX_set_generate_session_id(server, make_id);
    try_cache(server, new_client(version));
}

/* A session of the server's, written to a file and read again. */
static void session_written(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    begin(&conn, "first", server, client, NULL, "a.test");
    shake(&conn);
    unsigned char *der = NULL;
    int len = OBSERVED("i2d_SSL_SESSION", i2d_SSL_SESSION(SSL_get_session(conn.server), &der));
    const unsigned char *read = der;
    SSL_SESSION *again = d2i_SSL_SESSION(NULL, &read, len);
    say("read again", "%s", again ? "yes" : "no");
    SSL_SESSION_free(again);
    SSL_SESSION *first = finish(&conn);
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
}

const struct scenario CACHES[] = {
    IN_BOTH(internal_cache),
    IN_BOTH(stateful),
    IN_BOTH(external_cache),
    IN_BOTH(external_cache_stateful),
    IN_BOTH(removed_from_cache),
    IN_BOTH(flushed_cache),
    IN_12(own_session_ids),
    IN_BOTH(session_written),
    {0},
};
