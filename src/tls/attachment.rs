//! What a callback needs to answer for its context.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use openssl_sys::{SSL, SSL_CTX};

use super::connection;
use super::errors;
use super::primed;
use super::resolve::Library;
use super::scope::{Bound, ContextPart, Scope};
use super::source::{Home, Source};
use crate::clock::Time;
use crate::config::{Bind, Config, Renew, Upkeep};
use crate::ring::stats::Counter;
use crate::rotate::{Generator, Keyring, NotRandom};
use crate::{seat, upkeep};

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
        }
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

    /// The context's part of the scope as the context is now; `None` if the TLS
    /// library fails.
    ///
    /// # Safety
    ///
    /// `ctx` is a live SSL_CTX of this library, and nobody changes it now: this
    /// runs inside a call of the server that reads it.
    pub unsafe fn scope_of_context(
        &self,
        ctx: *const SSL_CTX,
        now: Time,
    ) -> Option<Arc<ContextPart>> {
        // SAFETY: passed on from the caller.
        unsafe { self.scope.of_context((&self.library.api, self.source()), ctx, now) }
    }

    /// The context's part of the scope of a connection; `None` if the TLS
    /// library fails, or it cannot be known.
    ///
    /// # Safety
    ///
    /// `ssl` is the connection of the callback that runs.
    pub unsafe fn scope_of_connection(&self, ssl: *mut SSL, now: Time) -> Option<Bound<'_>> {
        let api = &self.library.api;
        // SAFETY: the caller vouches for `ssl`; it was made of the context,
        // which lives while its attachment does.
        unsafe {
            // Before the context was attached anew, it may have had another.
            let own = connection::part(self.library, ssl).filter(|part| self.scope.made(part));
            match (own, &self.whose) {
                (Some(part), _) => Some(Bound::Kept(part)),
                (None, Whose::Its(ctx)) => {
                    self.scope.of_connections_context((api, self.source()), (*ctx, ssl), now)
                }
                (None, Whose::Common { part, .. }) => part.as_ref().map(Bound::Kept),
            }
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
