//! The cipher and the digest of one TLS library, fetched once: a fetch for each
//! ticket (which is what `EVP_sha256()` means in OpenSSL 3) costs more than
//! the ticket's cipher.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use openssl_sys::{EVP_CIPHER, EVP_CIPHER_CTX, EVP_MD};

use super::api::TlsApi;
use crate::secret::Secret;

/// What was fetched, and is kept for ever; null where nothing can be.
#[derive(Default)]
pub struct Methods {
    sha256: AtomicPtr<EVP_MD>,
    aes_256: AtomicPtr<EVP_CIPHER>,
    aes_128: AtomicPtr<EVP_CIPHER>,
}

/// What a cipher context is primed for.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Direction {
    /// `enc` = 0.
    Decrypt = 0,
    /// `enc` = 1.
    Encrypt = 1,
}

impl Methods {
    /// Fetches what is not there yet. The caller holds
    /// [`crate::process::exclusive`].
    pub fn fetch(&self, api: &TlsApi) {
        let none = ptr::null_mut();
        // SAFETY: names that end, and null for the default library context and
        // properties (EVP_MD_fetch(3)).
        unsafe {
            if let Some(fetch) = api.evp_md_fetch
                && self.sha256.load(Ordering::Relaxed).is_null()
            {
                self.sha256
                    .store(fetch(none, c"SHA2-256".as_ptr(), ptr::null()), Ordering::Release);
            }
            for (cell, name) in [(&self.aes_256, c"AES-256-CBC"), (&self.aes_128, c"AES-128-CBC")] {
                if let Some(fetch) = api.evp_cipher_fetch
                    && cell.load(Ordering::Relaxed).is_null()
                {
                    cell.store(fetch(none, name.as_ptr(), ptr::null()), Ordering::Release);
                }
            }
        }
    }

    /// SHA-256; null if the library has none.
    pub fn sha256(&self, api: &TlsApi) -> *const EVP_MD {
        let fetched = self.sha256.load(Ordering::Acquire);
        if !fetched.is_null() {
            return fetched;
        }
        // SAFETY: takes nothing and returns the library's constant.
        api.evp_sha256.map_or(ptr::null(), |get| unsafe { get() })
    }

    /// AES in CBC mode; null if the library has none.
    fn aes(&self, api: &TlsApi, is_128: bool) -> *const EVP_CIPHER {
        let (cell, constant) = match is_128 {
            true => (&self.aes_128, api.evp_aes_128_cbc),
            false => (&self.aes_256, api.evp_aes_256_cbc),
        };
        let fetched = cell.load(Ordering::Acquire);
        if !fetched.is_null() {
            return fetched;
        }
        // SAFETY: takes nothing and returns the library's constant.
        constant.map_or(ptr::null(), |get| unsafe { get() })
    }

    /// Primes a cipher context with AES-256-CBC, or AES-128-CBC and the first
    /// half of the key; false if the library fails.
    ///
    /// # Safety
    ///
    /// `cipher` is a live EVP_CIPHER_CTX of the library that `api` is of.
    pub unsafe fn prime(
        &self,
        api: &TlsApi,
        cipher: *mut EVP_CIPHER_CTX,
        (key, is_128): (&Secret<32>, bool),
        iv: &[u8; 16],
        direction: Direction,
    ) -> bool {
        let aes = self.aes(api, is_128);
        let Some(init) = api.evp_cipher_init_ex.filter(|_| !aes.is_null()) else { return false };
        let (key, iv) = (key.expose().as_ptr(), iv.as_ptr());
        // SAFETY: the caller vouches for `cipher`; the key has the 32 bytes of
        // AES-256, of which AES-128 reads 16, and the IV those of CBC.
        unsafe { init(cipher, aes, ptr::null_mut(), key, iv, direction as i32) == 1 }
    }
}
