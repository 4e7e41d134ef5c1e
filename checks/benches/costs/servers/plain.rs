//! The ticket key callback that examples on the web show, after the one in
//! SSL_CTX_set_tlsext_ticket_key_evp_cb(3), or before OpenSSL 3.0 in SSL_CTX_set_tlsext_ticket_key_cb(3):
//! one key, nothing prepared, nothing rotated.

use std::ffi::{c_int, c_uchar};
use std::ptr;
use std::sync::OnceLock;

use openssl::ssl::SslContext;
use openssl_sys as ffi;

use super::key::{self, Key};
use crate::Result;
use crate::ticket::form::{self, Mac};

static KEY: OnceLock<Key> = OnceLock::new();

/// Sets the callback.
pub fn install(context: &SslContext) -> Result<()> {
    let key = Key::random()?;
    KEY.get_or_init(|| key);
    (form::NEWEST.set)(context, Some(callback))
}

unsafe extern "C" fn callback(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut Mac,
    enc: c_int,
) -> c_int {
    let Some(key) = KEY.get() else { return -1 };
    // SAFETY: libssl's own arguments: 16 bytes at `name` and `iv`, to be written when `enc` is 1;
    // live contexts.
    unsafe {
        if enc == 1 {
            if ffi::RAND_bytes(iv, 16) != 1 {
                return -1;
            }
            ptr::copy_nonoverlapping(key.name.as_ptr(), name, 16);
        } else if std::slice::from_raw_parts(name, 16) != key.name {
            return 0;
        }
        match key.set(form::NEWEST, cipher, mac, iv, enc) {
            true if enc == 1 => 1,
            true => key::opened(ssl),
            false => -1,
        }
    }
}
