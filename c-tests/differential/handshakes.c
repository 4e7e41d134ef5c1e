/* The ways through a handshake. */

#include "differential.h"

static void full(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION_free(visit("first", server, client, NULL, "a.test"));
    say_counts("counts", server);
    OBSERVED_VOID("SSL_CTX_free", SSL_CTX_free(server));
    SSL_CTX_free(client);
}

static void resumed(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION *second = visit("second", server, client, first, "a.test");
    SSL_SESSION_free(visit("first again", server, client, first, "a.test"));
    SSL_SESSION_free(visit("third", server, client, second ? second : first, "a.test"));
    say_counts("counts", server);
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
    OBSERVED_VOID("SSL_CTX_free", SSL_CTX_free(server));
    SSL_CTX_free(client);
}

/* One certificate, one service: only a shared key resumes here. */
static void another_context(int version)
{
    SSL_CTX *one = new_server(version), *other = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", one, client, NULL, "a.test");
    SSL_SESSION *second = visit("at the other", other, client, first, "a.test");
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
    OBSERVED_VOID("SSL_CTX_free of one", SSL_CTX_free(one));
    OBSERVED_VOID("SSL_CTX_free of the other", SSL_CTX_free(other));
    SSL_CTX_free(client);
}

/* Any version, as most servers are. */
static void versions(int version)
{
    SSL_CTX *server = new_server(0);
    SSL_CTX *clients[] = {new_client(TLS1_2_VERSION), new_client(TLS1_3_VERSION)};
    const char *const labels[][2] = {{"1.2", "1.2 again"}, {"1.3", "1.3 again"}};
    (void)version;
    SSL_SESSION *sessions[2];
    for (int i = 0; i < 2; i++) {
        sessions[i] = visit(labels[i][0], server, clients[i], NULL, "a.test");
        SSL_SESSION_free(visit(labels[i][1], server, clients[i], sessions[i], "a.test"));
    }
    /* A ticket of one version, in the other. */
    SSL_CTX *any = new_client(0);
    SSL_SESSION_free(visit("1.2 in any", server, any, sessions[0], "a.test"));
    SSL_SESSION_free(visit("1.3 in any", server, any, sessions[1], "a.test"));
    SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
    SSL_SESSION_free(visit("1.3 in 1.2", server, any, sessions[1], "a.test"));
    say_counts("counts", server);
}

static void hello_retry(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set1_groups_list(server, "P-384");
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

/* A resumption that changes nothing but the key exchange. */
static void psk_only(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_options(server, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_CTX_set_options(client, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

/* --- early data --- */

static const char *name_of_status(int status)
{
    static const char *const STATUS[] = {"not sent", "rejected", "accepted"};
    return status >= 0 && status < 3 ? STATUS[status] : "?";
}

static SSL_SESSION *visit_early(const char *label, SSL_CTX *server, SSL_CTX *client,
                                SSL_SESSION *offered)
{
    struct connection conn;
    struct text text = {0};
    char key[64], bytes[64];
    size_t len = 0, written = 0;
    begin(&conn, label, server, client, offered, "a.test");
    if (SSL_SESSION_get_max_early_data(offered) > 0)
        add_word(&text, "client wrote %d",
                 SSL_write_early_data(conn.client, "early", 5, &written));
    for (int i = 0; i < 4; i++) {
        enter(0);
        int rc = SSL_read_early_data(conn.server, bytes, sizeof bytes, &len);
        left(&text);
        add_word(&text, "server read %d, %zu bytes", rc, len);
        if (rc != SSL_READ_EARLY_DATA_SUCCESS)
            break;
    }
    shake(&conn);
    add_word(&text, "server: %s", name_of_status(SSL_get_early_data_status(conn.server)));
    add_word(&text, "client: %s", name_of_status(SSL_get_early_data_status(conn.client)));
    snprintf(key, sizeof key, "%s, early data", label);
    say(key, "%s", text.bytes);
    report(&conn);
    return finish(&conn);
}

static void try_early_data(SSL_CTX *server, SSL_CTX *client)
{
    SSL_CTX_set_max_early_data(server, 1024);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION *second = visit_early("second", server, client, first);
    SSL_SESSION_free(visit_early("first again", server, client, first));
    SSL_SESSION_free(second ? visit_early("third", server, client, second) : NULL);
    say_counts("counts", server);
}

static void early_data(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_session_cache_mode(server, SSL_SESS_CACHE_SERVER);
    try_early_data(server, new_client(version));
}

static void early_data_without_cache(int version)
{
    try_early_data(new_server(version), new_client(version));
}

static void early_data_no_anti_replay(int version)
{
    SSL_CTX *server = new_server(version);
    SSL_CTX_set_options(server, SSL_OP_NO_ANTI_REPLAY);
    try_early_data(server, new_client(version));
}

static int allow_early(SSL *ssl, void *arg)
{
    event(ssl, "may early data");
    return *(int *)arg;
}

static void early_data_callback(int version)
{
    static int answer;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_options(server, SSL_OP_NO_ANTI_REPLAY);
    SSL_CTX_set_max_early_data(server, 1024);
    SSL_CTX_set_allow_early_data_cb(server, allow_early, &answer);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit_early("refused", server, client, first));
    answer = 1;
    SSL_SESSION_free(visit_early("allowed", server, client, first));
    SSL_SESSION_free(first);
}

/* --- external PSK --- */

static const unsigned char PSK[32] = "a key that both sides know befor";

#ifndef OPENSSL_NO_PSK
static unsigned psk_server_12(SSL *ssl, const char *identity, unsigned char *psk, unsigned max)
{
    event(ssl, "psk for %s", identity);
    memcpy(psk, PSK, sizeof PSK);
    return max >= sizeof PSK ? sizeof PSK : 0;
}

static unsigned psk_client_12(SSL *ssl, const char *hint, char *identity, unsigned max_identity,
                              unsigned char *psk, unsigned max)
{
    (void)ssl, (void)hint;
    snprintf(identity, max_identity, "client");
    memcpy(psk, PSK, sizeof PSK);
    return max >= sizeof PSK ? sizeof PSK : 0;
}
#endif

static SSL_SESSION *psk_session(SSL *ssl)
{
    static const unsigned char AES_128_GCM[] = {0x13, 0x01};
    SSL_SESSION *session = SSL_SESSION_new();
    NEED(session && SSL_SESSION_set1_master_key(session, PSK, sizeof PSK) == 1 &&
         SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, AES_128_GCM)) == 1 &&
         SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1);
    return session;
}

static int psk_find(SSL *ssl, const unsigned char *identity, size_t len, SSL_SESSION **session)
{
    int is_ours = len == 6 && memcmp(identity, "client", 6) == 0;
    event(ssl, "psk for %s", is_ours ? "client" : "another");
    *session = is_ours ? psk_session(ssl) : NULL;
    return 1;
}

static int psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **identity, size_t *len,
                   SSL_SESSION **session)
{
    (void)md;
    *identity = (const unsigned char *)"client";
    *len = 6;
    *session = psk_session(ssl);
    return 1;
}

static void external_psk(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    if (version == TLS1_3_VERSION) {
        SSL_CTX_set_psk_find_session_callback(server, psk_find);
        SSL_CTX_set_psk_use_session_callback(client, psk_use);
    } else {
#ifdef OPENSSL_NO_PSK
        NOT_IN_THIS_VERSION();
        return;
#else
        SSL_CTX_set_psk_server_callback(server, psk_server_12);
        SSL_CTX_set_psk_client_callback(client, psk_client_12);
        NEED(SSL_CTX_set_cipher_list(client, "PSK-AES128-CBC-SHA256:@SECLEVEL=0") == 1);
        NEED(SSL_CTX_set_cipher_list(server, "PSK-AES128-CBC-SHA256:@SECLEVEL=0") == 1);
#endif
    }
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("its ticket", server, client, first, "a.test"));
    SSL_SESSION_free(visit("psk again", server, client, NULL, "a.test"));
    SSL_SESSION_free(first);
}

/* A ticket where the server would also find a PSK: who is asked, in which order. */
static void ticket_and_psk_callback(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_psk_find_session_callback(server, psk_find);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

/* --- after the handshake --- */

static void pump(struct connection *conn, int times)
{
    for (int i = 0; i < times; i++) {
        read_client(conn);
        read_server(conn);
    }
}

static void key_update(int version)
{
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    begin(&conn, "second", server, client, first, "a.test");
    shake(&conn);
    say("asked for", "%d %d", SSL_key_update(conn.server, SSL_KEY_UPDATE_REQUESTED),
        SSL_key_update(conn.client, SSL_KEY_UPDATE_NOT_REQUESTED));
    step_server(&conn);
    step_client(&conn);
    exchange(&conn);
    pump(&conn, 1);
    exchange(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));
    SSL_SESSION_free(first);
}

static void renegotiate(int abbreviated)
{
    struct connection conn;
    SSL_CTX *server = new_server(TLS1_2_VERSION), *client = new_client(TLS1_2_VERSION);
#ifdef SSL_OP_ALLOW_CLIENT_RENEGOTIATION
    SSL_CTX_set_options(server, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
#endif
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    begin(&conn, "second", server, client, first, "a.test");
    shake(&conn);
    say("asked for", "%d", abbreviated ? SSL_renegotiate_abbreviated(conn.client)
                                       : SSL_renegotiate(conn.server));
    if (abbreviated)
        step_client(&conn);
    else
        step_server(&conn);
    pump(&conn, 4);
    say("renegotiated", "%ld %ld", SSL_num_renegotiations(conn.server),
        SSL_num_renegotiations(conn.client));
    exchange(&conn);
    report(&conn);
    SSL_SESSION *second = finish(&conn);
    SSL_SESSION_free(visit("third", server, client, second ? second : first, "a.test"));
    say_counts("counts", server);
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
}

static void renegotiation(int version)
{
    (void)version;
    renegotiate(0);
}

static void renegotiation_by_client(int version)
{
    (void)version;
    renegotiate(1);
}

static void dtls(int version)
{
    (void)version;
#ifdef OPENSSL_NO_DTLS
    NOT_IN_THIS_VERSION();
#else
    SSL_CTX *client = SSL_CTX_new(DTLS_client_method());
    SSL_CTX *server = OBSERVED("SSL_CTX_new for DTLS", SSL_CTX_new(DTLS_server_method()));
    NEED(client && server);
    NEED(SSL_CTX_use_certificate(server, certificate(ECDSA_CERT)) == 1);
    NEED(SSL_CTX_use_PrivateKey(server, private_key(ECDSA_CERT)) == 1);
    SSL_CTX_set_session_id_context(server, (const unsigned char *)"dtls", 4);
    record_callbacks(server);
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(client, on_new_session);
    SSL_CTX_set_max_proto_version(client, DTLS1_2_VERSION);
    SSL_SESSION *session = NULL;
    for (int i = 0; i < 2; i++) {
        struct connection conn;
        begin(&conn, i ? "second" : "first", server, client, session, "a.test");
        SSL_set_options(conn.client, SSL_OP_NO_QUERY_MTU);
        SSL_set_options(conn.server, SSL_OP_NO_QUERY_MTU);
        SSL_set_mtu(conn.client, 1400);
        SSL_set_mtu(conn.server, 1400);
        shake(&conn);
        report(&conn);
        SSL_SESSION *got = finish(&conn);
        if (!session)
            session = got;
    }
#endif
}

/* --- what goes wrong --- */

static void bad_client_hello(int version)
{
    static const char REQUEST[] = "GET / HTTP/1.0\r\n\r\n";
    struct connection conn;
    SSL_CTX *server = new_server(version), *client = new_client(version);
    begin(&conn, "plain HTTP", server, client, NULL, NULL);
    BIO_write(SSL_get_wbio(conn.client), REQUEST, sizeof REQUEST - 1);
    step_server(&conn);
    step_server(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));

    begin(&conn, "garbage", server, client, NULL, NULL);
    unsigned char record[5 + 60] = {22, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3};
    memset(record + 11, 0xa5, sizeof record - 11);
    BIO_write(SSL_get_wbio(conn.client), record, sizeof record);
    step_server(&conn);
    report(&conn);
    SSL_SESSION_free(finish(&conn));
    SSL_SESSION_free(visit("a good one after that", server, client, NULL, "a.test"));
}

/* A ClientHello with a ticket, cut anywhere: then the client is gone. */
static void truncated_client_hello(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    for (int part = 1; part <= 3; part++) {
        struct connection conn;
        char label[32], bytes[4096];
        snprintf(label, sizeof label, "cut at %d/4", part);
        begin(&conn, label, server, client, first, "a.test");
        step_client(&conn);
        int len = BIO_read(SSL_get_wbio(conn.server), bytes, sizeof bytes);
        NEED(len > 0);
        BIO_write(SSL_get_wbio(conn.client), bytes, len * part / 4);
        (void)BIO_shutdown_wr(SSL_get_wbio(conn.client));
        step_server(&conn);
        step_server(&conn);
        report(&conn);
        SSL_SESSION_free(finish(&conn));
    }
    SSL_SESSION_free(visit("again", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

/* The client vanishes in the midst. */
static void client_vanishes(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    for (int resumes = 0; resumes < 2; resumes++) {
        struct connection conn;
        begin(&conn, resumes ? "resuming" : "not resuming", server, client,
              resumes ? first : NULL, "a.test");
        step_client(&conn);
        step_server(&conn);
        (void)BIO_shutdown_wr(SSL_get_wbio(conn.client));
        step_server(&conn);
        report(&conn);
        SSL_SESSION_free(finish(&conn));
    }
    say_counts("counts", server);
    SSL_SESSION_free(first);
}

static void no_common_cipher(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_CTX_set_cipher_list(server, "ECDHE-ECDSA-AES256-GCM-SHA384");
    SSL_CTX_set_ciphersuites(server, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_cipher_list(client, "ECDHE-ECDSA-CHACHA20-POLY1305");
    SSL_CTX_set_ciphersuites(client, "TLS_CHACHA20_POLY1305_SHA256");
    SSL_SESSION_free(visit("nothing in common", server, client, NULL, "a.test"));
    SSL_SESSION_free(visit("with its ticket", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

/* The cipher of the ticket is no longer the server's. */
static void cipher_taken_away(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_cipher_list(client, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384");
    SSL_CTX_set_ciphersuites(client, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_cipher_list(server, "ECDHE-ECDSA-AES128-GCM-SHA256");
    SSL_CTX_set_ciphersuites(server, "TLS_AES_128_GCM_SHA256");
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_CTX_set_cipher_list(server, "ECDHE-ECDSA-AES256-GCM-SHA384");
    SSL_CTX_set_ciphersuites(server, "TLS_AES_256_GCM_SHA384");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    (void)arg;
    event(ssl, "alpn of %u bytes", in_len);
    *out = in + 1;
    *out_len = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static void alpn(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_alpn_select_cb(server, choose_protocol, NULL);
    SSL_CTX_set_alpn_protos(client, (const unsigned char *)"\x02h2\x08http/1.1", 12);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_CTX_set_alpn_protos(client, (const unsigned char *)"\x08http/1.1", 9);
    SSL_SESSION_free(visit("another protocol", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

static int staple(SSL *ssl, void *arg)
{
    unsigned char *response = OPENSSL_malloc(5);
    (void)arg;
    event(ssl, "status");
    memcpy(response, "ocsp!", 5);
    SSL_set_tlsext_status_ocsp_resp(ssl, response, 5);
    return SSL_TLSEXT_ERR_OK;
}

static void stapling(int version)
{
    SSL_CTX *server = new_server(version), *client = new_client(version);
    SSL_CTX_set_tlsext_status_cb(server, staple);
    SSL_CTX_set_tlsext_status_type(client, TLSEXT_STATUSTYPE_ocsp);
    SSL_SESSION *first = visit("first", server, client, NULL, "a.test");
    SSL_SESSION_free(visit("second", server, client, first, "a.test"));
    SSL_SESSION_free(first);
}

const struct scenario HANDSHAKES[] = {
    IN_BOTH(full),
    IN_BOTH(resumed),
    IN_BOTH(another_context),
    ANY(versions),
    IN_13(hello_retry),
    IN_13(psk_only),
    IN_13(early_data),
    IN_13(early_data_without_cache),
    IN_13(early_data_no_anti_replay),
    IN_13(early_data_callback),
    IN_BOTH(external_psk),
    IN_13(ticket_and_psk_callback),
    IN_13(key_update),
    IN_12(renegotiation),
    IN_12(renegotiation_by_client),
    ANY(dtls),
    IN_BOTH(bad_client_hello),
    IN_BOTH(truncated_client_hello),
    IN_BOTH(client_vanishes),
    IN_BOTH(no_common_cipher),
    IN_BOTH(cipher_taken_away),
    IN_BOTH(alpn),
    IN_BOTH(stapling),
    {0},
};
