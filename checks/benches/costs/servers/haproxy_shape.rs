//! HAProxy's shape, in a small implementation of our own: a list of keys behind a reader-writer
//! lock, searched from its begin; the last but one encrypts. Not HAProxy's code, nor its lock.

use std::ffi::{c_int, c_uchar};
use std::ptr;
use std::sync::RwLock;

use openssl::ssl::SslContext;
use openssl_sys as ffi;

use super::key::{self, Key};
use crate::Result;
use crate::ticket::form::{self, Mac};

static KEYS: RwLock<Vec<Key>> = RwLock::new(Vec::new());

/// Sets the callback.
pub fn install(context: &SslContext) -> Result<()> {
    let mut keys = KEYS.write().map_err(|_| "a panic while the lock was held")?;
    if keys.is_empty() {
        keys.extend(Key::three()?);
    }
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
    let Ok(keys) = KEYS.read() else { return -1 };
    // SAFETY: libssl's own arguments: 16 bytes at `name` and `iv`, to be written when `enc` is 1;
    // live contexts.
    unsafe {
        if enc == 1 {
            let Some(key) = keys.len().checked_sub(2).map(|place| &keys[place]) else { return -1 };
            if ffi::RAND_bytes(iv, 16) != 1 {
                return -1;
            }
            ptr::copy_nonoverlapping(key.name.as_ptr(), name, 16);
            return if key.set(form::NEWEST, cipher, mac, iv, enc) { 1 } else { -1 };
        }
        let name = std::slice::from_raw_parts(name, 16);
        match keys.iter().find(|key| key.name == name) {
            None => 0,
            Some(key) if key.set(form::NEWEST, cipher, mac, iv, enc) => key::opened(ssl),
            Some(_) => -1,
        }
    }
}
