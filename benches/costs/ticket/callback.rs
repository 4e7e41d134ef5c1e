//! The callback of a context: which it is, and another one in its place that calls it.

use std::ffi::{c_int, c_uchar};
use std::sync::Mutex;

use foreign_types::ForeignType;
use openssl::ssl::{SslContext, SslMethod};
use openssl_sys as ffi;

use super::in_handshake;
use crate::Result;

/// The EVP form.
pub type EvpCallback = unsafe extern "C" fn(
    *mut ffi::SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut ffi::EVP_CIPHER_CTX,
    *mut ffi::EVP_MAC_CTX,
    c_int,
) -> c_int;

/// The HMAC form.
pub type HmacCallback = unsafe extern "C" fn(
    *mut ffi::SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut ffi::EVP_CIPHER_CTX,
    *mut ffi::HMAC_CTX,
    c_int,
) -> c_int;

type AnyFunction = unsafe extern "C" fn();

// Public functions that openssl-sys does not declare, or not with this type.
unsafe extern "C" {
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        ctx: *mut ffi::SSL_CTX,
        callback: Option<EvpCallback>,
    ) -> c_int;
    fn SSL_CTX_callback_ctrl(
        ctx: *mut ffi::SSL_CTX,
        command: c_int,
        callback: Option<AnyFunction>,
    ) -> std::ffi::c_long;
}

/// A callback of either form.
#[derive(Clone, Copy)]
pub enum Callback {
    Evp(EvpCallback),
    Hmac(HmacCallback),
}

/// Sets a callback of the HMAC form, or none.
pub fn set_hmac(context: &SslContext, callback: Option<HmacCallback>) -> Result<()> {
    const SET_TICKET_KEY_CB: c_int = 72;
    // SAFETY: a live context. All function pointers are alike; libssl calls this one with the
    // arguments of its type.
    let done = unsafe {
        let any = std::mem::transmute::<Option<HmacCallback>, Option<AnyFunction>>(callback);
        SSL_CTX_callback_ctrl(context.as_ptr(), SET_TICKET_KEY_CB, any)
    };
    if done == 1 { Ok(()) } else { Err("no HMAC callback can be set".into()) }
}

fn set_evp(context: &SslContext, callback: Option<EvpCallback>) -> Result<()> {
    // SAFETY: a live context; the callback has the type that libssl 3 calls.
    let done = unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(context.as_ptr(), callback) };
    if done == 1 { Ok(()) } else { Err("no EVP callback can be set".into()) }
}

/// The callbacks that `evp` and `hmac` stand in front of, by address of the context.
static BEHIND: Mutex<Vec<(usize, Callback)>> = Mutex::new(Vec::new());

/// Puts functions in front of a context's callback through which [`in_handshake`] can use it.
pub fn stand_in_front(context: &SslContext) -> Result<()> {
    let callback = of(context)?;
    match callback {
        Callback::Evp(_) => set_evp(context, Some(evp))?,
        Callback::Hmac(_) => set_hmac(context, Some(hmac))?,
    }
    let address = context.as_ptr().addr();
    let mut known = BEHIND.lock().map_err(|_| "a panic while the lock was held")?;
    // A context that is gone may have been there.
    known.retain(|(other, _)| *other != address);
    known.push((address, callback));
    Ok(())
}

fn behind(ssl: *mut ffi::SSL) -> Option<Callback> {
    // SAFETY: a live connection, of which libssl runs the callback.
    let context = unsafe { ffi::SSL_get_SSL_CTX(ssl) }.addr();
    let known = BEHIND.lock().ok()?;
    known.iter().find(|(address, _)| *address == context).map(|(_, callback)| *callback)
}

unsafe extern "C" fn evp(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut ffi::EVP_MAC_CTX,
    enc: c_int,
) -> c_int {
    let Some(callback @ Callback::Evp(real)) = behind(ssl) else { return -1 };
    in_handshake::run_pending(callback, ssl, enc);
    // SAFETY: what libssl handed in.
    unsafe { real(ssl, name, iv, cipher, mac, enc) }
}

unsafe extern "C" fn hmac(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut ffi::HMAC_CTX,
    enc: c_int,
) -> c_int {
    let Some(callback @ Callback::Hmac(real)) = behind(ssl) else { return -1 };
    in_handshake::run_pending(callback, ssl, enc);
    // SAFETY: what libssl handed in.
    unsafe { real(ssl, name, iv, cipher, mac, enc) }
}

/// The callback that a context has. libssl has no getter for it; so a callback of our own in
/// another context tells in which word of a context it is.
fn of(context: &SslContext) -> Result<Callback> {
    let scratch = SslContext::builder(SslMethod::tls_server())?.build();
    set_evp(&scratch, Some(evp))?;
    let evp_word = words(&scratch).iter().position(|&word| word == evp as *const () as usize);
    set_evp(&scratch, None)?;
    set_hmac(&scratch, Some(hmac))?;
    let hmac_word = words(&scratch).iter().position(|&word| word == hmac as *const () as usize);
    set_hmac(&scratch, None)?;
    let (Some(evp_word), Some(hmac_word)) = (evp_word, hmac_word) else {
        return Err("this libssl keeps callbacks elsewhere than in the context".into());
    };
    let words = words(context);
    // SAFETY: the words of an SSL_CTX where callbacks of these types are; zero is none.
    let (evp, hmac) = unsafe {
        (
            std::mem::transmute::<usize, Option<EvpCallback>>(words[evp_word]),
            std::mem::transmute::<usize, Option<HmacCallback>>(words[hmac_word]),
        )
    };
    // libssl prefers the EVP form, too.
    evp.map(Callback::Evp).or(hmac.map(Callback::Hmac)).ok_or("a context without callback".into())
}

/// What is in a context, as numbers.
fn words(context: &SslContext) -> Vec<usize> {
    let start = context.as_ptr().cast::<usize>();
    // SAFETY: libssl made the context with malloc, whose size is asked for; it lives.
    unsafe {
        let count = libc::malloc_usable_size(start.cast()) / size_of::<usize>();
        (0..count).map(|place| start.add(place).read_volatile()).collect()
    }
}
