//! What a callback needs to answer for its context.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openssl_sys::{SSL, SSL_CTX};

use super::primed;
use super::resolve::Library;
use super::scope::{AtOpening, Scope};
use crate::clock::Time;
use crate::config::{Bind, Config, Renew, Upkeep};
use crate::ring::stats::Counter;
use crate::rotate::Keyring;
use crate::{seat, upkeep};

/// One context's share in the keys.
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
    /// The context; it lives while this does.
    pub(super) ctx: *const SSL_CTX,
    /// Its place in the pool of callbacks.
    pub(super) place: usize,
    /// No other one of this process, before or after, has this number.
    pub(super) number: u64,
}

impl Attachment {
    /// What a context is to be attached with, as the configuration says.
    pub fn new(config: &Config, library: &'static Library, keyring: &'static Keyring) -> Self {
        let scope = Scope::new(&config.label, config.bind.unwrap_or(Bind::ALL));
        let Config { renew, upkeep, .. } = *config;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (ctx, place) = (ptr::null(), usize::MAX);
        Attachment { library, keyring, scope, renew, upkeep, ctx, place, number }
    }

    /// True if a context is served by the other one as by this.
    pub fn is_as(&self, other: &Attachment) -> bool {
        ptr::eq(self.library, other.library)
            && ptr::eq(self.keyring, other.keyring)
            && ptr::eq(self.ctx, other.ctx)
            && self.scope.is_as(&other.scope)
            && (self.renew, self.upkeep) == (other.renew, other.upkeep)
    }

    /// The session timeout of the context. Servers set it late.
    pub fn timeout(&self) -> Duration {
        // SAFETY: the context lives while its attachment does.
        Duration::from_secs(unsafe { self.library.api.timeout(self.ctx) })
    }

    /// The ex_data index for the server name of a connection.
    pub fn name_index(&self) -> c_int {
        self.library.indices.name.load(Ordering::Relaxed)
    }

    /// The context's part of the scope; `None` if the TLS library fails.
    pub fn scope_of_context(&self, now: Time) -> Option<&[u8]> {
        // SAFETY: the context lives while its attachment does.
        unsafe { self.scope.of_context(&self.library.api, self.ctx, now) }
    }

    /// True if its tickets may still be those of that number, bound to that part
    /// of its scope; null for none.
    pub fn is_served_by(&self, number: u64, scope: *const u8) -> bool {
        self.number == number && (scope.is_null() || self.scope.is_newest(scope))
    }

    /// What a ticket that is being opened is bound to.
    ///
    /// # Safety
    ///
    /// `ssl` is a live connection of this context.
    pub unsafe fn scope_at_opening(&self, ssl: *const SSL, now: Time) -> AtOpening<'_> {
        // SAFETY: the caller vouches for `ssl`; the context lives while its
        // attachment does.
        unsafe { self.scope.at_opening(&self.library.api, self.ctx, ssl, now) }
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
