//! The leaf certificates of a context: all that it has, so that servers of one
//! name agree whichever they loaded first (RSA and ECDSA).
//!
//! Only a connection tells them all: it has a copy of its context's list, made
//! inside `SSL_new`, and in that the current one can be moved about without
//! anybody noticing. They are held by reference: so an address says that it is
//! the same certificate.

use std::ffi::{c_int, c_long};
use std::ptr;

use openssl_sys::{SSL, X509};

use super::algorithms::Algorithms;
use super::api::TlsApi;

/// OpenSSL has a place for each type of key: nine of its own, and those of providers.
const MOST: usize = 24;

/// `SSL_CTRL_SELECT_CURRENT_CERT` and `SSL_CTRL_SET_CURRENT_CERT`.
const SELECT_CURRENT: c_int = 116;
const SET_CURRENT: c_int = 117;
/// `SSL_CERT_SET_FIRST` and `SSL_CERT_SET_NEXT`.
const FIRST: c_long = 1;
const NEXT: c_long = 2;

/// Where the certificates are.
pub struct Addresses {
    addresses: [*mut X509; MOST],
    len: usize,
}

/// The certificates.
pub struct Leaves {
    held: Vec<CertificateRef>,
    encoded: Vec<u8>,
}

/// A reference to a certificate.
struct CertificateRef {
    certificate: *mut X509,
    free: unsafe extern "C" fn(*mut X509),
}

// SAFETY: a certificate is a reference-counted object of the TLS library that
// any thread may read and free.
unsafe impl Send for Leaves {}
// SAFETY: as above.
unsafe impl Sync for Leaves {}

impl Addresses {
    /// A context without certificates.
    pub const NONE: Addresses = Addresses { addresses: [ptr::null_mut(); MOST], len: 0 };

    /// That one; none if it is null.
    pub fn one(certificate: *mut X509) -> Self {
        let mut one = Addresses::NONE;
        one.add(certificate);
        one
    }

    /// All of a connection (SSL_set_current_cert(3)), whose current one is what
    /// it was after this. Those that have no private key are none.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of the library that `api` is of, and this thread's.
    pub unsafe fn of_connection(api: &TlsApi, ssl: *mut SSL) -> Self {
        let Some(current) = api.ssl_get_certificate else { return Addresses::NONE };
        // SAFETY: the caller vouches for `ssl`; each command takes these arguments.
        unsafe {
            let was = current(ssl);
            let Some(control) = api.ssl_ctrl.filter(|_| !was.is_null()) else {
                return Addresses::one(was);
            };
            let go_back = || control(ssl, SELECT_CURRENT, 0, was.cast()) == 1;
            // Where there is no way back, nobody sets out.
            if !go_back() {
                return Addresses::one(was);
            }
            let mut all = Addresses::NONE;
            let mut step = FIRST;
            while all.len < MOST && control(ssl, SET_CURRENT, step, ptr::null_mut()) == 1 {
                all.add(current(ssl));
                step = NEXT;
            }
            go_back();
            all
        }
    }

    fn add(&mut self, certificate: *mut X509) {
        if !certificate.is_null() {
            self.addresses[self.len] = certificate;
            self.len += 1;
        }
    }

    fn all(&self) -> &[*mut X509] {
        &self.addresses[..self.len]
    }
}

impl Leaves {
    /// No certificate.
    pub const NONE: Leaves = Leaves { held: Vec::new(), encoded: Vec::new() };

    /// Holds them. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// They are live certificates of the library that `api` is of.
    pub unsafe fn take(
        api: &TlsApi,
        algorithms: &Algorithms,
        addresses: &Addresses,
    ) -> Option<Self> {
        let mut digests = Vec::new();
        for certificate in addresses.all() {
            // SAFETY: the caller vouches for the certificate.
            digests.push(algorithms.digest_with(api, |md, out, len| unsafe {
                api.x509_digest.is_some_and(|digest| digest(*certificate, md, out, len) == 1)
            })?);
        }
        // In an order of their own, whatever that of the context is.
        digests.sort_unstable();
        // SAFETY: passed on from the caller.
        let held =
            addresses.all().iter().map_while(|one| unsafe { CertificateRef::take(api, *one) });
        Some(Leaves { held: held.collect(), encoded: digests.concat() })
    }

    /// The digests of the certificates, one after the other.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// True if they are those, in that order, and held.
    pub fn are(&self, addresses: &Addresses) -> bool {
        let held = self.held.iter().map(|held| held.certificate);
        held.eq(addresses.all().iter().copied())
    }

    /// True if that one is held among them; null: if there are none.
    pub fn have(&self, certificate: *mut X509) -> bool {
        match certificate.is_null() {
            true => self.encoded.is_empty(),
            false => self.held.iter().any(|held| ptr::eq(held.certificate, certificate)),
        }
    }
}

impl CertificateRef {
    /// `None` if it cannot be held.
    ///
    /// # Safety
    ///
    /// A live certificate of the library that `api` is of.
    unsafe fn take(api: &TlsApi, certificate: *mut X509) -> Option<Self> {
        let (up_ref, free) = api.x509_up_ref.zip(api.x509_free)?;
        // SAFETY: the caller vouches for it.
        (unsafe { up_ref(certificate) } == 1).then_some(CertificateRef { certificate, free })
    }
}

impl Drop for CertificateRef {
    fn drop(&mut self) {
        // SAFETY: our reference, taken above.
        unsafe { (self.free)(self.certificate) };
    }
}
