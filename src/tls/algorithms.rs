//! Where the cryptography of a context comes from: the library context and the
//! property query that it was made with (SSL_CTX_new_ex(3)), and what was
//! fetched there once. A fetch for each ticket, which is what `EVP_sha256()`
//! means in OpenSSL 3, costs more than the ticket's cipher.

use std::ffi::{CString, c_char, c_uchar, c_uint, c_void};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use openssl_sys::{EVP_CIPHER, EVP_CIPHER_CTX, EVP_MD};

use super::api::{Door, RandBytes, RandBytesEx, TlsApi};
use crate::secret::Secret;

/// `EVP_MAX_MD_SIZE`.
const MAX_DIGEST: usize = 64;

/// A library context and a property query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibraryContext {
    /// An `OSSL_LIB_CTX`; null for the default one. It outlives the contexts that were made in it.
    pub libctx: *mut c_void,
    /// What else is asked of an algorithm (property(7)).
    pub properties: Option<CString>,
}

impl LibraryContext {
    /// The default library context, and nothing asked for.
    pub const DEFAULT: LibraryContext =
        LibraryContext { libctx: ptr::null_mut(), properties: None };

    /// True if this is where everything is looked for that is not told where.
    pub fn is_default(&self) -> bool {
        *self == LibraryContext::DEFAULT
    }
}

impl fmt::Display for LibraryContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.libctx.is_null() { "the default" } else { "its own" };
        write!(f, "{whose} library context")?;
        match &self.properties {
            Some(query) => {
                write!(f, " with the property query \"{}\"", query.to_string_lossy())
            }
            None => Ok(()),
        }
    }
}

/// Cipher, digest and generators of one [`LibraryContext`].
pub struct Algorithms {
    library_context: LibraryContext,
    // Null where nothing was fetched.
    sha256: AtomicPtr<EVP_MD>,
    aes_256: AtomicPtr<EVP_CIPHER>,
    aes_128: AtomicPtr<EVP_CIPHER>,
}

// SAFETY: the fetched methods are reference-counted objects of the TLS
// library that any thread may use; the library context is only passed on.
unsafe impl Send for Algorithms {}
// SAFETY: as above.
unsafe impl Sync for Algorithms {}

/// What a cipher context is primed for.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Direction {
    /// `enc` = 0.
    Decrypt = 0,
    /// `enc` = 1.
    Encrypt = 1,
}

impl Algorithms {
    /// Nothing is fetched yet.
    pub const fn new(library_context: LibraryContext) -> Self {
        let (sha256, aes_256) = (AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut()));
        Algorithms { library_context, sha256, aes_256, aes_128: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The library context that the algorithms are fetched from.
    pub fn library_context(&self) -> &LibraryContext {
        &self.library_context
    }

    /// Fetches what is not there yet; the error names what tickets need and the
    /// library context has not. The caller holds [`crate::process::exclusive`],
    /// or nobody else has this.
    pub fn fetch(&self, api: &TlsApi) -> Result<(), &'static str> {
        let properties = self.properties();
        // SAFETY: a library context that its contexts keep, names that end,
        // and a query that ends or is null (EVP_MD_fetch(3)).
        unsafe {
            if let Some(fetch) = api.evp_md_fetch {
                let sha256 =
                    || fetch(self.library_context.libctx, c"SHA2-256".as_ptr(), properties);
                fill(&self.sha256, sha256);
            }
            if let Some(fetch) = api.evp_cipher_fetch {
                let aes =
                    |name: *const c_char| fetch(self.library_context.libctx, name, properties);
                fill(&self.aes_256, || aes(c"AES-256-CBC".as_ptr()));
                fill(&self.aes_128, || aes(c"AES-128-CBC".as_ptr()));
            }
        }
        if api.evp_md_fetch.is_some() && self.sha256.load(Ordering::Relaxed).is_null() {
            return Err("SHA2-256");
        }
        if api.evp_cipher_fetch.is_some() && self.aes_256.load(Ordering::Relaxed).is_null() {
            return Err("AES-256-CBC");
        }
        Ok(())
    }

    /// Frees what was fetched.
    pub fn free(&mut self, api: &TlsApi) {
        let ciphers = [&mut self.aes_256, &mut self.aes_128];
        // SAFETY: fetched above, and the caller is the last who has this.
        unsafe {
            if let Some(free) = api.evp_md_free {
                free(std::mem::take(self.sha256.get_mut()));
            }
            if let Some(free) = api.evp_cipher_free {
                ciphers.into_iter().for_each(|cipher| free(std::mem::take(cipher.get_mut())));
            }
        }
    }

    fn properties(&self) -> *const c_char {
        self.library_context.properties.as_ref().map_or(ptr::null(), |query| query.as_ptr())
    }

    /// The forms in which the callback can be installed, the best first.
    pub fn doors(&self, api: &TlsApi) -> impl Iterator<Item = Door> {
        // A module for FIPS 140 has HMAC as an EVP_MAC only.
        let only_evp = api.has_evp_form() && (self.is_fips(api) || !self.takes_hmac(api));
        api.doors().filter(move |door| !only_evp || *door == Door::Evp)
    }

    fn is_fips(&self, api: &TlsApi) -> bool {
        let asked = |query: &CString| {
            query.to_bytes().split(|byte| *byte == b',').any(|one| {
                let one: Vec<u8> = one.iter().copied().filter(|byte| *byte != b' ').collect();
                matches!(&*one, b"fips" | b"fips=yes")
            })
        };
        let enabled = || {
            let is_enabled = api.evp_default_properties_is_fips_enabled;
            // SAFETY: a library context that its contexts keep.
            is_enabled
                .is_some_and(|is_enabled| unsafe { is_enabled(self.library_context.libctx) } == 1)
        };
        self.library_context.properties.as_ref().is_some_and(asked) || enabled()
    }

    /// True if an HMAC of the old kind can be keyed with our digest.
    fn takes_hmac(&self, api: &TlsApi) -> bool {
        let (Some(new), Some(init), Some(free)) =
            (api.hmac_ctx_new, api.hmac_init_ex, api.hmac_ctx_free)
        else {
            return api.hmac_init_ex.is_some();
        };
        let (key, sha256) = ([1_u8; 32], self.sha256(api));
        // SAFETY: a context of the library's own, which is freed here, and a key of 32 bytes.
        unsafe {
            let ctx = new();
            if ctx.is_null() {
                return false;
            }
            let taken = !sha256.is_null()
                && init(ctx, key.as_ptr().cast(), key.len(), sha256, ptr::null_mut()) == 1;
            free(ctx);
            taken
        }
    }

    /// SHA-256; null if there is none.
    pub fn sha256(&self, api: &TlsApi) -> *const EVP_MD {
        let fetched = self.sha256.load(Ordering::Acquire);
        if !fetched.is_null() {
            return fetched;
        }
        // SAFETY: takes nothing and returns the library's constant.
        api.evp_sha256.map_or(ptr::null(), |get| unsafe { get() })
    }

    /// A SHA-256 digest that one of the TLS library's functions makes; `None` if
    /// that says no.
    pub fn digest_with(
        &self,
        api: &TlsApi,
        digest: impl FnOnce(*const EVP_MD, *mut c_uchar, *mut c_uint) -> bool,
    ) -> Option<[u8; 32]> {
        let sha256 = self.sha256(api);
        let mut bytes = [0; MAX_DIGEST];
        let mut len = 0;
        let made = !sha256.is_null() && digest(sha256, bytes.as_mut_ptr(), &mut len);
        bytes.first_chunk().copied().filter(|_| made && len == 32)
    }

    /// The SHA-256 digest of those bytes; `None` if the TLS library fails.
    pub fn sha256_of(&self, api: &TlsApi, bytes: &[u8]) -> Option<[u8; 32]> {
        let evp_digest = api.evp_digest?;
        // SAFETY: bytes, and room for a digest.
        self.digest_with(api, |md, out, len| unsafe {
            evp_digest(bytes.as_ptr().cast(), bytes.len(), out, len, md, ptr::null_mut()) == 1
        })
    }

    /// AES in CBC mode; null if there is none.
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

    /// Fills `bytes` from the generator for what is public; false if it fails
    /// or gives a constant.
    pub fn draw(&self, api: &TlsApi, bytes: &mut [u8]) -> bool {
        self.fill_from(api.rand_bytes_ex, api.rand_bytes, bytes)
    }

    /// Fills `bytes` from the generator for what is secret; false if it fails
    /// or gives a constant.
    pub fn draw_secret(&self, api: &TlsApi, bytes: &mut [u8]) -> bool {
        self.fill_from(api.rand_priv_bytes_ex, api.rand_priv_bytes.or(api.rand_bytes), bytes)
    }

    /// Tells generators apart: what was drawn from one is not taken for another's.
    pub fn generator(&self, api: &TlsApi) -> usize {
        match self.library_context.libctx.is_null() {
            true => api.rand_bytes.map_or(0, |function| function as usize),
            false => self.library_context.libctx as usize,
        }
    }

    fn fill_from(&self, of_context: RandBytesEx, of_default: RandBytes, bytes: &mut [u8]) -> bool {
        /// As much as the generator has.
        const STRENGTH: c_uint = 0;
        let (place, len) = (bytes.as_mut_ptr(), bytes.len());
        let libctx = self.library_context.libctx;
        // SAFETY: `bytes` is valid for its length; a context that its contexts keep.
        let rc = unsafe {
            match libctx.is_null() {
                true => of_default.map(|fill| fill(place, len)),
                false => of_context.map(|fill| fill(libctx, place, len, STRENGTH)),
            }
        };
        rc == Some(1) && bytes.iter().any(|byte| *byte != bytes[0])
    }
}

fn fill<T>(cell: &AtomicPtr<T>, fetch: impl FnOnce() -> *mut T) {
    if cell.load(Ordering::Relaxed).is_null() {
        cell.store(fetch(), Ordering::Release);
    }
}
