//! Rings without memory, slots and locks: which keys each host has, and when they live.
//!
//! Keys are known by their number in the whole simulation, which their names begin with.

use std::collections::BTreeMap;

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes};
use tktrot::secret::KeyName;
use tktrot_fleet::message::Grave;

/// The number of a key.
pub type Number = u32;

/// The name of a key with that number.
pub fn name(number: Number) -> KeyName {
    let mut bytes = [0x5a; 16];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    // The rest looks random, as the core may hash any part of it.
    let mixed = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[4..12].copy_from_slice(&mixed.to_le_bytes());
    KeyName(bytes)
}

/// The number of the key with that name.
pub fn number(name: &KeyName) -> Number {
    Number::from_le_bytes([name.0[0], name.0[1], name.0[2], name.0[3]])
}

/// A key that a host does not have.
const NONE: KeyTimes =
    KeyTimes { encrypt_from: Time(0), encrypt_until: Time(0), decrypt_until: Time(0) };

/// One key in the rings of the hosts that did not make it, by host: nearly all looks are at what
/// all hosts have of one key.
struct Copies {
    times: Box<[KeyTimes]>,
    count: usize,
}

/// The rings of all hosts.
pub struct Rings {
    capacity: usize,
    own: Vec<Vec<(Number, KeyTimes)>>,
    /// How many keys of others a host has.
    held: Vec<usize>,
    copies: Vec<Option<Copies>>,
    /// By host, what was revoked: it outlives the agents.
    graves: Vec<BTreeMap<Number, Time>>,
}

impl Rings {
    /// Empty ones.
    pub fn new(hosts: usize, capacity: usize) -> Self {
        let (own, held) = (vec![Vec::new(); hosts], vec![0; hosts]);
        Rings { capacity, own, held, copies: Vec::new(), graves: vec![BTreeMap::new(); hosts] }
    }

    /// Puts a key into a ring; false if there is no room. A key that is there stays as it is.
    pub fn insert(
        &mut self,
        host: usize,
        key: Number,
        times: KeyTimes,
        own: bool,
        now: Time,
    ) -> bool {
        if self.get(host, key).is_some() {
            return true;
        }
        if self.len(host) >= self.capacity {
            self.sweep(host, now);
        }
        if self.len(host) >= self.capacity {
            return false;
        }
        if own {
            self.own[host].push((key, times));
            return true;
        }
        let place = key as usize;
        if self.copies.len() <= place {
            self.copies.resize_with(place + 1, || None);
        }
        let hosts = self.own.len();
        let copies = self.copies[place]
            .get_or_insert_with(|| Copies { times: vec![NONE; hosts].into(), count: 0 });
        copies.times[host] = times;
        copies.count += 1;
        self.held[host] += 1;
        true
    }

    /// Erases what has ended, as the library does with or without an agent.
    pub fn sweep(&mut self, host: usize, now: Time) {
        let ended: Vec<_> = self
            .all(host)
            .filter(|(_, times)| times.decrypt_until <= now)
            .map(|(key, _)| key)
            .collect();
        for key in ended {
            self.erase(host, key);
        }
    }

    /// A ring is gone, with all that is in it.
    pub fn clear(&mut self, host: usize) {
        self.sweep(host, Time::NEVER);
        self.graves[host].clear();
    }

    /// A key was revoked. Unlike a true ring, this one takes such a key if it is asked to: the
    /// nodes have to know.
    pub fn bury(&mut self, host: usize, key: Number, until: Time) {
        let grave = self.graves[host].entry(key).or_insert(until);
        *grave = until.max(*grave);
    }

    /// What was revoked in a ring, as far as a copy may live.
    pub fn graves(&mut self, host: usize, now: Time) -> Vec<Grave> {
        self.graves[host].retain(|_, until| *until > now);
        let graves = self.graves[host].iter();
        graves.map(|(key, until)| Grave { name: name(*key), until: *until }).collect()
    }

    /// Whether a ticket of this key opens.
    pub fn opens(&self, host: usize, key: Number, now: Time) -> bool {
        self.get(host, key).is_some_and(|times| now < times.decrypt_until)
    }

    /// The times of a key.
    pub fn get(&self, host: usize, key: Number) -> Option<&KeyTimes> {
        let copy = self.copies(key).get(host).filter(|times| **times != NONE);
        let own = || self.own[host].iter().find(|(own, _)| *own == key).map(|(_, times)| times);
        copy.or_else(own)
    }

    /// The times of a key in the rings of those that did not make it, by host: zero where it is not,
    /// and nothing at all if it is nowhere.
    pub fn copies(&self, key: Number) -> &[KeyTimes] {
        let copies = self.copies.get(key as usize).and_then(Option::as_ref);
        copies.map_or(&[], |copies| &copies.times)
    }

    /// The keys that some host has and has not made.
    pub fn copied(&self) -> impl Iterator<Item = Number> {
        let numbers = self.copies.iter().enumerate();
        numbers.filter(|(_, copies)| copies.is_some()).map(|(key, _)| key as Number)
    }

    fn len(&self, host: usize) -> usize {
        self.own[host].len() + self.held[host]
    }

    /// All keys of a host.
    pub fn all(&self, host: usize) -> impl Iterator<Item = (Number, &KeyTimes)> {
        let own = self.own[host].iter().map(|(key, times)| (*key, times));
        let held = self.copied().map(move |key| (key, &self.copies(key)[host]));
        own.chain(held.filter(|(_, times)| **times != NONE))
    }

    /// The host's own key that encrypts now: of several the oldest.
    pub fn active(&self, host: usize, now: Time) -> Option<Number> {
        let active = self.all_active(host, now);
        active.min_by_key(|(key, times)| (times.encrypt_from, *key)).map(|(key, _)| *key)
    }

    /// The host's own keys that encrypt now, or would.
    pub fn all_active(&self, host: usize, now: Time) -> impl Iterator<Item = &(Number, KeyTimes)> {
        self.own[host].iter().filter(move |(_, times)| times.state(now) == KeyState::Active)
    }

    /// The host's own keys.
    pub fn own(&self, host: usize) -> &[(Number, KeyTimes)] {
        &self.own[host]
    }

    /// A key's times are these now, where they are earlier.
    pub fn shorten(&mut self, host: usize, key: Number, limit: &KeyTimes) {
        let shorter = self.get(host, key).map(|times| times.shortened(limit));
        let own = self.own[host].iter_mut().find(|(own, _)| *own == key);
        match (shorter, own) {
            (Some(shorter), Some((_, times))) => *times = shorter,
            (Some(shorter), None) => {
                let copies = self.copies[key as usize].as_mut().expect("the copies of a key");
                copies.times[host] = shorter;
            }
            (None, _) => {}
        }
    }

    /// A key is gone; tells its times.
    pub fn erase(&mut self, host: usize, key: Number) -> Option<KeyTimes> {
        if let Some(place) = self.own[host].iter().position(|(own, _)| *own == key) {
            return Some(self.own[host].remove(place).1);
        }
        let place = self.copies.get_mut(key as usize)?;
        let copies = place.as_mut()?;
        let times = std::mem::replace(&mut copies.times[host], NONE);
        if times == NONE {
            return None;
        }
        copies.count -= 1;
        if copies.count == 0 {
            *place = None;
        }
        self.held[host] -= 1;
        Some(times)
    }
}
