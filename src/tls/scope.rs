//! What a ticket is bound to beside its key: the associated data that goes
//! into the MAC before the ticket does. A ticket that is presented anywhere
//! else fails its MAC and becomes a full handshake.
//!
//! It is made of the service's label, and as far as `bind` says: the leaf
//! certificate and the client-verification policy of the *initial* SSL_CTX,
//! the one given to `SSL_new`, and the server name of the connection. The
//! initial one, because that is what both sealing and opening can see,
//! whatever a servername callback switches to in between.
//!
//! The encoding cannot be read in two ways: a version, then each part as tag,
//! length (big endian, four bytes) and bytes.

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use openssl_sys::{SSL, SSL_CTX, X509};

use super::api::TlsApi;
use super::sni::ServerName;
use crate::clock::Time;
use crate::config::Bind;

const VERSION: &[u8] = b"tktrot scope 1";
/// `EVP_MAX_MD_SIZE`.
const MAX_DIGEST: usize = 64;
/// How long a context's part is taken for unchanged while its pointers are:
/// memory that is freed and used again can look the same.
const TRUST: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
#[repr(u8)]
enum Part {
    Label = 1,
    Certificate = 2,
    Verification = 3,
    NoServerName = 4,
    ServerName = 5,
    MalformedServerName = 6,
}

/// The scope of one attached context.
pub struct Scope {
    label: Vec<u8>,
    bind: Bind,
    /// The context's part, newest first; the older ones may still be read.
    newest: AtomicPtr<Computed>,
}

/// What a ticket that is being opened is bound to.
pub enum AtOpening<'s> {
    /// To this part of its context.
    Bound(&'s [u8]),
    /// To nothing: its key is plain.
    Unbound,
    /// To nothing that can be known here: it is not to be opened.
    VerifiedOtherwise,
    /// The TLS library failed.
    Failed,
}

/// A context's part as it was at some time.
struct Computed {
    facts: Facts,
    encoded: Vec<u8>,
    checked: AtomicU64,
    older: *mut Computed,
}

/// What tells that a context's part may have changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    certificate: *const X509,
    verification: Verification,
}

/// A client-verification policy.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Verification {
    mode: c_int,
    depth: c_int,
    client_cas: *const c_void,
    client_ca_count: c_int,
}

/// `SSL_VERIFY_NONE`: no client certificate is asked for.
const SSL_VERIFY_NONE: c_int = 0;

impl Scope {
    /// The scope of a context of a service.
    pub fn new(label: &[u8], bind: Bind) -> Self {
        Scope { label: label.to_vec(), bind, newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// True if tickets of a context are bound to the same with the other one.
    pub fn is_as(&self, other: &Scope) -> bool {
        self.label == other.label && self.bind == other.bind
    }

    /// What tickets are bound to.
    pub fn bind(&self) -> Bind {
        self.bind
    }

    /// The context's part of the associated data where a ticket is opened: as
    /// [`Scope::of_context`], and whether the connection is, as far as it is
    /// known then, verified as that context says. A client_hello callback
    /// may have changed that; the ticket says nothing of what it was when the
    /// ticket was issued, so it must not be resumed then.
    ///
    /// # Safety
    ///
    /// `ssl` is a live connection of the library that `api` is of, and `ctx`
    /// the context that it was made of.
    pub unsafe fn at_opening(
        &self,
        api: &TlsApi,
        ctx: *const SSL_CTX,
        ssl: *const SSL,
        now: Time,
    ) -> AtOpening<'_> {
        // SAFETY: the caller vouches for both.
        unsafe {
            let facts = Facts::read(api, ctx, self.bind);
            if self.bind.verify && !facts.verification.is_that_of(api, ssl) {
                return AtOpening::VerifiedOtherwise;
            }
            self.of_facts(api, facts, now).map_or(AtOpening::Failed, AtOpening::Bound)
        }
    }

    /// The context's part of the associated data: computed at the first
    /// ticket, and again when what it rests on has changed. `None` if the TLS
    /// library fails.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of.
    pub unsafe fn of_context(&self, api: &TlsApi, ctx: *const SSL_CTX, now: Time) -> Option<&[u8]> {
        // SAFETY: the caller vouches for `ctx`.
        unsafe { self.of_facts(api, Facts::read(api, ctx, self.bind), now) }
    }

    /// # Safety
    ///
    /// What `facts` points to is alive.
    unsafe fn of_facts(&self, api: &TlsApi, facts: Facts, now: Time) -> Option<&[u8]> {
        // SAFETY: null or a Computed, which lives as long as `self`.
        let newest = unsafe { self.newest.load(Ordering::Acquire).as_ref() };
        let newest = newest.filter(|computed| computed.facts == facts);
        if let Some(computed) = newest
            && Time(computed.checked.load(Ordering::Relaxed)).until(now) < TRUST
        {
            return Some(&computed.encoded);
        }
        // SAFETY: passed on from the caller.
        let encoded = unsafe { self.encode(api, &facts) }?;
        if let Some(computed) = newest.filter(|computed| computed.encoded == encoded) {
            computed.checked.store(now.0, Ordering::Relaxed);
            return Some(&computed.encoded);
        }
        let checked = AtomicU64::new(now.0);
        Some(self.push(Computed { facts, encoded, checked, older: ptr::null_mut() }))
    }

    /// True if that is the context's part as it was computed last: what others
    /// were computed before serves no ticket any more.
    pub fn is_newest(&self, part: *const u8) -> bool {
        // SAFETY: null or a Computed, which lives as long as `self`.
        let newest = unsafe { self.newest.load(Ordering::Acquire).as_ref() };
        newest.is_some_and(|computed| ptr::eq(computed.encoded.as_ptr(), part))
    }

    /// The connection's part: what goes before its bytes, and the bytes. `None`
    /// if tickets are not bound to the server name.
    pub fn of_connection<'n>(&self, name: &'n ServerName<'_>) -> Option<(PartHead, &'n [u8])> {
        let (part, bytes) = match name {
            ServerName::None => (Part::NoServerName, &[][..]),
            ServerName::Name(name) => (Part::ServerName, &**name),
            ServerName::Malformed(raw) => (Part::MalformedServerName, *raw),
        };
        self.bind.sni.then(|| (head(part, bytes), bytes))
    }

    fn push(&self, computed: Computed) -> &[u8] {
        let new = Box::into_raw(Box::new(computed));
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: not shared before the exchange succeeds.
            unsafe { (*new).older = newest };
            // Release: whoever finds it (Acquire in `of_context`) finds it whole.
            let done = Ordering::AcqRel;
            match self.newest.compare_exchange(newest, new, done, Ordering::Relaxed) {
                // SAFETY: lives as long as `self` from here on.
                Ok(_) => return unsafe { &(*new).encoded },
                Err(other) => newest = other,
            }
        }
    }

    /// # Safety
    ///
    /// What `facts` points to is alive.
    unsafe fn encode(&self, api: &TlsApi, facts: &Facts) -> Option<Vec<u8>> {
        let mut encoded = VERSION.to_vec();
        add(&mut encoded, Part::Label, &self.label);
        if self.bind.cert {
            let mut digest = Vec::new();
            if !facts.certificate.is_null() {
                // SAFETY: the caller vouches for the certificate.
                digest = digest_with(api, |md, out, len| unsafe {
                    api.x509_digest
                        .is_some_and(|digest| digest(facts.certificate, md, out, len) == 1)
                })?;
            }
            add(&mut encoded, Part::Certificate, &digest);
        }
        if self.bind.verify {
            // SAFETY: the caller vouches for the list.
            let policy = unsafe { facts.verification.encode(api) }?;
            add(&mut encoded, Part::Verification, &policy);
        }
        Some(encoded)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let mut next = *self.newest.get_mut();
        while !next.is_null() {
            // SAFETY: made by Box::into_raw in `push`; nobody reads any more.
            next = unsafe { Box::from_raw(next) }.older;
        }
    }
}

impl Facts {
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of.
    unsafe fn read(api: &TlsApi, ctx: *const SSL_CTX, bind: Bind) -> Self {
        let certificate = api.ssl_ctx_get0_certificate.filter(|_| bind.cert);
        // SAFETY: the caller vouches for `ctx`.
        unsafe {
            let verification =
                if bind.verify { Verification::of_context(api, ctx) } else { Verification::NONE };
            let certificate = certificate.map_or(ptr::null(), |get| get(ctx).cast_const());
            Facts { certificate, verification }
        }
    }
}

impl Verification {
    const NONE: Self = Verification {
        mode: SSL_VERIFY_NONE,
        depth: 0,
        client_cas: ptr::null(),
        client_ca_count: 0,
    };

    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of.
    unsafe fn of_context(api: &TlsApi, ctx: *const SSL_CTX) -> Self {
        // SAFETY: the caller vouches for `ctx`.
        unsafe {
            Self::new(
                api,
                api.ssl_ctx_get_verify_mode.map(|get| get(ctx)),
                api.ssl_ctx_get_verify_depth.map(|get| get(ctx)),
                api.ssl_ctx_get_client_ca_list.map(|get| get(ctx)),
            )
        }
    }

    /// True if a connection is verified so.
    ///
    /// # Safety
    ///
    /// `ssl` is a live connection of the library that `api` is of, and the list
    /// of names is alive.
    unsafe fn is_that_of(&self, api: &TlsApi, ssl: *const SSL) -> bool {
        // SAFETY: passed on from the caller.
        unsafe {
            let present = Self::of_connection(api, ssl);
            *self == present
                || self.mode == present.mode
                    && (self.mode == SSL_VERIFY_NONE || self.encode(api) == present.encode(api))
        }
    }

    /// # Safety
    ///
    /// `ssl` is a live connection of the library that `api` is of.
    unsafe fn of_connection(api: &TlsApi, ssl: *const SSL) -> Self {
        // SAFETY: the caller vouches for `ssl`.
        unsafe {
            Self::new(
                api,
                api.ssl_get_verify_mode.map(|get| get(ssl)),
                api.ssl_get_verify_depth.map(|get| get(ssl)),
                api.ssl_get_client_ca_list.map(|get| get(ssl)),
            )
        }
    }

    /// # Safety
    ///
    /// `client_cas` is null or a live list of the library that `api` is of.
    unsafe fn new(
        api: &TlsApi,
        mode: Option<c_int>,
        depth: Option<c_int>,
        client_cas: Option<*const c_void>,
    ) -> Self {
        let client_cas = client_cas.unwrap_or(ptr::null());
        let count = api.sk_num.filter(|_| !client_cas.is_null());
        Verification {
            mode: mode.unwrap_or(SSL_VERIFY_NONE),
            depth: depth.unwrap_or(0),
            client_cas,
            // SAFETY: the caller vouches for the list.
            client_ca_count: count.map_or(0, |num| unsafe { num(client_cas) }),
        }
    }

    /// Mode, depth, and a digest of each name. The depth counts only where a
    /// certificate is asked for: nginx sets it everywhere. `None` if the TLS
    /// library fails.
    ///
    /// # Safety
    ///
    /// The list of names is alive.
    unsafe fn encode(&self, api: &TlsApi) -> Option<Vec<u8>> {
        let depth = if self.mode == SSL_VERIFY_NONE { 0 } else { self.depth };
        let mut encoded = [self.mode.to_be_bytes(), depth.to_be_bytes()].concat();
        for index in 0..usize::try_from(self.client_ca_count).unwrap_or(0) {
            // SAFETY: the caller vouches for the list, which has so many names.
            encoded.extend(digest_with(api, |md, out, len| unsafe {
                let name = api.sk_value.map(|value| value(self.client_cas, index));
                let name = name.filter(|name| !name.is_null());
                name.zip(api.x509_name_digest)
                    .is_some_and(|(name, digest)| digest(name.cast(), md, out, len) == 1)
            })?);
        }
        Some(encoded)
    }
}

/// A SHA-256 digest that one of the TLS library's functions makes.
fn digest_with(
    api: &TlsApi,
    digest: impl FnOnce(*const openssl_sys::EVP_MD, *mut c_uchar, *mut c_uint) -> bool,
) -> Option<Vec<u8>> {
    // SAFETY: takes nothing and returns the library's constant.
    let sha256 = unsafe { api.evp_sha256?() };
    let mut bytes = [0; MAX_DIGEST];
    let mut len = 0;
    let made = digest(sha256, bytes.as_mut_ptr(), &mut len);
    (made && len == 32).then(|| bytes[..32].to_vec())
}

/// Tag and length of a part.
type PartHead = [u8; 5];

fn head(part: Part, bytes: &[u8]) -> PartHead {
    let len = u32::try_from(bytes.len()).expect("a part of less than 4 GiB");
    let [a, b, c, d] = len.to_be_bytes();
    [part as u8, a, b, c, d]
}

fn add(encoded: &mut Vec<u8>, part: Part, bytes: &[u8]) {
    encoded.extend_from_slice(&head(part, bytes));
    encoded.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Facts = Facts {
        certificate: ptr::null(),
        verification: Verification { mode: 1, depth: -1, ..Verification::NONE },
    };

    fn encoded(label: &[u8], bind: Bind) -> Vec<u8> {
        // SAFETY: an all-None table is valid, and nothing in NOTHING is pointed to.
        unsafe {
            let api: TlsApi = std::mem::zeroed();
            Scope::new(label, bind).encode(&api, &NOTHING).unwrap()
        }
    }

    #[test]
    fn the_encoding_is_fixed() {
        assert_eq!(encoded(b"shop", Bind::NONE), b"tktrot scope 1\x01\0\0\0\x04shop");
        assert_eq!(
            encoded(b"", Bind::ALL),
            b"tktrot scope 1\x01\0\0\0\0\x02\0\0\0\0\x03\0\0\0\x08\0\0\0\x01\xff\xff\xff\xff"
        );
    }

    #[test]
    fn no_name_an_empty_name_and_a_malformed_one_differ() {
        let scope = Scope::new(b"", Bind::ALL);
        let encode = |name| {
            let (head, bytes) = scope.of_connection(&name).unwrap();
            [&head[..], bytes].concat()
        };
        let none = encode(ServerName::None);
        let empty = encode(ServerName::Malformed(b""));
        assert_ne!(none, empty);
        assert_ne!(encode(ServerName::Malformed(b"a")), encode(ServerName::from_host(b"a")));
        let unbound = Scope::new(b"", Bind { sni: false, ..Bind::ALL });
        assert!(unbound.of_connection(&ServerName::from_host(b"a")).is_none());
    }
}
