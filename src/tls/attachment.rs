//! What a callback needs to answer for its context.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use openssl_sys::{SSL, SSL_CTX};

use super::connection;
use super::errors;
use super::policy::Policy;
use super::primed;
use super::resolve::Library;
use super::scope::{Bound, ContextPart, OfContext, Scope};
use super::source::{Home, Source};
use crate::clock::Time;
use crate::config::{Bind, Config, Renew, Upkeep};
use crate::ring::stats::Counter;
use crate::rotate::{Generator, Keyring, NotRandom};
use crate::{process, seat, upkeep};

/// One context's share in the keys, or that of several that are alike.
pub struct Attachment {
    /// The TLS library that the context is of.
    pub library: &'static Library,
    /// The keys.
    pub keyring: &'static Keyring,
    /// What tickets are bound to.
    pub scope: Scope,
    /// When tickets are renewed.
    pub renew: Renew,
    /// Who does the upkeep.
    pub upkeep: Upkeep,
    /// Where its cryptography comes from; `None`: where its library's does.
    own_source: Option<Source>,
    pub(super) whose: Whose,
    /// Its place in the pool of callbacks.
    pub(super) place: usize,
    /// No other one of this process, before or after, has this number.
    pub(super) number: u64,
    /// False: its tickets are nobody's any more, and none are made.
    serves: AtomicBool,
    id_context: AtomicU8,
    /// Somebody passes on what libssl shows of sessions ([`super::shown`]).
    sees_sessions: bool,
    /// What the ring was told last of what tickets are bound to, by which process.
    told: AtomicU64,
}

/// Whether a context has a session id context, as its last session told.
const UNKNOWN: u8 = 0;
const SET: u8 = 1;
const UNSET: u8 = 2;

/// Of which context an attachment is.
pub(super) enum Whose {
    /// Of this one, which lives while the attachment does.
    Its(*const SSL_CTX),
    /// Of all that are as one was when it was attached.
    Common {
        timeout: Duration,
        /// What that one was; `None` where each connection has its own.
        part: Option<Arc<ContextPart>>,
    },
}

// SAFETY: the address of a context is only handed to its TLS library, which
// takes it from any thread; what it is asked for there is read-only.
unsafe impl Send for Whose {}
// SAFETY: as above.
unsafe impl Sync for Whose {}

impl Attachment {
    /// What a context is to be attached with, as the configuration says.
    pub fn new(
        config: &Config,
        library: &'static Library,
        keyring: &'static Keyring,
        home: &Home,
    ) -> Self {
        let scope = Scope::new(&config.label, config.bind.unwrap_or(Bind::ALL));
        let Config { renew, upkeep, .. } = *config;
        let own_source = (!home.is_default()).then(|| Source::new(home.clone()));
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (whose, place) = (Whose::Its(ptr::null()), usize::MAX);
        let (serves, id_context) = (AtomicBool::new(true), AtomicU8::new(UNKNOWN));
        Attachment {
            library,
            keyring,
            scope,
            renew,
            upkeep,
            own_source,
            whose,
            place,
            number,
            serves,
            id_context,
            sees_sessions: false,
            told: AtomicU64::new(0),
        }
    }

    /// That one, where somebody passes on what libssl shows of sessions.
    pub fn that_sees_sessions(mut self) -> Self {
        self.sees_sessions = true;
        self
    }

    /// True if what libssl shows of sessions is passed on ([`super::shown`]).
    pub fn sees_sessions(&self) -> bool {
        self.sees_sessions
    }

    /// True if a context is served by the other one as by this.
    pub fn is_as(&self, other: &Attachment) -> bool {
        let part =
            |part: &Option<Arc<ContextPart>>| part.as_ref().map(|part| part.encoded().to_vec());
        let same_contexts = match (&self.whose, &other.whose) {
            (Whose::Its(one), Whose::Its(another)) => ptr::eq(*one, *another),
            (
                Whose::Common { timeout, part: one },
                Whose::Common { timeout: another, part: other_part },
            ) => {
                timeout == another
                    && part(one) == part(other_part)
                    && self.serves() == other.serves()
            }
            _ => false,
        };
        same_contexts
            && ptr::eq(self.library, other.library)
            && ptr::eq(self.keyring, other.keyring)
            && self.scope.is_as(&other.scope)
            && (self.renew, self.upkeep) == (other.renew, other.upkeep)
            && self.sees_sessions == other.sees_sessions
            && self.source().home() == other.source().home()
    }

    /// Where its cryptography comes from.
    pub fn source(&self) -> &Source {
        self.own_source.as_ref().unwrap_or(&self.library.source)
    }

    /// The session timeout of the context. Servers set it late.
    pub fn timeout(&self) -> Duration {
        match self.whose {
            // SAFETY: the context lives while its attachment does.
            Whose::Its(ctx) => Duration::from_secs(unsafe { self.library.api.timeout(ctx) }),
            Whose::Common { timeout, .. } => timeout,
        }
    }

    /// The part of the scope of a connection that was made just now; `None` if
    /// the TLS library fails.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library that nobody else has yet, made of
    /// `ctx`, which nobody changes now.
    pub unsafe fn scope_of_new_connection(
        &self,
        made_of: (*const SSL_CTX, *mut SSL),
        now: Time,
    ) -> Option<Arc<ContextPart>> {
        let sources = (&self.library.api, self.source());
        // SAFETY: passed on from the caller.
        unsafe { self.scope.of_new_connection(sources, made_of, now) }
    }

    /// What a context has now that is to be served; `None` if the TLS library
    /// fails. In the child of a fork it is what was known `before`, if that has
    /// the same current certificate: to look means to make a connection, and a
    /// lock of the TLS library may have been held by a thread that is not there
    /// any more.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of this library, and nobody changes it now: this
    /// runs inside a call of the server that reads it.
    pub unsafe fn look_at(
        &self,
        ctx: *mut SSL_CTX,
        before: Option<&Attachment>,
    ) -> Option<OfContext> {
        let api = &self.library.api;
        let same =
            |before: &&Attachment| process::is_child() && before.scope.bind() == self.scope.bind();
        // SAFETY: passed on from the caller.
        unsafe {
            let current = api.ssl_ctx_get0_certificate.filter(|_| self.scope.bind().cert);
            let current = current.map_or(ptr::null_mut(), |get| get(ctx));
            let known = before.filter(same).and_then(|before| before.scope.known(current));
            known.or_else(|| self.scope.look_at((api, self.source()), ctx))
        }
    }

    /// The context's part of the scope, with what it has; `None` if the TLS
    /// library fails.
    ///
    /// # Safety
    ///
    /// As for [`Attachment::look_at`].
    pub unsafe fn scope_of_context(
        &self,
        of: (*const SSL_CTX, &OfContext),
        now: Time,
    ) -> Option<Arc<ContextPart>> {
        // SAFETY: passed on from the caller.
        unsafe { self.scope.of_context((&self.library.api, self.source()), of, now) }
    }

    /// What a ticket of a connection has to be bound to, to be opened: to the
    /// policy that holds before anything switches it. `None` if the TLS library
    /// fails, or it cannot be known.
    ///
    /// # Safety
    ///
    /// `ssl` is the connection of the callback that runs, at enc = 0.
    pub unsafe fn scope_at_opening(&self, ssl: *mut SSL, now: Time) -> Option<Bound<'_>> {
        // SAFETY: passed on from the caller.
        unsafe {
            // A second ClientHello comes after the callbacks that the first one called.
            let so_far = connection::handshake_so_far(self.library, ssl);
            let before = so_far.and_then(|handshake| handshake.part);
            if let Some(before) = before.and_then(|number| self.scope.of_number(number)) {
                return Some(before);
            }
            let bound = self.scope_of_now(ssl, now)?;
            if let Some(handshake) = connection::handshake(self.library, ssl) {
                handshake.part = Some(bound.number());
            }
            Some(bound)
        }
    }

    /// What a ticket is bound to that is sealed now. `None` if the TLS library
    /// fails, or it cannot be known.
    ///
    /// The policy may have been switched since a ticket of this handshake would
    /// have been opened: then it is bound to the one of then, so that it can be
    /// opened, if that asks for nothing. Else somebody could use it who has
    /// shown less than that one asks for; it is bound to the one of now.
    ///
    /// # Safety
    ///
    /// `ssl` is the connection of the callback that runs, at enc = 1.
    pub unsafe fn scope_at_sealing(&self, ssl: *mut SSL, now: Time) -> Option<Bound<'_>> {
        // SAFETY: passed on from the caller.
        unsafe {
            let bound = self.scope_of_now(ssl, now)?;
            // For tickets that come later, after post-handshake authentication, this one's
            // policy is that of before.
            let in_1_3 = self.library.api.is_tls_1_3(ssl);
            let handshake = match in_1_3 {
                true => connection::handshake(self.library, ssl),
                false => connection::handshake_so_far(self.library, ssl),
            };
            let before = match handshake {
                Some(handshake) => *handshake.part.get_or_insert(bound.number()),
                None => return Some(bound),
            };
            if before == bound.number() {
                return Some(bound);
            }
            let asks = |before: &Bound<'_>| before.policy().asks_in_handshake(in_1_3);
            let before = self.scope.of_number(before).filter(|before| !asks(before));
            Some(before.map_or(bound, |before| Bound::Own(before.into_shared())))
        }
    }

    /// The policy of a connection is about to be switched, perhaps in a handshake: it is
    /// kept what it was before.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library that this thread uses.
    pub unsafe fn keep_policy(&self, ssl: *mut SSL, now: Time) {
        // SAFETY: passed on from the caller.
        unsafe {
            let under_way = connection::handshake_under_way(self.library, ssl);
            if under_way.is_none_or(|handshake| handshake.part.is_some()) {
                return;
            }
            let before = self.scope_of_now(ssl, now).map(|bound| bound.number());
            if let Some(handshake) = connection::handshake_so_far(self.library, ssl) {
                handshake.part = before;
            }
        }
    }

    /// With the policy that a connection has now.
    ///
    /// # Safety
    ///
    /// `ssl` is a live SSL of this library that this thread uses.
    unsafe fn scope_of_now(&self, ssl: *mut SSL, now: Time) -> Option<Bound<'_>> {
        let api = &self.library.api;
        let sources = (api, self.source());
        // SAFETY: the caller vouches for `ssl`; it was made of the context,
        // which lives while its attachment does.
        unsafe {
            let policy = self.scope.policy(|| Policy::of_connection(api, ssl));
            // Before the context was attached anew, it may have had another.
            let own = connection::part(self.library, ssl).filter(|part| self.scope.made(part));
            let part = match (own, &self.whose) {
                (Some(part), _) | (None, Whose::Common { part: Some(part), .. }) => part,
                (None, Whose::Its(ctx)) => {
                    return self.scope.of_connections_context(sources, (*ctx, ssl), policy, now);
                }
                (None, Whose::Common { part: None, .. }) => return None,
            };
            if part.policy() == policy {
                return Some(Bound::Kept(part));
            }
            self.scope.with_policy(sources, part.of_context(), policy, seat::reading(), now)
        }
    }

    /// Tells the ring what tickets are bound to, when it is not what it was for the last one.
    #[inline]
    pub fn tell_traits(&self, bound: &ContextPart) {
        // A child tells for itself.
        let this = bound.number() ^ u64::from(process::generation()) << 48;
        if self.told.load(Ordering::Relaxed) != this {
            self.told.store(this, Ordering::Relaxed);
            self.keyring.tell_traits(bound.traits());
        }
    }

    /// True if its tickets may still be those of that number, bound to that part
    /// of its scope; 0 for none.
    pub fn is_served_by(&self, number: u64, scope: u64) -> bool {
        let may_be = || match &self.whose {
            // Its connections may have parts that the scope has displaced.
            Whose::Common { part: Some(part), .. } => part.number() == scope,
            _ => self.scope.may_be(scope),
        };
        self.number == number && self.serves() && (scope == 0 || may_be())
    }

    /// A session of the context was made, with a session id context or without.
    pub(super) fn learn_id_context(&self, is_set: bool) {
        let learned = if is_set { SET } else { UNSET };
        // Mostly known, and then nothing is written that threads share.
        if self.id_context.load(Ordering::Relaxed) != learned {
            self.id_context.store(learned, Ordering::Relaxed);
        }
    }

    /// True if the context may lack a session id context that it needs: the last
    /// session of it had none, or none has told yet.
    pub(super) fn may_lack_id_context(&self) -> bool {
        let needs_one = self.library.api.ssl_client_hello_get0_ext.is_some();
        needs_one && self.id_context.load(Ordering::Relaxed) != SET
    }

    /// False if the context was uninstalled: its callback stays, because a
    /// handshake may be on its way to it, and answers that no ticket is its own.
    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// One for contexts that were served by this, shared with others, and are
    /// not served any more.
    pub(super) fn retired(&self) -> Attachment {
        let scope = Scope::new(b"", self.scope.bind());
        let whose = Whose::Common { timeout: Duration::ZERO, part: None };
        let Attachment { library, keyring, renew, upkeep, .. } = *self;
        let (own_source, place, number) = (None, usize::MAX, 0);
        let (serves, id_context) = (AtomicBool::new(false), AtomicU8::new(UNKNOWN));
        Attachment {
            library,
            keyring,
            scope,
            renew,
            upkeep,
            own_source,
            whose,
            place,
            number,
            serves,
            id_context,
            sees_sessions: self.sees_sessions,
            told: AtomicU64::new(0),
        }
    }

    pub(super) fn set_serving(&self, serves: bool) {
        self.serves.store(serves, Ordering::Relaxed);
    }

    /// Counts an event: if it can be, in memory to which only the calling thread writes.
    pub fn count(&self, counter: Counter) {
        match seat::mine().and_then(|seat| seat.block_in(self.keyring.ring())) {
            Some(block) => block.count_alone(counter),
            None => self.keyring.count(counter),
        }
    }

    /// Makes this process known to the ring, once.
    pub fn settle(&self) {
        if self.keyring.settle() && self.upkeep == Upkeep::Thread {
            upkeep::start(self.keyring, primed::sweep);
        }
    }
}

/// Keys that are made for one of its connections come from where its IVs come
/// from.
impl Generator for Attachment {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        match self.source().draw_secret(&self.library.api, bytes) {
            true => Ok(()),
            false => Err(NotRandom::Failed),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(source) = &mut self.own_source {
            let _mark = errors::Mark::set(&self.library.api);
            source.free(&self.library.api);
        }
    }
}
