//! What a callback needs to answer for its context, and where that is: at the
//! place of the callback that runs.

use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use openssl_sys::{SSL, SSL_CTX};

use super::algorithms::{Algorithms, LibraryContext};
use super::error_queue;
use super::resolve::Library;
use super::scope::{ContextPart, OfContext, Scope};
use crate::clock::Time;
use crate::config::{Bind, Config, Renew, Upkeep};
use crate::ring::stats::Counter;
use crate::rotate::{Generator, Keyring, NotRandom};
use crate::{process, thread};

/// One context's share in the keys, or that of several that are alike.
pub struct Attachment {
    /// The TLS library that the context is of.
    pub library: &'static Library,
    /// The ring whose keys seal and open the tickets.
    pub keyring: &'static Keyring,
    /// What tickets are bound to.
    pub scope: Scope,
    /// When tickets are renewed.
    pub renew: Renew,
    /// Who does the upkeep.
    pub upkeep: Upkeep,
    /// Where its cryptography comes from; `None`: where its library's does.
    own_algorithms: Option<Algorithms>,
    pub(super) whose: Whose,
    /// Its place in the pool of callbacks.
    pub(super) place: usize,
    /// No other one of this process, before or after, has this number.
    pub(super) number: u64,
    /// False: its tickets are nobody's any more, and none are made.
    serves: AtomicBool,
    id_context: AtomicU8,
    /// Somebody passes on what libssl shows of sessions ([`super::session`]).
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
        library_context: &LibraryContext,
    ) -> Self {
        let scope = Scope::new(&config.label, config.bind.unwrap_or(Bind::ALL));
        let Config { renew, upkeep, .. } = *config;
        let own_algorithms =
            (!library_context.is_default()).then(|| Algorithms::new(library_context.clone()));
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
            own_algorithms,
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

    /// True if what libssl shows of sessions is passed on ([`super::session`]).
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
            && self.algorithms().library_context() == other.algorithms().library_context()
    }

    /// Where its cryptography comes from.
    pub fn algorithms(&self) -> &Algorithms {
        self.own_algorithms.as_ref().unwrap_or(&self.library.algorithms)
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
        let sources = (&self.library.api, self.algorithms());
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
            known.or_else(|| self.scope.look_at((api, self.algorithms()), ctx))
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
        unsafe { self.scope.of_context((&self.library.api, self.algorithms()), of, now) }
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
        self.library.api.needs_id_context() && self.id_context.load(Ordering::Relaxed) != SET
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
        let (own_algorithms, place, number) = (None, usize::MAX, 0);
        let (serves, id_context) = (AtomicBool::new(false), AtomicU8::new(UNKNOWN));
        Attachment {
            library,
            keyring,
            scope,
            renew,
            upkeep,
            own_algorithms,
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
        match thread::mine().and_then(|seat| seat.block_in(self.keyring.ring())) {
            Some(block) => block.count_alone(counter),
            None => self.keyring.count(counter),
        }
    }
}

/// Keys that are made for one of its connections come from where its IVs come
/// from.
impl Generator for Attachment {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        match self.algorithms().draw_secret(&self.library.api, bytes) {
            true => Ok(()),
            false => Err(NotRandom::Failed),
        }
    }
}

/// True once a context with a library context of its own was attached.
static HAS_OWN_LIBRARY_CONTEXTS: AtomicBool = AtomicBool::new(false);

/// A context with a library context of its own is attached.
pub(super) fn note_own_library_context() {
    HAS_OWN_LIBRARY_CONTEXTS.store(true, Ordering::Relaxed);
}

/// For who makes keys without a context at hand: the upkeep. In a process whose
/// contexts have library contexts of their own, keys come from one of those, as
/// long as one of its contexts lives.
impl Generator for Library {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        if HAS_OWN_LIBRARY_CONTEXTS.load(Ordering::Relaxed) {
            // A fork may wait for who is here; so this waits for nobody.
            let _lock = process::try_exclusive().ok_or(NotRandom::NotNow)?;
            let own =
                |attachment: &Attachment| !attachment.algorithms().library_context().is_default();
            if let Some(attachment) = find(own) {
                let filled = attachment.fill(bytes);
                // Nothing of this thread's stays in a library context that may be
                // freed before the thread ends (OPENSSL_thread_stop_ex(3)).
                let libctx = attachment.algorithms().library_context().libctx;
                let stop = attachment.library.api.openssl_thread_stop_ex;
                if let Some(stop) = stop.filter(|_| !libctx.is_null()) {
                    // SAFETY: under the lock the attachment's context lives, and
                    // with it its library context.
                    unsafe { stop(libctx) };
                }
                return filled;
            }
        }
        match self.algorithms.draw_secret(&self.api, bytes) {
            true => Ok(()),
            false => Err(NotRandom::Failed),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Some(algorithms) = &mut self.own_algorithms {
            let _mark = error_queue::Mark::set(&self.library.api);
            algorithms.free(&self.library.api);
        }
    }
}

/// How many places there are.
pub const PLACES: usize = ROWS * COLUMNS;
pub(super) const ROWS: usize = 32;
pub(super) const COLUMNS: usize = 32;
/// How many of them are for one context each. When they are used up, contexts
/// that are alike share one of the others.
pub const OF_ONE: usize = PLACES - 32;

static TENANTS: [AtomicPtr<Attachment>; PLACES] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];

/// What is attached at a place.
///
/// # Safety
///
/// Only from a callback of that place, and for no longer than it: a callback
/// runs while a connection of the context lives, which keeps the context, and
/// with it everything that was ever attached to it.
pub(super) unsafe fn tenant<'c>(place: usize) -> Option<&'c Attachment> {
    // SAFETY: null, or an attachment that lives as long as the context (see
    // above). Acquire pairs with the Release in `put`.
    unsafe { TENANTS[place].load(Ordering::Acquire).as_ref() }
}

/// The first attachment with that property. The caller holds
/// [`crate::process::exclusive`], which keeps attachments from being freed, as
/// long as it uses the result.
pub fn find<'l>(is_it: impl Fn(&Attachment) -> bool) -> Option<&'l Attachment> {
    // SAFETY: null, or an attachment that is freed only under the lock.
    let present =
        |tenant: &AtomicPtr<Attachment>| unsafe { tenant.load(Ordering::Acquire).as_ref() };
    TENANTS.iter().filter_map(present).find(|attachment| is_it(attachment))
}

/// True if that is what serves at a place. The caller holds
/// [`crate::process::exclusive`] if the answer is to last.
pub fn serves_at(place: usize, attachment: *const Attachment) -> bool {
    let present = TENANTS.get(place).map(|tenant| tenant.load(Ordering::Acquire).cast_const());
    present == Some(attachment)
}

/// A free place for one context. The caller holds [`crate::process::exclusive`].
pub fn vacant() -> Option<usize> {
    vacant_in(0..OF_ONE)
}

/// A free place for contexts that are alike. The caller holds
/// [`crate::process::exclusive`].
pub fn vacant_for_several() -> Option<usize> {
    vacant_in(OF_ONE..PLACES)
}

fn vacant_in(mut places: Range<usize>) -> Option<usize> {
    places.find(|place| TENANTS[*place].load(Ordering::Relaxed).is_null())
}

/// Puts an attachment at a place, or null to vacate it. The caller holds
/// [`crate::process::exclusive`], and owns the place.
pub(super) fn put(place: usize, attachment: *mut Attachment) {
    TENANTS[place].store(attachment, Ordering::Release);
}
