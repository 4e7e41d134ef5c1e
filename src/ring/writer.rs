//! Publish, shorten, erase, repair: every change to the keys of a ring, made
//! under its writer lock. `Ring` has its second `impl` here, for the right to
//! write: what reads a ring does not depend on what writes it.
//!
//! The order of the stores is the crash safety. A slot is complete before it
//! is linked, and unlinked before it is wiped; links are single stores. So a
//! writer may die between any two stores, and the ring stays readable: what is
//! left over is a slot that no chain reaches, and the next writer, told by the
//! lock that it inherits, wipes that.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use super::graves::{Burial, Graves};
use super::key::{Key, KeyFacts};
use super::layout::{Capacity, LINE, Slot};
use super::lock::{Lock, NotLocked, Taken};
use super::reader::unpack;
use super::ring::Ring;
use super::seqlock::{self, make_earlier, put16, put32, put64};
use super::versions::Older;
use crate::atomics::{AtomicU64, Ordering};
use crate::clock::{Time, nanos};
use crate::schedule::{KeyState, KeyTimes};
use crate::secret::{KeyName, wipe_stack};

/// The right to write, as long as it lives. Not `Send`: the thread that took
/// the lock gives it back.
pub struct Writer<'r> {
    ring: &'r Ring,
    taken: Taken,
    _same_thread: PhantomData<*const ()>,
}

/// A key as a writer sees it: all but its secrets.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which slot it is in.
    pub index: usize,
    facts: KeyFacts,
}

impl Deref for Entry {
    type Target = KeyFacts;

    fn deref(&self) -> &KeyFacts {
        &self.facts
    }
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
    /// It was revoked: see [`Writer::bury`].
    Revoked,
}

/// What no sound writer leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A slot is being written, and nobody writes.
    OddSlot,
    /// A slot holds what cannot be a key.
    Slot,
    /// A link of a lookup chain names no slot.
    ChainLeadsOut,
    /// A lookup chain comes back to itself, or has a key of another one.
    Chain,
    /// The line names a slot that is empty.
    Line,
    /// A key is in no lookup chain.
    Unlinked,
    /// A grave is being written, and nobody writes.
    Grave,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Defect::OddSlot => "a slot is being written while nobody writes",
            Defect::Slot => "a slot holds what no writer leaves there",
            Defect::ChainLeadsOut => "a lookup chain leads out of the ring",
            Defect::Chain => "a lookup chain is corrupt",
            Defect::Line => "the line names an empty slot",
            Defect::Unlinked => "a key is in no lookup chain",
            Defect::Grave => "the name of a revoked key is being written while nobody writes",
        })
    }
}

impl Ring {
    /// The right to write, if nobody has it; never waits.
    pub fn try_write(&self) -> Result<Writer<'_>, NotLocked> {
        Lock(&self.memory).take().map(|taken| self.enter(taken))
    }

    /// The right to write; waits no longer than `limit`.
    pub fn write_within(&self, limit: Duration) -> Result<Writer<'_>, NotLocked> {
        Lock(&self.memory).take_within(limit).map(|taken| self.enter(taken))
    }

    /// Takes the keys that the older ring has got since it was looked at last, if there is one.
    /// Never waits.
    pub fn follow_older(&self, now: Time) {
        if self.older.as_ref().is_some_and(Older::has_changed)
            && now != Time::NEVER
            && let Ok(writer) = self.try_write()
            && writer.inherit(now)
        {
            wipe_stack();
            // Whoever comes next sees to their ends.
            writer.set_deadline(Time(0));
        }
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
        Lock(&self.ring.memory).give_back(&self.taken);
    }
}

impl Writer<'_> {
    /// Every key in the ring, whoever made it.
    pub fn entries(&self) -> Vec<Entry> {
        let slots = self.ring.memory.slots().iter().enumerate();
        slots
            .filter(|(_, slot)| !slot.is_empty())
            .map(|(index, slot)| Entry { index, facts: slot.words() })
            .collect()
    }

    /// This node's keys.
    pub(crate) fn own_entries(&self) -> Vec<Entry> {
        let node = self.ring.node();
        self.entries().into_iter().filter(|entry| entry.node == node).collect()
    }

    /// How many more keys fit, if there is memory for them.
    pub fn room(&self) -> usize {
        let used = self.ring.memory.slots().iter().filter(|slot| !slot.is_empty()).count();
        (self.ring.capacity() as usize).saturating_sub(used)
    }

    /// Puts a key into a free slot and links it: from then on every process
    /// can decrypt with it.
    pub fn publish(&self, key: &Key) -> Result<usize, NotPublished> {
        if key.name.is_constant() || key.is_weak() || self.has_any_of(key) {
            return Err(NotPublished::Unusable);
        }
        if self.ring.is_buried(&key.name) {
            return Err(NotPublished::Revoked);
        }
        let index = self.free_slot()?;
        let slot = &self.ring.memory.slots()[index];
        let head = &self.ring.memory.buckets()[self.ring.memory.bucket(&key.name)];

        seqlock::fill(slot, key, head.load(Ordering::Relaxed).into());
        // Release: a reader that finds the link (Acquire in `walk`) finds the key.
        put16(head, link_to(index), Ordering::Release);
        Ok(index)
    }

    /// The first that is free, made if there is none.
    fn free_slot(&self) -> Result<usize, NotPublished> {
        if self.room() == 0 {
            return Err(NotPublished::Full);
        }
        let free = || self.ring.memory.slots().iter().position(Slot::is_empty);
        let grown = || self.ring.grow().ok().and_then(|()| free());
        free().or_else(grown).ok_or(NotPublished::NoMemory)
    }

    /// Ends a key's encrypting at `now`, if it would go on longer: one store,
    /// so that readers see the old end or the new one. A key that has not begun
    /// ends where it would begin.
    pub fn retire(&self, index: usize, now: Time) {
        let slot = &self.ring.memory.slots()[index];
        let from = slot.encrypt_from.load(Ordering::Relaxed);
        make_earlier(&slot.encrypt_until, now.0.max(from));
    }

    /// Makes a key's times earlier, where those of `limit` are. In this order, so
    /// that they are in order all the time: a writer that dies in between leaves
    /// a key that ends as it was published. One that was retired before it began
    /// begins no earlier: it would encrypt until then.
    pub fn shorten(&self, index: usize, limit: &KeyTimes) {
        let slot = &self.ring.memory.slots()[index];
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
        let slot = &self.ring.memory.slots()[index];
        self.unlink(index);
        seqlock::wipe(slot);
    }

    /// Remembers that the key of that name was revoked, until no copy of it can live anywhere: so
    /// long nobody brings it back. The key itself is to be erased by whoever calls, in the same
    /// act; if that dies before, the next writer does.
    pub fn bury(&self, name: &KeyName, until: Time) -> Burial {
        Graves(&self.ring.memory).bury(name, until, || self.ring.grow_graves())
    }

    /// As [`Ring::is_buried`].
    pub fn is_buried(&self, name: &KeyName) -> bool {
        self.ring.is_buried(name)
    }

    /// Forgets the revoked keys of which no copy can live any more.
    pub fn sweep_graves(&self, now: Time) {
        Graves(&self.ring.memory).sweep(now);
    }

    /// The fleet has come to this period: the ring never goes back behind it.
    pub fn raise_fleet_period(&self, period: u64) {
        raise(&self.ring.header().fleet_period, period);
    }

    /// As [`Writer::raise_fleet_period`], for the epoch.
    pub fn raise_fleet_epoch(&self, epoch: u64) {
        raise(&self.ring.header().fleet_epoch, epoch);
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

    /// Sets what processes ask for: R, L, whether contexts shorten that, and whether new keys
    /// are plain. True if they were.
    pub(crate) fn set_terms(
        &self,
        rotate_every: Option<Duration>,
        lifetime: Option<Duration>,
        own_lifetimes: bool,
        plain: bool,
    ) -> bool {
        let header = self.ring.header();
        let word = |span: Option<Duration>| span.map_or(0, nanos);
        header.rotate_every.store(word(rotate_every), Ordering::Relaxed);
        header.lifetime.store(word(lifetime), Ordering::Relaxed);
        header.own_lifetimes.store(own_lifetimes.into(), Ordering::Relaxed);
        header.plain.swap(plain.into(), Ordering::Relaxed) != 0
    }

    /// Sets the lead; `None`: the default.
    pub(crate) fn set_lead(&self, lead: Option<Duration>) {
        self.ring.header().lead.store(lead.map_or(0, nanos), Ordering::Relaxed);
    }

    /// Nobody lives whose contexts told their timeouts.
    pub(crate) fn forget_seen_lifetime(&self) {
        self.ring.header().seen_lifetime.store(0, Ordering::Relaxed);
    }

    /// Sets how many keys may be in the ring; those that are there stay.
    pub(crate) fn set_capacity(&self, capacity: Capacity) {
        self.ring.header().capacity.store(capacity.0, Ordering::Relaxed);
    }

    /// Sets when the next writer has something to do.
    pub fn set_deadline(&self, deadline: Time) {
        put64(&self.ring.header().deadline, deadline.0, Ordering::Relaxed);
    }

    /// Sets until when an agent governs the ring.
    pub fn set_lease(&self, until: Time) {
        put64(&self.ring.header().governed_until, until.0, Ordering::Relaxed);
    }

    /// Erases every key. Nobody governs the ring any more. What was revoked stays so.
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
    pub fn defect(&self) -> Option<Defect> {
        let slots = self.ring.memory.slots();
        if slots.iter().any(Slot::is_being_written) {
            return Some(Defect::OddSlot);
        }
        if slots.iter().any(|slot| !slot.is_empty() && !slot.is_plausible()) {
            return Some(Defect::Slot);
        }
        let used = slots.iter().filter(|slot| !slot.is_empty()).count();
        let mut linked = 0;
        for (bucket, head) in self.ring.memory.buckets().iter().enumerate() {
            let mut link = head.load(Ordering::Relaxed).into();
            while link != 0 {
                let Some(slot) = self.ring.memory.slot(link) else {
                    return Some(Defect::ChainLeadsOut);
                };
                linked += 1;
                if linked > used
                    || slot.is_empty()
                    || self.ring.memory.bucket(&slot.name()) != bucket
                {
                    return Some(Defect::Chain);
                }
                link = slot.next.load(Ordering::Relaxed);
            }
        }
        let line = self.ring.header().line.load(Ordering::Relaxed);
        let mut line = unpack(line);
        if line.any(|link| self.ring.memory.slot(link).is_none_or(Slot::is_empty)) {
            return Some(Defect::Line);
        }
        if linked != used {
            return Some(Defect::Unlinked);
        }
        let graves = Graves(&self.ring.memory);
        graves.are_being_written().then_some(Defect::Grave)
    }

    /// Takes the keys of an older ring that are not here yet, and erases those of its node that
    /// it has no longer, because they were revoked. They keep node and times, and encrypt
    /// nothing here. Not after a revocation here: what that ended must not come back. True if
    /// it looked: then the stack is the caller's to wipe.
    pub(crate) fn inherit(&self, now: Time) -> bool {
        let older = self.ring.older.as_ref().filter(|older| older.has_changed());
        let Some(older) = older else { return false };
        let state = older.state();
        let node = older.node();
        let is_severed = self.ring.header().severed.load(Ordering::Relaxed) != 0;
        if !is_severed && node != self.ring.header().node.load(Ordering::Relaxed) {
            let there: Vec<KeyName> = older.slots().iter().map(Slot::name).collect();
            for entry in self.entries() {
                if entry.node == node && !there.contains(&entry.name) {
                    self.erase(entry.index);
                }
            }
            let is_new = |slot: &&Slot| self.ring.locate(&slot.name()).is_none();
            for slot in older.slots().iter().filter(is_new) {
                self.inherit_one(slot, now);
            }
        }
        older.note_seen(state);
        true
    }

    /// Not inlined, so that the copy of a key is in a frame below the one whose stack is wiped.
    #[inline(never)]
    fn inherit_one(&self, slot: &Slot, now: Time) {
        let mut key = Key::blank();
        let lives = |key: &Key| key.times.state(now) != KeyState::Expired;
        if slot.read(&mut key) && key.times.are_ordered() && lives(&key) {
            // What is here already, or finds no memory, is not taken.
            let _ = self.publish(&key);
        }
    }

    /// Wipes what a dead writer left unfinished: the slots in no chain. Those
    /// in a chain are complete. A key that was buried was about to be erased.
    fn repair(&self) {
        let mut linked = vec![false; self.ring.memory.slots().len()];
        for head in self.ring.memory.buckets() {
            let mut link = head.load(Ordering::Relaxed).into();
            while let Some(slot) = self.ring.memory.slot(link) {
                if std::mem::replace(&mut linked[link as usize - 1], true) {
                    break;
                }
                link = slot.next.load(Ordering::Relaxed);
            }
        }
        for (slot, linked) in self.ring.memory.slots().iter().zip(linked) {
            if !linked && (!slot.is_empty() || slot.is_being_written()) {
                seqlock::wipe(slot);
            }
        }
        let graves = Graves(&self.ring.memory);
        graves.repair();
        for entry in self.entries() {
            if graves.of(&entry.name).is_some() {
                self.erase(entry.index);
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
        self.ring.memory.slots().iter().fold(false, |seen, slot| {
            seen | is_same(&slot.name, &key.name.0)
                | is_same(&slot.aes, key.secrets.aes.expose())
                | is_same(&slot.hmac, key.secrets.hmac.expose())
        })
    }

    /// Takes a slot out of its chain with one store.
    fn unlink(&self, index: usize) {
        let slots = self.ring.memory.slots();
        let (link, after) = (link_to(index), slots[index].next.load(Ordering::Relaxed));
        let head = &self.ring.memory.buckets()[self.ring.memory.bucket(&slots[index].name())];
        // Release: what `after` leads to was published by another writer; pass that on
        // to readers of this link.
        if head.load(Ordering::Relaxed) == link {
            return put16(head, after as u16, Ordering::Release);
        }
        let mut before = self.ring.memory.slot(head.load(Ordering::Relaxed).into());
        for _ in 0..slots.len() {
            let Some(slot) = before else { return };
            let next = slot.next.load(Ordering::Relaxed);
            if next == u32::from(link) {
                return put32(&slot.next, after, Ordering::Release);
            }
            before = self.ring.memory.slot(next);
        }
    }
}

fn raise(word: &AtomicU64, value: u64) {
    if word.load(Ordering::Relaxed) < value {
        put64(word, value, Ordering::Relaxed);
    }
}

fn link_to(index: usize) -> u16 {
    index as u16 + 1
}
