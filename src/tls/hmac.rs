//! The HMAC form of the callback: OpenSSL 1.1.1, BoringSSL, AWS-LC, LibreSSL.

use std::ffi::{c_int, c_uchar};
use std::ptr;

use openssl_sys::{EVP_CIPHER_CTX, HMAC_CTX, SSL};

use super::api::TlsApi;
use super::attach;
use super::ticket::TicketCrypto;
use crate::secret::Secret;

/// The contexts of one call.
struct HmacCrypto<'a> {
    api: &'a TlsApi,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut HMAC_CTX,
}

/// What the callback of a place does.
///
/// # Safety
///
/// Called by the TLS library through the callback pointer of `place`, with the
/// arguments of its contract.
pub unsafe fn callback(
    place: usize,
    ssl: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut HMAC_CTX,
    enc: c_int,
) -> c_int {
    // SAFETY: passed on from the TLS library.
    unsafe { attach::serve(place, ssl, name, iv, enc, |api| HmacCrypto { api, cipher, mac }) }
}

impl TicketCrypto for HmacCrypto<'_> {
    fn encrypt(&mut self, key: &Secret<32>, iv: &[u8; 16]) -> bool {
        // SAFETY: the TLS library's live cipher context.
        unsafe { self.api.prime_cipher(self.cipher, key, iv, 1) }
    }

    fn decrypt(&mut self, key: &Secret<32>, iv: &[u8; 16]) -> bool {
        // SAFETY: the TLS library's live cipher context.
        unsafe { self.api.prime_cipher(self.cipher, key, iv, 0) }
    }

    fn key_mac(&mut self, key: &Secret<32>) -> bool {
        let (Some(init), Some(sha256)) = (self.api.hmac_init_ex, self.api.evp_sha256) else {
            return false;
        };
        // SAFETY: the TLS library's live HMAC context and a key of 32 bytes.
        unsafe {
            let bytes = key.expose();
            init(self.mac, bytes.as_ptr().cast(), bytes.len(), sha256(), ptr::null_mut()) == 1
        }
    }

    fn absorb(&mut self, data: &[u8]) -> bool {
        let Some(update) = self.api.hmac_update else { return false };
        // SAFETY: the context that `key_mac` initialised, and a valid slice.
        unsafe { update(self.mac, data.as_ptr(), data.len()) == 1 }
    }
}
