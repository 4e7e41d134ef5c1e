//! What a context trusts: the certificates in its store, those of CAs above all.
//! Two servers that tell their clients the same names, or none, may still
//! accept others.

use std::ffi::{c_int, c_void};
use std::ptr;

use openssl_sys::SSL_CTX;

use super::api::TlsApi;
use super::source::Source;

/// The certificates that are in a store when it is met first. What is found in
/// directories later (X509_LOOKUP_hash_dir(3)) comes with time, and in each
/// process at another one.
pub struct Anchors {
    /// Held; null for none.
    store: *mut c_void,
    free: Option<unsafe extern "C" fn(*mut c_void)>,
    encoded: Vec<u8>,
}

// SAFETY: a store is a reference-counted object of the TLS library that any
// thread may free; it is not used otherwise.
unsafe impl Send for Anchors {}
// SAFETY: as above.
unsafe impl Sync for Anchors {}

/// What is needed to look into a store.
struct Store {
    up_ref: unsafe extern "C" fn(*mut c_void) -> c_int,
    free: unsafe extern "C" fn(*mut c_void),
    lock: unsafe extern "C" fn(*mut c_void) -> c_int,
    unlock: unsafe extern "C" fn(*mut c_void) -> c_int,
    objects: unsafe extern "C" fn(*mut c_void) -> *const c_void,
    certificate: unsafe extern "C" fn(*const c_void) -> *mut openssl_sys::X509,
}

/// Where the store of a context is; null where that cannot be told, or not be looked into.
///
/// # Safety
///
/// `ctx` is a live SSL_CTX of the library that `api` is of.
pub unsafe fn store_of(api: &TlsApi, ctx: *const SSL_CTX) -> *mut c_void {
    let get = api.ssl_ctx_get_cert_store.filter(|_| Store::of(api).is_some());
    // SAFETY: the caller vouches for `ctx`.
    get.map_or(ptr::null_mut(), |get| unsafe { get(ctx) })
}

impl Anchors {
    /// None at all.
    pub const NONE: Anchors = Anchors { store: ptr::null_mut(), free: None, encoded: Vec::new() };

    /// Those of a store. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// Null, or what [`store_of`] gave just now.
    pub unsafe fn take(api: &TlsApi, source: &Source, store: *mut c_void) -> Option<Self> {
        let Some(with) = Store::of(api).filter(|_| !store.is_null()) else {
            return Some(Anchors::NONE);
        };
        let mut digests = Vec::new();
        // SAFETY: the caller vouches for the store, whose objects nobody changes
        // while it is locked.
        unsafe {
            if (with.up_ref)(store) != 1 {
                return None;
            }
            let mut anchors = Anchors { store, free: Some(with.free), encoded: Vec::new() };
            if (with.lock)(store) != 1 {
                return None;
            }
            let objects = (with.objects)(store);
            let count = api.sk_num.filter(|_| !objects.is_null()).map_or(0, |num| num(objects));
            for index in 0..usize::try_from(count).unwrap_or(0) {
                let object = api.sk_value.map_or(ptr::null_mut(), |value| value(objects, index));
                let certificate = (with.certificate)(object);
                if certificate.is_null() {
                    continue;
                }
                digests.push(source.digest_with(api, |md, out, len| {
                    api.x509_digest.is_some_and(|digest| digest(certificate, md, out, len) == 1)
                }));
            }
            (with.unlock)(store);
            let mut digests: Vec<_> = digests.into_iter().collect::<Option<_>>()?;
            digests.sort_unstable();
            if !digests.is_empty() {
                anchors.encoded = source.sha256_of(api, &digests.concat())?.to_vec();
            }
            Some(anchors)
        }
    }

    /// True if they are those of that store.
    pub fn are_of(&self, store: *mut c_void) -> bool {
        ptr::eq(self.store, store)
    }

    /// A digest of all; nothing for none.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl Drop for Anchors {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: our reference, taken above.
            unsafe { free(self.store) };
        }
    }
}

impl Store {
    fn of(api: &TlsApi) -> Option<Store> {
        Some(Store {
            up_ref: api.x509_store_up_ref?,
            free: api.x509_store_free?,
            lock: api.x509_store_lock?,
            unlock: api.x509_store_unlock?,
            objects: api.x509_store_get0_objects?,
            certificate: api.x509_object_get0_x509?,
        })
    }
}
