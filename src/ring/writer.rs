//! Publish, shorten, erase, repair: every change to the keys of a ring, made
//! under its writer lock.
//!
//! The order of the stores is the crash safety. A slot is complete before it
//! is linked, and unlinked before it is wiped; links are single stores. So a
//! writer may die between any two stores, and the ring stays readable: what is
//! left over is a slot that no chain reaches, and the next writer, told by the
//! lock that it inherits, wipes that.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use super::Ring;
use super::layout::{AES_128, IMPORTED, KNOWN_FLAGS, LINE, PLAIN, Slot};
use super::lock::Taken;
use super::reader::Key;
use crate::atomics::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
use crate::clock::Time;
use crate::schedule::KeyTimes;
use crate::secret::KeyName;

/// The right to write, as long as it lives. Not `Send`: the thread that took
/// the lock gives it back.
pub struct Writer<'r> {
    ring: &'r Ring,
    taken: Taken,
    _same_thread: PhantomData<*const ()>,
}

/// What a writer sees of a key: all but its secrets.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Where it is.
    pub index: usize,
    /// Its public name.
    pub name: KeyName,
    /// When it lives.
    pub times: KeyTimes,
    /// The node that made it.
    pub node: u64,
    /// True if servers that do not run libtktrot may have it, too.
    pub plain: bool,
}

/// Why a key was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPublished {
    /// There are as many keys as may be.
    Full,
    /// Every slot is taken that has memory, and there is none for more.
    NoMemory,
    /// The name or a secret is already in the ring, or is no key at all.
    Unusable,
}

/// Why a ring cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLocked {
    /// Another writer is at work.
    Busy,
    /// The lock does not work: the errno value.
    Broken(i32),
}

impl fmt::Display for NotLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotLocked::Busy => f.write_str("its writer lock is held and not given back"),
            NotLocked::Broken(errno) => {
                let why = io::Error::from_raw_os_error(*errno);
                write!(f, "its writer lock does not work: {why}")
            }
        }
    }
}

impl Ring {
    /// The right to write, if nobody has it; never waits.
    pub fn try_write(&self) -> Result<Writer<'_>, NotLocked> {
        self.take_lock().map(|taken| self.enter(taken))
    }

    /// The right to write; waits no longer than `limit`.
    pub fn write_within(&self, limit: Duration) -> Result<Writer<'_>, NotLocked> {
        self.take_lock_within(limit).map(|taken| self.enter(taken))
    }

    fn enter(&self, taken: Taken) -> Writer<'_> {
        let inherited = taken.inherited;
        let writer = Writer { ring: self, taken, _same_thread: PhantomData };
        if inherited {
            writer.repair();
        }
        writer
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // A Writer is not Send, so this is the thread that took it.
        self.ring.give_back(&self.taken);
    }
}

impl Writer<'_> {
    /// What is written.
    pub(super) fn ring(&self) -> &Ring {
        self.ring
    }

    /// All keys there are.
    pub fn entries(&self) -> Vec<Entry> {
        let slots = self.ring.slots().iter().enumerate();
        slots.filter(|(_, slot)| !slot.is_empty()).map(|(index, slot)| entry(index, slot)).collect()
    }

    /// How many more keys fit, if there is memory for them.
    pub fn room(&self) -> usize {
        let used = self.ring.slots().iter().filter(|slot| !slot.is_empty()).count();
        (self.ring.capacity() as usize).saturating_sub(used)
    }

    /// Puts a key into a free slot and links it: from then on every process
    /// can decrypt with it.
    pub fn publish(&self, key: &Key) -> Result<usize, NotPublished> {
        if key.name.is_constant() || key.is_weak() || self.has_any_of(key) {
            return Err(NotPublished::Unusable);
        }
        let index = self.free_slot()?;
        let slot = &self.ring.slots()[index];
        let head = &self.ring.buckets()[self.ring.bucket(&key.name)];

        let seq = open_slot(slot);
        put32(&slot.flags, flags_of(key), Ordering::Relaxed);
        put32(&slot.next, head.load(Ordering::Relaxed).into(), Ordering::Relaxed);
        put_bytes(&slot.name, &key.name.0);
        put64(&slot.node, key.node, Ordering::Relaxed);
        put64(&slot.encrypt_from, key.times.encrypt_from.0, Ordering::Relaxed);
        put64(&slot.encrypt_until, key.times.encrypt_until.0, Ordering::Relaxed);
        put64(&slot.decrypt_until, key.times.decrypt_until.0, Ordering::Relaxed);
        put_bytes(&slot.aes, key.secrets.aes.expose());
        put_bytes(&slot.hmac, key.secrets.hmac.expose());
        close_slot(slot, seq);
        // Release: a reader that finds the link (Acquire in `walk`) finds the key.
        put16(head, link_to(index), Ordering::Release);
        Ok(index)
    }

    /// The first that is free, made if there is none.
    fn free_slot(&self) -> Result<usize, NotPublished> {
        if self.room() == 0 {
            return Err(NotPublished::Full);
        }
        let free = || self.ring.slots().iter().position(Slot::is_empty);
        let grown = || self.ring.grow().ok().and_then(|()| free());
        free().or_else(grown).ok_or(NotPublished::NoMemory)
    }

    /// Ends a key's encrypting at `now`, if it would go on longer: one store,
    /// so that readers see the old end or the new one. A key that has not begun
    /// ends where it would begin.
    pub fn retire(&self, index: usize, now: Time) {
        let slot = &self.ring.slots()[index];
        let from = slot.encrypt_from.load(Ordering::Relaxed);
        make_earlier(&slot.encrypt_until, now.0.max(from));
    }

    /// Makes a key's times earlier, where those of `limit` are. In this order, so
    /// that they are in order all the time: a writer that dies in between leaves
    /// a key that ends as it was published. One that was retired before it began
    /// begins no earlier: it would encrypt until then.
    pub fn shorten(&self, index: usize, limit: &KeyTimes) {
        let slot = &self.ring.slots()[index];
        let from = slot.encrypt_from.load(Ordering::Relaxed);
        if from < slot.encrypt_until.load(Ordering::Relaxed) {
            make_earlier(&slot.encrypt_from, limit.encrypt_from.0);
        }
        let from = slot.encrypt_from.load(Ordering::Relaxed);
        make_earlier(&slot.encrypt_until, limit.encrypt_until.0.max(from));
        let until = slot.encrypt_until.load(Ordering::Relaxed);
        make_earlier(&slot.decrypt_until, limit.decrypt_until.0.max(until));
    }

    /// Unlinks a key and wipes it. Readers that found it before have a copy;
    /// none finds it after.
    pub fn erase(&self, index: usize) {
        let slot = &self.ring.slots()[index];
        self.unlink(index);
        let seq = open_slot(slot);
        wipe(slot);
        close_slot(slot, seq);
    }

    /// Names the keys, by slot and oldest first, that encrypt one after the
    /// other. More than [`LINE`] are cut: the schedule makes no more.
    pub fn set_line(&self, slots: &[usize]) {
        let line = slots
            .iter()
            .take(LINE)
            .enumerate()
            .fold(0, |line, (place, index)| line | u64::from(link_to(*index)) << (16 * place));
        let header = self.ring.header();
        if header.line.load(Ordering::Relaxed) != line {
            // Release pairs with the Acquire in `Ring::encrypting`.
            put64(&header.line, line, Ordering::Release);
        }
    }

    /// Sets when the next writer has something to do.
    pub fn set_deadline(&self, deadline: Time) {
        put64(&self.ring.header().deadline, deadline.0, Ordering::Relaxed);
    }

    /// Sets until when an agent governs the ring.
    pub fn set_lease(&self, until: Time) {
        put64(&self.ring.header().governed_until, until.0, Ordering::Relaxed);
    }

    /// Erases every key. Nobody governs the ring any more.
    pub fn clear(&self) {
        self.set_lease(Time(0));
        self.set_line(&[]);
        for entry in self.entries() {
            self.erase(entry.index);
        }
        self.set_deadline(Time(0));
    }

    /// What is wrong with the ring's contents, if anything: what a sound
    /// writer never leaves behind. Bounded by the capacity, whatever is there.
    /// Looks at secrets: what that leaves on the stack is the caller's to wipe.
    #[inline(never)]
    pub fn defect(&self) -> Option<&'static str> {
        let slots = self.ring.slots();
        if slots.iter().any(|slot| slot.seq.load(Ordering::Relaxed) % 2 == 1) {
            return Some("a slot is being written while nobody writes");
        }
        if slots.iter().any(|slot| !slot.is_empty() && !slot.is_plausible()) {
            return Some("a slot holds what no writer leaves there");
        }
        let used = slots.iter().filter(|slot| !slot.is_empty()).count();
        let mut linked = 0;
        for (bucket, head) in self.ring.buckets().iter().enumerate() {
            let mut link = head.load(Ordering::Relaxed).into();
            while link != 0 {
                let Some(slot) = self.ring.slot(link) else {
                    return Some("a look-up chain leads out of the ring");
                };
                linked += 1;
                if linked > used || slot.is_empty() || self.ring.bucket(&slot.name()) != bucket {
                    return Some("a look-up chain is not one");
                }
                link = slot.next.load(Ordering::Relaxed);
            }
        }
        let line = self.ring.header().line.load(Ordering::Relaxed);
        let mut line = super::reader::unpack(line);
        if line.any(|link| self.ring.slot(link).is_none_or(Slot::is_empty)) {
            return Some("the line names an empty slot");
        }
        (linked != used).then_some("a key is in no look-up chain")
    }

    /// Wipes what a dead writer left unfinished: the slots in no chain. Those
    /// in a chain are complete.
    fn repair(&self) {
        let mut linked = vec![false; self.ring.slots().len()];
        for head in self.ring.buckets() {
            let mut link = head.load(Ordering::Relaxed).into();
            while let Some(slot) = self.ring.slot(link) {
                if std::mem::replace(&mut linked[link as usize - 1], true) {
                    break;
                }
                link = slot.next.load(Ordering::Relaxed);
            }
        }
        for (slot, linked) in self.ring.slots().iter().zip(linked) {
            if !linked && (!slot.is_empty() || slot.seq.load(Ordering::Relaxed) % 2 == 1) {
                let seq = open_slot(slot);
                wipe(slot);
                close_slot(slot, seq);
            }
        }
        self.ring.header().repairs.fetch_add(1, Ordering::Relaxed);
        self.set_deadline(Time(0));
    }

    /// True if the name or a secret is in the ring already. Reads the slots
    /// where they are, so that no copy has to be wiped, and takes as long
    /// whatever it finds.
    pub fn has_any_of(&self, key: &Key) -> bool {
        let is_same = |words: &[AtomicU64], bytes: &[u8]| {
            let pairs = words.iter().zip(bytes.chunks_exact(8));
            let differing = pairs.fold(0, |differing, (word, chunk)| {
                let chunk = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
                differing | (word.load(Ordering::Relaxed) ^ chunk)
            });
            differing == 0
        };
        self.ring.slots().iter().fold(false, |seen, slot| {
            seen | is_same(&slot.name, &key.name.0)
                | is_same(&slot.aes, key.secrets.aes.expose())
                | is_same(&slot.hmac, key.secrets.hmac.expose())
        })
    }

    /// Takes a slot out of its chain with one store.
    fn unlink(&self, index: usize) {
        let slots = self.ring.slots();
        let (link, after) = (link_to(index), slots[index].next.load(Ordering::Relaxed));
        let head = &self.ring.buckets()[self.ring.bucket(&slots[index].name())];
        // Release: what `after` leads to was published by another writer; pass that on
        // to readers of this link.
        if head.load(Ordering::Relaxed) == link {
            return put16(head, after as u16, Ordering::Release);
        }
        let mut before = self.ring.slot(head.load(Ordering::Relaxed).into());
        for _ in 0..slots.len() {
            let Some(slot) = before else { return };
            let next = slot.next.load(Ordering::Relaxed);
            if next == u32::from(link) {
                return put32(&slot.next, after, Ordering::Release);
            }
            before = self.ring.slot(next);
        }
    }
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.name.iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    fn is_plausible(&self) -> bool {
        let mut key = Key::blank();
        self.flags.load(Ordering::Relaxed) & !KNOWN_FLAGS == 0
            && self.read(&mut key)
            && !key.is_weak()
            && key.times.are_ordered()
            // It came out of a file, and only decrypts, even where the ring's node has that id.
            && (!key.aes_128 || (key.node == IMPORTED && !key.times.will_encrypt(Time(0))))
    }
}

fn entry(index: usize, slot: &Slot) -> Entry {
    let node = slot.node.load(Ordering::Relaxed);
    let plain = slot.flags.load(Ordering::Relaxed) & PLAIN != 0;
    Entry { index, name: slot.name(), times: slot.times(), node, plain }
}

fn flags_of(key: &Key) -> u32 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(key.plain, PLAIN) | flag(key.aes_128, AES_128)
}

fn link_to(index: usize) -> u16 {
    index as u16 + 1
}

/// Makes `seq` odd: readers turn away. Returns the odd value.
fn open_slot(slot: &Slot) -> u64 {
    let seq = slot.seq.load(Ordering::Relaxed) | 1;
    put64(&slot.seq, seq, Ordering::Relaxed);
    // Pairs with the reader's Acquire fence: a reader that sees a word stored
    // after this sees `seq` odd, or later.
    fence(Ordering::Release);
    seq
}

/// Makes `seq` even again, and other than it was before the slot was opened.
fn close_slot(slot: &Slot, odd: u64) {
    // Release pairs with the reader's Acquire load of `seq`.
    put64(&slot.seq, odd.wrapping_add(1), Ordering::Release);
}

fn wipe(slot: &Slot) {
    let secrets = slot.aes.iter().chain(&slot.hmac);
    let times = [&slot.encrypt_from, &slot.encrypt_until, &slot.decrypt_until];
    for word in secrets.chain(times).chain([&slot.node]).chain(&slot.name) {
        put64(word, 0, Ordering::Relaxed);
    }
    put32(&slot.flags, 0, Ordering::Relaxed);
    put32(&slot.next, 0, Ordering::Relaxed);
}

/// The times of a key that is published are never made later.
fn make_earlier(word: &AtomicU64, time: u64) {
    if word.load(Ordering::Relaxed) > time {
        put64(word, time, Ordering::Relaxed);
    }
}

fn put_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks_exact(8)) {
        let value = u64::from_le_bytes(chunk.try_into().expect("chunks of 8"));
        put64(word, value, Ordering::Relaxed);
    }
}

/// Every store to the keys of a ring is this one, [`put32`] or [`put16`], so that a test
/// build can die after any of them.
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

fn put16(word: &AtomicU16, value: u16, order: Ordering) {
    word.store(value, order);
    #[cfg(any(loom, feature = "kill-points"))]
    crate::kill_points::pass();
}
