/* What is left on the thread: errors, errno, rounding; and random numbers that fail. */

#include "differential.h"

#include <fenv.h>
#include <signal.h>
#if !defined(OPENSSL_NO_ASYNC)
#include <openssl/async.h>
#endif

/* An error that a callback of the application's puts on the queue is there after the handshake. */
static int error_in_name(SSL *ssl, int *alert, void *arg)
{
    (void)ssl, (void)alert, (void)arg;
    put_own_error();
    errno = 4711;
    return SSL_TLSEXT_ERR_OK;
}

static void say_queue(const char *key)
{
    int count = 0;
    char errors[400] = "";
    for (unsigned long error; (error = ERR_get_error()); count++) {
        const char *reason = ERR_reason_error_string(error);
        size_t len = strlen(errors);
        snprintf(errors + len, sizeof errors - len, " [library %d: %s %d]", ERR_GET_LIB(error),
                 reason ? reason : "reason", ERR_GET_REASON(error));
    }
    say(key, "%d%s", count, errors);
}

static void error_put_in_callback(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_tlsext_servername_callback(server, error_in_name);
    SSL_SESSION *session = NULL;
    static const char *const LABELS[] = {"full", "resumed", "wrong ticket"};
    for (int i = 0; i < 3; i++) {
        struct connection conn;
        char key[64];
        begin(&conn, LABELS[i], server, client, session, "a.test");
        ERR_clear_error();
        SSL_do_handshake(conn.client);
        errno = 0;
        SSL_do_handshake(conn.server);
        snprintf(key, sizeof key, "%s, errno after the server's first call", LABELS[i]);
        say(key, "%d", errno);
        snprintf(key, sizeof key, "%s, mark", LABELS[i]);
        say(key, "%d", ERR_pop_to_mark());
        snprintf(key, sizeof key, "%s, queue", LABELS[i]);
        say_queue(key);
        handshake(&conn);
        exchange(&conn);
        report(&conn);
        SSL_SESSION *got = finish(&conn);
        if (i == 0)
            session = got;
        else if (i == 1)
            session = flipped(session, 40);
    }
}

/* As above, where the ticket is sealed: the info and message callbacks come around it. */
static void error_at_done(const SSL *ssl, int where, int rc)
{
    (void)ssl, (void)rc;
    if (where & SSL_CB_HANDSHAKE_DONE)
        put_own_error();
}

static void error_put_when_done(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_info_callback(server, error_at_done);
    SSL_SESSION *session = NULL;
    for (int i = 0; i < 2; i++) {
        struct connection conn;
        char key[64];
        begin(&conn, i ? "second" : "first", server, client, session, "a.test");
        for (int call = 0; call < 3; call++) {
            SSL_do_handshake(conn.client);
            ERR_clear_error();
            int rc = SSL_do_handshake(conn.server);
            snprintf(key, sizeof key, "%s, call %d", conn.label, call);
            say(key, "%d", rc);
            snprintf(key, sizeof key, "%s, call %d, queue", conn.label, call);
            say_queue(key);
        }
        handshake(&conn);
        exchange(&conn);
        SSL_SESSION *got = finish(&conn);
        session = session ? session : got;
    }
}

static void rounding(int version)
{
    fesetround(FE_UPWARD);
    feclearexcept(FE_ALL_EXCEPT);
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    say("rounding", "%s", fegetround() == FE_UPWARD ? "upward" : "changed");
    SSL_CTX_free(server);
}

/* Signals of the application's: its handlers run on its own threads only. */
static pthread_t who;
static volatile sig_atomic_t elsewhere, handled;

static void on_signal(int signal)
{
    (void)signal;
    handled++;
    if (!pthread_equal(pthread_self(), who))
        elsewhere++;
}

static void signals(int version)
{
    SSL_CTX *server = new_quiet_server(version), *client = new_client(version);
    who = pthread_self();
    signal(SIGUSR1, on_signal);
    signal(SIGPIPE, on_signal);
    NEED(quick(server, client, NULL, "a.test", NULL) == 1);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    for (int i = 0; i < 50; i++) {
        /* Blocked here, it would go to whatever thread has it open. */
        pthread_sigmask(SIG_BLOCK, &set, &old);
        kill(getpid(), SIGUSR1);
        usleep(100);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    say("handled", "%d, on another thread %d", (int)handled, (int)elsewhere);
    for (int signal = 1; signal < 32; signal++) {
        struct sigaction now;
        char key[40];
        if (sigaction(signal, NULL, &now) == 0 && now.sa_handler != SIG_DFL) {
            snprintf(key, sizeof key, "handler of signal %d", signal);
            say(key, "%s", now.sa_handler == on_signal ? "own" : "another");
        }
    }
}

/* --- random numbers --- */

#if !defined(OPENSSL_NO_DEPRECATED_3_0)
static const RAND_METHOD *real;
static int fails_of_length, failures;

static int maybe_bytes(unsigned char *bytes, int len)
{
    if (fails_of_length < 0 || fails_of_length == len) {
        failures++;
        put_own_error();
        return 0;
    }
    return real->bytes(bytes, len);
}

static int yes(void)
{
    return 1;
}

static void use_generator(void)
{
    static RAND_METHOD method;
    real = RAND_OpenSSL();
    method.bytes = maybe_bytes;
    method.pseudorand = maybe_bytes;
    method.status = yes;
    NEED(RAND_set_rand_method(&method) == 1);
}

static void say_failures(const char *key)
{
    say(key, "%s", failures ? "yes" : "no");
    failures = 0;
}
#endif

/* It fails while contexts are made, as in a chroot without /dev or before the machine has any. */
static void generator_fails_in_ctx_new(int version)
{
#if defined(OPENSSL_NO_DEPRECATED_3_0)
    (void)version;
    NOT_IN_THIS_VERSION();
#else
    use_generator();
    SSL_CTX *client = new_client(version);
    certificate(ECDSA_CERT);
    fails_of_length = -1;
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());
    if (server)
        ready(server);
    fails_of_length = 0;
    say_queue("queue after SSL_CTX_new");
    say_failures("failed");
    say("made", "%d", server != NULL);
    if (!server)
        return;
    say("no ticket", "%d", (SSL_CTX_get_options(server) & SSL_OP_NO_TICKET) != 0);
    NEED(SSL_CTX_use_certificate(server, certificate(ECDSA_CERT)) == 1 &&
         SSL_CTX_use_PrivateKey(server, private_key(ECDSA_CERT)) == 1);
    record_callbacks(server);
    SSL_SESSION_free(visit("first", server, client, NULL, "a.test"));
#endif
}

/* It fails while SSL_new runs, which needs none. */
static void generator_fails_in_ssl_new(int version)
{
#if defined(OPENSSL_NO_DEPRECATED_3_0)
    (void)version;
    NOT_IN_THIS_VERSION();
#else
    use_generator();
    SSL_CTX *server = new_server(version), *client = new_client(version);
    ready(server);
    failures = 0;
    fails_of_length = -1;
    SSL *ssl = OBSERVED("SSL_new", SSL_new(server));
    fails_of_length = 0;
    say_failures("failed");
    say("made", "%d", ssl != NULL);
    SSL_free(ssl);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(first ? visit("second", server, client, first, "a.test") : NULL);
#endif
}

/* It fails at the first connections, from where libssl has all that it needs but for tickets. */
static void fail_when_finished(int sent, int version, int type, const void *data, size_t len, SSL *ssl,
                               void *arg)
{
#if !defined(OPENSSL_NO_DEPRECATED_3_0)
    (void)version, (void)ssl, (void)arg;
    if (!sent && type == SSL3_RT_HANDSHAKE && len > 0 && *(const unsigned char *)data == 20)
        fails_of_length = *(int *)arg;
#else
    (void)sent, (void)version, (void)type, (void)data, (void)len, (void)ssl, (void)arg;
#endif
}

static void generator_fails_at_tickets(int version)
{
#if defined(OPENSSL_NO_DEPRECATED_3_0)
    (void)version, (void)fail_when_finished;
    NOT_IN_THIS_VERSION();
#else
    static int length = 16;
    use_generator();
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_msg_callback(server, fail_when_finished);
    for (int i = 0; i < 3; i++) {
        struct connection conn;
        static const char *const LABELS[] = {"first", "second", "third"};
        begin(&conn, LABELS[i], server, client, NULL, "a.test");
        SSL_set_msg_callback_arg(conn.server, &length);
        shake(&conn);
        fails_of_length = 0;
        report(&conn);
        SSL_SESSION_free(finish(&conn));
    }
#endif
}

/* Only numbers of 16 bytes fail, in the midst of service: what an initialisation vector takes. */
static void generator_fails_at_resumption(int version)
{
#if defined(OPENSSL_NO_DEPRECATED_3_0)
    (void)version;
    NOT_IN_THIS_VERSION();
#else
    use_generator();
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    fails_of_length = 16;
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_SESSION_free(visit("third", server, client, first, "a.test"));
    fails_of_length = 0;
    SSL_SESSION_free(visit("fourth", server, client, first, "a.test"));
#endif
}

/* --- async jobs --- */

#if !defined(OPENSSL_NO_ASYNC)
static int pause_in_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert, (void)arg;
    event(ssl, "servername, in a job: %d", ASYNC_get_current_job() != NULL);
    if (ASYNC_get_current_job())
        ASYNC_pause_job();
    return SSL_TLSEXT_ERR_OK;
}

static int pause_in_ticket(SSL *ssl, void *arg)
{
    (void)arg;
    event(ssl, "generate, in a job: %d", ASYNC_get_current_job() != NULL);
    if (ASYNC_get_current_job())
        ASYNC_pause_job();
    return 1;
}

static SSL_TICKET_RETURN pause_in_decrypt(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                          size_t len, SSL_TICKET_STATUS status, void *arg)
{
    (void)session, (void)name, (void)len, (void)arg;
    event(ssl, "decrypt %d, in a job: %d", (int)status, ASYNC_get_current_job() != NULL);
    if (ASYNC_get_current_job())
        ASYNC_pause_job();
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}
#endif

static void async_jobs(int version)
{
#if defined(OPENSSL_NO_ASYNC)
    (void)version;
    NOT_IN_THIS_VERSION();
#else
    if (!ASYNC_is_capable()) {
        NOT_IN_THIS_VERSION();
        return;
    }
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_mode(server, SSL_MODE_ASYNC);
    SSL_CTX_set_tlsext_servername_callback(server, pause_in_name);
    SSL_CTX_set_session_ticket_cb(server, pause_in_ticket, pause_in_decrypt, NULL);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION *second = first ? visit("second", server, client, first, "a.test") : NULL;
    SSL_SESSION_free(first ? visit("third", server, client, second ? second : first, "a.test") : NULL);
#endif
}

/* Two jobs at once on one thread, each paused in the midst of its ticket. */
static void async_interleaved(int version)
{
#if defined(OPENSSL_NO_ASYNC)
    (void)version;
    NOT_IN_THIS_VERSION();
#else
    if (!ASYNC_is_capable()) {
        NOT_IN_THIS_VERSION();
        return;
    }
    struct connection one, two;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_mode(server, SSL_MODE_ASYNC);
    SSL_CTX_set_tlsext_servername_callback(server, pause_in_name);
    SSL_CTX_set_session_ticket_cb(server, pause_in_ticket, pause_in_decrypt, NULL);
    SSL_SESSION *a = visit("a", server, client, NULL, "a.test");
    SSL_SESSION *b = visit("b", server, client, NULL, "b.test");
    begin(&one, "a again", server, client, a, "a.test");
    begin(&two, "b again", server, client, b, "b.test");
    for (int i = 0; i < 10; i++) {
        struct connection *conns[] = {&one, &two};
        for (int k = 0; k < 2; k++) {
            if (conns[k]->client_is != SSL_ERROR_NONE)
                step_client(conns[k]);
            if (conns[k]->server_is != SSL_ERROR_NONE)
                step_server(conns[k]);
        }
    }
    exchange(&one);
    exchange(&two);
    report(&one);
    report(&two);
    SSL_SESSION_free(finish(&one));
    SSL_SESSION_free(finish(&two));
#endif
}

const struct scenario TRACES[] = {
    IN_BOTH(error_put_in_callback),
    IN_BOTH(error_put_when_done),
    IN_BOTH(rounding),
    IN_13(signals),
    IN_13(generator_fails_in_ctx_new),
    IN_13(generator_fails_in_ssl_new),
    IN_BOTH(generator_fails_at_tickets),
    IN_BOTH(generator_fails_at_resumption),
    IN_BOTH(async_jobs),
    IN_BOTH(async_interleaved),
    {0},
};
