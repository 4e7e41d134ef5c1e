//! What the callbacks that libtktrot is compared to have in common: a key, and how it is set in a
//! way that prepares nothing.

use std::ffi::{CStr, c_int, c_uchar};
use std::ptr;

use foreign_types::ForeignType;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use openssl::ssl::SslContext;
use openssl_sys as ffi;

use crate::Result;
use crate::ticket::callback::EvpCallback;

// A public function of libssl 3 that openssl-sys does not declare.
unsafe extern "C" {
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        ctx: *mut ffi::SSL_CTX,
        callback: Option<EvpCallback>,
    ) -> c_int;
}

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

    /// Sets cipher and MAC as the example in SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
    ///
    /// # Safety
    ///
    /// A live cipher context, a live context of HMAC, 16 bytes at `iv`.
    pub unsafe fn set(
        &self,
        cipher: *mut ffi::EVP_CIPHER_CTX,
        mac: *mut ffi::EVP_MAC_CTX,
        iv: *const c_uchar,
        enc: c_int,
    ) -> bool {
        // SAFETY: the caller vouches for the pointers; the key is as long as the cipher's.
        unsafe { self.set_cipher(cipher, iv, enc) && self.set_mac(mac) }
    }

    /// # Safety
    ///
    /// As for [`Key::set`].
    pub unsafe fn set_cipher(
        &self,
        cipher: *mut ffi::EVP_CIPHER_CTX,
        iv: *const c_uchar,
        enc: c_int,
    ) -> bool {
        // SAFETY: the caller vouches for the pointers; the key is as long as the cipher's.
        unsafe {
            let aes = ffi::EVP_aes_256_cbc();
            ffi::EVP_CipherInit_ex(cipher, aes, ptr::null_mut(), self.aes.as_ptr(), iv, enc) == 1
        }
    }

    /// # Safety
    ///
    /// As for [`Key::set`].
    unsafe fn set_mac(&self, mac: *mut ffi::EVP_MAC_CTX) -> bool {
        const UTF8_STRING: u32 = 4;
        const OCTET_STRING: u32 = 5;
        let param = |name: &'static CStr, data_type, data: *const u8, data_size| {
            let (key, data) = (name.as_ptr(), data.cast_mut().cast());
            ffi::OSSL_PARAM { key, data_type, data, data_size, return_size: usize::MAX }
        };
        let params = [
            param(c"key", OCTET_STRING, self.hmac.as_ptr(), self.hmac.len()),
            param(c"digest", UTF8_STRING, c"sha256".as_ptr().cast(), 6),
            ffi::OSSL_PARAM {
                key: ptr::null(),
                data_type: 0,
                data: ptr::null_mut(),
                data_size: 0,
                return_size: 0,
            },
        ];
        // SAFETY: the caller vouches for `mac`; the parameters end with one without a name, and
        // setting them only reads their data.
        unsafe { ffi::EVP_MAC_CTX_set_params(mac, params.as_ptr()) == 1 }
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

/// Sets a callback of the EVP form.
pub fn set_callback(context: &SslContext, callback: EvpCallback) -> Result<()> {
    // SAFETY: a live context; the callback has the type that libssl 3 calls.
    match unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(context.as_ptr(), Some(callback)) } {
        1 => Ok(()),
        _ => Err(ErrorStack::get().into()),
    }
}
