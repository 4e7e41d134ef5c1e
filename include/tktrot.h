/*
 * libtktrot: TLS session ticket keys that rotate, are shared, and are gone
 * when they expire.
 *
 *     tkt_config cfg = TKT_CONFIG_INIT;
 *     cfg.rotate_every = 3600;
 *     int rc = tkt_install(ssl_ctx, &cfg);
 *     if (rc != TKT_OK)
 *         fprintf(stderr, "%s: %s\n", tkt_strerror(rc), tkt_last_error());
 *
 * Link with -ltktrot. Neither it nor this header needs a particular TLS
 * library: the one that the caller is linked with is used.
 */


#ifndef TKTROT_H
#define TKTROT_H

/* Generated from src/capi by cbindgen. To change it, change the docs there and run: make header */

#include <stddef.h>
#include <stdint.h>
/* The version of this header; tkt_version() returns that of the library. */
#define TKT_VERSION "0.1.0"

/* Of the TLS library; its own headers define them. */
struct ssl_st;
struct ssl_ctx_st;
struct ssl_method_st;
struct evp_cipher_st;
struct evp_cipher_ctx_st;
struct evp_md_st;
struct evp_mac_ctx_st;
struct hmac_ctx_st;
struct x509_st;
struct ssl_session_st;
struct X509_name_st;
struct engine_st;
struct ossl_param_st;

/**
 * Success.
 */
#define TKT_OK 0

/**
 * An argument is NULL or invalid.
 */
#define TKT_ERR_ARGUMENT -1

/**
 * A setting is invalid: a field of the configuration or, in strict mode, a
 * variable of the environment.
 */
#define TKT_ERR_CONFIG -2

/**
 * No usable TLS library was found, or it refused the callback.
 */
#define TKT_ERR_TLS -3

/**
 * Strict mode only: the ring cannot be used as configured, or its keys cannot be protected.
 */
#define TKT_ERR_RING -4

/**
 * No callback is left for one more context: tkt_install() says how many there are.
 */
#define TKT_ERR_POOL -5

/**
 * The context is not attached.
 */
#define TKT_ERR_NOT_INSTALLED -6

/**
 * The TLS library's random number generator failed.
 */
#define TKT_ERR_GENERATOR -7

/**
 * Another process is writing the ring and did not finish within two seconds,
 * or the ring's lock does not work.
 */
#define TKT_ERR_BUSY -8

/**
 * The ring is full, or gets no memory for another key.
 */
#define TKT_ERR_FULL -9

/**
 * Out of memory.
 */
#define TKT_ERR_MEMORY -10

/**
 * A bug in libtktrot.
 */
#define TKT_ERR_INTERNAL -11

/**
 * Bind tickets to nothing but the key: keys are made plain.
 */
#define TKT_BIND_NONE 1

/**
 * Bind tickets to the leaf certificate.
 */
#define TKT_BIND_CERT 2

/**
 * Bind tickets to the client-verification policy.
 */
#define TKT_BIND_VERIFY 4

/**
 * Bind tickets to the server name.
 */
#define TKT_BIND_SNI 8

/**
 * Renew tickets in TLS 1.3, not in TLS 1.2: what clients need.
 */
#define TKT_RENEW_AUTO 0

/**
 * Renew every ticket that is used.
 */
#define TKT_RENEW_ALWAYS 1

/**
 * Renew no ticket.
 */
#define TKT_RENEW_NEVER 2

/**
 * A thread rotates and erases when no handshake happens.
 */
#define TKT_UPKEEP_THREAD 0

/**
 * No thread: the callback rotates, and tkt_upkeep() does.
 */
#define TKT_UPKEEP_CALLBACK 1

/**
 * How the ticket keys of a context are kept. Initialise it with
 * `TKT_CONFIG_INIT`; a member that is 0 or NULL has its default.
 *
 * Strings are copied by the call that takes the struct.
 */
typedef struct tkt_config {
  /**
   * `sizeof(tkt_config)`, so that the struct can grow.
   */
  size_t size;
  /**
   * Name or absolute path of the ring. Default: the base name by which the
   * program was started (that of a link, if it was started by one).
   */
  const char *ring;
  /**
   * Directory of rings given by name; must be on tmpfs. Default: for root
   * /run/tktrot (/dev/shm/tktrot where /run is not on tmpfs); for others the
   * first that is theirs and on tmpfs of $RUNTIME_DIRECTORY and
   * /run/user/UID (there in tktrot), else /dev/shm/tktrot-UID.
   */
  const char *dir;
  /**
   * Label of the service: a ticket of another label does not open. At most
   * 255 bytes. Default: empty.
   */
  const char *label;
  /**
   * "stderr", "syslog", "none" or the absolute path of a file. The first
   * installation of a process decides. Default: stderr.
   */
  const char *log;
  /**
   * The most keys that may be in the ring, 8 to 16384; the last process that
   * sets it decides, but while an agent governs the ring no other process
   * lowers it. The ring takes memory as keys come. Default: 16384.
   */
  uint32_t capacity;
  /**
   * Seconds that a key encrypts, 1 to 86400, with `allow_long` 604800.
   * Default: 3600. Of several contexts and processes with one ring, the
   * shortest applies to all.
   */
  uint32_t rotate_every;
  /**
   * Seconds that a ticket lives, at most 7 days (more counts as that, and is
   * logged as a problem).
   * Default: the timeout of the SSL_CTX. The shortest applies to all, as for
   * `rotate_every`.
   */
  uint32_t lifetime;
  /**
   * How many seconds before a switch of keys the key after the next is in
   * the ring, at most half of `rotate_every`. Default: the longer of 5 s
   * and a tenth of `rotate_every`.
   */
  uint32_t lead;
  /**
   * `TKT_BIND_*`, added up: what tickets are bound to. Default: all parts.
   */
  uint32_t bind;
  /**
   * `TKT_RENEW_*`.
   */
  uint32_t renew;
  /**
   * `TKT_UPKEEP_*`.
   */
  uint32_t upkeep;
  /**
   * Not 0: a problem that would otherwise be worked around and logged is an error.
   */
  int32_t strict;
  /**
   * Not 0: `rotate_every` may be longer than 24 hours.
   */
  int32_t allow_long;
  /**
   * The `OSSL_LIB_CTX` that the SSL_CTX was made in (SSL_CTX_new_ex(3)), from
   * which ciphers, digests and random numbers come; it stays the caller's,
   * and outlives the SSL_CTX. Default: the default one.
   */
  void *libctx;
  /**
   * The property query that the SSL_CTX was made with, such as "fips=yes".
   * Default: none.
   */
  const char *properties;
} tkt_config;

/**
 * What has been counted on a ring, over all its processes since it was made,
 * and what its schedule is. Durations are seconds.
 */
typedef struct tkt_counters {
  /**
   * `sizeof(tkt_counters)`, so that the struct can grow.
   */
  size_t size;
  /**
   * Tickets sealed.
   */
  uint64_t issued;
  /**
   * Tickets opened with the active key; `not_resumed` of these and the next
   * were not resumed.
   */
  uint64_t resumed_active;
  /**
   * Tickets opened with a retired key.
   */
  uint64_t resumed_retired;
  /**
   * Tickets whose key name is not in the ring.
   */
  uint64_t unknown;
  /**
   * Tickets whose key had expired.
   */
  uint64_t expired;
  /**
   * Tickets that turned out to be of another scope.
   */
  uint64_t wrong_scope;
  /**
   * Calls into the TLS library that failed.
   */
  uint64_t errors;
  /**
   * Handshakes that went on without a ticket that can be resumed.
   */
  uint64_t unsealed;
  /**
   * Keys made.
   */
  uint64_t rotations;
  /**
   * Failures of the random number generator.
   */
  uint64_t generator_failures;
  /**
   * Writers that died while they held the lock; the next one repaired the ring.
   */
  uint64_t repairs;
  /**
   * Seconds that a key encrypts.
   */
  uint64_t rotate_every;
  /**
   * Seconds that a key decrypts after that.
   */
  uint64_t lifetime;
  /**
   * Keys that the ring holds at most.
   */
  uint64_t capacity;
  /**
   * Connections for which tickets are switched off (SSL_OP_NO_TICKET).
   */
  uint64_t tickets_off;
  /**
   * Connections whose TLS 1.3 tickets are the TLS library's own, because
   * early data is on without SSL_OP_NO_ANTI_REPLAY.
   */
  uint64_t anti_replay;
  /**
   * Always 0: QUIC listeners are served.
   */
  uint64_t quic;
  /**
   * Contexts that keep their own ticket keys.
   */
  uint64_t left_alone;
  /**
   * Tickets that were opened, and that the TLS library then did not resume:
   * its session id context differs, the session has expired, or the ticket is
   * bound to another scope.
   */
  uint64_t not_resumed;
} tkt_counters;

/**
 * `RAND_bytes`.
 */
typedef int (*tkt_rand_bytes_fn)(unsigned char*, size_t);

/**
 * `SSL_CTX_get_timeout`; returns 32 bits in BoringSSL.
 */
typedef long (*tkt_get_timeout_fn)(const struct ssl_ctx_st*);

/**
 * What `ex_data` calls when an object is duplicated. `from` is a `void **` with our pointer, which
 * the duplicate gets as it is left there; its type differs between versions.
 */
typedef int (*tkt_ex_dup_fn)(void *to,
                             const void *from_object,
                             void *from,
                             int idx,
                             long argl,
                             void *argp);

/**
 * What `ex_data` calls when an object with our pointer is freed (CRYPTO_get_ex_new_index(3)).
 */
typedef void (*tkt_ex_free_fn)(void *parent,
                               void *ptr,
                               void *ad,
                               int idx,
                               long argl,
                               void *argp);

/**
 * `CRYPTO_get_ex_new_index` of OpenSSL.
 */
typedef int (*tkt_crypto_index_fn)(int, long, void*, void*, tkt_ex_dup_fn, tkt_ex_free_fn);

/**
 * `SSL_CTX_get_ex_new_index` of BoringSSL, which duplicates nothing.
 */
typedef int (*tkt_ssl_ctx_index_fn)(long, void*, void*, tkt_ex_dup_fn, tkt_ex_free_fn);

/**
 * The EVP form of the ticket key callback (SSL_CTX_set_tlsext_ticket_key_evp_cb(3)).
 */
typedef int (*tkt_evp_callback)(struct ssl_st*,
                                unsigned char*,
                                unsigned char*,
                                struct evp_cipher_ctx_st*,
                                struct evp_mac_ctx_st*,
                                int);

/**
 * The HMAC form of the ticket key callback (SSL_CTX_set_tlsext_ticket_key_cb(3)).
 */
typedef int (*tkt_hmac_callback)(struct ssl_st*,
                                 unsigned char*,
                                 unsigned char*,
                                 struct evp_cipher_ctx_st*,
                                 struct hmac_ctx_st*,
                                 int);

/**
 * Any function pointer of C, as `SSL_CTX_callback_ctrl` takes it.
 */
typedef void (*tkt_any_fn)(void);

/**
 * `EVP_sha256`; an `EVP_MD` is an `env_md_st` in BoringSSL.
 */
typedef const struct evp_md_st *(*tkt_sha256_fn)(void);

/**
 * `HMAC_Init_ex`.
 */
typedef int (*tkt_hmac_init_fn)(struct hmac_ctx_st*,
                                const void*,
                                size_t,
                                const struct evp_md_st*,
                                struct engine_st*);

/**
 * `SSL_client_hello_get0_ext`.
 */
typedef int (*tkt_client_hello_ext_fn)(struct ssl_st*,
                                       unsigned int,
                                       const unsigned char**,
                                       size_t*);

/**
 * `SSL_session_reused`; its argument is const in newer versions.
 */
typedef int (*tkt_session_reused_fn)(const struct ssl_st*);

/**
 * `SSL_get_client_CA_list`: as for a context.
 */
typedef const void *(*tkt_ssl_client_ca_list_fn)(const struct ssl_st*);

/**
 * `X509_digest`.
 */
typedef int (*tkt_x509_digest_fn)(const struct x509_st*,
                                  const struct evp_md_st*,
                                  unsigned char*,
                                  unsigned int*);

/**
 * `SSL_CTX_get_client_CA_list`: a stack of X509_NAME, as its TLS library has them.
 */
typedef const void *(*tkt_client_ca_list_fn)(const struct ssl_ctx_st*);

/**
 * `OPENSSL_sk_num`; returns size_t in BoringSSL.
 */
typedef int (*tkt_sk_num_fn)(const void*);

/**
 * `OPENSSL_sk_value`; the index is size_t in BoringSSL.
 */
typedef void *(*tkt_sk_value_fn)(const void*, size_t);

/**
 * `X509_NAME_digest`.
 */
typedef int (*tkt_name_digest_fn)(const struct X509_name_st*,
                                  const struct evp_md_st*,
                                  unsigned char*,
                                  unsigned int*);

/**
 * `EVP_MD_fetch`; the first argument is an `OSSL_LIB_CTX`.
 */
typedef struct evp_md_st *(*tkt_md_fetch_fn)(void*, const char*, const char*);

/**
 * `EVP_CIPHER_fetch`.
 */
typedef struct evp_cipher_st *(*tkt_cipher_fetch_fn)(void*, const char*, const char*);

/**
 * `HMAC_CTX_copy`; the second is the one that is copied.
 */
typedef int (*tkt_hmac_copy_fn)(struct hmac_ctx_st*, struct hmac_ctx_st*);

/**
 * `ERR_set_mark` and `ERR_pop_to_mark`.
 */
typedef int (*tkt_err_mark_fn)(void);

/**
 * `RAND_bytes_ex`, `RAND_priv_bytes_ex`: the first argument is an `OSSL_LIB_CTX`.
 */
typedef int (*tkt_rand_bytes_ex_fn)(void*, unsigned char*, size_t, unsigned int);

/**
 * `EVP_default_properties_is_fips_enabled`; the argument is an `OSSL_LIB_CTX`.
 */
typedef int (*tkt_is_fips_fn)(void*);

/**
 * `SSL_get_client_random`.
 */
typedef size_t (*tkt_client_random_fn)(const struct ssl_st*, unsigned char*, size_t);

/**
 * `CRYPTO_get_ex_data`; the first argument is a `CRYPTO_EX_DATA`.
 */
typedef void *(*tkt_get_ex_data_fn)(const void*, int);

/**
 * `OPENSSL_thread_stop_ex`; the argument is an `OSSL_LIB_CTX`.
 */
typedef void (*tkt_thread_stop_fn)(void*);

/**
 * `ERR_get_state`.
 */
typedef void *(*tkt_err_state_fn)(void);

/**
 * `SSL_ctrl`.
 */
typedef long (*tkt_ssl_ctrl_fn)(struct ssl_st*, int, long, void*);

/**
 * `EVP_Digest`.
 */
typedef int (*tkt_digest_fn)(const void*,
                             size_t,
                             unsigned char*,
                             unsigned int*,
                             const struct evp_md_st*,
                             struct engine_st*);

/**
 * `SSL_CTX_get_cert_store`; an X509_STORE is opaque here.
 */
typedef void *(*tkt_cert_store_fn)(const struct ssl_ctx_st*);

/**
 * `X509_STORE_up_ref`, `X509_STORE_lock` and `X509_STORE_unlock`.
 */
typedef int (*tkt_store_do_fn)(void*);

/**
 * `X509_STORE_free`.
 */
typedef void (*tkt_store_free_fn)(void*);

/**
 * `X509_STORE_get0_objects`: a stack of X509_OBJECT.
 */
typedef const void *(*tkt_store_objects_fn)(void*);

/**
 * `X509_OBJECT_get0_X509`.
 */
typedef struct x509_st *(*tkt_object_cert_fn)(const void*);

/**
 * `CRYPTO_lock` of LibreSSL: a mode, which lock, and where that is asked for.
 */
typedef void (*tkt_crypto_lock_fn)(int, int, const char*, int);

/**
 * The functions of a TLS library that are called; fill it with
 * `TKT_TLS_API_INIT`. Those that not every TLS library has may be NULL.
 */
typedef struct tkt_tls_api {
  /**
   * Bytes of this struct as the host was compiled.
   */
  size_t size;
  unsigned long (*openssl_version_num)(void);
  /**
   * `int` lengths of OpenSSL are `size_t` in BoringSSL; a `size_t` serves both.
   */
  tkt_rand_bytes_fn rand_bytes;
  /**
   * `RAND_priv_bytes`, where there is one: keys come from it.
   */
  tkt_rand_bytes_fn rand_priv_bytes;
  int (*ssl_version)(const struct ssl_st*);
  tkt_get_timeout_fn ssl_ctx_get_timeout;
  void *(*ssl_ctx_get_ex_data)(const struct ssl_ctx_st*, int);
  int (*ssl_ctx_set_ex_data)(struct ssl_ctx_st*, int, void*);
  /**
   * How OpenSSL allots an index of `ex_data`.
   */
  tkt_crypto_index_fn crypto_get_ex_new_index;
  /**
   * How BoringSSL and AWS-LC allot an index of `ex_data`.
   */
  tkt_ssl_ctx_index_fn ssl_ctx_get_ex_new_index;
  /**
   * OpenSSL 3.0 and later.
   */
  int (*ssl_ctx_set_tlsext_ticket_key_evp_cb)(struct ssl_ctx_st*, tkt_evp_callback);
  /**
   * BoringSSL and AWS-LC; a macro over `SSL_CTX_callback_ctrl` in OpenSSL.
   */
  int (*ssl_ctx_set_tlsext_ticket_key_cb)(struct ssl_ctx_st*, tkt_hmac_callback);
  long (*ssl_ctx_callback_ctrl)(struct ssl_ctx_st*, int, tkt_any_fn);
  const struct evp_cipher_st *(*evp_aes_256_cbc)(void);
  int (*evp_cipher_init_ex)(struct evp_cipher_ctx_st*,
                            const struct evp_cipher_st*,
                            struct engine_st*,
                            const unsigned char*,
                            const unsigned char*,
                            int);
  tkt_sha256_fn evp_sha256;
  tkt_hmac_init_fn hmac_init_ex;
  int (*hmac_update)(struct hmac_ctx_st*, const unsigned char*, size_t);
  int (*evp_mac_init)(struct evp_mac_ctx_st*,
                      const unsigned char*,
                      size_t,
                      const struct ossl_param_st*);
  int (*evp_mac_update)(struct evp_mac_ctx_st*, const unsigned char*, size_t);
  const char *(*ssl_get_servername)(const struct ssl_st*, int);
  /**
   * OpenSSL. In BoringSSL and AWS-LC `SSL_get_servername` has the name early enough, in LibreSSL
   * nothing but the message callback.
   */
  tkt_client_hello_ext_fn ssl_client_hello_get0_ext;
  /**
   * A command of `SSL_ctrl` in LibreSSL.
   */
  tkt_session_reused_fn ssl_session_reused;
  int (*ssl_get_verify_mode)(const struct ssl_st*);
  int (*ssl_get_verify_depth)(const struct ssl_st*);
  tkt_ssl_client_ca_list_fn ssl_get_client_ca_list;
  void *(*ssl_get_ex_data)(const struct ssl_st*, int);
  int (*ssl_set_ex_data)(struct ssl_st*, int, void*);
  /**
   * How BoringSSL and AWS-LC allot an index of `ex_data`.
   */
  tkt_ssl_ctx_index_fn ssl_get_ex_new_index;
  struct x509_st *(*ssl_ctx_get0_certificate)(const struct ssl_ctx_st*);
  tkt_x509_digest_fn x509_digest;
  int (*ssl_ctx_get_verify_mode)(const struct ssl_ctx_st*);
  int (*ssl_ctx_get_verify_depth)(const struct ssl_ctx_st*);
  tkt_client_ca_list_fn ssl_ctx_get_client_ca_list;
  /**
   * This and the next have the names `sk_num` and `sk_value` in LibreSSL.
   */
  tkt_sk_num_fn sk_num;
  tkt_sk_value_fn sk_value;
  tkt_name_digest_fn x509_name_digest;
  /**
   * Tells the shim which contexts are clients'.
   */
  const struct ssl_method_st *(*tls_client_method)(void);
  /**
   * For imported keys of 16 bytes; without it their tickets become full handshakes.
   */
  const struct evp_cipher_st *(*evp_aes_128_cbc)(void);
  /**
   * OpenSSL 3.0 and later: a digest that is fetched once and not for each ticket.
   */
  tkt_md_fetch_fn evp_md_fetch;
  /**
   * The same for a cipher.
   */
  tkt_cipher_fetch_fn evp_cipher_fetch;
  /**
   * This and the next two: keyed MACs are kept and copied. Without them each ticket keys its own.
   */
  struct hmac_ctx_st *(*hmac_ctx_new)(void);
  void (*hmac_ctx_free)(struct hmac_ctx_st*);
  tkt_hmac_copy_fn hmac_ctx_copy;
  /**
   * This and the next keep our errors off the caller's error queue.
   */
  tkt_err_mark_fn err_set_mark;
  tkt_err_mark_fn err_pop_to_mark;
  /**
   * OpenSSL 3.0 and later; this and the next four: for contexts of a library context of their own.
   */
  tkt_rand_bytes_ex_fn rand_bytes_ex;
  tkt_rand_bytes_ex_fn rand_priv_bytes_ex;
  void (*evp_md_free)(struct evp_md_st*);
  void (*evp_cipher_free)(struct evp_cipher_st*);
  tkt_is_fips_fn evp_default_properties_is_fips_enabled;
  /**
   * This and the next hold a certificate that was looked at. Without them nothing is remembered of it.
   */
  int (*x509_up_ref)(struct x509_st*);
  void (*x509_free)(struct x509_st*);
  /**
   * Tells one handshake from the next on the same connection.
   */
  tkt_client_random_fn ssl_get_client_random;
  /**
   * Without it a duplicated connection has nothing of ours.
   */
  tkt_get_ex_data_fn crypto_get_ex_data;
  /**
   * Without it tkt_install() has to be called again when a certificate is replaced.
   */
  struct x509_st *(*ssl_get_certificate)(const struct ssl_st*);
  /**
   * This and the next tell whether a session could be resumed where client certificates are asked
   * for. Without them that is taken for granted.
   */
  struct ssl_session_st *(*ssl_get_session)(const struct ssl_st*);
  const unsigned char *(*ssl_session_get0_id_context)(const struct ssl_session_st*,
                                                      unsigned int*);
  /**
   * OpenSSL 3.0 and later: for a thread that has used a library context of somebody else.
   */
  tkt_thread_stop_fn openssl_thread_stop_ex;
  /**
   * OpenSSL 1.1.1, where a mark is a flag of the newest error.
   */
  tkt_err_state_fn err_get_state;
  /**
   * This and the next two find all certificates of a context. Without them only one is known.
   */
  tkt_ssl_ctrl_fn ssl_ctrl;
  struct ssl_st *(*ssl_new)(struct ssl_ctx_st*);
  void (*ssl_free)(struct ssl_st*);
  tkt_digest_fn evp_digest;
  /**
   * This and the next six find whom a context trusts. Without them tickets are not bound to that.
   */
  tkt_cert_store_fn ssl_ctx_get_cert_store;
  tkt_store_do_fn x509_store_up_ref;
  tkt_store_free_fn x509_store_free;
  tkt_store_do_fn x509_store_lock;
  tkt_store_do_fn x509_store_unlock;
  tkt_store_objects_fn x509_store_get0_objects;
  tkt_object_cert_fn x509_object_get0_x509;
  /**
   * LibreSSL, which shows the server name early enough in a message only.
   */
  long (*ssl_callback_ctrl)(struct ssl_st*, int, tkt_any_fn);
  /**
   * LibreSSL, in place of `X509_STORE_lock` and `X509_STORE_unlock`.
   */
  tkt_crypto_lock_fn crypto_lock;
} tkt_tls_api;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is running, as in "0.1.0".
 *
 * The string is static. Compare it with `TKT_VERSION`, the version of the
 * header that a program was compiled with.
 */
const char *tkt_version(void);

/**
 * The meaning of a result code, in English.
 *
 * The string is static. Never NULL: an unknown code has a string, too.
 * Thread-safe.
 */
const char *tkt_strerror(int code);

/**
 * The message of this thread's last error: what was tried, on what, why it
 * failed, and what to do. Never holds a secret.
 *
 * The string belongs to the library and is valid until this thread's next
 * error. Empty if there was none; never NULL. A success does not clear it.
 */
const char *tkt_last_error(void);

/**
 * Fills `cfg` from the `TKTROT_*` variables of the environment; those that
 * only the preload shim has (TKTROT_TAKEOVER, TKTROT_ONLY) are checked and
 * left out.
 *
 * `cfg` is overwritten whole, also on error. Its strings belong to the
 * library and stay valid for ever. Call it before other threads change the
 * environment (getenv(3)).
 *
 * In C it is a macro that passes the size of the struct to
 * tkt_config_from_env_sized(); the function is for programs that were compiled
 * with version 0.1, and fills what its struct had.
 *
 * Returns `TKT_OK`; `TKT_ERR_ARGUMENT` if `cfg` is NULL; `TKT_ERR_CONFIG` if a
 * variable cannot be used: its member has the default then, and
 * tkt_last_error() names variable, value and what is accepted.
 *
 * `cfg` is NULL or points to room for a tkt_config of version 0.1.
 */
int tkt_config_from_env(struct tkt_config *cfg);

/**
 * As tkt_config_from_env(), for a struct of `size` bytes: what the caller's
 * header calls `sizeof(tkt_config)`.
 *
 * Returns as tkt_config_from_env(); `TKT_ERR_ARGUMENT`, with nothing written,
 * also if `size` is less than in version 0.1 or no size of such a struct.
 *
 * `cfg` is NULL or points to room for `size` bytes.
 */
int tkt_config_from_env_sized(struct tkt_config *cfg, size_t size);

/**
 * Makes the session tickets of `ctx` use rotating keys that are shared by all
 * processes with the same ring. Replaces ticket keys and ticket key callbacks
 * that were set before.
 *
 * `ctx` is an `SSL_CTX` of the TLS library that the caller is linked with, and
 * stays the caller's; what belongs to it here is freed with it. `cfg` is
 * copied; NULL means the `TKTROT_*` variables as they were at the first such
 * call of the process, then defaults.
 *
 * Call it before the server drops its privileges and forks its workers: the
 * ring is opened here, once per process, and inherited. Calling it again for
 * the same context replaces the settings of that context. Thread-safe.
 *
 * Call it when the certificates of `ctx` and the CAs that it trusts are set,
 * under whatever lock protects `ctx` from being changed meanwhile: tickets are
 * bound to them, and an SSL is made of `ctx` to see them all, and freed. When
 * the current certificate is replaced later, that is noticed with the first
 * connection that was made with it. Call this again if another one is, or the
 * CAs are, or if every connection is switched to another SSL_CTX before its
 * ticket is seen. (In the child of a fork what was known before counts as long
 * as the current certificate is the same: no SSL is made there.)
 *
 * A host that asks for client certificates sets a session id context
 * (SSL_CTX_set_session_id_context(3)); without one there are no tickets.
 *
 * An SSL_CTX of a library context of its own (SSL_CTX_new_ex(3)) needs
 * `cfg->libctx` and `cfg->properties`.
 *
 * Beyond 992 contexts, those with the same settings, session timeout,
 * certificate and client verification share one of 32 more callbacks; where none
 * of these is left, and none fits, the result is `TKT_ERR_POOL`.
 *
 * Returns `TKT_OK`, or with nothing changed: `TKT_ERR_ARGUMENT`,
 * `TKT_ERR_CONFIG`, `TKT_ERR_TLS`, `TKT_ERR_POOL`, `TKT_ERR_MEMORY`; in strict
 * mode `TKT_ERR_RING`. tkt_last_error() has the details. Without strict mode a
 * ring that cannot be used is replaced by a private one of this server, with
 * a log line that says so.
 *
 * Source: SSL_CTX_set_tlsext_ticket_key_evp_cb(3); RFC 5077 section 4.
 *
 * `ctx` is NULL or a live SSL_CTX; `cfg` is NULL or valid for `cfg->size` bytes.
 */
int tkt_install(struct ssl_ctx_st *ctx, const struct tkt_config *cfg);

/**
 * Ends what tkt_install() began: `ctx` issues no tickets from now on, and opens
 * none; every handshake is a full one. The callback stays in place and answers
 * so, because a handshake may be on its way to it on another thread; a host that
 * wants to set ticket keys of its own after that first sets both forms of the
 * callback to NULL, while no handshake runs. After the last context of a ring,
 * its keys are erased at once, unless another process uses them for tickets;
 * the ring stays open.
 *
 * Thread-safe, under load as well. `ctx` stays the caller's, and need not be
 * uninstalled before it is freed.
 *
 * Returns `TKT_OK`, `TKT_ERR_ARGUMENT` if `ctx` is NULL, `TKT_ERR_NOT_INSTALLED`;
 * `TKT_ERR_BUSY` if the context is uninstalled but the keys could not be erased
 * because another process was writing the ring for two seconds.
 *
 * `ctx` is NULL or a live SSL_CTX.
 */
int tkt_uninstall(struct ssl_ctx_st *ctx);

/**
 * What a message callback of a host's own (SSL_set_msg_callback(3)) calls, with the arguments that
 * it got, if the host's TLS library is LibreSSL; `arg` is ignored. Others need no such call, and
 * nothing comes of it there.
 *
 * LibreSSL tells the server name of a connection only in its ClientHello while a ticket is opened.
 * tkt_install() sets this function as the message callback of `ctx`, in place of one that was set
 * before. A host that sets one of its own, later or for a connection, calls this first in it;
 * where nobody does, tickets that are bound to the server name are not opened.
 *
 * `buf` is valid for `len` bytes during the call, and is not kept. Thread-safe. Returns nothing,
 * and fails silently: the handshake becomes a full one then. With more than one LibreSSL in a
 * process nothing comes of it.
 *
 * The arguments are those of a message callback that runs.
 */
void tkt_message(int is_sent,
                 int version,
                 int content_type,
                 const void *buf,
                 size_t len,
                 struct ssl_st *ssl,
                 void *arg);

/**
 * Makes a new key that encrypts from now on, in every process of the ring
 * that `ctx` uses. Tickets of the old key still resume.
 *
 * Thread-safe; may wait for another writer, two seconds at most.
 *
 * Returns `TKT_OK`, `TKT_ERR_ARGUMENT`, `TKT_ERR_NOT_INSTALLED`,
 * `TKT_ERR_BUSY`, `TKT_ERR_GENERATOR`, `TKT_ERR_FULL`.
 *
 * `ctx` is NULL or a live SSL_CTX.
 */
int tkt_rotate(struct ssl_ctx_st *ctx);

/**
 * Erases every key of the ring that `ctx` uses, in every process at once: no
 * ticket issued before resumes. New keys take over. If `tktrot agent` governs
 * the ring, it ends the keys on the other hosts of its fleet, too.
 *
 * Thread-safe; may wait for another writer, two seconds at most.
 *
 * Returns `TKT_OK`, `TKT_ERR_ARGUMENT`, `TKT_ERR_NOT_INSTALLED`,
 * `TKT_ERR_BUSY` (nothing is erased), `TKT_ERR_GENERATOR` (the old keys are
 * erased, and no tickets are issued until the generator works again).
 *
 * `ctx` is NULL or a live SSL_CTX.
 */
int tkt_revoke(struct ssl_ctx_st *ctx);

/**
 * Rotates and erases what is due in all rings of this process: for event
 * loops that forbid threads (`TKT_UPKEEP_CALLBACK`).
 *
 * Returns the milliseconds until it wants to be called again, at most a day;
 * calling it earlier or later is harmless. Or `TKT_ERR_INTERNAL`.
 *
 * Thread-safe; may wait for another writer, two seconds at most.
 */
int tkt_upkeep(void);

/**
 * Fills `counters` for the ring that `ctx` uses. `counters->size` tells how
 * much of the struct the caller knows; set it to `sizeof(tkt_counters)`.
 *
 * Takes no lock of the ring. Thread-safe.
 *
 * Returns `TKT_OK`, `TKT_ERR_ARGUMENT`, `TKT_ERR_NOT_INSTALLED`; `counters` is
 * written only on success.
 *
 * `ctx` is NULL or a live SSL_CTX; `counters` is NULL or valid for
 * `counters->size` bytes.
 */
int tkt_stats(struct ssl_ctx_st *ctx, struct tkt_counters *counters);

/**
 * As tkt_install(), for a host that links its TLS library statically (OpenSSL,
 * LibreSSL, BoringSSL, AWS-LC): the host passes the library's functions.
 *
 * `api` is filled with `TKT_TLS_API_INIT`; it is copied, and may be freed when
 * the call returns. `ctx` and `cfg` as for tkt_install(). The functions must
 * stay callable for the life of the process.
 *
 * Returns `TKT_OK`, or as tkt_install(); `TKT_ERR_ARGUMENT` if `api` is NULL
 * or larger than that of this version, `TKT_ERR_TLS` if a function that is
 * needed is NULL. Members that a table of an earlier version lacks count as NULL.
 *
 * `ctx` is a live SSL_CTX of the library whose functions `api` holds; `cfg`
 * is NULL or valid for `cfg->size` bytes, `api` NULL or for `api->size`.
 */
int tkt_install_api(struct ssl_ctx_st *ctx,
                    const struct tkt_config *cfg,
                    const struct tkt_tls_api *api);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TKTROT_H */

/* The size of the struct that the caller was compiled with goes with it. */
#define tkt_config_from_env(cfg) tkt_config_from_env_sized((cfg), sizeof(tkt_config))

/* Initialises a tkt_config: every setting has its default. */
#define TKT_CONFIG_INIT {sizeof(tkt_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/*
 * Initialises a tkt_tls_api with the functions of the TLS library whose
 * headers were included before (<openssl/ssl.h>, <openssl/evp.h>,
 * <openssl/hmac.h>, <openssl/rand.h>, <openssl/crypto.h>).
 *
 * The casts go through void (*)(void), because int and size_t lengths and the
 * pointers to ex_data functions differ between TLS libraries.
 */
#if defined(OPENSSL_VERSION_NUMBER)
#include <openssl/err.h>
#endif
#define TKT_CAST(type, function) ((type)(void (*)(void))(function))
#if defined(OPENSSL_IS_BORINGSSL) || defined(OPENSSL_IS_AWSLC)
#define TKT_TLS_API_INIT                                                                   \
    {                                                                                      \
        sizeof(tkt_tls_api), OpenSSL_version_num,                                          \
        TKT_CAST(tkt_rand_bytes_fn, RAND_bytes), 0, SSL_version,                           \
        TKT_CAST(tkt_get_timeout_fn, SSL_CTX_get_timeout), SSL_CTX_get_ex_data,            \
        SSL_CTX_set_ex_data, 0,                                                            \
        TKT_CAST(tkt_ssl_ctx_index_fn, SSL_CTX_get_ex_new_index), 0,                       \
        SSL_CTX_set_tlsext_ticket_key_cb, 0, EVP_aes_256_cbc, EVP_CipherInit_ex,           \
        TKT_CAST(tkt_sha256_fn, EVP_sha256), TKT_CAST(tkt_hmac_init_fn, HMAC_Init_ex),     \
        HMAC_Update, 0, 0, SSL_get_servername, 0,                                          \
        TKT_CAST(tkt_session_reused_fn, SSL_session_reused), SSL_get_verify_mode,          \
        SSL_get_verify_depth,                                                              \
        TKT_CAST(tkt_ssl_client_ca_list_fn, SSL_get_client_CA_list), SSL_get_ex_data,      \
        SSL_set_ex_data, TKT_CAST(tkt_ssl_ctx_index_fn, SSL_get_ex_new_index),             \
        SSL_CTX_get0_certificate, TKT_CAST(tkt_x509_digest_fn, X509_digest),               \
        SSL_CTX_get_verify_mode, SSL_CTX_get_verify_depth,                                 \
        TKT_CAST(tkt_client_ca_list_fn, SSL_CTX_get_client_CA_list),                       \
        TKT_CAST(tkt_sk_num_fn, OPENSSL_sk_num),                                           \
        TKT_CAST(tkt_sk_value_fn, OPENSSL_sk_value),                                       \
        TKT_CAST(tkt_name_digest_fn, X509_NAME_digest), TLS_client_method,                 \
        EVP_aes_128_cbc, 0, 0, HMAC_CTX_new, HMAC_CTX_free,                                \
        TKT_CAST(tkt_hmac_copy_fn, HMAC_CTX_copy), ERR_set_mark, ERR_pop_to_mark,          \
        0, 0, 0, 0, 0, X509_up_ref, X509_free,                                             \
        TKT_CAST(tkt_client_random_fn, SSL_get_client_random), 0, SSL_get_certificate,     \
        SSL_get_session, SSL_SESSION_get0_id_context, 0, 0, 0, 0, 0,                       \
        TKT_CAST(tkt_digest_fn, EVP_Digest), 0, 0, 0, 0, 0, 0, 0, 0, 0                     \
    }
#elif defined(LIBRESSL_VERSION_NUMBER)
#define TKT_TLS_API_INIT                                                                   \
    {                                                                                      \
        sizeof(tkt_tls_api), OpenSSL_version_num,                                          \
        TKT_CAST(tkt_rand_bytes_fn, RAND_bytes),                                           \
        0, SSL_version,                                                                    \
        SSL_CTX_get_timeout, SSL_CTX_get_ex_data, SSL_CTX_set_ex_data,                     \
        TKT_CAST(tkt_crypto_index_fn, CRYPTO_get_ex_new_index), 0, 0, 0,                   \
        SSL_CTX_callback_ctrl, EVP_aes_256_cbc, EVP_CipherInit_ex, EVP_sha256,             \
        TKT_CAST(tkt_hmac_init_fn, HMAC_Init_ex), HMAC_Update, 0, 0,                       \
        SSL_get_servername, 0, 0, SSL_get_verify_mode, SSL_get_verify_depth,               \
        TKT_CAST(tkt_ssl_client_ca_list_fn, SSL_get_client_CA_list),                       \
        SSL_get_ex_data,                                                                   \
        SSL_set_ex_data, 0,                                                                \
        SSL_CTX_get0_certificate, X509_digest, SSL_CTX_get_verify_mode,                    \
        SSL_CTX_get_verify_depth,                                                          \
        TKT_CAST(tkt_client_ca_list_fn, SSL_CTX_get_client_CA_list),                       \
        TKT_CAST(tkt_sk_num_fn, sk_num), TKT_CAST(tkt_sk_value_fn, sk_value),              \
        X509_NAME_digest,                                                                  \
        TLS_client_method, EVP_aes_128_cbc, 0, 0, HMAC_CTX_new, HMAC_CTX_free,             \
        TKT_CAST(tkt_hmac_copy_fn, HMAC_CTX_copy), ERR_set_mark, ERR_pop_to_mark,          \
        0, 0, 0, 0, 0, X509_up_ref, X509_free,                                             \
        TKT_CAST(tkt_client_random_fn, SSL_get_client_random),                             \
        TKT_CAST(tkt_get_ex_data_fn, CRYPTO_get_ex_data), SSL_get_certificate,             \
        SSL_get_session, SSL_SESSION_get0_id_context, 0,                                   \
        0, SSL_ctrl, SSL_new, SSL_free,                                                    \
        TKT_CAST(tkt_digest_fn, EVP_Digest),                                               \
        TKT_CAST(tkt_cert_store_fn, SSL_CTX_get_cert_store),                               \
        TKT_CAST(tkt_store_do_fn, X509_STORE_up_ref),                                      \
        TKT_CAST(tkt_store_free_fn, X509_STORE_free),                                      \
        0, 0,                                                                              \
        TKT_CAST(tkt_store_objects_fn, X509_STORE_get0_objects),                           \
        TKT_CAST(tkt_object_cert_fn, X509_OBJECT_get0_X509),                               \
        SSL_callback_ctrl, CRYPTO_lock                                                     \
    }
#elif defined(OPENSSL_VERSION_NUMBER) && OPENSSL_VERSION_NUMBER >= 0x30000000L
#define TKT_TLS_API_INIT                                                                   \
    {                                                                                      \
        sizeof(tkt_tls_api), OpenSSL_version_num,                                          \
        TKT_CAST(tkt_rand_bytes_fn, RAND_bytes),                                           \
        TKT_CAST(tkt_rand_bytes_fn, RAND_priv_bytes), SSL_version,                         \
        SSL_CTX_get_timeout, SSL_CTX_get_ex_data, SSL_CTX_set_ex_data,                     \
        TKT_CAST(tkt_crypto_index_fn, CRYPTO_get_ex_new_index), 0,                         \
        SSL_CTX_set_tlsext_ticket_key_evp_cb, 0, SSL_CTX_callback_ctrl,                    \
        EVP_aes_256_cbc, EVP_CipherInit_ex, EVP_sha256, 0, 0, EVP_MAC_init,                \
        EVP_MAC_update,                                                                    \
        SSL_get_servername, TKT_CAST(tkt_client_hello_ext_fn, SSL_client_hello_get0_ext),  \
        TKT_CAST(tkt_session_reused_fn, SSL_session_reused), SSL_get_verify_mode,          \
        SSL_get_verify_depth,                                                              \
        TKT_CAST(tkt_ssl_client_ca_list_fn, SSL_get_client_CA_list),                       \
        SSL_get_ex_data,                                                                   \
        SSL_set_ex_data, 0,                                                                \
        SSL_CTX_get0_certificate, X509_digest, SSL_CTX_get_verify_mode,                    \
        SSL_CTX_get_verify_depth,                                                          \
        TKT_CAST(tkt_client_ca_list_fn, SSL_CTX_get_client_CA_list),                       \
        TKT_CAST(tkt_sk_num_fn, OPENSSL_sk_num),                                           \
        TKT_CAST(tkt_sk_value_fn, OPENSSL_sk_value), X509_NAME_digest,                     \
        TLS_client_method, EVP_aes_128_cbc, TKT_CAST(tkt_md_fetch_fn, EVP_MD_fetch),       \
        TKT_CAST(tkt_cipher_fetch_fn, EVP_CIPHER_fetch), 0, 0, 0,                          \
        ERR_set_mark, ERR_pop_to_mark, TKT_CAST(tkt_rand_bytes_ex_fn, RAND_bytes_ex),      \
        TKT_CAST(tkt_rand_bytes_ex_fn, RAND_priv_bytes_ex), EVP_MD_free,                   \
        EVP_CIPHER_free,                                                                   \
        TKT_CAST(tkt_is_fips_fn, EVP_default_properties_is_fips_enabled),                  \
        X509_up_ref, X509_free,                                                            \
        TKT_CAST(tkt_client_random_fn, SSL_get_client_random),                             \
        TKT_CAST(tkt_get_ex_data_fn, CRYPTO_get_ex_data), SSL_get_certificate,             \
        SSL_get_session, SSL_SESSION_get0_id_context,                                      \
        TKT_CAST(tkt_thread_stop_fn, OPENSSL_thread_stop_ex), 0, SSL_ctrl, SSL_new,        \
        SSL_free,                                                                          \
        TKT_CAST(tkt_digest_fn, EVP_Digest),                                               \
        TKT_CAST(tkt_cert_store_fn, SSL_CTX_get_cert_store),                               \
        TKT_CAST(tkt_store_do_fn, X509_STORE_up_ref),                                      \
        TKT_CAST(tkt_store_free_fn, X509_STORE_free),                                      \
        TKT_CAST(tkt_store_do_fn, X509_STORE_lock),                                        \
        TKT_CAST(tkt_store_do_fn, X509_STORE_unlock),                                      \
        TKT_CAST(tkt_store_objects_fn, X509_STORE_get0_objects),                           \
        TKT_CAST(tkt_object_cert_fn, X509_OBJECT_get0_X509), 0, 0                          \
    }
#else
#define TKT_TLS_API_INIT                                                                   \
    {                                                                                      \
        sizeof(tkt_tls_api), OpenSSL_version_num,                                          \
        TKT_CAST(tkt_rand_bytes_fn, RAND_bytes),                                           \
        TKT_CAST(tkt_rand_bytes_fn, RAND_priv_bytes), SSL_version,                         \
        SSL_CTX_get_timeout, SSL_CTX_get_ex_data, SSL_CTX_set_ex_data,                     \
        TKT_CAST(tkt_crypto_index_fn, CRYPTO_get_ex_new_index), 0, 0, 0,                   \
        SSL_CTX_callback_ctrl, EVP_aes_256_cbc, EVP_CipherInit_ex, EVP_sha256,             \
        TKT_CAST(tkt_hmac_init_fn, HMAC_Init_ex), HMAC_Update, 0, 0,                       \
        SSL_get_servername, TKT_CAST(tkt_client_hello_ext_fn, SSL_client_hello_get0_ext),  \
        TKT_CAST(tkt_session_reused_fn, SSL_session_reused), SSL_get_verify_mode,          \
        SSL_get_verify_depth,                                                              \
        TKT_CAST(tkt_ssl_client_ca_list_fn, SSL_get_client_CA_list),                       \
        SSL_get_ex_data,                                                                   \
        SSL_set_ex_data, 0,                                                                \
        SSL_CTX_get0_certificate, X509_digest, SSL_CTX_get_verify_mode,                    \
        SSL_CTX_get_verify_depth,                                                          \
        TKT_CAST(tkt_client_ca_list_fn, SSL_CTX_get_client_CA_list),                       \
        TKT_CAST(tkt_sk_num_fn, OPENSSL_sk_num),                                           \
        TKT_CAST(tkt_sk_value_fn, OPENSSL_sk_value), X509_NAME_digest,                     \
        TLS_client_method, EVP_aes_128_cbc, 0, 0, HMAC_CTX_new, HMAC_CTX_free,             \
        TKT_CAST(tkt_hmac_copy_fn, HMAC_CTX_copy), ERR_set_mark, ERR_pop_to_mark,          \
        0, 0, 0, 0, 0, X509_up_ref, X509_free,                                             \
        TKT_CAST(tkt_client_random_fn, SSL_get_client_random),                             \
        TKT_CAST(tkt_get_ex_data_fn, CRYPTO_get_ex_data), SSL_get_certificate,             \
        SSL_get_session, SSL_SESSION_get0_id_context, 0,                                   \
        TKT_CAST(tkt_err_state_fn, ERR_get_state), SSL_ctrl, SSL_new, SSL_free,            \
        TKT_CAST(tkt_digest_fn, EVP_Digest),                                               \
        TKT_CAST(tkt_cert_store_fn, SSL_CTX_get_cert_store),                               \
        TKT_CAST(tkt_store_do_fn, X509_STORE_up_ref),                                      \
        TKT_CAST(tkt_store_free_fn, X509_STORE_free),                                      \
        TKT_CAST(tkt_store_do_fn, X509_STORE_lock),                                        \
        TKT_CAST(tkt_store_do_fn, X509_STORE_unlock),                                      \
        TKT_CAST(tkt_store_objects_fn, X509_STORE_get0_objects),                           \
        TKT_CAST(tkt_object_cert_fn, X509_OBJECT_get0_X509), 0, 0                          \
    }
#endif
