//! SSL_CTX_set_tlsext_ticket_key_evp_cb(3).

use std::ffi::{CStr, c_int};
use std::ptr;

use foreign_types::ForeignType;
use openssl::ssl::SslContext;
use openssl_sys as ffi;

use super::{Callback, Form, Mac};
use crate::Result;

pub const FORM: Form = Form { set, new, key, update, finish, free };

// A public function of libssl 3 that openssl-sys does not declare. Its callback's MAC context is an
// EVP_MAC_CTX.
unsafe extern "C" {
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        ctx: *mut ffi::SSL_CTX,
        callback: Option<Callback>,
    ) -> c_int;
}

fn set(context: &SslContext, callback: Option<Callback>) -> Result<()> {
    // SAFETY: a live context; pointers to whatever are passed alike.
    let done = unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(context.as_ptr(), callback) };
    if done == 1 { Ok(()) } else { Err("no EVP callback can be set".into()) }
}

unsafe fn new() -> *mut Mac {
    // SAFETY: as documented; nothing but the MAC's name is handed in.
    unsafe {
        let hmac = ffi::EVP_MAC_fetch(ptr::null_mut(), c"HMAC".as_ptr(), ptr::null());
        let context = ffi::EVP_MAC_CTX_new(hmac);
        ffi::EVP_MAC_free(hmac);
        context.cast()
    }
}

unsafe fn key(mac: *mut Mac, key: &[u8; 32]) -> bool {
    const UTF8_STRING: u32 = 4;
    const OCTET_STRING: u32 = 5;
    let param = |name: &'static CStr, data_type, data: *const u8, data_size| {
        let (key, data) = (name.as_ptr(), data.cast_mut().cast());
        ffi::OSSL_PARAM { key, data_type, data, data_size, return_size: usize::MAX }
    };
    let params = [
        param(c"key", OCTET_STRING, key.as_ptr(), key.len()),
        param(c"digest", UTF8_STRING, c"sha256".as_ptr().cast(), 6),
        ffi::OSSL_PARAM {
            key: ptr::null(),
            data_type: 0,
            data: ptr::null_mut(),
            data_size: 0,
            return_size: 0,
        },
    ];
    // SAFETY: the caller vouches for `mac`; the parameters end with one without a name, and setting
    // them only reads their data.
    unsafe { ffi::EVP_MAC_CTX_set_params(mac.cast(), params.as_ptr()) == 1 }
}

unsafe fn update(mac: *mut Mac, data: &[u8]) -> bool {
    // SAFETY: the caller vouches for `mac`; a slice with its length.
    unsafe { ffi::EVP_MAC_update(mac.cast(), data.as_ptr(), data.len()) == 1 }
}

unsafe fn finish(mac: *mut Mac, tag: &mut [u8; 32]) -> bool {
    let mut len = 0;
    // SAFETY: the caller vouches for `mac`; room for the tag, and its length.
    unsafe { ffi::EVP_MAC_final(mac.cast(), tag.as_mut_ptr(), &mut len, tag.len()) == 1 }
}

unsafe fn free(mac: *mut Mac) {
    // SAFETY: made in `new`, or null.
    unsafe { ffi::EVP_MAC_CTX_free(mac.cast()) }
}
