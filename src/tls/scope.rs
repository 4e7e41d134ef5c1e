//! What a ticket is bound to beside its key: associated data that goes into the
//! MAC before the ticket does. A ticket that is presented anywhere
//! else fails its MAC and becomes a full handshake.
//!
//! It is made of the service's label, and as far as `bind` says: the leaf
//! certificates of the *initial* SSL_CTX, the one given to `SSL_new`; the
//! client-verification policy of the connection, with whom the context trusts; and
//! its server name. All of
//! them as they are before anything switches them, because that is what both
//! sealing and opening can see, whatever a servername callback does in between.
//!
//! The context's part is made where the server protects its context: inside
//! its own `SSL_new` (the shim stands there, and each connection keeps what its
//! context was then) or `tkt_install`.
//!
//! The encoding cannot be read in two ways: a version, then each part as tag,
//! length (big endian, four bytes) and bytes.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use openssl_sys::{SSL, SSL_CTX, X509};

use super::algorithms::Algorithms;
use super::api::TlsApi;
use super::certificates::{Addresses, Leaves};
use super::sni::ServerName;
use super::verification::{self, Anchors, VerifyPolicy};
use crate::clock::Time;
use crate::config::Bind;
use crate::epoch::{Epoch, Guard};
use crate::process;
use crate::ring::asks::{Trait, Traits};
use crate::thread;

const VERSION: &[u8] = b"tktrot scope 2";
/// How long a list of names is taken for unchanged while its address and length are: it cannot be
/// held, and memory that is freed and used again can look the same.
const TRUST: Duration = Duration::from_secs(1);
/// How many states of one context are remembered at once: certificates that were replaced, policies
/// of its connections. More are made anew for each connection.
const STATES: usize = 8;

#[derive(Clone, Copy)]
#[repr(u8)]
enum Part {
    Label = 1,
    Certificates = 2,
    Verification = 3,
    NoServerName = 4,
    ServerName = 5,
    MalformedServerName = 6,
    Anchors = 7,
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

/// A part of the associated data: that of a context as it was at some moment,
/// with the policy of one of its connections.
pub struct ContextPart {
    /// What no other content of this process, before or after, has.
    number: u64,
    /// Of the scope that made it.
    scope: u64,
    of_context: OfContext,
    policy: VerifyPolicy,
    encoded: Vec<u8>,
    traits: Traits,
    /// When it was last made, and came out the same.
    checked: AtomicU64,
}

/// What a context has, as it was at some moment.
#[derive(Clone)]
pub struct OfContext {
    leaves: Arc<Leaves>,
    anchors: Arc<Anchors>,
}

struct Whereabouts {
    leaves: Addresses,
    store: *mut c_void,
}

/// What a ticket is bound to: kept by the connection or the scope, or one's own.
pub enum PartRef<'s> {
    /// Kept by whoever else has it.
    Kept(&'s Arc<ContextPart>),
    /// The scope may drop its reference, but not while this reads.
    Read(&'s Arc<ContextPart>, Guard<'s>),
    /// Nobody else keeps it.
    Own(Arc<ContextPart>),
}

// SAFETY: certificates are held; the address in `policy` is only compared.
unsafe impl Send for ContextPart {}
// SAFETY: as above.
unsafe impl Sync for ContextPart {}

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

    /// That policy, if tickets are bound to it.
    pub fn policy(&self, read: impl FnOnce() -> VerifyPolicy) -> VerifyPolicy {
        if self.bind.verify { read() } else { VerifyPolicy::NONE }
    }

    /// The part of a connection that was made just now, and of all that are made
    /// of its context while that is as it is. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of the library that `api` is of, which nobody else
    /// has yet, made of `ctx`, which nobody changes now.
    pub unsafe fn of_new_connection(
        &self,
        (api, algorithms): (&TlsApi, &Algorithms),
        (ctx, ssl): (*const SSL_CTX, *mut SSL),
        now: Time,
    ) -> Option<Arc<ContextPart>> {
        // SAFETY: passed on from the caller. The connection has references to
        // its certificates, and its context, which has the names, is protected.
        unsafe {
            let mut places = Whereabouts::NONE;
            if self.bind.cert {
                places.leaves = Addresses::of_connection(api, ssl);
            }
            if self.bind.verify {
                places.store = verification::store_of(api, ctx);
            }
            let policy = self.policy(|| VerifyPolicy::of_connection(api, ssl));
            self.of_context_with((api, algorithms), &places, policy, now)
        }
    }

    /// What a context has now. `None` if the TLS library fails.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of, and nobody
    /// changes it now: this runs inside a call of the server that reads it.
    pub unsafe fn look_at(
        &self,
        (api, algorithms): (&TlsApi, &Algorithms),
        ctx: *mut SSL_CTX,
    ) -> Option<OfContext> {
        let _nobody_forks = process::looking();
        let mut places = Whereabouts::NONE;
        // SAFETY: passed on from the caller.
        unsafe {
            if self.bind.verify {
                places.store = verification::store_of(api, ctx);
            }
            let made = api.ssl_new.zip(api.ssl_free).filter(|_| self.bind.cert);
            let made = made.map(|(new, free)| (new(ctx), free)).filter(|(ssl, _)| !ssl.is_null());
            if let Some((ssl, _)) = made {
                places.leaves = Addresses::of_connection(api, ssl);
            } else if let Some(get) = api.ssl_ctx_get0_certificate.filter(|_| self.bind.cert) {
                places.leaves = Addresses::one(get(ctx));
            }
            // The connection holds what it tells, until it is held here.
            let of_context = OfContext::take((api, algorithms), &places);
            if let Some((ssl, free)) = made {
                free(ssl);
            }
            of_context
        }
    }

    /// What is known of a context whose current certificate is that one.
    pub fn known(&self, current: *mut X509) -> Option<OfContext> {
        let guard = thread::pin()?;
        // SAFETY: what is found is kept no longer than `guard`.
        let known = unsafe { self.find(&guard, |part| part.of_context.leaves.have(current)) };
        known.map(|(_, part)| part.of_context.clone())
    }

    /// The context's part with what it has, and with its own policy. `None` if
    /// the TLS library fails.
    ///
    /// # Safety
    ///
    /// As for [`Scope::look_at`].
    pub unsafe fn of_context(
        &self,
        sources: (&TlsApi, &Algorithms),
        (ctx, of_context): (*const SSL_CTX, &OfContext),
        now: Time,
    ) -> Option<Arc<ContextPart>> {
        // SAFETY: passed on from the caller.
        unsafe {
            let policy = self.policy(|| VerifyPolicy::of_context(sources.0, ctx));
            let part = self.with_policy(sources, of_context, policy, thread::pin(), now);
            part.map(PartRef::into_shared)
        }
    }

    /// # Safety
    ///
    /// All that is told is alive.
    unsafe fn of_context_with(
        &self,
        (api, algorithms): (&TlsApi, &Algorithms),
        places: &Whereabouts,
        policy: VerifyPolicy,
        now: Time,
    ) -> Option<Arc<ContextPart>> {
        let guard = thread::pin();
        // SAFETY: what is found is kept no longer than `guard`; the rest is
        // passed on from the caller.
        unsafe {
            let mut known = None;
            if let Some(guard) = &guard {
                let same = |part: &ContextPart| {
                    part.of_context.is_at(places) && part.policy == policy && part.is_sure(now)
                };
                if let Some((place, part)) = self.find(guard, same) {
                    self.is_newest(place);
                    return Some(Arc::clone(part));
                }
                let is_at = |part: &ContextPart| part.of_context.is_at(places);
                known = self.find(guard, is_at).map(|(_, part)| part.of_context.clone());
            }
            let of_context = match known {
                Some(known) => known,
                None => OfContext::take((api, algorithms), places)?,
            };
            let part = self.with_policy((api, algorithms), &of_context, policy, guard, now);
            part.map(PartRef::into_shared)
        }
    }

    /// The part in a callback of a connection that did not keep its context's:
    /// with the certificates that the context had when that was last told, or
    /// those that have replaced them if the connection has them, too. `None` if
    /// the TLS library fails.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of the library that `api` is of, and `ssl` the
    /// connection of the callback that runs, which was made of it. The names of
    /// the policy are alive.
    pub unsafe fn of_connections_context(
        &self,
        (api, algorithms): (&TlsApi, &Algorithms),
        (ctx, ssl): (*const SSL_CTX, *mut SSL),
        policy: VerifyPolicy,
        now: Time,
    ) -> Option<PartRef<'_>> {
        let guard = thread::pin();
        // SAFETY: the address of a certificate is only compared, until it is
        // known that somebody holds it; what is found is kept as `guard` is.
        unsafe {
            let get = api.ssl_ctx_get0_certificate.filter(|_| self.bind.cert);
            let current = get.map_or(ptr::null_mut(), |get| get(ctx));
            let mut of_context = None;
            if let Some(known) = &guard {
                let has = |part: &ContextPart| part.of_context.leaves.have(current);
                let is_it =
                    |part: &ContextPart| has(part) && part.policy == policy && part.is_sure(now);
                if let Some((place, part)) = self.find(known, is_it) {
                    self.is_newest(place);
                    return guard.map(|guard| PartRef::Read(part, guard));
                }
                of_context = self.find(known, has).map(|(_, part)| part.of_context.clone());
            }
            let of_context = match of_context {
                Some(of_context) => of_context,
                None => self.replaced((api, algorithms), (ctx, current, ssl), guard.as_ref())?,
            };
            self.with_policy((api, algorithms), &of_context, policy, guard, now)
        }
    }

    /// What a context has whose current certificate nobody holds.
    ///
    /// # Safety
    ///
    /// As for [`Scope::of_connections_context`].
    unsafe fn replaced(
        &self,
        (api, algorithms): (&TlsApi, &Algorithms),
        (ctx, current, ssl): (*const SSL_CTX, *mut X509, *mut SSL),
        guard: Option<&Guard<'_>>,
    ) -> Option<OfContext> {
        // SAFETY: what the connection has, it holds. In BoringSSL each connection
        // has copies of its own, and the context's are read under a lock of its own.
        unsafe {
            let shares_certificates = !api.is_boring();
            let holds = |get: unsafe extern "C" fn(*const SSL) -> *mut X509| get(ssl) == current;
            let leaves = if !self.bind.cert {
                Leaves::NONE
            } else if shares_certificates && api.ssl_get_certificate.is_some_and(holds) {
                Leaves::take(api, algorithms, &Addresses::of_connection(api, ssl))?
            } else if !shares_certificates || api.ssl_get_certificate.is_none() {
                Leaves::take(api, algorithms, &Addresses::one(current))?
            } else {
                // The ones of before; never none: the ticket would be bound to less.
                let some = |part: &ContextPart| !part.of_context.leaves.have(ptr::null_mut());
                return self.find(guard?, some).map(|(_, newest)| newest.of_context.clone());
            };
            // Whom it trusted when it was installed.
            let newest = guard.and_then(|guard| self.find(guard, |_| true));
            let anchors = match newest {
                Some((_, newest)) => Arc::clone(&newest.of_context.anchors),
                None if !self.bind.verify => Arc::new(Anchors::NONE),
                None => Arc::new(Anchors::take(api, algorithms, verification::store_of(api, ctx))?),
            };
            Some(OfContext { leaves: Arc::new(leaves), anchors })
        }
    }

    /// The part of a context with that policy.
    ///
    /// # Safety
    ///
    /// The names of the policy are alive.
    pub unsafe fn with_policy<'s>(
        &'s self,
        (api, algorithms): (&TlsApi, &Algorithms),
        of_context: &OfContext,
        policy: VerifyPolicy,
        guard: Option<Guard<'s>>,
        now: Time,
    ) -> Option<PartRef<'s>> {
        let Some(guard) = guard else {
            // SAFETY: passed on from the caller.
            let part = unsafe { self.make((api, algorithms), of_context, policy, now) }?;
            return Some(PartRef::Own(Arc::new(part)));
        };
        // SAFETY: what is found is kept no longer than `guard`.
        unsafe {
            let is_it = |part: &ContextPart| {
                part.policy == policy && part.of_context.is(of_context) && part.is_sure(now)
            };
            if let Some((place, part)) = self.find(&guard, is_it) {
                self.is_newest(place);
                return Some(PartRef::Read(part, guard));
            }
            let mut part = self.make((api, algorithms), of_context, policy, now)?;
            let same = |known: &ContextPart| known.encoded == part.encoded;
            if let Some((place, known)) = self.find(&guard, same) {
                if known.policy == policy && known.of_context.is(of_context) {
                    known.checked.store(now.0, Ordering::Relaxed);
                    self.is_newest(place);
                    return Some(PartRef::Read(known, guard));
                }
                // MACs that were made with it are as good as those with this one.
                part.number = known.number;
            }
            let part = Arc::new(part);
            self.remember(&part);
            Some(PartRef::Own(part))
        }
    }

    /// The part of that number, if it is remembered.
    pub fn of_number(&self, number: u64) -> Option<PartRef<'_>> {
        let guard = thread::pin()?;
        // SAFETY: what is found is kept no longer than `guard`.
        let found = unsafe { self.find(&guard, |part| part.number == number) };
        found.map(|(_, part)| part).map(|part| PartRef::Read(part, guard))
    }

    /// The first state with that property, the newest first, and its place.
    ///
    /// # Safety
    ///
    /// The state is not used any more when the guard is dropped.
    unsafe fn find(
        &self,
        _while: &Guard<'_>,
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
            if !thread::is_past(Epoch::of(self.displaced_at.load(Ordering::Relaxed))) {
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
            self.displaced_at.store(thread::advance().number(), Ordering::Relaxed);
            self.displaced.store(old, Ordering::Relaxed);
        }
    }

    /// True if it made that part.
    pub fn made(&self, part: &ContextPart) -> bool {
        part.scope == self.number
    }

    /// True if tickets may still be bound to the part of that number.
    pub fn may_be(&self, number: u64) -> bool {
        let Some(guard) = thread::pin() else { return false };
        // SAFETY: it is only looked at here.
        unsafe { self.find(&guard, |part| part.number == number) }.is_some()
    }

    /// The connection's part: what goes before its bytes, and the bytes. `None`
    /// if tickets are not bound to the server name.
    pub fn of_connection<'n>(&self, name: &'n ServerName<'_>) -> Option<(PartHead, &'n [u8])> {
        self.bind.sni.then(|| of_server_name(name))
    }

    /// # Safety
    ///
    /// The names of the policy are alive.
    unsafe fn make(
        &self,
        (api, algorithms): (&TlsApi, &Algorithms),
        of_context: &OfContext,
        policy: VerifyPolicy,
        now: Time,
    ) -> Option<ContextPart> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut encoded = VERSION.to_vec();
        add(&mut encoded, Part::Label, &self.label);
        if self.bind.cert {
            add(&mut encoded, Part::Certificates, of_context.leaves.encoded());
        }
        let before = encoded.len();
        if self.bind.verify {
            // SAFETY: passed on from the caller.
            add(&mut encoded, Part::Verification, &unsafe { policy.encode(api, algorithms) }?);
            if policy.asks() {
                add(&mut encoded, Part::Anchors, of_context.anchors.encoded());
            }
        }
        let traits = Traits::of(|part| match part {
            Trait::Label => Some(self.label.clone()),
            Trait::Certificates => self.bind.cert.then(|| of_context.leaves.encoded().to_vec()),
            Trait::Verification => self.bind.verify.then(|| encoded[before..].to_vec()),
        });
        let (number, checked) = (NEXT.fetch_add(1, Ordering::Relaxed), AtomicU64::new(now.0));
        let (scope, of_context) = (self.number, of_context.clone());
        Some(ContextPart { number, scope, of_context, policy, encoded, traits, checked })
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

    /// By which it is told from others.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// What the context has in it.
    pub fn of_context(&self) -> &OfContext {
        &self.of_context
    }

    /// The policy in it.
    pub fn policy(&self) -> VerifyPolicy {
        self.policy
    }

    /// Its number: whatever else has it is the same.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// True if its policy is still what was looked at.
    fn is_sure(&self, now: Time) -> bool {
        let unchanged = self.policy.is_all_in_itself();
        unchanged || Time(self.checked.load(Ordering::Relaxed)).until(now) < TRUST
    }
}

impl OfContext {
    /// # Safety
    ///
    /// What is told is alive.
    unsafe fn take(
        (api, algorithms): (&TlsApi, &Algorithms),
        places: &Whereabouts,
    ) -> Option<Self> {
        // SAFETY: passed on from the caller.
        let (leaves, anchors) = unsafe {
            let leaves = Leaves::take(api, algorithms, &places.leaves)?;
            (leaves, Anchors::take(api, algorithms, places.store)?)
        };
        Some(OfContext { leaves: Arc::new(leaves), anchors: Arc::new(anchors) })
    }

    fn is_at(&self, places: &Whereabouts) -> bool {
        self.leaves.are(&places.leaves) && self.anchors.are_of(places.store)
    }

    fn is(&self, other: &OfContext) -> bool {
        Arc::ptr_eq(&self.leaves, &other.leaves) && Arc::ptr_eq(&self.anchors, &other.anchors)
    }
}

impl Whereabouts {
    const NONE: Whereabouts = Whereabouts { leaves: Addresses::NONE, store: ptr::null_mut() };
}

impl std::ops::Deref for PartRef<'_> {
    type Target = ContextPart;

    fn deref(&self) -> &ContextPart {
        match self {
            PartRef::Kept(part) | PartRef::Read(part, _) => part,
            PartRef::Own(part) => part,
        }
    }
}

impl PartRef<'_> {
    /// A reference that may outlive the scope's. (Of two readings the second one
    /// ends first: what is found meanwhile is taken out of it with this.)
    pub fn into_shared(self) -> Arc<ContextPart> {
        match self {
            PartRef::Kept(part) | PartRef::Read(part, _) => Arc::clone(part),
            PartRef::Own(part) => part,
        }
    }
}

/// What goes before the bytes of a server name, and the bytes.
pub(super) fn of_server_name<'n>(name: &'n ServerName<'_>) -> (PartHead, &'n [u8]) {
    let (part, bytes) = match name {
        ServerName::None => (Part::NoServerName, &[][..]),
        ServerName::Name(name) => (Part::ServerName, *name),
        ServerName::Malformed(raw) => (Part::MalformedServerName, *raw),
    };
    (head(part, bytes), bytes)
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
    use crate::tls::algorithms::LibraryContext;

    fn encoded(label: &[u8], bind: Bind) -> Vec<u8> {
        let scope = Scope::new(label, bind);
        // SAFETY: an all-None table is valid, and the policy has no names.
        unsafe {
            let api: TlsApi = std::mem::zeroed();
            let algorithms = Algorithms::new(LibraryContext::DEFAULT);
            let (leaves, anchors) = (Arc::new(Leaves::NONE), Arc::new(Anchors::NONE));
            let of_context = OfContext { leaves, anchors };
            let policy = VerifyPolicy::of_mode(1, -1);
            scope.make((&api, &algorithms), &of_context, policy, Time(0)).unwrap().encoded.clone()
        }
    }

    #[test]
    fn the_encoding_is_fixed() {
        assert_eq!(encoded(b"shop", Bind::NONE), b"tktrot scope 2\x01\0\0\0\x04shop");
        assert_eq!(
            encoded(b"", Bind::ALL),
            b"tktrot scope 2\x01\0\0\0\0\x02\0\0\0\0\x03\0\0\0\x08\0\0\0\x01\xff\xff\xff\xff\x07\0\0\0\0"
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
        assert_ne!(encode(ServerName::Malformed(b"a")), encode(ServerName::Name(b"a")));
        let unbound = Scope::new(b"", Bind { sni: false, ..Bind::ALL });
        assert!(unbound.of_connection(&ServerName::Name(b"a")).is_none());
    }
}
