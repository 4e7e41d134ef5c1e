//! The EVP form of the callback: OpenSSL 3.0 and later.

use std::ffi::{c_int, c_uchar};
use std::ptr;

use openssl_sys::{EVP_CIPHER_CTX, SSL};

use super::api::{EvpMacCtx, OsslParam, TlsApi};
use super::attach;
use super::ticket::TicketCrypto;
use crate::secret::Secret;

/// The contexts of one call.
struct EvpCrypto<'a> {
    api: &'a TlsApi,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut EvpMacCtx,
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
    mac: *mut EvpMacCtx,
    enc: c_int,
) -> c_int {
    // SAFETY: passed on from the TLS library.
    unsafe { attach::serve(place, ssl, name, iv, enc, |api| EvpCrypto { api, cipher, mac }) }
}

impl TicketCrypto for EvpCrypto<'_> {
    fn encrypt(&mut self, key: &Secret<32>, iv: &[u8; 16]) -> bool {
        // SAFETY: the TLS library's live cipher context.
        unsafe { self.api.prime_cipher(self.cipher, key, iv, 1) }
    }

    fn decrypt(&mut self, key: &Secret<32>, iv: &[u8; 16]) -> bool {
        // SAFETY: the TLS library's live cipher context.
        unsafe { self.api.prime_cipher(self.cipher, key, iv, 0) }
    }

    fn key_mac(&mut self, key: &Secret<32>) -> bool {
        let Some(init) = self.api.evp_mac_init else { return false };
        let digest = c"SHA256";
        let params = [
            OsslParam {
                key: c"digest".as_ptr(),
                data_type: OsslParam::UTF8_STRING,
                data: digest.as_ptr().cast_mut().cast(),
                data_size: digest.count_bytes(),
                return_size: 0,
            },
            OsslParam::end(),
        ];
        // SAFETY: the TLS library's live HMAC context, a key of 32 bytes, and
        // an array that ends.
        unsafe { init(self.mac, key.expose().as_ptr(), key.expose().len(), params.as_ptr()) == 1 }
    }

    fn absorb(&mut self, data: &[u8]) -> bool {
        let Some(update) = self.api.evp_mac_update else { return false };
        // SAFETY: the context that `key_mac` initialised, and a valid slice.
        unsafe { update(self.mac, data.as_ptr(), data.len()) == 1 }
    }
}

impl TlsApi {
    /// Primes a cipher context with AES-256-CBC; `enc` 1 to encrypt, 0 to decrypt.
    ///
    /// # Safety
    ///
    /// `cipher` is a live EVP_CIPHER_CTX of this library.
    pub unsafe fn prime_cipher(
        &self,
        cipher: *mut EVP_CIPHER_CTX,
        key: &Secret<32>,
        iv: &[u8; 16],
        enc: c_int,
    ) -> bool {
        let (Some(aes), Some(init)) = (self.evp_aes_256_cbc, self.evp_cipher_init_ex) else {
            return false;
        };
        // SAFETY: the caller vouches for `cipher`; key and IV have the sizes
        // of AES-256-CBC.
        unsafe {
            let (key, iv) = (key.expose().as_ptr(), iv.as_ptr());
            init(cipher, aes(), ptr::null_mut(), key, iv, enc) == 1
        }
    }
}
