//! Lookup without a lock: by name for the tickets that come in, by time for
//! the key that encrypts.
//!
//! Why a key that is in the ring is always found: each slot is read as a seqlock
//! ([`super::seqlock`]), chains are linked with one store at their head and unlinked
//! with one store at the predecessor, so at every moment each linked key can be
//! reached from the head. A reader that stands on a slot which leaves the chain sees
//! its `seq` or its bucket change and starts again; one that stands on a slot put back
//! into the *same* chain stands at the head. Either way what lies behind is complete.
//!
//! Keys are read into a [`Key`] of the caller's and never moved: a move leaves
//! a copy behind that nobody wipes.

use super::key::Key;
use super::layout::{LINE, MAX_CAPACITY, Slot};
use super::map::Memory;
use super::seqlock::{Identity, Located};
use crate::atomics::{Ordering, spin_loop};
use crate::clock::Time;
use crate::schedule::KeyState;
use crate::secret::KeyName;

/// How often a reader starts again before it gives up: a writer changes a
/// chain a few times per rotation, so reaching this takes a broken ring.
const RESTARTS: usize = if cfg!(loom) { 6 } else { 1000 };

/// See [`super::Ring::locate`].
pub(super) fn locate<'m>(memory: &'m Memory, name: &KeyName) -> Option<Located<'m>> {
    if name.is_constant() {
        return None;
    }
    for _ in 0..RESTARTS {
        match walk(memory, name) {
            Some(None) => return None,
            Some(Some(slot)) => {
                if let Some(located) = slot.locate()
                    && located.name == *name
                {
                    return Some(located);
                }
            }
            None => {}
        }
        spin_loop();
    }
    None
}

/// See [`super::Ring::locate_encrypting`].
#[inline(always)]
pub(super) fn locate_encrypting(memory: &Memory, now: Time) -> Option<Located<'_>> {
    let header = memory.header();
    for _ in 0..RESTARTS {
        // Acquire pairs with the Release in `Writer::set_line`: the slots
        // that the line names are written.
        let line = header.line.load(Ordering::Acquire);
        let node = header.node.load(Ordering::Relaxed);
        let mut slots = unpack(line).filter_map(|link| memory.slot(link));
        let active = slots.find(|slot| slot.times().state(now) == KeyState::Active);
        if let Some(located) = active.and_then(Slot::locate)
            && located.node == node
            && located.times.state(now) == KeyState::Active
        {
            return Some(located);
        }
        if header.line.load(Ordering::Acquire) == line {
            return None;
        }
        spin_loop();
    }
    None
}

/// See [`super::Ring::end_of`].
pub(super) fn end_of(memory: &Memory, identity: Identity) -> Option<Time> {
    let slot = memory.slots().get(identity.slot)?;
    let end = Time(slot.decrypt_until.load(Ordering::Relaxed));
    slot.is_still(identity.seq()).then_some(end)
}

/// Reads the key that `locate` finds; false if that finds none.
pub(super) fn read<'m>(locate: impl Fn() -> Option<Located<'m>>, key: &mut Key) -> bool {
    for _ in 0..RESTARTS {
        match locate() {
            None => return false,
            Some(located) if located.read(key) => return true,
            // It was touched since.
            Some(_) => spin_loop(),
        }
    }
    false
}

/// Follows the chain of `name` once, to the slot that has it or to the end. `None`: the
/// chain changed underneath.
fn walk<'m>(memory: &'m Memory, name: &KeyName) -> Option<Option<&'m Slot>> {
    let bucket = memory.bucket(name);
    // Acquire pairs with the Release stores of links: the slot behind a
    // link is written before the link.
    let mut link = memory.buckets()[bucket].load(Ordering::Acquire).into();
    for _ in 0..=MAX_CAPACITY {
        let Some(slot) = memory.slot(link) else { return Some(None) };
        let seq = slot.begin_read();
        let slot_name = slot.name();
        if slot_name == *name {
            return Some(Some(slot));
        }
        let next = slot.next.load(Ordering::Acquire);
        let stable = seq.is_multiple_of(2) && slot.is_still(seq);
        if !stable || slot_name.is_constant() || memory.bucket(&slot_name) != bucket {
            return None;
        }
        link = next;
    }
    None
}

/// The links (slot + 1) of a line word, oldest key first.
pub(super) fn unpack(line: u64) -> impl Iterator<Item = u32> {
    (0..LINE)
        .map(move |place| (line >> (16 * place)) as u16)
        .map(u32::from)
        .filter(|link| *link > 0)
}
