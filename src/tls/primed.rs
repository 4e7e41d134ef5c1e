//! MAC contexts that are keyed and have their context's part of the scope in
//! them already: a ticket copies one instead of keying its own.
//!
//! One bounded table per process. A ticket finds its entry without a lock and
//! without a store to anything shared ([`crate::epoch`]). It looks the key
//! up in the ring first, every time: an entry is of one key as it lies in the
//! ring, and says nothing about whether that may be used. Only MACs are kept:
//! the cipher's key is nowhere but in the ring. With a MAC state alone nothing
//! can be decrypted; still it is erased when its key ends, is revoked, or
//! serves this context no more, by [`sweep`].
//!
//! Entries are made and erased under [`process::exclusive`], so no fork copies
//! one that is half made. A child has its parent's entries, and sees to them
//! from its first ticket on.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;
use std::{hint, ptr};

use openssl_sys::HMAC_CTX;

use super::attachment::{self, Attachment};
use super::resolve::Library;
use super::scope::ContextPart;
use crate::clock::Time;
use crate::epoch::Epoch;
use crate::process::{self, Exclusive};
use crate::ring::seqlock::{Identity, Located};
use crate::rotate::Keyring;
use crate::thread;
use crate::upkeep;

/// Sets of ways, as in a set-associative cache; which one a key has depends on its slot in the ring.
const SETS: usize = 64;
const WAYS: usize = 4;
/// Bounds what entries take: 0.8 KiB each, most of it the TLS library's.
const ENTRIES: usize = SETS * WAYS;
/// How long after the ring changed that is noticed here at the latest.
const NAP: Duration = Duration::from_secs(1);
/// When it is tried again where a lock or a reader was in the way.
const RETRY: Duration = Duration::from_millis(10);
/// How often an eraser looks whether the readers are gone, which takes them a
/// microsecond, before it leaves that to the next one.
const LOOKS: usize = 1000;

/// What a primed context is of, in one word each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MacOf {
    attachment: u64,
    key: Identity,
    /// The number of the context's part of the scope; 0 for none.
    scope: u64,
}

impl MacOf {
    /// For the tickets of that context, sealed with that key and so bound.
    pub fn new(attachment: &Attachment, key: &Located<'_>, scope: Option<&ContextPart>) -> Self {
        MacOf {
            attachment: attachment.number,
            key: attachment.keyring.ring().identity(key),
            scope: scope.map_or(0, ContextPart::number),
        }
    }

    fn set(&self) -> &'static [Way] {
        let first = (self.attachment as usize * 5 + self.key.slot) % SETS * WAYS;
        &TABLE[first..first + WAYS]
    }
}

/// One primed context; never changed once it is in the table.
struct PrimedMac {
    of: MacOf,
    mac: *mut HMAC_CTX,
    library: &'static Library,
    keyring: &'static Keyring,
    /// Not to be followed: compared with what is at its place.
    attachment: *const Attachment,
    at: usize,
}

impl PrimedMac {
    /// When it ends, as far as is known now; `None` if it has.
    fn end(&self, now: Time) -> Option<Time> {
        let end = self.keyring.ring().end_of(self.of.key).filter(|end| now < *end)?;
        // SAFETY: at its place, and not freed as long as the caller's lock is held.
        let serves = attachment::serves_at(self.at, self.attachment)
            && unsafe { &*self.attachment }.is_served_by(self.of.attachment, self.of.scope);
        serves.then_some(end)
    }
}

impl Drop for PrimedMac {
    fn drop(&mut self) {
        if let Some(free) = self.library.api.hmac_ctx_free {
            // SAFETY: made in `keep`, and freed here only. It cleanses itself.
            unsafe { free(self.mac) };
        }
    }
}

struct Way {
    /// Readers find it here.
    live: AtomicPtr<PrimedMac>,
    /// Nobody finds it any more, but somebody may still be reading it.
    dying: AtomicPtr<PrimedMac>,
    /// Since when.
    since: AtomicU64,
}

static TABLE: [Way; ENTRIES] = [const {
    Way {
        live: AtomicPtr::new(ptr::null_mut()),
        dying: AtomicPtr::new(ptr::null_mut()),
        since: AtomicU64::new(0),
    }
}; ENTRIES];
/// When the table is to be looked through next.
static NEXT_SWEEP: AtomicU64 = AtomicU64::new(0);

/// Copies the primed context of that into `mac`, a fresh one of the TLS
/// library. `None` if there is none; `Some(false)` if the library fails.
///
/// # Safety
///
/// `mac` is a live HMAC_CTX of the library of what `of` is of.
pub unsafe fn copy(of: &MacOf, mac: *mut HMAC_CTX) -> Option<bool> {
    let _guard = thread::pin()?;
    for way in of.set() {
        // SAFETY: null or a PrimedMac, which is not freed while this thread reads.
        // Acquire pairs with the Release in `keep`.
        let entry = unsafe { way.live.load(Ordering::Acquire).as_ref() };
        if let Some(entry) = entry.filter(|entry| entry.of == *of) {
            let copy = entry.library.api.hmac_ctx_copy?;
            // SAFETY: both are live and of one library; the second is only read
            // (hmac.c of each library that has the function).
            return Some(unsafe { copy(mac, entry.mac) } == 1);
        }
    }
    None
}

/// Keeps a copy of `mac`, which a ticket has just keyed, for the tickets after
/// it; or does not, if somebody is at the table or its ways are taken. Never waits.
///
/// # Safety
///
/// `mac` is a live HMAC_CTX of the attachment's library, keyed as `of` says.
pub unsafe fn keep(of: &MacOf, attachment: &Attachment, mac: *mut HMAC_CTX, now: Time) {
    let Attachment { library, keyring, place: at, .. } = *attachment;
    let api = &library.api;
    let (Some(new), Some(copy)) = (api.hmac_ctx_new, api.hmac_ctx_copy) else { return };
    // Who has no seat cannot read either.
    if thread::mine().is_none() || !may_displace(of, now) {
        return;
    }
    let Some(_lock) = process::try_exclusive() else { return };
    let set = of.set();
    // SAFETY: under the lock nobody frees what is found.
    let is_there = |way: &Way| unsafe {
        way.live.load(Ordering::Relaxed).as_ref().is_some_and(|entry| entry.of == *of)
    };
    if set.iter().any(is_there) || !attachment::serves_at(at, attachment) {
        return;
    }
    let free = set.iter().find(|way| way.is_free());
    let Some(way) = free.or_else(|| make_room(set, now)) else { return };
    // SAFETY: makes a new context; on success it is ours.
    let kept = unsafe { new() };
    if kept.is_null() {
        return;
    }
    let entry = PrimedMac { of: *of, mac: kept, library, keyring, attachment, at };
    // SAFETY: both are live, and the caller vouches for the second.
    if unsafe { copy(kept, mac) } != 1 {
        return;
    }
    let Some(end) = entry.end(now) else { return };
    way.live.store(Box::into_raw(Box::new(entry)), Ordering::Release);
    NEXT_SWEEP.fetch_min(end.min(now + NAP).0, Ordering::Relaxed);
}

/// True if there is a free way, or it is one of sixteen times: more keys than
/// ways must not cost an exchange for each ticket.
fn may_displace(of: &MacOf, now: Time) -> bool {
    of.set().iter().any(Way::is_free) || (now.0 >> 10).is_multiple_of(16)
}

fn make_room(set: &'static [Way], now: Time) -> Option<&'static Way> {
    let way = &set[(now.0 >> 14) as usize % WAYS];
    way.put_out_of_reach();
    way.free_if_unread().then_some(way)
}

impl Way {
    fn is_free(&self) -> bool {
        self.live.load(Ordering::Relaxed).is_null() && self.dying.load(Ordering::Relaxed).is_null()
    }

    /// The caller holds the lock.
    fn put_out_of_reach(&self) {
        let live = self.live.load(Ordering::Relaxed);
        if !live.is_null() && self.free_if_unread() {
            self.dying.store(live, Ordering::Relaxed);
            self.live.store(ptr::null_mut(), Ordering::Release);
            self.since.store(thread::advance().number(), Ordering::Relaxed);
        }
    }

    /// Frees what is out of reach, unless somebody may still be reading it.
    /// True if nothing is left to free. The caller holds the lock.
    fn free_if_unread(&self) -> bool {
        let dying = self.dying.load(Ordering::Relaxed);
        if dying.is_null() {
            return true;
        }
        let since = Epoch::of(self.since.load(Ordering::Relaxed));
        if !thread::is_past(since) {
            return false;
        }
        self.dying.store(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: made by Box::into_raw in `keep`; nobody finds or reads it.
        drop(unsafe { Box::from_raw(dying) });
        true
    }
}

/// For every ticket: a load where nothing is due. Never waits. Where the upkeep thread is missing,
/// something is due once a second.
#[inline]
pub fn tend(now: Time) {
    if now.0 >= NEXT_SWEEP.load(Ordering::Relaxed) {
        sweep(now);
        upkeep::tend(now);
    }
}

/// Erases the entries whose keys have ended or left the ring, and those that
/// serve no context any more. Never waits for a lock. Returns when one will end
/// as far as is known now; a ring can be changed by another process at any
/// time, so a second later is late enough.
#[cold]
pub fn sweep(now: Time) -> Time {
    match process::try_exclusive() {
        Some(lock) => sweep_under(&lock, now),
        None => now + RETRY,
    }
}

/// As [`sweep`], but waits until nobody else sets something up.
pub fn sweep_patiently(now: Time) -> Time {
    sweep_under(&process::exclusive(), now)
}

/// As [`sweep`], for who holds the lock.
pub fn sweep_under(_lock: &Exclusive, now: Time) -> Time {
    let mut next = Time::NEVER;
    for way in &TABLE {
        // SAFETY: under the lock nobody frees what is found.
        match unsafe { way.live.load(Ordering::Relaxed).as_ref() }.map(|entry| entry.end(now)) {
            Some(Some(end)) => next = next.min(end),
            Some(None) => way.put_out_of_reach(),
            None => {}
        }
    }
    // Each is tried, whatever became of the others.
    let left = || TABLE.iter().filter(|way| !way.free_if_unread()).count();
    let mut looks = 0;
    while left() > 0 {
        looks += 1;
        if looks == LOOKS {
            next = now + RETRY;
            break;
        }
        hint::spin_loop();
    }
    NEXT_SWEEP.store(next.min(now + NAP).0, Ordering::Relaxed);
    next
}
