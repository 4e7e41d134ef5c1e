//! The TLS library as a table of functions: one per libssl that is loaded, or
//! one that a host with a static TLS library gives us. Nothing here is linked.

use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_uint, c_ulong, c_void};
use std::mem::offset_of;

use openssl_sys::{
    EVP_CIPHER, EVP_CIPHER_CTX, EVP_MD, HMAC_CTX, SSL, SSL_CTX, SSL_METHOD, SSL_SESSION, X509,
    X509_NAME,
};

/// `EVP_MAC_CTX` of OpenSSL 3; opaque.
#[repr(C)]
pub struct EvpMacCtx {
    _opaque: [u8; 0],
}

/// `ENGINE`; opaque, always null here.
#[repr(C)]
pub struct Engine {
    _opaque: [u8; 0],
}

/// One element of OpenSSL 3's parameter arrays (OSSL_PARAM(3)).
#[repr(C)]
pub struct OsslParam {
    /// NUL-terminated name; null ends the array.
    pub key: *const c_char,
    /// `OSSL_PARAM_*`.
    pub data_type: c_uint,
    /// Where the value is, or is to be written.
    pub data: *mut c_void,
    /// Its size in bytes.
    pub data_size: usize,
    /// Written by getters: how long the value is.
    pub return_size: usize,
}

impl OsslParam {
    /// `OSSL_PARAM_UTF8_STRING`.
    pub const UTF8_STRING: c_uint = 4;

    /// A parameter whose value is a NUL-terminated string.
    pub fn text(key: &CStr, value: &CStr) -> Self {
        OsslParam {
            key: key.as_ptr(),
            data_type: Self::UTF8_STRING,
            data: value.as_ptr().cast_mut().cast(),
            data_size: value.count_bytes(),
            return_size: 0,
        }
    }

    /// The entry that ends an array of parameters.
    pub const fn end() -> Self {
        OsslParam {
            key: std::ptr::null(),
            data_type: 0,
            data: std::ptr::null_mut(),
            data_size: 0,
            return_size: 0,
        }
    }
}

/// The EVP form of the ticket key callback (SSL_CTX_set_tlsext_ticket_key_evp_cb(3)).
pub type EvpCallback = Option<
    unsafe extern "C" fn(
        *mut SSL,
        *mut c_uchar,
        *mut c_uchar,
        *mut EVP_CIPHER_CTX,
        *mut EvpMacCtx,
        c_int,
    ) -> c_int,
>;

/// The HMAC form of the ticket key callback (SSL_CTX_set_tlsext_ticket_key_cb(3)).
pub type HmacCallback = Option<
    unsafe extern "C" fn(
        *mut SSL,
        *mut c_uchar,
        *mut c_uchar,
        *mut EVP_CIPHER_CTX,
        *mut HMAC_CTX,
        c_int,
    ) -> c_int,
>;

/// What `ex_data` calls when an object with our pointer is freed (CRYPTO_get_ex_new_index(3)).
pub type ExFree = Option<
    unsafe extern "C" fn(
        parent: *mut c_void,
        ptr: *mut c_void,
        ad: *mut c_void,
        idx: c_int,
        argl: c_long,
        argp: *mut c_void,
    ),
>;

/// Any function pointer of C, as `SSL_CTX_callback_ctrl` takes it.
pub type AnyFunction = Option<unsafe extern "C" fn()>;

/// `RAND_bytes`.
pub type RandBytes = Option<unsafe extern "C" fn(*mut c_uchar, usize) -> c_int>;

/// `SSL_CTX_get_timeout`; returns 32 bits in BoringSSL.
pub type GetTimeout = Option<unsafe extern "C" fn(*const SSL_CTX) -> c_long>;

/// `SSL_client_hello_get0_ext`.
pub type ClientHelloGet0Ext =
    Option<unsafe extern "C" fn(*mut SSL, c_uint, *mut *const c_uchar, *mut usize) -> c_int>;

/// `SSL_session_reused`; its argument is const in newer versions.
pub type SessionReused = Option<unsafe extern "C" fn(*const SSL) -> c_int>;

/// `SSL_CTX_get_client_CA_list`: a stack of X509_NAME, as its TLS library has them.
pub type GetClientCaList = Option<unsafe extern "C" fn(*const SSL_CTX) -> *const c_void>;

/// `SSL_get_client_CA_list`: as for a context.
pub type GetClientCaListOfSsl = Option<unsafe extern "C" fn(*const SSL) -> *const c_void>;

/// `OPENSSL_sk_num`; returns size_t in BoringSSL.
pub type SkNum = Option<unsafe extern "C" fn(*const c_void) -> c_int>;

/// `OPENSSL_sk_value`; the index is size_t in BoringSSL.
pub type SkValue = Option<unsafe extern "C" fn(*const c_void, usize) -> *mut c_void>;

/// `EVP_sha256`; an `EVP_MD` is an `env_md_st` in BoringSSL.
pub type EvpSha256 = Option<unsafe extern "C" fn() -> *const EVP_MD>;

/// `X509_digest`.
pub type X509Digest =
    Option<unsafe extern "C" fn(*const X509, *const EVP_MD, *mut c_uchar, *mut c_uint) -> c_int>;

/// `X509_NAME_digest`.
pub type X509NameDigest = Option<
    unsafe extern "C" fn(*const X509_NAME, *const EVP_MD, *mut c_uchar, *mut c_uint) -> c_int,
>;

/// `EVP_MD_fetch`; the first argument is an `OSSL_LIB_CTX`.
pub type EvpMdFetch =
    Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut EVP_MD>;

/// `EVP_CIPHER_fetch`.
pub type EvpCipherFetch =
    Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut EVP_CIPHER>;

/// `RAND_bytes_ex`, `RAND_priv_bytes_ex`: the first argument is an `OSSL_LIB_CTX`.
pub type RandBytesEx =
    Option<unsafe extern "C" fn(*mut c_void, *mut c_uchar, usize, c_uint) -> c_int>;

/// `ERR_set_mark` and `ERR_pop_to_mark`.
pub type ErrMark = Option<unsafe extern "C" fn() -> c_int>;

/// `CRYPTO_get_ex_data`; the first argument is a `CRYPTO_EX_DATA`.
pub type CryptoGetExData = Option<unsafe extern "C" fn(*const c_void, c_int) -> *mut c_void>;

/// `SSL_get_client_random`.
pub type GetClientRandom = Option<unsafe extern "C" fn(*const SSL, *mut c_uchar, usize) -> usize>;

/// `ERR_get_state`.
pub type ErrGetState = Option<unsafe extern "C" fn() -> *mut c_void>;

/// `EVP_Digest`.
pub type EvpDigest = Option<
    unsafe extern "C" fn(
        *const c_void,
        usize,
        *mut c_uchar,
        *mut c_uint,
        *const EVP_MD,
        *mut Engine,
    ) -> c_int,
>;

/// `SSL_CTX_get_cert_store`; an X509_STORE is opaque here.
pub type CtxCertStore = Option<unsafe extern "C" fn(*const SSL_CTX) -> *mut c_void>;

/// `X509_STORE_up_ref`, `X509_STORE_lock` and `X509_STORE_unlock`.
pub type X509StoreDo = Option<unsafe extern "C" fn(*mut c_void) -> c_int>;

/// `X509_STORE_free`.
pub type X509StoreFree = Option<unsafe extern "C" fn(*mut c_void)>;

/// `X509_STORE_get0_objects`: a stack of X509_OBJECT.
pub type X509StoreObjects = Option<unsafe extern "C" fn(*mut c_void) -> *const c_void>;

/// `X509_OBJECT_get0_X509`.
pub type X509ObjectX509 = Option<unsafe extern "C" fn(*const c_void) -> *mut X509>;

/// `CRYPTO_lock` of LibreSSL: a mode, which lock, and where that is asked for.
pub type CryptoLock = Option<unsafe extern "C" fn(c_int, c_int, *const c_char, c_int)>;

/// `SSL_ctrl`.
pub type SslCtrl = Option<unsafe extern "C" fn(*mut SSL, c_int, c_long, *mut c_void) -> c_long>;

/// `OPENSSL_thread_stop_ex`; the argument is an `OSSL_LIB_CTX`.
pub type ThreadStop = Option<unsafe extern "C" fn(*mut c_void)>;

/// `EVP_default_properties_is_fips_enabled`; the argument is an `OSSL_LIB_CTX`.
pub type IsFipsEnabled = Option<unsafe extern "C" fn(*mut c_void) -> c_int>;

/// `HMAC_CTX_copy`; the second is the one that is copied.
pub type HmacCtxCopy = Option<unsafe extern "C" fn(*mut HMAC_CTX, *mut HMAC_CTX) -> c_int>;

/// `HMAC_Init_ex`.
pub type HmacInitEx = Option<
    unsafe extern "C" fn(*mut HMAC_CTX, *const c_void, usize, *const EVP_MD, *mut Engine) -> c_int,
>;

/// What `ex_data` calls when an object is duplicated. `from` is a `void **` with our pointer, which
/// the duplicate gets as it is left there; its type differs between versions.
pub type ExDup = Option<
    unsafe extern "C" fn(
        to: *mut c_void,
        from_object: *const c_void,
        from: *mut c_void,
        idx: c_int,
        argl: c_long,
        argp: *mut c_void,
    ) -> c_int,
>;

/// `CRYPTO_get_ex_new_index` of OpenSSL.
pub type CryptoGetExNewIndex =
    Option<unsafe extern "C" fn(c_int, c_long, *mut c_void, *mut c_void, ExDup, ExFree) -> c_int>;

/// `SSL_CTX_get_ex_new_index` of BoringSSL, which duplicates nothing.
pub type SslCtxGetExNewIndex =
    Option<unsafe extern "C" fn(c_long, *mut c_void, *mut c_void, ExDup, ExFree) -> c_int>;

/// `SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB`.
pub const CTRL_SET_TICKET_KEY_CB: c_int = 72;
/// `SSL_CTRL_SET_TLSEXT_TICKET_KEYS`.
pub const CTRL_SET_TICKET_KEYS: c_int = 59;
/// The classes of objects for `CRYPTO_get_ex_new_index`.
const EX_INDEX_SSL: c_int = 0;
const EX_INDEX_SSL_CTX: c_int = 1;
/// `SSL_CTRL_GET_SESSION_REUSED` and `SSL_CTRL_OPTIONS`: commands in LibreSSL, functions elsewhere.
const CTRL_GET_SESSION_REUSED: c_int = 8;
const CTRL_OPTIONS: c_int = 32;
/// `TLS1_3_VERSION`.
pub const TLS_1_3: c_int = 0x0304;

/// `OSSL_QUIC1_VERSION`: what SSL_version(3) says of libssl's own QUIC connections.
const QUIC_1: c_int = 1;

/// The functions of a TLS library that are called; fill it with
/// `TKT_TLS_API_INIT`. Those that not every TLS library has may be NULL.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(missing_docs, reason = "each field is the TLS library's function of that name")]
pub struct TlsApi {
    /// Bytes of this struct as the host was compiled.
    pub size: usize,
    pub openssl_version_num: Option<unsafe extern "C" fn() -> c_ulong>,
    /// `int` lengths of OpenSSL are `size_t` in BoringSSL; a `size_t` serves both.
    pub rand_bytes: RandBytes,
    /// `RAND_priv_bytes`, where there is one: keys come from it.
    pub rand_priv_bytes: RandBytes,
    pub ssl_version: Option<unsafe extern "C" fn(*const SSL) -> c_int>,
    pub ssl_ctx_get_timeout: GetTimeout,
    pub ssl_ctx_get_ex_data: Option<unsafe extern "C" fn(*const SSL_CTX, c_int) -> *mut c_void>,
    pub ssl_ctx_set_ex_data:
        Option<unsafe extern "C" fn(*mut SSL_CTX, c_int, *mut c_void) -> c_int>,
    /// How OpenSSL allots an index of `ex_data`.
    pub crypto_get_ex_new_index: CryptoGetExNewIndex,
    /// How BoringSSL and AWS-LC allot an index of `ex_data`.
    pub ssl_ctx_get_ex_new_index: SslCtxGetExNewIndex,
    /// OpenSSL 3.0 and later.
    pub ssl_ctx_set_tlsext_ticket_key_evp_cb:
        Option<unsafe extern "C" fn(*mut SSL_CTX, EvpCallback) -> c_int>,
    /// BoringSSL and AWS-LC; a macro over `SSL_CTX_callback_ctrl` in OpenSSL.
    pub ssl_ctx_set_tlsext_ticket_key_cb:
        Option<unsafe extern "C" fn(*mut SSL_CTX, HmacCallback) -> c_int>,
    pub ssl_ctx_callback_ctrl:
        Option<unsafe extern "C" fn(*mut SSL_CTX, c_int, AnyFunction) -> c_long>,
    pub evp_aes_256_cbc: Option<unsafe extern "C" fn() -> *const EVP_CIPHER>,
    pub evp_cipher_init_ex: Option<
        unsafe extern "C" fn(
            *mut EVP_CIPHER_CTX,
            *const EVP_CIPHER,
            *mut Engine,
            *const c_uchar,
            *const c_uchar,
            c_int,
        ) -> c_int,
    >,
    pub evp_sha256: EvpSha256,
    pub hmac_init_ex: HmacInitEx,
    pub hmac_update: Option<unsafe extern "C" fn(*mut HMAC_CTX, *const c_uchar, usize) -> c_int>,
    pub evp_mac_init: Option<
        unsafe extern "C" fn(*mut EvpMacCtx, *const c_uchar, usize, *const OsslParam) -> c_int,
    >,
    pub evp_mac_update:
        Option<unsafe extern "C" fn(*mut EvpMacCtx, *const c_uchar, usize) -> c_int>,
    pub ssl_get_servername: Option<unsafe extern "C" fn(*const SSL, c_int) -> *const c_char>,
    /// OpenSSL. In BoringSSL and AWS-LC `SSL_get_servername` has the name early enough, in LibreSSL
    /// nothing but the message callback.
    pub ssl_client_hello_get0_ext: ClientHelloGet0Ext,
    /// A command of `SSL_ctrl` in LibreSSL.
    pub ssl_session_reused: SessionReused,
    pub ssl_get_verify_mode: Option<unsafe extern "C" fn(*const SSL) -> c_int>,
    pub ssl_get_verify_depth: Option<unsafe extern "C" fn(*const SSL) -> c_int>,
    pub ssl_get_client_ca_list: GetClientCaListOfSsl,
    pub ssl_get_ex_data: Option<unsafe extern "C" fn(*const SSL, c_int) -> *mut c_void>,
    pub ssl_set_ex_data: Option<unsafe extern "C" fn(*mut SSL, c_int, *mut c_void) -> c_int>,
    /// How BoringSSL and AWS-LC allot an index of `ex_data`.
    pub ssl_get_ex_new_index: SslCtxGetExNewIndex,
    pub ssl_ctx_get0_certificate: Option<unsafe extern "C" fn(*const SSL_CTX) -> *mut X509>,
    pub x509_digest: X509Digest,
    pub ssl_ctx_get_verify_mode: Option<unsafe extern "C" fn(*const SSL_CTX) -> c_int>,
    pub ssl_ctx_get_verify_depth: Option<unsafe extern "C" fn(*const SSL_CTX) -> c_int>,
    pub ssl_ctx_get_client_ca_list: GetClientCaList,
    /// This and the next have the names `sk_num` and `sk_value` in LibreSSL.
    pub sk_num: SkNum,
    pub sk_value: SkValue,
    pub x509_name_digest: X509NameDigest,
    /// Tells the shim which contexts are clients'.
    pub tls_client_method: Option<unsafe extern "C" fn() -> *const SSL_METHOD>,
    /// For imported keys of 16 bytes; without it their tickets become full handshakes.
    pub evp_aes_128_cbc: Option<unsafe extern "C" fn() -> *const EVP_CIPHER>,
    /// OpenSSL 3.0 and later: a digest that is fetched once and not for each ticket.
    pub evp_md_fetch: EvpMdFetch,
    /// The same for a cipher.
    pub evp_cipher_fetch: EvpCipherFetch,
    /// This and the next two: keyed MACs are kept and copied. Without them each ticket keys its own.
    pub hmac_ctx_new: Option<unsafe extern "C" fn() -> *mut HMAC_CTX>,
    pub hmac_ctx_free: Option<unsafe extern "C" fn(*mut HMAC_CTX)>,
    pub hmac_ctx_copy: HmacCtxCopy,
    /// This and the next keep our errors off the caller's error queue.
    pub err_set_mark: ErrMark,
    pub err_pop_to_mark: ErrMark,
    /// OpenSSL 3.0 and later; this and the next four: for contexts of a library context of their own.
    pub rand_bytes_ex: RandBytesEx,
    pub rand_priv_bytes_ex: RandBytesEx,
    pub evp_md_free: Option<unsafe extern "C" fn(*mut EVP_MD)>,
    pub evp_cipher_free: Option<unsafe extern "C" fn(*mut EVP_CIPHER)>,
    pub evp_default_properties_is_fips_enabled: IsFipsEnabled,
    /// This and the next hold a certificate that was looked at. Without them nothing is remembered of it.
    pub x509_up_ref: Option<unsafe extern "C" fn(*mut X509) -> c_int>,
    pub x509_free: Option<unsafe extern "C" fn(*mut X509)>,
    /// Tells one handshake from the next on the same connection.
    pub ssl_get_client_random: GetClientRandom,
    /// Without it a duplicated connection has nothing of ours.
    pub crypto_get_ex_data: CryptoGetExData,
    /// Without it tkt_install() has to be called again when a certificate is replaced.
    pub ssl_get_certificate: Option<unsafe extern "C" fn(*const SSL) -> *mut X509>,
    /// This and the next tell whether a session could be resumed where client certificates are asked
    /// for. Without them that is taken for granted.
    pub ssl_get_session: Option<unsafe extern "C" fn(*const SSL) -> *mut SSL_SESSION>,
    pub ssl_session_get0_id_context:
        Option<unsafe extern "C" fn(*const SSL_SESSION, *mut c_uint) -> *const c_uchar>,
    /// OpenSSL 3.0 and later: for a thread that has used a library context of somebody else.
    pub openssl_thread_stop_ex: ThreadStop,
    /// OpenSSL 1.1.1, where a mark is a flag of the newest error.
    pub err_get_state: ErrGetState,
    /// This and the next two find all certificates of a context. Without them only one is known.
    pub ssl_ctrl: SslCtrl,
    pub ssl_new: Option<unsafe extern "C" fn(*mut SSL_CTX) -> *mut SSL>,
    pub ssl_free: Option<unsafe extern "C" fn(*mut SSL)>,
    pub evp_digest: EvpDigest,
    /// This and the next six find whom a context trusts. Without them tickets are not bound to that.
    pub ssl_ctx_get_cert_store: CtxCertStore,
    pub x509_store_up_ref: X509StoreDo,
    pub x509_store_free: X509StoreFree,
    pub x509_store_lock: X509StoreDo,
    pub x509_store_unlock: X509StoreDo,
    pub x509_store_get0_objects: X509StoreObjects,
    pub x509_object_get0_x509: X509ObjectX509,
    /// LibreSSL, which shows the server name early enough in a message only.
    pub ssl_callback_ctrl: Option<unsafe extern "C" fn(*mut SSL, c_int, AnyFunction) -> c_long>,
    /// LibreSSL, in place of `X509_STORE_lock` and `X509_STORE_unlock`.
    pub crypto_lock: CryptoLock,
}

/// Where the server name is while a ticket is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// OpenSSL: `SSL_client_hello_get0_ext`.
    ClientHello,
    /// BoringSSL and AWS-LC: `SSL_get_servername`.
    Negotiated,
    /// LibreSSL: the ClientHello, as the message callback is shown it. (`SSL_get_servername`
    /// has nothing then, or what an earlier session of the connection had.)
    Message,
}

/// How the callback is installed, and in which form it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `SSL_CTX_set_tlsext_ticket_key_evp_cb`.
    Evp,
    /// `SSL_CTX_set_tlsext_ticket_key_cb`, a real function.
    HmacFunction,
    /// `SSL_CTX_callback_ctrl(72)`.
    HmacCtrl,
}

impl TlsApi {
    /// A host's table, which may be one of an earlier version: shorter. What it
    /// has not is `None`. `None` if it is null or of no version.
    ///
    /// # Safety
    ///
    /// `table` is null or valid for reads of `size` bytes, which is its first member.
    pub unsafe fn copy_of(table: *const TlsApi) -> Option<TlsApi> {
        /// What version 0.1 had.
        const SHORTEST: usize = offset_of!(TlsApi, err_set_mark);
        // SAFETY: the caller vouches for `table`; an all-zero table is valid,
        // and its members are what they are in the host's, as far as it goes.
        unsafe {
            let size = table.cast::<usize>().as_ref().copied()?;
            if !(SHORTEST..=size_of::<TlsApi>()).contains(&size) || size % size_of::<usize>() != 0 {
                return None;
            }
            let mut api: TlsApi = std::mem::zeroed();
            std::ptr::copy_nonoverlapping(table.cast::<u8>(), (&raw mut api).cast(), size);
            api.size = size_of::<TlsApi>();
            Some(api.with_what_it_is_known_to_have())
        }
    }

    /// Without what means something else in this version.
    pub fn with_what_it_is_known_to_have(self) -> TlsApi {
        const OPENSSL_1_1_1: std::ops::Range<c_ulong> = 0x1010_1000..0x1010_2000;
        // SAFETY: takes nothing and returns a number.
        let version = self.openssl_version_num.map_or(0, |version| unsafe { version() });
        let err_get_state = self.err_get_state.filter(|_| OPENSSL_1_1_1.contains(&version));
        TlsApi { err_get_state, ..self }
    }

    /// The first function that is missing though we cannot do without it.
    pub fn lacks(&self) -> Option<&'static str> {
        let has_index =
            self.crypto_get_ex_new_index.is_some() || self.ssl_ctx_get_ex_new_index.is_some();
        let needs = [
            (self.rand_bytes.is_some(), "RAND_bytes"),
            (self.ssl_version.is_some(), "SSL_version"),
            (self.ssl_ctx_get_timeout.is_some(), "SSL_CTX_get_timeout"),
            (self.ssl_ctx_get_ex_data.is_some(), "SSL_CTX_get_ex_data"),
            (self.ssl_ctx_set_ex_data.is_some(), "SSL_CTX_set_ex_data"),
            (has_index, "CRYPTO_get_ex_new_index"),
            (self.ssl_get_servername.is_some(), "SSL_get_servername"),
            (self.ssl_session_reused.is_some() || self.ssl_ctrl.is_some(), "SSL_session_reused"),
            (self.ssl_get_verify_mode.is_some(), "SSL_get_verify_mode"),
            (self.ssl_get_verify_depth.is_some(), "SSL_get_verify_depth"),
            (self.ssl_get_client_ca_list.is_some(), "SSL_get_client_CA_list"),
            (self.ssl_get_ex_data.is_some(), "SSL_get_ex_data"),
            (self.ssl_set_ex_data.is_some(), "SSL_set_ex_data"),
            (self.ssl_ctx_get0_certificate.is_some(), "SSL_CTX_get0_certificate"),
            (self.x509_digest.is_some(), "X509_digest"),
            (self.ssl_ctx_get_verify_mode.is_some(), "SSL_CTX_get_verify_mode"),
            (self.ssl_ctx_get_verify_depth.is_some(), "SSL_CTX_get_verify_depth"),
            (self.ssl_ctx_get_client_ca_list.is_some(), "SSL_CTX_get_client_CA_list"),
            (self.sk_num.is_some(), "OPENSSL_sk_num"),
            (self.sk_value.is_some(), "OPENSSL_sk_value"),
            (self.x509_name_digest.is_some(), "X509_NAME_digest"),
            (self.evp_sha256.is_some(), "EVP_sha256"),
            (self.evp_aes_256_cbc.is_some(), "EVP_aes_256_cbc"),
            (self.evp_cipher_init_ex.is_some(), "EVP_CipherInit_ex"),
            (
                self.doors().next().is_some(),
                "a way to set the ticket key callback, and its MAC functions",
            ),
        ];
        needs.into_iter().find(|(present, _)| !present).map(|(_, name)| name)
    }

    /// True if keyed MACs can be kept and copied: only in the HMAC form. (An
    /// `EVP_MAC_CTX` cannot be copied into the one that libssl hands in.)
    pub fn copies_macs(&self) -> bool {
        self.hmac_ctx_new.is_some() && self.hmac_ctx_free.is_some() && self.hmac_ctx_copy.is_some()
    }

    /// True if it has the EVP form of the callback.
    pub fn has_evp_form(&self) -> bool {
        self.ssl_ctx_set_tlsext_ticket_key_evp_cb.is_some()
            && self.evp_mac_init.is_some()
            && self.evp_mac_update.is_some()
    }

    /// The forms in which the callback can be installed, the best first: HMAC
    /// where it is the faster one, else EVP where OpenSSL has it, else HMAC. A
    /// library may lack what it has a function for: OpenSSL that was built
    /// without what is deprecated refuses the HMAC form.
    pub fn doors(&self) -> impl Iterator<Item = Door> + use<> {
        let evp = self.has_evp_form();
        let hmac =
            self.hmac_init_ex.is_some() && self.hmac_update.is_some() && self.evp_sha256.is_some();
        let function = hmac && self.ssl_ctx_set_tlsext_ticket_key_cb.is_some();
        let ctrl = hmac && self.ssl_ctx_callback_ctrl.is_some();
        let fast = ctrl && self.copies_macs();
        let order = [
            (evp && fast, Door::HmacCtrl),
            (evp, Door::Evp),
            (function, Door::HmacFunction),
            (ctrl && !(evp && fast), Door::HmacCtrl),
        ];
        order.into_iter().filter(|(has, _)| *has).map(|(_, door)| door)
    }

    /// True for BoringSSL and AWS-LC, where what is a command of a `ctrl` function in the others
    /// is a function.
    pub fn is_boring(&self) -> bool {
        self.ssl_ctx_set_tlsext_ticket_key_cb.is_some()
    }

    /// Where the server name is while a ticket is opened.
    pub fn name_source(&self) -> NameSource {
        match self.ssl_client_hello_get0_ext {
            Some(_) => NameSource::ClientHello,
            None if self.is_boring() => NameSource::Negotiated,
            None => NameSource::Message,
        }
    }

    /// True where a callback that returns 0 at enc = 1 only means "no ticket".
    /// Older OpenSSL sends a malformed one (fixed in 3.0.6, openssl#18977), AWS-LC
    /// crashes, LibreSSL goes on with uninitialised memory; those that are none
    /// of OpenSSL call themselves 1.1.1 or 2.0.
    pub fn zero_means_no_ticket(&self) -> bool {
        const OPENSSL_3_0_6: c_ulong = 0x3000_0060;
        // SAFETY: takes nothing and returns a number.
        self.openssl_version_num.is_some_and(|version| unsafe { version() } >= OPENSSL_3_0_6)
    }

    /// A new index for pointers of ours in SSL_CTX objects; < 0 if there is none.
    pub fn new_ctx_index(&self, free: ExFree) -> c_int {
        let none = std::ptr::null_mut();
        self.new_index(EX_INDEX_SSL_CTX, self.ssl_ctx_get_ex_new_index, none, (None, free))
    }

    /// A new index for pointers of ours in SSL objects; < 0 if there is none.
    /// `dup` and `free` get `argument`, which stays valid for ever.
    pub fn new_ssl_index(&self, argument: *mut c_void, dup: ExDup, free: ExFree) -> c_int {
        self.new_index(EX_INDEX_SSL, self.ssl_get_ex_new_index, argument, (dup, free))
    }

    fn new_index(
        &self,
        class: c_int,
        by_class: SslCtxGetExNewIndex,
        argument: *mut c_void,
        (dup, free): (ExDup, ExFree),
    ) -> c_int {
        let none = std::ptr::null_mut();
        // SAFETY: no new function; the others take any pointer that we have
        // stored under the index, and null.
        unsafe {
            // The shared AWS-LC exports a CRYPTO_get_ex_new_index, too, which
            // is its own and takes other arguments.
            match (by_class, self.crypto_get_ex_new_index) {
                (Some(new_index), _) => new_index(0, argument, none, dup, free),
                (None, Some(new_index)) => new_index(class, 0, argument, none, dup, free),
                (None, None) => -1,
            }
        }
    }

    /// What is stored under `index` in a context.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of this library.
    pub unsafe fn ctx_data(&self, ctx: *const SSL_CTX, index: c_int) -> *mut c_void {
        // SAFETY: the caller vouches for `ctx`.
        self.ssl_ctx_get_ex_data.map_or(std::ptr::null_mut(), |get| unsafe { get(ctx, index) })
    }

    /// Stores a pointer under `index` in a context; false if that fails.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of this library, and `data` what the index's
    /// free function takes.
    pub unsafe fn set_ctx_data(&self, ctx: *mut SSL_CTX, index: c_int, data: *mut c_void) -> bool {
        // SAFETY: the caller vouches for `ctx` and `data`.
        self.ssl_ctx_set_ex_data.is_some_and(|set| unsafe { set(ctx, index, data) } == 1)
    }

    /// The session timeout of a context in seconds; OpenSSL takes 0 for its default.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of this library.
    pub unsafe fn timeout(&self, ctx: *const SSL_CTX) -> u64 {
        const OPENSSL_DEFAULT: u64 = 7200;
        // SAFETY: the caller vouches for `ctx`.
        let seconds = self.ssl_ctx_get_timeout.map_or(0, |get| unsafe { get(ctx) });
        // BoringSSL returns 32 bits where OpenSSL returns a long.
        match u64::from(seconds as u32) {
            0 => OPENSSL_DEFAULT,
            seconds => seconds,
        }
    }

    /// True if a session is resumed in the handshake of the connection.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library.
    pub unsafe fn session_reused(&self, ssl: *mut SSL) -> bool {
        // SAFETY: the caller vouches for `ssl`; the command has no arguments.
        unsafe {
            match self.ssl_session_reused {
                Some(reused) => reused(ssl) == 1,
                None => self.ask(ssl, CTRL_GET_SESSION_REUSED) == 1,
            }
        }
    }

    /// The options of a connection, of a library that has no `SSL_get_options`.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library.
    pub unsafe fn options(&self, ssl: *mut SSL) -> u64 {
        // SAFETY: the caller vouches for `ssl`; the command has no arguments.
        unsafe { self.ask(ssl, CTRL_OPTIONS) as u64 }
    }

    /// # Safety
    ///
    /// `ssl` is a live SSL of this library, and the command takes no arguments.
    unsafe fn ask(&self, ssl: *mut SSL, command: c_int) -> c_long {
        // SAFETY: passed on from the caller.
        self.ssl_ctrl.map_or(0, |ctrl| unsafe { ctrl(ssl, command, 0, std::ptr::null_mut()) })
    }

    /// True if the connection asks for a client certificate, as far as is known now.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library.
    pub unsafe fn asks_for_certificate(&self, ssl: *const SSL) -> bool {
        /// `SSL_VERIFY_PEER`.
        const PEER: c_int = 1;
        // SAFETY: the caller vouches for `ssl`.
        self.ssl_get_verify_mode.is_some_and(|mode| unsafe { mode(ssl) } & PEER != 0)
    }

    /// True if the session of a connection has a session id context
    /// (SSL_CTX_set_session_id_context(3)), or needs none, or nobody tells.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library, its session made.
    pub unsafe fn has_id_context(&self, ssl: *const SSL) -> bool {
        let Some(get) = self.ssl_get_session.filter(|_| self.needs_id_context()) else {
            return true;
        };
        // SAFETY: the caller vouches for `ssl`, which keeps its session.
        unsafe {
            let session = get(ssl);
            session.is_null() || self.session_has_id_context(session)
        }
    }

    /// True if sessions need a session id context where client certificates are asked for.
    pub fn needs_id_context(&self) -> bool {
        !self.is_boring()
    }

    /// True if a session has a session id context, or nobody tells.
    ///
    /// # Safety
    ///
    /// `session` is a live SSL_SESSION of this library.
    pub unsafe fn session_has_id_context(&self, session: *const SSL_SESSION) -> bool {
        self.ssl_session_get0_id_context.is_none_or(|get| {
            let mut len = 0;
            // SAFETY: the caller vouches for `session`.
            unsafe { get(session, &mut len) };
            len > 0
        })
    }

    /// True if the connection's handshake is that of TLS 1.3, as QUIC's is (RFC 9001 §4).
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library, its version negotiated.
    pub unsafe fn is_tls_1_3(&self, ssl: *const SSL) -> bool {
        // SAFETY: the caller vouches for `ssl`.
        self.ssl_version.is_some_and(|version| matches!(unsafe { version(ssl) }, TLS_1_3 | QUIC_1))
    }
}
