//! The keys of other nodes that are in the ring, and how many of them there may be.
//!
//! Every node that is expected has room for its keys kept free ([`super::limits`]). What is left is for
//! those that have more, and for keys of nodes that are gone, or that nobody has heard of. Nothing is
//! ever thrown out for something new.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

use super::limits::Room;
use crate::message::{Facts, NodeId, Refusal};

/// Who told this node of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// The node that made it.
    Maker,
    /// Another one, or it was in the ring before.
    Other,
}

/// [`Facts`] but for the name, by which it is found.
struct Entry {
    origin: NodeId,
    times: KeyTimes,
    plain: bool,
    told_by: ToldBy,
    /// The end of a copy that nobody cut short, as settings of other hosts may leave it.
    copies_end: Time,
}

impl Entry {
    fn facts(&self, name: KeyName) -> Facts {
        Facts { name, origin: self.origin, times: self.times, plain: self.plain }
    }
}

/// The keys of other nodes.
#[derive(Default)]
pub struct Held {
    keys: HashMap<KeyName, Entry>,
    ends: BinaryHeap<Reverse<(Time, [u8; 16])>>,
    by_maker: HashMap<NodeId, usize>,
    from_others: usize,
    /// What each node has for sure.
    share: usize,
    /// How many keys are in the shares of their makers.
    in_shares: usize,
}

impl Held {
    /// No keys, in a ring in which each node has this share.
    pub fn new(share: usize) -> Self {
        Held { share, ..Held::default() }
    }

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

    /// All keys of other nodes.
    pub fn all(&self) -> impl Iterator<Item = Facts> {
        self.keys.iter().map(|(name, key)| key.facts(*name))
    }

    /// Whether one more key of this node fits.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn check(&self, origin: NodeId, told_by: ToldBy, room: &Room) -> Result<(), Refusal> {
        let in_shares = self.in_shares.min(room.shares);
        let free = room.common.saturating_sub(self.len() - in_shares);
        let has = self.of_node(origin);
        let fits = match told_by {
            // More nodes than were expected have no share.
            ToldBy::Maker if has < self.share && self.in_shares < room.shares => true,
            ToldBy::Maker => has.saturating_sub(self.share) < free,
            ToldBy::Other => self.from_others < free,
        };
        match fits {
            true => Ok(()),
            false if free == 0 => Err(Refusal::Full),
            false => Err(Refusal::TooMany),
        }
    }

    /// A key that the ring has, or is being given.
    pub fn insert(&mut self, facts: Facts, told_by: ToldBy, copies_end: Time) {
        let Facts { name, origin, times, plain } = facts;
        self.ends.push(Reverse((times.decrypt_until, name.0)));
        self.count(origin, told_by, 1);
        if let Some(before) =
            self.keys.insert(name, Entry { origin, times, plain, told_by, copies_end })
        {
            self.count(before.origin, before.told_by, -1);
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
        if std::mem::replace(&mut key.told_by, ToldBy::Maker) == ToldBy::Other {
            let origin = key.origin;
            self.count(origin, ToldBy::Other, -1);
            self.count(origin, ToldBy::Maker, 1);
        }
    }

    /// Takes out a key; tells what it was, who told of it, and when its last copy ends.
    pub fn remove(&mut self, name: &KeyName) -> Option<(Facts, ToldBy, Time)> {
        let key = self.keys.remove(name)?;
        self.count(key.origin, key.told_by, -1);
        let copies_end = key.copies_end.max(key.times.decrypt_until);
        Some((key.facts(*name), key.told_by, copies_end))
    }

    /// Who told of a key.
    pub fn told_by(&self, name: &KeyName) -> Option<ToldBy> {
        self.keys.get(name).map(|key| key.told_by)
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
            let ended = |key: &Entry| key.times.decrypt_until <= now;
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

    fn count(&mut self, origin: NodeId, told_by: ToldBy, by: isize) {
        match told_by {
            ToldBy::Other => self.from_others = self.from_others.saturating_add_signed(by),
            ToldBy::Maker => {
                let count = self.by_maker.entry(origin).or_default();
                self.in_shares -= (*count).min(self.share);
                *count = count.saturating_add_signed(by);
                self.in_shares += (*count).min(self.share);
                if *count == 0 {
                    self.by_maker.remove(&origin);
                }
            }
        }
    }
}
