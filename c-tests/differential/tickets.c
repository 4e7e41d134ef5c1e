/* Tickets: how many, whose keys, and who is asked. */

#include "differential.h"

#include <openssl/hmac.h>
#if IS_3
#include <openssl/core_names.h>
#include <openssl/params.h>
#endif

static void number_of_tickets(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    for (size_t wanted = 0; wanted <= 4; wanted++) {
        char label[2][32];
        snprintf(label[0], sizeof label[0], "full for %zu", wanted);
        snprintf(label[1], sizeof label[1], "resumed for %zu", wanted);
        NEED(SSL_CTX_set_num_tickets(server, wanted) == 1);
        SSL_SESSION *first = visit(label[0], server, client, NULL, "a.test");
        SSL_SESSION_free(first ? visit(label[1], server, client, first, "a.test") : NULL);
        SSL_SESSION_free(first);
    }
    say("of the context", "%zu", SSL_CTX_get_num_tickets(server));
}

static void number_of_tickets_of_a_connection(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    begin(&conn, "three", server, client, NULL, "a.test");
    SSL_set_num_tickets(conn.server, 3);
    shake(&conn);
    say("of the connection", "%zu", SSL_get_num_tickets(conn.server));
    report(&conn);
    SSL_SESSION *first = finish(&conn);
    begin(&conn, "none", server, client, first, "a.test");
    SSL_set_num_tickets(conn.server, 0);
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));
    SSL_SESSION_free(first);
}

static void ticket_asked_for(int version)
{
#if IS_3
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_num_tickets(server, 0);
    begin(&conn, "first", server, client, NULL, "a.test");
    shake(&conn);
    for (int i = 0; i < 3; i++) {
        char key[32];
        snprintf(key, sizeof key, "asked %d", i);
        int rc = OBSERVED(key, SSL_new_session_ticket(conn.server));
        snprintf(key, sizeof key, "answer %d", i);
        say(key, "%d", rc);
    }
    exchange(&conn);
    report(&conn);
    SSL_SESSION *first = finish(&conn);
    SSL_SESSION_free(first ? visit("second", server, client, first, "a.test") : NULL);
    SSL_SESSION_free(first);
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

/* On a resumed connection. */
static void ticket_asked_for_when_resumed(int version)
{
#if IS_3
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    begin(&conn, "second", server, client, first, "a.test");
    shake(&conn);
    say("asked", "%d", SSL_new_session_ticket(conn.server));
    exchange(&conn);
    report(&conn);
    SSL_SESSION *second = finish(&conn);
    SSL_SESSION_free(visit("third", server, client, second, "a.test"));
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

static void no_tickets(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_options(server, SSL_OP_NO_TICKET);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(first ? visit("second", server, client, first, "a.test") : NULL);
    SSL_SESSION_free(first);
}

/* The client does without; then only the other way round. */
static void client_without_tickets(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX *without = new_client(version);
    SSL_CTX_set_options(without, SSL_OP_NO_TICKET);
    SSL_SESSION *first = visit("without", server, without, NULL, "a.test");
    SSL_SESSION_free(first ? visit("with its session", server, client, first, "a.test") : NULL);
    SSL_SESSION *second = visit("with", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("its ticket without", server, without, second, "a.test"));
}

/* Tickets switched off and on on one connection only. */
static void no_tickets_on_connection(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    begin(&conn, "off", server, client, first, "a.test");
    SSL_set_options(conn.server, SSL_OP_NO_TICKET);
    shake(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));
    SSL_SESSION_free(visit("on", server, client, first, "a.test"));
}

static void wrong_tickets(int version)
{
    static const struct {
        const char *label;
        long at;
    } WHERE[] = {{"name", 0}, {"name's end", 15}, {"iv", 16}, {"body", 40}, {"mac", -1}};
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    for (size_t i = 0; i < sizeof WHERE / sizeof *WHERE; i++) {
        SSL_SESSION *wrong = flipped(first, WHERE[i].at);
        SSL_SESSION_free(visit(WHERE[i].label, server, client, wrong, "a.test"));
        SSL_SESSION_free(wrong);
    }
    SSL_SESSION_free(visit("right", server, client, first, "a.test"));
    say_counts("counts", server);
    SSL_SESSION_free(first);
}

/* Whatever bytes a client sends. */
static void garbage_tickets(int version)
{
    static const int LENGTHS[] = {0, 1, 15, 16, 31, 32, 47, 48, 64, 80, 1000, 16000};
    SSL_CTX *server = new_server(version), *client = new_client(version);
    unsigned char *garbage = malloc(16000);
    memset(garbage, 0x5a, 16000);
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        struct connection conn;
        char label[32];
        snprintf(label, sizeof label, "%d bytes", LENGTHS[i]);
        begin(&conn, label, server, client, NULL, "a.test");
        SSL_set_session_ticket_ext(conn.client, garbage, LENGTHS[i]);
        shake(&conn);
        report(&conn);
        SSL_SESSION_free(finish(&conn));
    }
    free(garbage);
}

static void timeouts(int version)
{
    static const long TIMEOUTS[] = {1, 300, 86400, 30L * 86400, 0};
    SSL_CTX *server = new_server(version), *client = new_client(version);
    for (size_t i = 0; i < sizeof TIMEOUTS / sizeof *TIMEOUTS; i++) {
        char label[3][64], key[32];
        SSL_CTX_set_timeout(server, TIMEOUTS[i]);
        long set = (long)SSL_CTX_get_timeout(server);
        snprintf(label[0], sizeof label[0], "timeout %ld", TIMEOUTS[i]);
        snprintf(label[1], sizeof label[1], "timeout %ld, in time", TIMEOUTS[i]);
        snprintf(label[2], sizeof label[2], "timeout %ld, too late", TIMEOUTS[i]);
        snprintf(key, sizeof key, "set for %ld", TIMEOUTS[i]);
        say(key, "%ld", set);
        SSL_SESSION *first = visit(label[0], server, client, NULL, "a.test");
        if (set > 10)
            SSL_SESSION_free(visit(label[1], server, client, first, "a.test"));
        time_offset += (set ? set : 7200) + 60;
        SSL_SESSION_free(visit(label[2], server, client, first, "a.test"));
        SSL_SESSION_free(first);
    }
}

/* The timeout is set when the context serves already. */
static void timeout_changed(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_CTX_set_timeout(server, 100);
    SSL_SESSION *second = visit("of another timeout", server, client, first, "a.test");
    SSL_SESSION_free(visit("full", server, client, NULL, "a.test"));
    time_offset += 3600;
    SSL_SESSION_free(visit("an hour later", server, client, first, "a.test"));
    SSL_SESSION_free(second ? visit("the second an hour later", server, client, second, "a.test") : NULL);
}

/* --- the server's own keys --- */

enum { NAME_LEN = 16, KEYS_LEN = 80 };

static int answer_at_opening = 1;

#if !defined(OPENSSL_NO_DEPRECATED_3_0)
static int own_hmac_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                             HMAC_CTX *mac, int enc)
{
    static const unsigned char KEY[32] = "the server's own key for tickets";
    event(ssl, "own callback %d", enc);
    if (enc) {
        memcpy(name, "the server's key", NAME_LEN);
        RAND_bytes(iv, 16);
    } else if (memcmp(name, "the server's key", NAME_LEN) != 0) {
        return 0;
    }
    EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, KEY, iv, enc);
    HMAC_Init_ex(mac, KEY, sizeof KEY, EVP_sha256(), NULL);
    return enc ? 1 : answer_at_opening;
}
#endif

#if IS_3
static int own_evp_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                            EVP_MAC_CTX *mac, int enc)
{
    static unsigned char key[32] = "the server's own key for tickets";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key, sizeof key),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    event(ssl, "own callback %d", enc);
    if (enc) {
        memcpy(name, "the server's key", NAME_LEN);
        RAND_bytes(iv, 16);
    } else if (memcmp(name, "the server's key", NAME_LEN) != 0) {
        return 0;
    }
    EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key, iv, enc);
    EVP_MAC_CTX_set_params(mac, parameters);
    return enc ? 1 : answer_at_opening;
}
#endif

/* Every answer that an own callback may give at opening. */
static void try_own_callback(SSL_CTX *server, int version)
{
    SSL_CTX *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    for (answer_at_opening = 0; answer_at_opening <= 2; answer_at_opening++) {
        char label[32];
        snprintf(label, sizeof label, "answer %d", answer_at_opening);
        SSL_SESSION_free(visit(label, server, client, first, "a.test"));
    }
    SSL_SESSION_free(first);
}

static void own_hmac(int version)
{
#if defined(OPENSSL_NO_DEPRECATED_3_0)
    (void)version;
    NOT_IN_THIS_VERSION();
#else
    SSL_CTX *server = new_server(version);
    say("set", "%ld", OBSERVED("setting", SSL_CTX_set_tlsext_ticket_key_cb(server, own_hmac_callback)));
    try_own_callback(server, version);
#endif
}

static void own_evp(int version)
{
#if IS_3
    SSL_CTX *server = new_server(version);
    say("set", "%d",
        OBSERVED("setting", SSL_CTX_set_tlsext_ticket_key_evp_cb(server, own_evp_callback)));
    try_own_callback(server, version);
#else
    (void)version;
    NOT_IN_THIS_VERSION();
#endif
}

/* Set when the context serves already, and taken off again. */
static void own_callback_in_service(int version)
{
#if defined(OPENSSL_NO_DEPRECATED_3_0)
    (void)version;
    NOT_IN_THIS_VERSION();
#else
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    say("set", "%ld", OBSERVED("setting", SSL_CTX_set_tlsext_ticket_key_cb(server, own_hmac_callback)));
    SSL_SESSION_free(visit("before", server, client, first, "a.test"));
    SSL_SESSION *second = visit("second", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("third", server, client, second, "a.test"));
    say("taken off", "%ld", OBSERVED("taking off", SSL_CTX_set_tlsext_ticket_key_cb(server, NULL)));
    SSL_SESSION_free(visit("after", server, client, second, "a.test"));
    SSL_SESSION_free(visit("full", server, client, NULL, "a.test"));
#endif
}

static void own_keys(int version)
{
    unsigned char keys[KEYS_LEN], got[KEYS_LEN];
    SSL_CTX *one = new_server(version), *other = new_server(version), *client = new_client(version);
    for (int i = 0; i < KEYS_LEN; i++)
        keys[i] = (unsigned char)(i + 1);
    say("length", "%ld", OBSERVED("asking", SSL_CTX_set_tlsext_ticket_keys(one, NULL, 0)));
    say("too short", "%ld", OBSERVED("too short a key", SSL_CTX_set_tlsext_ticket_keys(one, keys, 10)));
    say("set", "%ld %ld", OBSERVED("setting", SSL_CTX_set_tlsext_ticket_keys(one, keys, KEYS_LEN)),
        SSL_CTX_set_tlsext_ticket_keys(other, keys, KEYS_LEN));
    say("got", "%ld, %s", OBSERVED("getting", SSL_CTX_get_tlsext_ticket_keys(one, got, KEYS_LEN)),
        memcmp(keys, got, KEYS_LEN) == 0 ? "as set" : "others");
    SSL_SESSION *first = visit("first", one, client, NULL, "a.test");
    SSL_SESSION_free(visit("at one", one, client, first, "a.test"));
    SSL_SESSION_free(visit("at the other", other, client, first, "a.test"));
    say("got in service", "%ld, %s", SSL_CTX_get_tlsext_ticket_keys(one, got, KEYS_LEN),
        memcmp(keys, got, KEYS_LEN) == 0 ? "as set" : "others");
    const unsigned char *ticket;
    size_t len;
    SSL_SESSION_get0_ticket(first, &ticket, &len);
    say("the ticket's key", "%s", len > NAME_LEN && memcmp(ticket, keys, NAME_LEN) == 0 ? "own" : "another");
    SSL_SESSION_free(first);
}

/* Keys are changed while the context serves: the old ticket is no longer good. */
static void own_keys_rotated(int version)
{
    unsigned char keys[KEYS_LEN];
    SSL_CTX *server = new_server(version), *client = new_client(version);
    memset(keys, 1, sizeof keys);
    SSL_CTX_set_tlsext_ticket_keys(server, keys, KEYS_LEN);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    memset(keys, 2, sizeof keys);
    SSL_CTX_set_tlsext_ticket_keys(server, keys, KEYS_LEN);
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

/* --- session_ticket_cb --- */

static int generate_answer = 1;
static SSL_TICKET_RETURN decrypt_answer = SSL_TICKET_RETURN_USE;

static int on_generate(SSL *ssl, void *arg)
{
    event(ssl, "generate %s", (const char *)arg);
    SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), "appdata", 7);
    return generate_answer;
}

static SSL_TICKET_RETURN on_decrypt(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                    size_t name_len, SSL_TICKET_STATUS status, void *arg)
{
    void *data = NULL;
    size_t len = 0;
    (void)name, (void)arg;
    if (session)
        SSL_SESSION_get0_ticket_appdata(session, &data, &len);
    event(ssl, "decrypt: status %d, session %s, name of %zu, data %.*s", (int)status,
          session ? "there" : "none", name_len, (int)len, len ? (char *)data : "");
    /* What cannot be used must not be said to be. */
    int uses = decrypt_answer == SSL_TICKET_RETURN_USE || decrypt_answer == SSL_TICKET_RETURN_USE_RENEW;
    return uses && !session ? SSL_TICKET_RETURN_IGNORE_RENEW : decrypt_answer;
}

static void ticket_callbacks(int version)
{
    static const struct {
        const char *name;
        SSL_TICKET_RETURN answer;
    } ANSWERS[] = {{"use", SSL_TICKET_RETURN_USE},
                   {"use and renew", SSL_TICKET_RETURN_USE_RENEW},
                   {"ignore", SSL_TICKET_RETURN_IGNORE},
                   {"ignore and renew", SSL_TICKET_RETURN_IGNORE_RENEW},
                   {"abort", SSL_TICKET_RETURN_ABORT}};
    SSL_CTX *server = new_server(version), *client = new_client(version);
    say("set", "%d", SSL_CTX_set_session_ticket_cb(server, on_generate, on_decrypt, (void *)"arg"));
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION *wrong = flipped(first, 0);
    for (size_t i = 0; i < sizeof ANSWERS / sizeof *ANSWERS; i++) {
        char label[48];
        decrypt_answer = ANSWERS[i].answer;
        SSL_SESSION_free(visit(ANSWERS[i].name, server, client, first, "a.test"));
        snprintf(label, sizeof label, "%s, of an unknown key", ANSWERS[i].name);
        SSL_SESSION_free(visit(label, server, client, wrong, "a.test"));
    }
    decrypt_answer = SSL_TICKET_RETURN_USE;
    generate_answer = 0;
    SSL_SESSION_free(visit("nothing generated", server, client, NULL, "a.test"));
    generate_answer = 1;
    SSL_SESSION_free(first);
    SSL_SESSION_free(wrong);
}

/* At another context with the same callback: what the data says belongs to the first. */
static void ticket_callback_elsewhere(int version)
{
    SSL_CTX *one = new_server(version), *other = new_server(version), *client = new_client(version);
    SSL_CTX_set_session_ticket_cb(one, on_generate, on_decrypt, (void *)"one");
    SSL_CTX_set_session_ticket_cb(other, on_generate, on_decrypt, (void *)"other");
    SSL_SESSION *first = visit("first", one, client, NULL, "a.test");
    SSL_SESSION_free(visit("at the other", other, client, first, "a.test"));
    SSL_SESSION_free(first);
}

const struct scenario TICKETS[] = {
    IN_BOTH(number_of_tickets),
    IN_13(number_of_tickets_of_a_connection),
    IN_BOTH(ticket_asked_for),
    IN_13(ticket_asked_for_when_resumed),
    IN_BOTH(no_tickets),
    IN_BOTH(client_without_tickets),
    IN_BOTH(no_tickets_on_connection),
    IN_BOTH(wrong_tickets),
    IN_12(garbage_tickets),
    IN_BOTH(timeouts),
    IN_BOTH(timeout_changed),
    IN_BOTH(own_hmac),
    IN_BOTH(own_evp),
    IN_BOTH(own_callback_in_service),
    IN_BOTH(own_keys),
    IN_BOTH(own_keys_rotated),
    IN_BOTH(ticket_callbacks),
    IN_BOTH(ticket_callback_elsewhere),
    {0},
};
