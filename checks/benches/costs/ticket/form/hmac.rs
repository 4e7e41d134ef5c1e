//! SSL_CTX_set_tlsext_ticket_key_cb(3): the older form, deprecated since OpenSSL 3.0.

use std::ffi::{c_int, c_long};
use std::ptr;

use foreign_types::ForeignType;
use openssl::ssl::SslContext;
use openssl_sys as ffi;

use super::{Callback, Form, Mac};
use crate::Result;

pub const FORM: Form = Form { set, new, key, update, finish, free };

// A public function that openssl-sys does not declare with this type. What it sets here is called
// with an HMAC_CTX for the MAC context.
unsafe extern "C" {
    fn SSL_CTX_callback_ctrl(
        ctx: *mut ffi::SSL_CTX,
        command: c_int,
        callback: Option<Callback>,
    ) -> c_long;
}

fn set(context: &SslContext, callback: Option<Callback>) -> Result<()> {
    const SET_TICKET_KEY_CB: c_int = 72;
    // SAFETY: a live context. libssl calls the function with the arguments of its type; pointers to
    // whatever are passed alike.
    let done = unsafe { SSL_CTX_callback_ctrl(context.as_ptr(), SET_TICKET_KEY_CB, callback) };
    if done == 1 { Ok(()) } else { Err("no HMAC callback can be set".into()) }
}

unsafe fn new() -> *mut Mac {
    // SAFETY: takes nothing.
    unsafe { ffi::HMAC_CTX_new() }.cast()
}

unsafe fn key(mac: *mut Mac, key: &[u8; 32]) -> bool {
    let (data, len) = (key.as_ptr().cast(), key.len() as c_int);
    // SAFETY: the caller vouches for `mac`; the key is valid for its length.
    unsafe { ffi::HMAC_Init_ex(mac.cast(), data, len, ffi::EVP_sha256(), ptr::null_mut()) == 1 }
}

/// Makes a context that has no key yet do what another one does, which has one.
///
/// # Safety
///
/// Live contexts of this form.
pub unsafe fn copy(to: *mut Mac, from: *mut Mac) -> bool {
    // SAFETY: the caller vouches for both.
    unsafe { ffi::HMAC_CTX_copy(to.cast(), from.cast()) == 1 }
}

unsafe fn update(mac: *mut Mac, data: &[u8]) -> bool {
    // SAFETY: the caller vouches for `mac`; a slice with its length.
    unsafe { ffi::HMAC_Update(mac.cast(), data.as_ptr(), data.len()) == 1 }
}

unsafe fn finish(mac: *mut Mac, tag: &mut [u8; 32]) -> bool {
    let mut len = 0;
    // SAFETY: the caller vouches for `mac`; room for the tag of SHA-256.
    unsafe { ffi::HMAC_Final(mac.cast(), tag.as_mut_ptr(), &mut len) == 1 }
}

unsafe fn free(mac: *mut Mac) {
    // SAFETY: made in `new`, or null.
    unsafe { ffi::HMAC_CTX_free(mac.cast()) }
}
