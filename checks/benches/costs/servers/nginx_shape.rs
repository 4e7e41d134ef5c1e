//! nginx' shape, in a small implementation of our own: three keys that each call copies out while it
//! holds a mutex, and the callback's older form with HMAC. Not nginx' code; its mutex is one between
//! processes.

use std::ffi::{c_int, c_uchar};
use std::ptr;
use std::sync::Mutex;

use openssl::ssl::SslContext;
use openssl_sys as ffi;

use super::key::{self, Key};
use crate::Result;
use crate::ticket::form::{Mac, hmac};

static KEYS: Mutex<Option<[Key; 3]>> = Mutex::new(None);

/// Sets the callback.
pub fn install(context: &SslContext) -> Result<()> {
    let mut keys = KEYS.lock().map_err(|_| "a panic while the lock was held")?;
    if keys.is_none() {
        *keys = Some(Key::three()?);
    }
    (hmac::FORM.set)(context, Some(answer))
}

unsafe extern "C" fn answer(
    ssl: *mut ffi::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut ffi::EVP_CIPHER_CTX,
    mac: *mut Mac,
    enc: c_int,
) -> c_int {
    let Some(keys) = KEYS.lock().ok().and_then(|keys| keys.clone()) else { return -1 };
    // SAFETY: libssl's own arguments: 16 bytes at `name` and `iv`, to be written when `enc` is 1;
    // live contexts.
    unsafe {
        let key = if enc == 1 {
            if ffi::RAND_bytes(iv, 16) != 1 {
                return -1;
            }
            ptr::copy_nonoverlapping(keys[0].name.as_ptr(), name, 16);
            &keys[0]
        } else {
            let name = std::slice::from_raw_parts(name, 16);
            match keys.iter().find(|key| key.name == name) {
                Some(key) => key,
                None => return 0,
            }
        };
        if key.set(&hmac::FORM, cipher, mac, iv, enc) {
            if enc == 1 { 1 } else { key::opened(ssl) }
        } else {
            -1
        }
    }
}
