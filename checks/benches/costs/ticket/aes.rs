//! AES-256-CBC, looked up once: from OpenSSL 3.0 on that is a fetch, before it is a constant.

use openssl_sys as ffi;

use crate::Result;

/// The cipher.
pub struct Aes(*mut ffi::EVP_CIPHER);

impl Aes {
    #[cfg(openssl_3)]
    pub fn look_up() -> Result<Aes> {
        let (library, properties) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: the default library context, no properties, and a name that ends.
        let aes = unsafe { ffi::EVP_CIPHER_fetch(library, c"AES-256-CBC".as_ptr(), properties) };
        if aes.is_null() { Err("no AES".into()) } else { Ok(Aes(aes)) }
    }

    #[cfg(not(openssl_3))]
    pub fn look_up() -> Result<Aes> {
        // SAFETY: takes nothing, and gives a constant.
        Ok(Aes(unsafe { ffi::EVP_aes_256_cbc() }.cast_mut()))
    }

    /// For EVP_CipherInit_ex(3).
    pub fn as_ptr(&self) -> *const ffi::EVP_CIPHER {
        self.0
    }
}

#[cfg(openssl_3)]
impl Drop for Aes {
    fn drop(&mut self) {
        // SAFETY: fetched when this was made.
        unsafe { ffi::EVP_CIPHER_free(self.0) }
    }
}
