//! The keys of other nodes that are in the ring, and how many of them there may be.
//!
//! Every node that is expected has room for its keys kept free. What is left is for keys of nodes
//! that are gone, or that nobody has heard of. Nothing is ever thrown out for something new.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

use crate::message::{Facts, NodeId, Refusal};

/// How a key came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The node that made it said so itself.
    Maker,
    /// Another one did, or it was in the ring before.
    Other,
}

/// [`Facts`] but for the name, by which it is found.
struct Key {
    origin: NodeId,
    times: KeyTimes,
    plain: bool,
    source: Source,
}

impl Key {
    fn facts(&self, name: KeyName) -> Facts {
        Facts { name, origin: self.origin, times: self.times, plain: self.plain }
    }
}

/// How many keys are taken.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of one node, out of its own mouth.
    pub of_a_node: usize,
    /// Of all others together.
    pub of_others: usize,
    /// Of everybody.
    pub of_all: usize,
}

/// The keys of other nodes.
#[derive(Default)]
pub struct Held {
    keys: HashMap<KeyName, Key>,
    ends: BinaryHeap<Reverse<(Time, [u8; 16])>>,
    by_maker: HashMap<NodeId, usize>,
    from_others: usize,
}

impl Held {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of that name.
    pub fn get(&self, name: &KeyName) -> Option<Facts> {
        self.keys.get(name).map(|key| key.facts(*name))
    }

    /// Whether it is here.
    pub fn has(&self, name: &KeyName) -> bool {
        self.keys.contains_key(name)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Facts> {
        self.keys.iter().map(|(name, key)| key.facts(*name))
    }

    /// Whether one more key of this node fits.
    pub fn check(&self, origin: NodeId, source: Source, room: &Room) -> Result<(), Refusal> {
        let full = match source {
            Source::Maker => self.of_node(origin) >= room.of_a_node,
            Source::Other => self.from_others >= room.of_others,
        };
        if full {
            return Err(Refusal::TooMany);
        }
        if self.len() >= room.of_all { Err(Refusal::Full) } else { Ok(()) }
    }

    /// One more.
    pub fn insert(&mut self, facts: Facts, source: Source) {
        let Facts { name, origin, times, plain } = facts;
        self.ends.push(Reverse((times.decrypt_until, name.0)));
        self.count(origin, source, 1);
        if let Some(before) = self.keys.insert(name, Key { origin, times, plain, source }) {
            self.count(before.origin, before.source, -1);
        }
    }

    /// The maker of this one says so itself: it no longer counts as somebody else's. It has these
    /// times now, which are no later than they were.
    pub fn confirm(&mut self, name: &KeyName, times: KeyTimes) {
        let Some(key) = self.keys.get_mut(name) else { return };
        if key.times.decrypt_until != times.decrypt_until {
            self.ends.push(Reverse((times.decrypt_until, name.0)));
        }
        key.times = times;
        if std::mem::replace(&mut key.source, Source::Maker) == Source::Other {
            let origin = key.origin;
            self.count(origin, Source::Other, -1);
            self.count(origin, Source::Maker, 1);
        }
    }

    /// One less; tells what it was, and how it came.
    pub fn remove(&mut self, name: &KeyName) -> Option<(Facts, Source)> {
        let key = self.keys.remove(name)?;
        self.count(key.origin, key.source, -1);
        Some((key.facts(*name), key.source))
    }

    /// How a key came here.
    pub fn source(&self, name: &KeyName) -> Option<Source> {
        self.keys.get(name).map(|key| key.source)
    }

    /// Takes out one that has ended.
    pub fn pop_ended(&mut self, now: Time) -> Option<KeyName> {
        while let Some(Reverse((end, name))) = self.ends.peek() {
            if *end > now {
                return None;
            }
            let name = KeyName(*name);
            self.ends.pop();
            // One that was removed before is still in the heap.
            let ended = |key: &Key| key.times.decrypt_until <= now;
            if self.keys.get(&name).is_some_and(ended) {
                self.remove(&name);
                return Some(name);
            }
        }
        None
    }

    /// When the next one ends.
    pub fn next_end(&self) -> Time {
        self.ends.peek().map_or(Time::NEVER, |Reverse((end, _))| *end)
    }

    /// How many there are of a node, out of its own mouth.
    pub fn of_node(&self, node: NodeId) -> usize {
        self.by_maker.get(&node).copied().unwrap_or(0)
    }

    fn count(&mut self, origin: NodeId, source: Source, by: isize) {
        match source {
            Source::Other => self.from_others = self.from_others.saturating_add_signed(by),
            Source::Maker => {
                let count = self.by_maker.entry(origin).or_default();
                *count = count.saturating_add_signed(by);
                if *count == 0 {
                    self.by_maker.remove(&origin);
                }
            }
        }
    }
}
