//! Look-up without a lock: by name for the tickets that come in, by time for
//! the key that encrypts.
//!
//! Each slot is a seqlock. A reader takes `seq` (Acquire), reads the words,
//! fences (Acquire) and takes `seq` again: the same even value twice means
//! that no writer touched the slot in between. It pairs with the writer's
//! Release fence after the odd and its Release store of the even value.
//!
//! Why a key that is in the ring is always found: chains are linked with one
//! store at their head and unlinked with one store at the predecessor, so at
//! every moment each linked key can be reached from the head. A reader that
//! stands on a slot which leaves the chain sees its `seq` or its bucket change
//! and starts again; one that stands on a slot put back into the *same* chain
//! stands at the head. Either way what lies behind is complete.
//!
//! Keys are read into a [`Key`] of the caller's and never moved: a move leaves
//! a copy behind that nobody wipes.

use super::Ring;
use super::layout::{AES_128, IMPORTED, LINE, MAX_CAPACITY, PLAIN, Slot};
use crate::atomics::{AtomicU64, Ordering, fence, spin_loop};
use crate::clock::Time;
use crate::schedule::{KeyState, KeyTimes};
use crate::secret::{KeyName, KeySecrets, Secret};

/// How often a reader starts again before it gives up: a writer changes a
/// chain a few times per rotation, so reaching this takes a broken ring.
const RESTARTS: usize = if cfg!(loom) { 6 } else { 1000 };

/// A copy of one key, wiped when dropped. Make it where it is used, and pass
/// it by reference.
pub struct Key {
    /// Its public name.
    pub name: KeyName,
    /// Its secrets.
    pub secrets: KeySecrets,
    /// When it lives.
    pub times: KeyTimes,
    /// The node that made it.
    pub node: u64,
    /// True if servers that do not run libtktrot may have it, too.
    pub plain: bool,
    /// True if its secrets are 16 bytes and then zeroes: AES-128-CBC, and HMAC with a key that is
    /// the same without those zeroes (RFC 2104 §2 pads with them). Such a key only decrypts.
    pub aes_128: bool,
}

impl Key {
    /// A key of nothing, to read one into.
    pub const fn blank() -> Self {
        let never = Time(0);
        Key {
            name: KeyName([0; 16]),
            secrets: KeySecrets::zeroed(),
            times: KeyTimes { encrypt_from: never, encrypt_until: never, decrypt_until: never },
            node: 0,
            plain: false,
            aes_128: false,
        }
    }

    /// True if its secrets are none that a sound generator made.
    pub fn is_weak(&self) -> bool {
        if self.aes_128 { self.secrets.are_weak_halves() } else { self.secrets.is_weak() }
    }
}

/// A key where it lies in a ring, and all of it but its secrets, as it was at
/// one moment.
pub struct Located<'r> {
    slot: &'r Slot,
    seq: u64,
    /// Its public name.
    pub name: KeyName,
    /// When it lives.
    pub times: KeyTimes,
    /// The node that made it.
    pub node: u64,
    /// See [`Key::plain`].
    pub plain: bool,
    /// See [`Key::aes_128`].
    pub aes_128: bool,
}

/// Which contents of which slot: no two keys of a ring ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The slot's place in the ring.
    pub slot: usize,
    seq: u64,
}

impl Located<'_> {
    /// True if it came out of a file: nothing bound its tickets when they were
    /// issued, so every context opens them, whatever it binds its own to.
    #[inline]
    pub fn imported(&self) -> bool {
        self.node == IMPORTED && self.plain
    }

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
        fence(Ordering::Acquire);
        self.slot.seq.load(Ordering::Relaxed) == self.seq
    }

    /// Tells it from every other key that this ring ever has.
    pub fn identity(&self, ring: &Ring) -> Identity {
        let offset = std::ptr::from_ref(self.slot).addr() - ring.slots().as_ptr().addr();
        Identity { slot: offset / size_of::<Slot>(), seq: self.seq }
    }

    /// Reads all of it; false if it is no longer there.
    fn read(&self, key: &mut Key) -> bool {
        (key.name, key.times, key.node) = (self.name, self.times, self.node);
        (key.plain, key.aes_128) = (self.plain, self.aes_128);
        self.read_aes(&mut key.secrets.aes) && self.read_hmac(&mut key.secrets.hmac)
    }
}

impl Ring {
    /// Finds the key of that name, whatever its state, and touches no secret;
    /// `None` if the ring has none. A name of equal bytes (zeroes above all)
    /// never matches.
    pub fn locate(&self, name: &KeyName) -> Option<Located<'_>> {
        if name.is_constant() {
            return None;
        }
        let walk = |_| {
            let walked = self.walk(name);
            if walked.is_none() {
                spin_loop();
            }
            walked
        };
        (0..RESTARTS).find_map(walk).flatten()
    }

    /// Until when the key decrypts that was once found there; `None` if it is
    /// no longer in the ring.
    pub fn end_of(&self, identity: Identity) -> Option<Time> {
        let slot = self.slots().get(identity.slot)?;
        let end = Time(slot.decrypt_until.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        (slot.seq.load(Ordering::Relaxed) == identity.seq).then_some(end)
    }

    /// Reads the key of that name, whatever its state; false if the ring has
    /// none, and then what is in `key` is none. A name of equal bytes (zeroes
    /// above all) never matches.
    pub fn find(&self, name: &KeyName, key: &mut Key) -> bool {
        for _ in 0..RESTARTS {
            match self.locate(name) {
                None => return false,
                Some(located) if located.read(key) => return true,
                // It was touched since.
                Some(_) => spin_loop(),
            }
        }
        false
    }

    /// Reads the node's key that encrypts at `now`; false if there is none,
    /// and then what is in `key` is none.
    pub fn encrypting(&self, now: Time, key: &mut Key) -> bool {
        for _ in 0..RESTARTS {
            match self.locate_encrypting(now) {
                None => return false,
                Some(located) if located.read(key) => return true,
                Some(_) => spin_loop(),
            }
        }
        false
    }

    /// Finds the node's key that encrypts at `now`, and touches no secret.
    pub fn locate_encrypting(&self, now: Time) -> Option<Located<'_>> {
        let header = self.header();
        for _ in 0..RESTARTS {
            // Acquire pairs with the Release in `Writer::set_line`: the slots
            // that the line names are written.
            let line = header.line.load(Ordering::Acquire);
            let node = header.node.load(Ordering::Relaxed);
            let mut slots = unpack(line).filter_map(|link| self.slot(link));
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

    /// Follows the chain of `name` once, to its key or to the end. `None`: the
    /// chain changed underneath.
    fn walk(&self, name: &KeyName) -> Option<Option<Located<'_>>> {
        let bucket = self.bucket(name);
        // Acquire pairs with the Release stores of links: the slot behind a
        // link is written before the link.
        let mut link = self.buckets()[bucket].load(Ordering::Acquire).into();
        for _ in 0..=MAX_CAPACITY {
            let Some(slot) = self.slot(link) else { return Some(None) };
            let seq = slot.seq.load(Ordering::Acquire);
            let slot_name = slot.name();
            if slot_name == *name {
                return slot.locate().filter(|located| located.name == *name).map(Some);
            }
            let next = slot.next.load(Ordering::Acquire);
            fence(Ordering::Acquire);
            let stable = seq.is_multiple_of(2) && slot.seq.load(Ordering::Relaxed) == seq;
            if !stable || slot_name.is_constant() || self.bucket(&slot_name) != bucket {
                return None;
            }
            link = next;
        }
        None
    }
}

impl Slot {
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

    /// The slot's key; `None` if it has none, or a writer touched it meanwhile.
    fn locate(&self) -> Option<Located<'_>> {
        let seq = self.seq.load(Ordering::Acquire);
        let flags = self.flags.load(Ordering::Relaxed);
        let located = Located {
            slot: self,
            seq,
            name: self.name(),
            times: self.times(),
            node: self.node.load(Ordering::Relaxed),
            plain: flags & PLAIN != 0,
            aes_128: flags & AES_128 != 0,
        };
        let stable = seq.is_multiple_of(2) && located.is_there();
        (stable && !located.name.is_constant()).then_some(located)
    }

    /// Reads the slot's key; false if it has none, or a writer touched it meanwhile.
    pub(super) fn read(&self, key: &mut Key) -> bool {
        self.locate().is_some_and(|located| located.read(key))
    }
}

/// The links (slot + 1) of a line word, oldest key first.
pub(super) fn unpack(line: u64) -> impl Iterator<Item = u32> {
    (0..LINE)
        .map(move |place| (line >> (16 * place)) as u16)
        .map(u32::from)
        .filter(|link| *link > 0)
}

fn copy_words(words: &[AtomicU64], bytes: &mut [u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
}
