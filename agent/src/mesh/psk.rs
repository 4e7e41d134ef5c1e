//! External pre-shared keys of TLS 1.3 (RFC 8446 §4.2.11). OpenSSL takes them as sessions, through
//! callbacks that openssl-sys does not have; SSL_CTX_set_psk_use_session_callback(3).

use std::os::raw::{c_int, c_uchar};
use std::ptr;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ex_data::Index;
use openssl::md::MdRef;
use openssl::ssl::{SslContext, SslContextBuilder, SslRef, SslSession};
use openssl_sys::{EVP_MD, SSL, SSL_CIPHER, SSL_CTX, SSL_SESSION};
use tktrot_fleet::secret::Psk;

/// `TLS1_3_VERSION`.
const TLS_1_3: c_int = 0x0304;
/// TLS_AES_256_GCM_SHA384 (RFC 8446 §B.4): its hash is the key's.
const CIPHER: [u8; 2] = [0x13, 0x02];

type UseSession = unsafe extern "C" fn(
    *mut SSL,
    *const EVP_MD,
    *mut *const c_uchar,
    *mut usize,
    *mut *mut SSL_SESSION,
) -> c_int;

type FindSession =
    unsafe extern "C" fn(*mut SSL, *const c_uchar, usize, *mut *mut SSL_SESSION) -> c_int;

unsafe extern "C" {
    fn SSL_CTX_set_psk_use_session_callback(ctx: *mut SSL_CTX, callback: Option<UseSession>);
    fn SSL_CTX_set_psk_find_session_callback(ctx: *mut SSL_CTX, callback: Option<FindSession>);
    fn SSL_SESSION_new() -> *mut SSL_SESSION;
    fn SSL_SESSION_set1_master_key(
        session: *mut SSL_SESSION,
        key: *const c_uchar,
        length: usize,
    ) -> c_int;
    fn SSL_SESSION_set_cipher(session: *mut SSL_SESSION, cipher: *const SSL_CIPHER) -> c_int;
    fn SSL_SESSION_set_protocol_version(session: *mut SSL_SESSION, version: c_int) -> c_int;
    fn SSL_CIPHER_find(ssl: *mut SSL, id: *const c_uchar) -> *const SSL_CIPHER;
}

type Psks = Vec<Psk>;

/// Where a context has its keys.
fn place() -> Result<Index<SslContext, Psks>> {
    static PLACE: OnceLock<Index<SslContext, Psks>> = OnceLock::new();
    if let Some(place) = PLACE.get() {
        return Ok(*place);
    }
    let new = SslContext::new_ex_index()?;
    Ok(*PLACE.get_or_init(|| new))
}

/// A server that knows clients by these keys and by nothing else.
pub fn accept(context: &mut SslContextBuilder, psks: Psks) -> Result<()> {
    context.set_ex_data(place()?, psks);
    // SAFETY: the context is valid, and the callback lives as long as the program.
    unsafe { SSL_CTX_set_psk_find_session_callback(context.as_ptr(), Some(find)) };
    Ok(())
}

/// A client that offers the first of these.
pub fn offer(context: &mut SslContextBuilder, psks: Psks) -> Result<()> {
    ensure!(!psks.is_empty(), "there is no key to offer");
    context.set_ex_data(place()?, psks);
    // SAFETY: as in `accept`.
    unsafe { SSL_CTX_set_psk_use_session_callback(context.as_ptr(), Some(offer_first)) };
    Ok(())
}

/// Called by OpenSSL with a client's identity; no session means that the key is not known.
///
/// # Safety
///
/// As SSL_CTX_set_psk_find_session_callback(3) says.
unsafe extern "C" fn find(
    ssl: *mut SSL,
    identity: *const c_uchar,
    length: usize,
    session: *mut *mut SSL_SESSION,
) -> c_int {
    // SAFETY: OpenSSL passes the connection's own pointer, which is valid during the call.
    let ssl = unsafe { SslRef::from_ptr(ssl) };
    // SAFETY: OpenSSL passes where the session goes.
    unsafe { *session = ptr::null_mut() };
    if identity.is_null() {
        return 1;
    }
    // SAFETY: it points to `length` bytes during the call.
    let identity = unsafe { std::slice::from_raw_parts(identity, length) };
    let known = psks(ssl).iter().find(|psk| psk.identity.as_bytes() == identity);
    let found = known.and_then(|psk| new_session(ssl, psk));
    let found = found.map_or(ptr::null_mut(), into_ptr);
    // SAFETY: OpenSSL passes where the session goes, and owns it from here on.
    unsafe { *session = found };
    1
}

/// Called by OpenSSL for a client's first message, and again with the server's digest after a
/// HelloRetryRequest.
///
/// # Safety
///
/// As SSL_CTX_set_psk_use_session_callback(3) says.
unsafe extern "C" fn offer_first(
    ssl: *mut SSL,
    digest: *const EVP_MD,
    identity: *mut *const c_uchar,
    length: *mut usize,
    session: *mut *mut SSL_SESSION,
) -> c_int {
    // SAFETY: OpenSSL passes the connection's own pointer, which is valid during the call.
    let ssl = unsafe { SslRef::from_ptr(ssl) };
    // SAFETY: a digest, if there is one, is valid during the call.
    let is_ours = digest.is_null() || unsafe { MdRef::from_ptr(digest.cast_mut()) }.size() == 48;
    let first = psks(ssl).first().filter(|_| is_ours);
    let offered = first.and_then(|psk| Some((psk, new_session(ssl, psk)?)));
    // SAFETY: OpenSSL passes where these go. The identity lives as long as the context, which
    // outlives the connection; the session is OpenSSL's from here on.
    unsafe {
        *session = ptr::null_mut();
        if let Some((psk, offered)) = offered {
            *identity = psk.identity.as_ptr();
            *length = psk.identity.len();
            *session = into_ptr(offered);
        }
    }
    1
}

/// The keys of the connection's context.
fn psks(ssl: &SslRef) -> &[Psk] {
    let psks = place().ok().and_then(|place| ssl.ssl_context().ex_data(place));
    psks.map_or(&[], Vec::as_slice)
}

/// What stands for the key in OpenSSL, which wipes it with the connection.
fn new_session(ssl: &SslRef, psk: &Psk) -> Option<SslSession> {
    let key = psk.key.expose();
    // SAFETY: a new session is ours alone, `from_ptr` frees it; the key is copied; the cipher is a
    // static of OpenSSL's, or null, which is checked.
    unsafe {
        let session = SSL_SESSION_new();
        if session.is_null() {
            return None;
        }
        let owned = SslSession::from_ptr(session);
        let cipher = SSL_CIPHER_find(ssl.as_ptr(), CIPHER.as_ptr());
        let is_set = !cipher.is_null()
            && SSL_SESSION_set1_master_key(session, key.as_ptr(), key.len()) == 1
            && SSL_SESSION_set_cipher(session, cipher) == 1
            && SSL_SESSION_set_protocol_version(session, TLS_1_3) == 1;
        is_set.then_some(owned)
    }
}

/// Gives the session away.
fn into_ptr(session: SslSession) -> *mut SSL_SESSION {
    let session = std::mem::ManuallyDrop::new(session);
    session.as_ptr()
}
