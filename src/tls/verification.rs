//! How clients are verified: by which policy (whether a certificate is asked for,
//! how deep its chain may be, which CAs are told to be accepted), and by whom the
//! context trusts: the certificates in its store, those of CAs above all. Two
//! servers that tell their clients the same names, or none, may still accept others.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use openssl_sys::{SSL, SSL_CTX};

use super::algorithms::Algorithms;
use super::api::TlsApi;

/// `SSL_VERIFY_NONE`: no client certificate is asked for.
const NONE: c_int = 0;
/// `SSL_VERIFY_POST_HANDSHAKE`.
const LATER: c_int = 8;

/// What a context or a connection has of it. The list of names cannot be held:
/// where it is freed and another one made, the same address says little.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyPolicy {
    mode: c_int,
    depth: c_int,
    client_cas: *const c_void,
    client_ca_count: c_int,
}

impl VerifyPolicy {
    /// No client certificate is asked for.
    pub const NONE: Self =
        VerifyPolicy { mode: NONE, depth: 0, client_cas: ptr::null(), client_ca_count: 0 };

    /// What a context has now.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of.
    pub unsafe fn of_context(api: &TlsApi, ctx: *const SSL_CTX) -> Self {
        // SAFETY: the caller vouches for `ctx`.
        unsafe {
            Self::new(
                api,
                api.ssl_ctx_get_verify_mode.map(|get| get(ctx)),
                || api.ssl_ctx_get_verify_depth.map(|get| get(ctx)),
                || api.ssl_ctx_get_client_ca_list.map(|get| get(ctx)),
            )
        }
    }

    /// What a connection has now.
    ///
    /// # Safety
    ///
    /// `ssl` is a live connection of the library that `api` is of.
    pub unsafe fn of_connection(api: &TlsApi, ssl: *const SSL) -> Self {
        // SAFETY: the caller vouches for `ssl`.
        unsafe {
            Self::new(
                api,
                api.ssl_get_verify_mode.map(|get| get(ssl)),
                || api.ssl_get_verify_depth.map(|get| get(ssl)),
                || api.ssl_get_client_ca_list.map(|get| get(ssl)),
            )
        }
    }

    /// # Safety
    ///
    /// `client_cas` gives null or a live list of the library that `api` is of.
    unsafe fn new(
        api: &TlsApi,
        mode: Option<c_int>,
        depth: impl FnOnce() -> Option<c_int>,
        client_cas: impl FnOnce() -> Option<*const c_void>,
    ) -> Self {
        let mode = mode.unwrap_or(NONE);
        if mode == NONE {
            // nginx sets the depth everywhere; nobody is told the names.
            return Self::NONE;
        }
        let client_cas = client_cas().unwrap_or(ptr::null());
        let count = api.sk_num.filter(|_| !client_cas.is_null());
        VerifyPolicy {
            mode,
            depth: depth().unwrap_or(0),
            client_cas,
            // SAFETY: the caller vouches for the list.
            client_ca_count: count.map_or(0, |num| unsafe { num(client_cas) }),
        }
    }

    /// True if a certificate is asked for.
    pub fn asks(&self) -> bool {
        self.mode != NONE
    }

    /// True if one is asked for in the handshake: from TLS 1.3 on that may come later.
    pub fn asks_in_handshake(&self, in_1_3: bool) -> bool {
        self.asks() && !(in_1_3 && self.mode & LATER != 0)
    }

    /// True if the handshake does not end well without one.
    pub fn requires(&self) -> bool {
        /// `SSL_VERIFY_FAIL_IF_NO_PEER_CERT`.
        const FAIL_IF_NONE: c_int = 2;
        self.mode & (FAIL_IF_NONE | LATER) == FAIL_IF_NONE
    }

    /// True if whoever has an equal one has the same.
    pub fn is_all_in_itself(&self) -> bool {
        self.client_ca_count == 0
    }

    /// Mode, depth, and a digest of each name. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// The list of names is alive.
    pub unsafe fn encode(&self, api: &TlsApi, algorithms: &Algorithms) -> Option<Vec<u8>> {
        let mut encoded = [self.mode.to_be_bytes(), self.depth.to_be_bytes()].concat();
        for index in 0..usize::try_from(self.client_ca_count).unwrap_or(0) {
            // SAFETY: the caller vouches for the list, which has so many names.
            encoded.extend(algorithms.digest_with(api, |md, out, len| unsafe {
                let name = api.sk_value.map(|value| value(self.client_cas, index));
                let name = name.filter(|name| !name.is_null());
                name.zip(api.x509_name_digest)
                    .is_some_and(|(name, digest)| digest(name.cast(), md, out, len) == 1)
            })?);
        }
        Some(encoded)
    }

    #[cfg(test)]
    pub fn of_mode(mode: c_int, depth: c_int) -> Self {
        VerifyPolicy { mode, depth, ..Self::NONE }
    }
}

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
    lock: StoreLock,
    objects: unsafe extern "C" fn(*mut c_void) -> *const c_void,
    certificate: unsafe extern "C" fn(*const c_void) -> *mut openssl_sys::X509,
}

/// What keeps the objects of a store as they are.
#[derive(Clone, Copy)]
enum StoreLock {
    /// A lock of each store's own, and how that is given back.
    Own(unsafe extern "C" fn(*mut c_void) -> c_int, unsafe extern "C" fn(*mut c_void) -> c_int),
    /// One for all, in LibreSSL.
    Common(unsafe extern "C" fn(c_int, c_int, *const c_char, c_int)),
}

impl StoreLock {
    /// `CRYPTO_LOCK_X509_STORE`.
    const STORES: c_int = 11;
    /// `CRYPTO_LOCK | CRYPTO_READ`, and the same with `CRYPTO_UNLOCK`.
    const LOCK: c_int = 1 | 4;
    const UNLOCK: c_int = 2 | 4;

    fn of(api: &TlsApi) -> Option<Self> {
        let own = api.x509_store_lock.zip(api.x509_store_unlock);
        own.map(|(lock, unlock)| StoreLock::Own(lock, unlock))
            .or_else(|| api.crypto_lock.map(StoreLock::Common))
    }

    /// False if that fails.
    ///
    /// # Safety
    ///
    /// A live store of that library, whose lock this thread does not have.
    unsafe fn take(self, store: *mut c_void) -> bool {
        // SAFETY: the caller vouches for the store; the place is a string that lasts.
        unsafe {
            match self {
                StoreLock::Own(lock, _) => return lock(store) == 1,
                StoreLock::Common(lock) => lock(Self::LOCK, Self::STORES, c"tktrot".as_ptr(), 0),
            }
        }
        true
    }

    /// # Safety
    ///
    /// The same store, whose lock this thread has.
    unsafe fn release(self, store: *mut c_void) {
        // SAFETY: as in `take`.
        unsafe {
            match self {
                StoreLock::Own(_, unlock) => {
                    unlock(store);
                }
                StoreLock::Common(lock) => lock(Self::UNLOCK, Self::STORES, c"tktrot".as_ptr(), 0),
            }
        }
    }
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
    /// No CA is trusted.
    pub const NONE: Anchors = Anchors { store: ptr::null_mut(), free: None, encoded: Vec::new() };

    /// Those of a store. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// Null, or what [`store_of`] gave just now.
    pub unsafe fn take(api: &TlsApi, algorithms: &Algorithms, store: *mut c_void) -> Option<Self> {
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
            if !with.lock.take(store) {
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
                digests.push(algorithms.digest_with(api, |md, out, len| {
                    api.x509_digest.is_some_and(|digest| digest(certificate, md, out, len) == 1)
                }));
            }
            with.lock.release(store);
            let mut digests: Vec<_> = digests.into_iter().collect::<Option<_>>()?;
            digests.sort_unstable();
            if !digests.is_empty() {
                anchors.encoded = algorithms.sha256_of(api, &digests.concat())?.to_vec();
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
            lock: StoreLock::of(api)?,
            objects: api.x509_store_get0_objects?,
            certificate: api.x509_object_get0_x509?,
        })
    }
}
