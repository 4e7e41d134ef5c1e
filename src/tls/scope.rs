//! What a ticket is bound to beside its key: associated data that goes into the
//! MAC before the ticket does. A ticket that is presented anywhere
//! else fails its MAC and becomes a full handshake.
//!
//! It is made of the service's label, and as far as `bind` says: the leaf
//! certificate and the client-verification policy of the *initial* SSL_CTX,
//! the one given to `SSL_new`, and the server name of the connection. The
//! initial one, because that is what both sealing and opening can see,
//! whatever a servername callback switches to in between.
//!
//! The context's part is made where the server protects its context: inside
//! its own `SSL_new` (the shim stands there, and each connection keeps what its
//! context was then) or `tkt_install`. A certificate that was looked at is held
//! by reference: so its address says that it is the same.
//!
//! The encoding cannot be read in two ways: a version, then each part as tag,
//! length (big endian, four bytes) and bytes.

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use openssl_sys::{SSL, SSL_CTX, X509};

use super::api::TlsApi;
use super::sni::ServerName;
use super::source::Source;
use crate::clock::Time;
use crate::config::Bind;
use crate::process;
use crate::quiescent::{Epoch, Reading};
use crate::seat;

const VERSION: &[u8] = b"tktrot scope 1";
/// `EVP_MAX_MD_SIZE`.
const MAX_DIGEST: usize = 64;
/// How long a list of names is taken for unchanged while its address and length are: it cannot be
/// held, and memory that is freed and used again can look the same.
const TRUST: Duration = Duration::from_secs(1);
/// How many states of one context are remembered at once: certificates that were replaced, policies
/// that are switched between. More are made anew for each connection.
const STATES: usize = 8;

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
    /// No other one of this process, before or after, has this number.
    number: u64,
    label: Vec<u8>,
    bind: Bind,
    /// Each a box. Changed under [`process::exclusive`] only.
    states: [AtomicPtr<Arc<ContextPart>>; STATES],
    /// The state that was seen last, as its place in `states`.
    newest: AtomicU64,
    /// One that was displaced while somebody may have been reading, and since when.
    displaced: AtomicPtr<Arc<ContextPart>>,
    displaced_at: AtomicU64,
}

/// A context's part of the associated data, as the context was at some moment.
pub struct ContextPart {
    /// What no other content of this process, before or after, has.
    number: u64,
    /// Of the scope that made it.
    scope: u64,
    facts: Facts,
    /// Of `facts`, if it is held.
    certificate: Held,
    policy: Vec<u8>,
    encoded: Vec<u8>,
    /// When it was last made, and came out the same.
    checked: AtomicU64,
}

/// What a ticket is bound to: kept by the connection or the scope, or one's own.
pub enum Bound<'s> {
    /// Kept by whoever else has it.
    Kept(&'s Arc<ContextPart>),
    /// The scope may drop its reference, but not while this reads.
    Read(&'s Arc<ContextPart>, Reading<'s>),
    /// Nobody else keeps it.
    Own(Arc<ContextPart>),
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

/// A reference to a certificate; null for none.
struct Held {
    certificate: *mut X509,
    free: Option<unsafe extern "C" fn(*mut X509)>,
}

// SAFETY: the certificate is a reference-counted object of the TLS library
// that any thread may read and free; the addresses in `facts` are only compared.
unsafe impl Send for ContextPart {}
// SAFETY: as above.
unsafe impl Sync for ContextPart {}

/// `SSL_VERIFY_NONE`: no client certificate is asked for.
const SSL_VERIFY_NONE: c_int = 0;

impl Scope {
    /// The scope of a context of a service.
    pub fn new(label: &[u8], bind: Bind) -> Self {
        let none = || AtomicPtr::new(ptr::null_mut());
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Scope {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            label: label.to_vec(),
            bind,
            states: std::array::from_fn(|_| none()),
            newest: AtomicU64::new(0),
            displaced: none(),
            displaced_at: AtomicU64::new(0),
        }
    }

    /// True if tickets of a context are bound to the same with the other one.
    pub fn is_as(&self, other: &Scope) -> bool {
        self.label == other.label && self.bind == other.bind
    }

    /// What tickets are bound to.
    pub fn bind(&self) -> Bind {
        self.bind
    }

    /// The context's part as the context is now. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of, and nobody
    /// changes it now: this runs inside a call of the server that reads it.
    pub unsafe fn of_context(
        &self,
        (api, source): (&TlsApi, &Source),
        ctx: *const SSL_CTX,
        now: Time,
    ) -> Option<Arc<ContextPart>> {
        // SAFETY: the caller vouches for `ctx`.
        let facts = unsafe { Facts::read(api, ctx, self.bind) };
        // SAFETY: passed on from the caller.
        let part = unsafe { self.of_facts((api, source), facts, seat::reading(), now) };
        part.map(Bound::into_shared)
    }

    /// The context's part in a callback of a connection that did not keep its
    /// own: as the context was when this was last told, but with the policy that
    /// it has now, and with a certificate that has replaced the one of then if
    /// the connection holds that, too. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of, and `ssl` a
    /// live connection that was made of it.
    pub unsafe fn of_connections_context(
        &self,
        (api, source): (&TlsApi, &Source),
        (ctx, ssl): (*const SSL_CTX, *const SSL),
        now: Time,
    ) -> Option<Bound<'_>> {
        let reading = seat::reading();
        // SAFETY: the caller vouches for both; the address of a certificate is
        // only compared, until it is known that somebody holds it.
        unsafe {
            let mut facts = Facts::read(api, ctx, self.bind);
            // In BoringSSL each connection has a copy of its own, and the context's is
            // read under a lock of its own.
            let is_openssl = api.ssl_client_hello_get0_ext.is_some();
            let can_hold = is_openssl && api.x509_up_ref.is_some() && api.x509_free.is_some();
            if let Some(get) = api.ssl_get_certificate.filter(|_| can_hold)
                && !facts.certificate.is_null()
                && facts.certificate != get(ssl).cast_const()
            {
                let holds =
                    |part: &ContextPart| ptr::eq(part.certificate.certificate, facts.certificate);
                if self.find(reading.as_ref()?, holds).is_none() {
                    // The one of before; never none: the ticket would be bound to less.
                    let held = |part: &ContextPart| !part.certificate.certificate.is_null();
                    let (_, newest) = self.find(reading.as_ref()?, held)?;
                    facts.certificate = newest.certificate.certificate.cast_const();
                }
            }
            self.of_facts((api, source), facts, reading, now)
        }
    }

    /// # Safety
    ///
    /// What `facts` points to is alive, if need be because of `reading`.
    unsafe fn of_facts(
        &self,
        (api, source): (&TlsApi, &Source),
        facts: Facts,
        reading: Option<Reading<'static>>,
        now: Time,
    ) -> Option<Bound<'_>> {
        let found = |part: &ContextPart| part.facts == facts && part.is_sure(now);
        let Some(reading) = reading else {
            // SAFETY: passed on from the caller.
            let part = unsafe { self.make((api, source), facts, now) }?;
            return Some(Bound::Own(Arc::new(part)));
        };
        // SAFETY: what is found is kept no longer than `reading`.
        unsafe {
            if let Some((place, part)) = self.find(&reading, found) {
                self.is_newest(place);
                return Some(Bound::Read(part, reading));
            }
            let mut part = self.make((api, source), facts, now)?;
            let same = |known: &ContextPart| known.encoded == part.encoded;
            if let Some((place, known)) = self.find(&reading, same) {
                if known.facts == facts {
                    known.checked.store(now.0, Ordering::Relaxed);
                    self.is_newest(place);
                    return Some(Bound::Read(known, reading));
                }
                // MACs that were made with it are as good as those with this one.
                part.number = known.number;
            }
            let part = Arc::new(part);
            self.remember(&part);
            Some(Bound::Own(part))
        }
    }

    /// The first state with that property, the newest first, and its place.
    ///
    /// # Safety
    ///
    /// The state is not used any more when the reading ends.
    unsafe fn find(
        &self,
        _while: &Reading<'_>,
        is_it: impl Fn(&ContextPart) -> bool,
    ) -> Option<(usize, &Arc<ContextPart>)> {
        let newest = self.newest.load(Ordering::Relaxed) as usize;
        (newest..newest + STATES).map(|place| place % STATES).find_map(|place| {
            // SAFETY: null, or a part that is not freed while this thread
            // reads. Acquire pairs with the AcqRel in `remember`.
            let part = unsafe { self.states[place].load(Ordering::Acquire).as_ref() };
            part.filter(|part| is_it(part)).map(|part| (place, part))
        })
    }

    /// Mostly it is already, and then nothing is written that threads share.
    fn is_newest(&self, place: usize) {
        if self.newest.load(Ordering::Relaxed) != place as u64 {
            self.newest.store(place as u64, Ordering::Relaxed);
        }
    }

    /// Keeps a part for the connections after this one, unless somebody is in
    /// the way. Never waits.
    fn remember(&self, part: &Arc<ContextPart>) {
        // Dropped after the lock: the last reference to a certificate may go with it.
        let mut _unused = None;
        let Some(_lock) = process::try_exclusive() else { return };
        let displaced = self.displaced.load(Ordering::Relaxed);
        if !displaced.is_null() {
            if !seat::is_past(Epoch::of(self.displaced_at.load(Ordering::Relaxed))) {
                return;
            }
            self.displaced.store(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: made by Box::into_raw below; nobody reads it any more.
            _unused = Some(unsafe { Box::from_raw(displaced) });
        }
        let content = |place: &AtomicPtr<Arc<ContextPart>>| {
            // SAFETY: under the lock nobody displaces what is found.
            unsafe { place.load(Ordering::Relaxed).as_ref() }.map(|part| &part.encoded)
        };
        let newest = self.newest.load(Ordering::Relaxed) as usize;
        let same = self.states.iter().position(|place| content(place) == Some(&part.encoded));
        let free = || self.states.iter().position(|place| content(place).is_none());
        let place = same.or_else(free).unwrap_or((newest + 1) % STATES);
        let new = Box::into_raw(Box::new(Arc::clone(part)));
        let old = self.states[place].swap(new, Ordering::AcqRel);
        self.newest.store(place as u64, Ordering::Relaxed);
        if !old.is_null() {
            self.displaced_at.store(seat::turn().number(), Ordering::Relaxed);
            self.displaced.store(old, Ordering::Relaxed);
        }
    }

    /// True if it made that part.
    pub fn made(&self, part: &ContextPart) -> bool {
        part.scope == self.number
    }

    /// True if tickets may still be bound to the part of that number.
    pub fn may_be(&self, number: u64) -> bool {
        let Some(reading) = seat::reading() else { return false };
        // SAFETY: it is only looked at here.
        unsafe { self.find(&reading, |part| part.number == number) }.is_some()
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

    /// # Safety
    ///
    /// What `facts` points to is alive.
    unsafe fn make(
        &self,
        (api, source): (&TlsApi, &Source),
        facts: Facts,
        now: Time,
    ) -> Option<ContextPart> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // SAFETY: the caller vouches for the certificate.
        let certificate = unsafe { Held::take(api, facts.certificate.cast_mut()) };
        let mut policy = Vec::new();
        let mut encoded = VERSION.to_vec();
        add(&mut encoded, Part::Label, &self.label);
        if self.bind.cert {
            let mut digest = Vec::new();
            if !facts.certificate.is_null() {
                // SAFETY: the caller vouches for the certificate.
                digest = digest_with((api, source), |md, out, len| unsafe {
                    api.x509_digest
                        .is_some_and(|digest| digest(facts.certificate, md, out, len) == 1)
                })?;
            }
            add(&mut encoded, Part::Certificate, &digest);
        }
        if self.bind.verify {
            // SAFETY: the caller vouches for the list.
            policy = unsafe { facts.verification.encode((api, source)) }?;
            add(&mut encoded, Part::Verification, &policy);
        }
        let (number, checked) = (NEXT.fetch_add(1, Ordering::Relaxed), AtomicU64::new(now.0));
        let scope = self.number;
        Some(ContextPart { number, scope, facts, certificate, policy, encoded, checked })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let owned = self.states.iter_mut().chain([&mut self.displaced]);
        for part in owned.map(|part| *part.get_mut()).filter(|part| !part.is_null()) {
            // SAFETY: made by Box::into_raw in `remember`; nobody reads any more.
            drop(unsafe { Box::from_raw(part) });
        }
    }
}

impl ContextPart {
    /// The associated data.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// True if the context asked for client certificates.
    pub fn asks_for_certificate(&self) -> bool {
        self.facts.verification.mode != SSL_VERIFY_NONE
    }

    /// Its number, which no other has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// True if the connection is verified, as far as that is known now, as the
    /// context says. A client_hello callback may have changed that; a ticket
    /// says nothing of what it was when it was issued, so it must not be resumed
    /// then.
    ///
    /// # Safety
    ///
    /// `ssl` is a live connection of the library that `api` is of, and the list
    /// of names that it has is alive.
    pub unsafe fn is_policy_of(
        &self,
        (api, source): (&TlsApi, &Source),
        ssl: *const SSL,
        bind: Bind,
    ) -> bool {
        if !bind.verify {
            return true;
        }
        // SAFETY: passed on from the caller.
        let present = unsafe { Verification::of_connection(api, ssl) };
        self.facts.verification == present
            || self.facts.verification.mode == present.mode
                // SAFETY: passed on from the caller.
                && unsafe { present.encode((api, source)) }.is_some_and(|it| it == self.policy)
    }

    /// True if what has these facts is still what was looked at.
    fn is_sure(&self, now: Time) -> bool {
        let Facts { certificate, verification } = self.facts;
        let held = ptr::eq(self.certificate.certificate, certificate);
        let unchanged = held && verification.client_ca_count == 0;
        unchanged || Time(self.checked.load(Ordering::Relaxed)).until(now) < TRUST
    }
}

impl std::ops::Deref for Bound<'_> {
    type Target = ContextPart;

    fn deref(&self) -> &ContextPart {
        match self {
            Bound::Kept(part) | Bound::Read(part, _) => part,
            Bound::Own(part) => part,
        }
    }
}

impl Bound<'_> {
    /// A reference that may outlive the scope's.
    fn into_shared(self) -> Arc<ContextPart> {
        match self {
            Bound::Kept(part) | Bound::Read(part, _) => Arc::clone(part),
            Bound::Own(part) => part,
        }
    }
}

impl Held {
    /// # Safety
    ///
    /// `certificate` is null or a live certificate of the library that `api` is of.
    unsafe fn take(api: &TlsApi, certificate: *mut X509) -> Self {
        let held = |(up_ref, free): (unsafe extern "C" fn(*mut X509) -> c_int, _)| {
            // SAFETY: the caller vouches for it.
            (unsafe { up_ref(certificate) } == 1).then_some(free)
        };
        let free = api.x509_up_ref.zip(api.x509_free).filter(|_| !certificate.is_null());
        match free.and_then(held) {
            Some(free) => Held { certificate, free: Some(free) },
            None => Held { certificate: ptr::null_mut(), free: None },
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: our reference, taken above.
            unsafe { free(self.certificate) };
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
        let mode = mode.unwrap_or(SSL_VERIFY_NONE);
        if mode == SSL_VERIFY_NONE {
            // nginx sets the depth everywhere; nobody is told the names.
            return Self::NONE;
        }
        let client_cas = client_cas.unwrap_or(ptr::null());
        let count = api.sk_num.filter(|_| !client_cas.is_null());
        Verification {
            mode,
            depth: depth.unwrap_or(0),
            client_cas,
            // SAFETY: the caller vouches for the list.
            client_ca_count: count.map_or(0, |num| unsafe { num(client_cas) }),
        }
    }

    /// Mode, depth, and a digest of each name. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// The list of names is alive.
    unsafe fn encode(&self, (api, source): (&TlsApi, &Source)) -> Option<Vec<u8>> {
        let mut encoded = [self.mode.to_be_bytes(), self.depth.to_be_bytes()].concat();
        for index in 0..usize::try_from(self.client_ca_count).unwrap_or(0) {
            // SAFETY: the caller vouches for the list, which has so many names.
            encoded.extend(digest_with((api, source), |md, out, len| unsafe {
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
    (api, source): (&TlsApi, &Source),
    digest: impl FnOnce(*const openssl_sys::EVP_MD, *mut c_uchar, *mut c_uint) -> bool,
) -> Option<Vec<u8>> {
    let sha256 = source.sha256(api);
    let mut bytes = [0; MAX_DIGEST];
    let mut len = 0;
    let made = !sha256.is_null() && digest(sha256, bytes.as_mut_ptr(), &mut len);
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
    use crate::tls::source::Home;

    const NOTHING: Facts = Facts {
        certificate: ptr::null(),
        verification: Verification { mode: 1, depth: -1, ..Verification::NONE },
    };

    fn encoded(label: &[u8], bind: Bind) -> Vec<u8> {
        // SAFETY: an all-None table is valid, and nothing in NOTHING is pointed to.
        unsafe {
            let api: TlsApi = std::mem::zeroed();
            let source = Source::new(Home::DEFAULT);
            Scope::new(label, bind).make((&api, &source), NOTHING, Time(0)).unwrap().encoded.clone()
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
