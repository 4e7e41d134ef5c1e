//! A ring without memory, slots and locks: which keys a host has, and when they live.
//!
//! Keys are known by their number in the whole simulation, which their names begin with.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes};
use tktrot::secret::KeyName;

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

/// Numbers are their own hashes, but for a stir.
#[derive(Default)]
pub struct Stir(u64);

impl Hasher for Stir {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Something for each of some keys.
pub type Numbered<T> = HashMap<Number, T, BuildHasherDefault<Stir>>;

/// Who reads looks at the times, so that keys need not be erased at their very moments; in a fleet
/// of a thousand that would be most of the work.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// One host's ring.
pub struct Ring {
    capacity: usize,
    keys: Numbered<KeyTimes>,
    own: Vec<Number>,
    /// No key ends before.
    sweep_at: Time,
}

impl Ring {
    /// An empty one.
    pub fn new(capacity: usize) -> Self {
        Ring { capacity, keys: Numbered::default(), own: Vec::new(), sweep_at: Time::NEVER }
    }

    /// Puts a key in; false if there is no room. A key that is there stays as it is.
    pub fn insert(&mut self, key: Number, times: KeyTimes, own: bool, now: Time) -> bool {
        if self.keys.contains_key(&key) {
            return true;
        }
        if self.keys.len() >= self.capacity || now > self.sweep_at + SWEEP_EVERY {
            self.sweep(now);
        }
        if self.keys.len() >= self.capacity {
            return false;
        }
        self.keys.insert(key, times);
        if own {
            self.own.push(key);
        }
        self.sweep_at = self.sweep_at.min(times.decrypt_until);
        true
    }

    /// Erases what has ended, as the library does with or without an agent.
    pub fn sweep(&mut self, now: Time) {
        self.keys.retain(|_, times| times.decrypt_until > now);
        self.own.retain(|key| self.keys.contains_key(key));
        self.sweep_at =
            self.keys.values().map(|times| times.decrypt_until).min().unwrap_or(Time::NEVER);
    }

    /// Whether a ticket of this key opens.
    pub fn opens(&self, key: Number, now: Time) -> bool {
        self.keys.get(&key).is_some_and(|times| now < times.decrypt_until)
    }

    /// The times of a key.
    pub fn get(&self, key: Number) -> Option<&KeyTimes> {
        self.keys.get(&key)
    }

    /// All keys.
    pub fn all(&self) -> impl Iterator<Item = (Number, &KeyTimes)> {
        self.keys.iter().map(|(key, times)| (*key, times))
    }

    /// The host's own keys that encrypt now, the one that really does first: the oldest.
    pub fn active(&self, now: Time) -> Vec<Number> {
        let times = |key: &Number| self.keys[key];
        let mut active: Vec<Number> = self
            .own
            .iter()
            .copied()
            .filter(|key| times(key).state(now) == KeyState::Active)
            .collect();
        active.sort_by_key(|key| (times(key).encrypt_from, *key));
        active
    }

    /// The host's own keys.
    pub fn own(&self) -> Vec<(Number, KeyTimes)> {
        self.own.iter().map(|key| (*key, self.keys[key])).collect()
    }

    /// A key's times are these now, where they are earlier.
    pub fn shorten(&mut self, key: Number, limit: &KeyTimes) {
        if let Some(times) = self.keys.get_mut(&key) {
            *times = times.shortened(limit);
        }
    }

    /// A key is gone; tells its times.
    pub fn erase(&mut self, key: Number) -> Option<KeyTimes> {
        self.own.retain(|own| *own != key);
        self.keys.remove(&key)
    }
}
