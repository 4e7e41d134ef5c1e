/*
 * A server whose listeners are libssl's own QUIC (openssl-quic(7), OpenSSL 3.5 and later), and
 * clients that come back to it. Built twice: as it is it knows nothing of libtktrot, for the
 * shim; with -DLINKED it installs it itself.
 *
 *   server own|shared
 *
 * own: nobody gives its contexts keys, each has those of OpenSSL. shared: all have the keys of a
 * ring that rotates every second, and so has a server in another process.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <sys/socket.h>

#include "../handshake.h"

#include <openssl/quic.h>

enum {
    STEPS = 60000, /* of a connection, each waits STEP_MS where nothing happens */
    STEP_MS = 1,
    VISITS = 5,
    ROTATIONS = 2,
    WAITS = 1000,
    WAIT_MS = 20,
    SESSION_ROOM = 16384,
};

static const unsigned char ALPN[] = {4, 't', 'e', 's', 't'};

/* A listener on a port of its own. */
struct server {
    SSL_CTX *ctx;
    SSL *domain; /* NULL where it was made of the context itself */
    SSL *listener;
    struct sockaddr_in address;
};

/* How a visitor fared. */
struct visit {
    int resumed;
    int tickets;
    unsigned char name[NAME_LEN]; /* the key name in the last ticket */
    SSL_SESSION *session;         /* the last one */
};

static SSL_CTX *client_ctx;

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *arg)
{
    (void)ssl, (void)arg;
    int found = SSL_select_next_proto((unsigned char **)out, out_len, ALPN, sizeof ALPN, in, in_len);
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A UDP socket on 127.0.0.1, with a port that is free. */
static int udp_socket(struct sockaddr_in *address)
{
    socklen_t len = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0, "no socket");
    CHECK_INT(bind(fd, (struct sockaddr *)address, len), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)address, &len), 0);
    CHECK_INT(BIO_socket_nbio(fd, 1), 1);
    return fd;
}

static void give_socket(SSL *ssl, int fd)
{
    BIO *bio = BIO_new_dgram(fd, BIO_CLOSE);
    CHECK(bio, "no BIO");
    SSL_set_bio(ssl, bio, bio);
    CHECK_INT(SSL_set_blocking_mode(ssl, 0), 1);
}

static void install_on(SSL_CTX *ctx)
{
#ifdef LINKED
    tkt_config cfg = config_of("quic");
    cfg.rotate_every = 1;
    CHECK_RC(tkt_install(ctx, &cfg), TKT_OK);
#else
    (void)ctx;
#endif
}

static struct server new_listener(int is_shared, int has_domain)
{
    struct server server = {.ctx = SSL_CTX_new(OSSL_QUIC_server_method())};
    CHECK(server.ctx, "no SSL_CTX can be made");
    CHECK_INT(SSL_CTX_use_certificate(server.ctx, test_cert), 1);
    CHECK_INT(SSL_CTX_use_PrivateKey(server.ctx, test_key), 1);
    SSL_CTX_set_session_id_context(server.ctx, (const unsigned char *)"test", 4);
    SSL_CTX_set_alpn_select_cb(server.ctx, select_alpn, NULL);
    if (is_shared)
        install_on(server.ctx);
    if (has_domain) {
        server.domain = SSL_new_domain(server.ctx, 0);
        CHECK(server.domain, "no domain can be made");
        server.listener = SSL_new_listener_from(server.domain, 0);
    } else {
        server.listener = SSL_new_listener(server.ctx, 0);
    }
    CHECK(server.listener, "no listener can be made");
    give_socket(server.listener, udp_socket(&server.address));
    CHECK_INT(SSL_listen(server.listener), 1);
    return server;
}

static void close_listener(struct server *server)
{
    SSL_free(server->listener);
    SSL_free(server->domain);
    SSL_CTX_free(server->ctx);
}

static int note_session(SSL *ssl, SSL_SESSION *session)
{
    struct visit *visit = SSL_get_app_data(ssl);
    const unsigned char *ticket = NULL;
    size_t len = 0;
    SSL_SESSION_get0_ticket(session, &ticket, &len);
    CHECK(len > NAME_LEN + IV_LEN, "a ticket of %zu bytes", len);
    memcpy(visit->name, ticket, NAME_LEN);
    SSL_SESSION_free(visit->session);
    visit->session = SSL_SESSION_dup(session);
    CHECK(visit->session, "the session cannot be copied");
    visit->tickets++;
    return 0;
}

static SSL_CTX *new_client(void)
{
    SSL_CTX *ctx = SSL_CTX_new(OSSL_QUIC_client_method());
    CHECK(ctx, "no SSL_CTX can be made");
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, note_session);
    return ctx;
}

/* A visitor of that host comes with a ticket, or with none, and gets a new one in any case. */
static struct visit visit(struct server *server, const char *host, SSL_SESSION *offered)
{
    struct visit visit = {0};
    struct sockaddr_in address;
    SSL *client = SSL_new(client_ctx), *accepted = NULL;
    BIO_ADDR *peer = BIO_ADDR_new();
    CHECK(client && peer, "no client can be made");
    SSL_set_app_data(client, &visit);
    give_socket(client, udp_socket(&address));
    CHECK_INT(BIO_ADDR_rawmake(peer, AF_INET, &server->address.sin_addr,
                               sizeof server->address.sin_addr, server->address.sin_port),
              1);
    CHECK_INT(SSL_set1_initial_peer_addr(client, peer), 1);
    CHECK_INT(SSL_set_alpn_protos(client, ALPN, sizeof ALPN), 0);
    CHECK_INT(SSL_set_tlsext_host_name(client, host), 1);
    /* A copy: the connection is not shut down, after which libssl resumes its session no more. */
    SSL_SESSION *copy = offered ? SSL_SESSION_dup(offered) : NULL;
    CHECK(!offered || SSL_set_session(client, copy) == 1, "the session is not offered");
    int done = 0;
    for (int step = 0; !(done && accepted && visit.tickets); step++) {
        CHECK(step < STEPS, "no ticket comes; client done: %d, accepted: %d", done, !!accepted);
        SSL_handle_events(server->listener);
        if (!accepted)
            accepted = SSL_accept_connection(server->listener, SSL_ACCEPT_CONNECTION_NO_BLOCK);
        if (accepted)
            SSL_handle_events(accepted);
        if (!done) {
            int rc = SSL_do_handshake(client), error = SSL_get_error(client, rc);
            CHECK(rc == 1 || error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE,
                  "the handshake fails: %s", ERR_error_string(ERR_peek_error(), NULL));
            done = rc == 1;
        }
        SSL_handle_events(client);
        sleep_ms(STEP_MS);
    }
    visit.resumed = SSL_session_reused(client);
    CHECK_INT(SSL_session_reused(accepted), visit.resumed);
    SSL_free(client);
    SSL_free(accepted);
    SSL_SESSION_free(copy);
    BIO_ADDR_free(peer);
    ERR_clear_error();
    return visit;
}

static void expect(struct server *server, const char *host, SSL_SESSION *offered, int resumed)
{
    struct visit seen = visit(server, host, offered);
    CHECK(seen.resumed == resumed, "%s: resumed is %d, expected is %d", host, seen.resumed,
          resumed);
    SSL_SESSION_free(seen.session);
}

/* A visitor comes back again and again, each time with the ticket of the time before. */
static void chain(struct server *server)
{
    struct visit last = visit(server, "a.test", NULL);
    CHECK_INT(last.resumed, 0);
    for (int i = 0; i < VISITS; i++) {
        struct visit next = visit(server, "a.test", last.session);
        CHECK_INT(next.resumed, 1);
        SSL_SESSION_free(last.session);
        last = next;
    }
    SSL_SESSION_free(last.session);
}

/* Tickets of keys that follow each other open at both listeners, to the end, and for one name. */
static void rotations(struct server *one, struct server *other)
{
    struct visit of[ROTATIONS + 1];
    of[0] = visit(one, "a.test", NULL);
    for (int i = 1; i <= ROTATIONS; i++) {
        of[i] = visit(other, "a.test", NULL);
        for (int wait = 0; memcmp(of[i].name, of[i - 1].name, NAME_LEN) == 0; wait++) {
            CHECK(wait < WAITS, "no other key comes");
            sleep_ms(WAIT_MS);
            SSL_SESSION_free(of[i].session);
            of[i] = visit(other, "a.test", NULL);
        }
        for (int k = 0; k <= i; k++) {
            expect(one, "a.test", of[k].session, 1);
            expect(other, "a.test", of[k].session, 1);
            expect(one, "b.test", of[k].session, 0);
        }
    }
    for (int i = 0; i <= ROTATIONS; i++)
        SSL_SESSION_free(of[i].session);
}

/* Serves a ticket that comes from the other process, which made it at a listener of its own. */
static void elsewhere(int from, int is_shared)
{
    unsigned char der[SESSION_ROOM];
    const unsigned char *at = der;
    size_t len = 0;
    for (ssize_t got; (got = read(from, der + len, sizeof der - len)) > 0;)
        len += (size_t)got;
    CHECK(len > 0 && len < sizeof der, "a session of %zu bytes", len);
    client_ctx = new_client();
    SSL_SESSION *session = d2i_SSL_SESSION(NULL, &at, (long)len);
    CHECK(session, "the session cannot be read");
    struct server server = new_listener(is_shared, 0);
    expect(&server, "a.test", session, is_shared);
    SSL_SESSION_free(session);
    close_listener(&server);
    SSL_CTX_free(client_ctx);
    _exit(0);
}

static void send_session(int to, SSL_SESSION *session)
{
    unsigned char der[SESSION_ROOM], *at = der;
    int len = i2d_SSL_SESSION(session, NULL);
    CHECK(len > 0 && len < SESSION_ROOM, "a session of %d bytes", len);
    CHECK_INT(i2d_SSL_SESSION(session, &at), len);
    CHECK_INT(write(to, der, (size_t)len), len);
    close(to);
}

int main(int argc, char **argv)
{
    alarm(LIMIT_SECONDS);
    CHECK(argc == 2, "usage: server own|shared");
    int is_shared = strcmp(argv[1], "shared") == 0, ends[2];
    make_certificate();
    CHECK_INT(pipe(ends), 0);
    pid_t child = fork_bounded();
    if (child == 0) {
        close(ends[1]);
        elsewhere(ends[0], is_shared);
    }
    close(ends[0]);
    client_ctx = new_client();
    struct server one = new_listener(is_shared, 0), other = new_listener(is_shared, 1);
    chain(&one);
    chain(&other);
    struct visit first = visit(&one, "a.test", NULL);
    expect(&one, "a.test", first.session, 1);
    expect(&other, "a.test", first.session, is_shared);
    /* libssl itself resumes for any name. */
    expect(&one, "b.test", first.session, !is_shared);
    send_session(ends[1], first.session);
    expect_success(child);
    SSL_SESSION_free(first.session);
    if (is_shared)
        rotations(&one, &other);
    close_listener(&one);
    close_listener(&other);
    SSL_CTX_free(client_ctx);
    free_certificate();
    return 0;
}
