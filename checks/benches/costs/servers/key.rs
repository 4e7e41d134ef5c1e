//! What the callbacks that libtktrot is compared to have in common: a key, and how it is set in a
//! way that prepares nothing.

use std::ffi::{c_int, c_uchar};
use std::ptr;

use openssl::rand::rand_bytes;
use openssl_sys as ffi;

use crate::Result;
use crate::ticket::form::{Form, Mac};

/// A ticket key.
#[derive(Clone)]
pub struct Key {
    pub name: [u8; 16],
    pub aes: [u8; 32],
    pub hmac: [u8; 32],
}

impl Key {
    pub fn random() -> Result<Key> {
        let mut key = Key { name: [0; 16], aes: [0; 32], hmac: [0; 32] };
        rand_bytes(&mut key.name)?;
        rand_bytes(&mut key.aes)?;
        rand_bytes(&mut key.hmac)?;
        Ok(key)
    }

    /// Three of them: the next, the current and the last one.
    pub fn three() -> Result<[Key; 3]> {
        Ok([Key::random()?, Key::random()?, Key::random()?])
    }

    /// Sets cipher and MAC as the examples in the manual pages of the callback's forms.
    ///
    /// # Safety
    ///
    /// A live cipher context, a live MAC context of that form, 16 bytes at `iv`.
    pub unsafe fn set(
        &self,
        form: &Form,
        cipher: *mut ffi::EVP_CIPHER_CTX,
        mac: *mut Mac,
        iv: *const c_uchar,
        enc: c_int,
    ) -> bool {
        // SAFETY: the caller vouches for the pointers; the key is as long as the cipher's.
        unsafe {
            let (none, key) = (ptr::null_mut(), self.aes.as_ptr());
            ffi::EVP_CipherInit_ex(cipher, ffi::EVP_aes_256_cbc(), none, key, iv, enc) == 1
                && (form.key)(mac, &self.hmac)
        }
    }
}

/// What opening answers: renewal in TLS 1.3 only, as all do that are measured.
///
/// # Safety
///
/// A live connection.
pub unsafe fn opened(ssl: *mut ffi::SSL) -> c_int {
    // SAFETY: the caller vouches for it.
    if unsafe { ffi::SSL_version(ssl) } == ffi::TLS1_3_VERSION { 2 } else { 1 }
}
