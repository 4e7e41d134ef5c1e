//! Each slot of a ring is a seqlock, and this is both halves of it.
//!
//! A reader takes `seq` (Acquire), reads the words, fences (Acquire) and takes `seq`
//! again: the same even value twice means that no writer touched the slot in between.
//! It pairs with the writer's Release fence after the odd and its Release store of the
//! even value.
//!
//! A writer has the writer lock, so there is one at a time. It makes `seq` odd, stores,
//! and makes it even again, and other than it was before: `open` and `close`. Every
//! store to the keys of a ring is `put64`, `put32` or `put16`, so that a test build
//! can die after any of them. The times of a published key are changed without that, by
//! single stores (`make_earlier`): readers see the old time or the new one.

use std::ops::Deref;

use super::key::{Key, KeyFacts};
use super::layout::{AES_128, IMPORTED, KNOWN_FLAGS, PLAIN, Slot};
use crate::atomics::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use crate::clock::Time;
use crate::schedule::KeyTimes;
use crate::secret::{KeyName, Secret};

/// How often a slot is read again that a writer is at: it needs nanoseconds, unless it died
/// there.
const RETRIES: usize = 1000;

/// A key where it lies in a ring, and all of it but its secrets, as it was at
/// one moment.
pub struct Located<'r> {
    slot: &'r Slot,
    seq: u64,
    facts: KeyFacts,
}

/// Which contents of which slot: no two keys of a ring ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The slot's index in the ring.
    pub slot: usize,
    seq: u64,
}

impl Identity {
    /// What `seq` was.
    pub(super) fn seq(self) -> u64 {
        self.seq
    }
}

impl Deref for Located<'_> {
    type Target = KeyFacts;

    #[inline]
    fn deref(&self) -> &KeyFacts {
        &self.facts
    }
}

impl Located<'_> {
    /// Reads its cipher key; false if the key is no longer there.
    pub fn read_aes(&self, aes: &mut Secret<32>) -> bool {
        copy_words(&self.slot.aes, aes.expose_mut());
        self.is_there()
    }

    /// Reads its MAC key; false if the key is no longer there.
    pub fn read_hmac(&self, hmac: &mut Secret<32>) -> bool {
        copy_words(&self.slot.hmac, hmac.expose_mut());
        self.is_there()
    }

    /// True if the key is still there, and what was read of it until now belongs together.
    pub fn is_there(&self) -> bool {
        self.slot.is_still(self.seq)
    }

    /// Tells it from every other key that the ring of these slots ever has.
    pub(super) fn identity_in(&self, slots: &[Slot]) -> Identity {
        let offset = std::ptr::from_ref(self.slot).addr() - slots.as_ptr().addr();
        Identity { slot: offset / size_of::<Slot>(), seq: self.seq }
    }

    /// Reads all of it; false if it is no longer there.
    pub(super) fn read(&self, key: &mut Key) -> bool {
        key.facts = self.facts;
        self.read_aes(&mut key.secrets.aes) && self.read_hmac(&mut key.secrets.hmac)
    }
}

impl Slot {
    /// Begins a reading: what `seq` is then.
    #[inline(always)]
    pub(super) fn begin_read(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// Ends a reading: true if nobody wrote since `seq` was that.
    #[inline(always)]
    pub(super) fn is_still(&self, seq: u64) -> bool {
        fence(Ordering::Acquire);
        self.seq.load(Ordering::Relaxed) == seq
    }

    /// True if a writer is at it, or died at it.
    pub(super) fn is_being_written(&self) -> bool {
        !self.seq.load(Ordering::Relaxed).is_multiple_of(2)
    }

    pub(super) fn name(&self) -> KeyName {
        let mut bytes = [0; 16];
        copy_words(&self.name, &mut bytes);
        KeyName(bytes)
    }

    pub(super) fn times(&self) -> KeyTimes {
        KeyTimes {
            encrypt_from: Time(self.encrypt_from.load(Ordering::Relaxed)),
            encrypt_until: Time(self.encrypt_until.load(Ordering::Relaxed)),
            decrypt_until: Time(self.decrypt_until.load(Ordering::Relaxed)),
        }
    }

    /// Its words, which belong together only as long as nobody writes.
    #[inline(always)]
    pub(super) fn words(&self) -> KeyFacts {
        let flags = self.flags.load(Ordering::Relaxed);
        KeyFacts {
            name: self.name(),
            times: self.times(),
            node: self.node.load(Ordering::Relaxed),
            plain: flags & PLAIN != 0,
            aes_128: flags & AES_128 != 0,
        }
    }

    /// What is in it now, and whether that belongs together: no writer touched it meanwhile.
    #[inline(always)]
    fn look(&self) -> (Located<'_>, bool) {
        let seq = self.begin_read();
        let located = Located { slot: self, seq, facts: self.words() };
        let stable = seq.is_multiple_of(2) && located.is_there();
        (located, stable)
    }

    /// The slot's key; `None` if it has none, or a writer touched it meanwhile.
    pub(super) fn locate(&self) -> Option<Located<'_>> {
        let (located, stable) = self.look();
        (stable && !located.name.is_constant()).then_some(located)
    }

    /// As [`Slot::locate`], again and again while a writer is at it.
    pub(super) fn facts(&self) -> Option<KeyFacts> {
        let stable = (0..RETRIES).map(|_| self.look()).find(|(_, stable)| *stable)?;
        (!stable.0.name.is_constant()).then_some(stable.0.facts)
    }

    /// Reads the slot's key; false if it has none, or a writer touched it meanwhile.
    pub(super) fn read(&self, key: &mut Key) -> bool {
        self.locate().is_some_and(|located| located.read(key))
    }

    /// For whoever has the writer lock.
    pub(super) fn is_empty(&self) -> bool {
        self.name.iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    /// True if it holds what a writer leaves. For whoever has the writer lock.
    pub(super) fn is_plausible(&self) -> bool {
        let mut key = Key::blank();
        self.flags.load(Ordering::Relaxed) & !KNOWN_FLAGS == 0
            && self.read(&mut key)
            && !key.is_weak()
            && key.times.are_ordered()
            // It came out of a file, and only decrypts, even where the ring's node has that id.
            && (!key.aes_128 || (key.node == IMPORTED && !key.times.will_encrypt(Time(0))))
    }
}

pub(super) fn copy_words(words: &[AtomicU64], bytes: &mut [u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
}

/// Makes `seq` odd: readers turn away. Returns the odd value.
pub(super) fn open(slot: &Slot) -> u64 {
    let seq = slot.seq.load(Ordering::Relaxed) | 1;
    put64(&slot.seq, seq, Ordering::Relaxed);
    // Pairs with the reader's Acquire fence: a reader that sees a word stored
    // after this sees `seq` odd, or later.
    fence(Ordering::Release);
    seq
}

/// Makes `seq` even again, and other than it was before the slot was opened.
pub(super) fn close(slot: &Slot, odd: u64) {
    // Release pairs with the reader's Acquire load of `seq`.
    put64(&slot.seq, odd.wrapping_add(1), Ordering::Release);
}

/// Stores a key, with `next` as the slot after this one in its chain.
pub(super) fn fill(slot: &Slot, key: &Key, next: u32) {
    let seq = open(slot);
    put32(&slot.flags, flags_of(key), Ordering::Relaxed);
    put32(&slot.next, next, Ordering::Relaxed);
    put_bytes(&slot.name, &key.name.0);
    put64(&slot.node, key.node, Ordering::Relaxed);
    put64(&slot.encrypt_from, key.times.encrypt_from.0, Ordering::Relaxed);
    put64(&slot.encrypt_until, key.times.encrypt_until.0, Ordering::Relaxed);
    put64(&slot.decrypt_until, key.times.decrypt_until.0, Ordering::Relaxed);
    put_bytes(&slot.aes, key.secrets.aes.expose());
    put_bytes(&slot.hmac, key.secrets.hmac.expose());
    close(slot, seq);
}

/// Wipes whatever is in a slot.
pub(super) fn wipe(slot: &Slot) {
    let seq = open(slot);
    let secrets = slot.aes.iter().chain(&slot.hmac);
    let times = [&slot.encrypt_from, &slot.encrypt_until, &slot.decrypt_until];
    for word in secrets.chain(times).chain([&slot.node]).chain(&slot.name) {
        put64(word, 0, Ordering::Relaxed);
    }
    put32(&slot.flags, 0, Ordering::Relaxed);
    put32(&slot.next, 0, Ordering::Relaxed);
    close(slot, seq);
}

/// The times of a key that is published are never made later.
pub(super) fn make_earlier(word: &AtomicU64, time: u64) {
    if word.load(Ordering::Relaxed) > time {
        put64(word, time, Ordering::Relaxed);
    }
}

fn flags_of(key: &KeyFacts) -> u32 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(key.plain, PLAIN) | flag(key.aes_128, AES_128)
}

pub(super) fn put_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks_exact(8)) {
        let value = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
        put64(word, value, Ordering::Relaxed);
    }
}

pub(super) fn put64(word: &AtomicU64, value: u64, order: Ordering) {
    word.store(value, order);
    #[cfg(any(loom, feature = "kill-points"))]
    crate::kill_points::pass();
}

pub(super) fn put32(word: &AtomicU32, value: u32, order: Ordering) {
    word.store(value, order);
    #[cfg(any(loom, feature = "kill-points"))]
    crate::kill_points::pass();
}

pub(super) fn put16(word: &AtomicU16, value: u16, order: Ordering) {
    word.store(value, order);
    #[cfg(any(loom, feature = "kill-points"))]
    crate::kill_points::pass();
}
