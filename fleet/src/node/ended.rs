//! Names of keys that have ended or were revoked, and must not come back.

use std::collections::HashMap;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::secret::KeyName;

use crate::message::{Grave, Tombstone};

/// How long a key that ended by itself is remembered. A peer whose clock is honest has nothing
/// left of it; this is for one that lies.
const MEMORY: Duration = Duration::from_secs(600);

/// Two times that a key's last copy ends, out of two mouths, are the same if they differ by less.
const SAME: Duration = Duration::from_secs(1);

/// The names, each until the key would have ended anyway.
pub struct Ended {
    names: HashMap<KeyName, Ending>,
    most: usize,
    /// The next one is forgotten then.
    sweep_at: Time,
}

struct Ending {
    until: Time,
    revoked: bool,
}

impl Ending {
    /// One that was revoked is not told of when no honest copy can live any more, and remembered for as
    /// long as one that ended by itself.
    fn forget_at(&self) -> Time {
        if self.revoked { self.until + MEMORY } else { self.until }
    }
}

impl Ended {
    /// Remembers so many names at most.
    pub fn new(most: usize) -> Self {
        Ended { names: HashMap::new(), most, sweep_at: Time::NEVER }
    }

    /// A key was revoked, of which a copy may live until then. False if that is no news.
    pub fn revoke(&mut self, name: KeyName, until: Time) -> bool {
        let known = self.names.get(&name).filter(|ending| ending.revoked);
        // Who tells of it again has a clock that is not the same to the millisecond.
        known.is_none_or(|known| known.until + SAME < until) && self.bury(name, until, true)
    }

    /// A key is gone on this host, before its end: it does not come back here.
    pub fn lose(&mut self, name: KeyName, until: Time) {
        self.bury(name, until, false);
    }

    /// A key ended in its time.
    pub fn expire(&mut self, name: KeyName, now: Time) {
        if !self.names.contains_key(&name) {
            self.bury(name, now + MEMORY, false);
        }
    }

    /// True if the key must not come back.
    pub fn has(&self, name: &KeyName) -> bool {
        self.names.contains_key(name)
    }

    /// The grave of a key that somebody revoked.
    pub fn grave(&self, name: &KeyName) -> Option<Grave> {
        let revoked = self.names.get(name).filter(|ending| ending.revoked);
        revoked.map(|ending| Grave { name: *name, until: ending.until })
    }

    /// The revoked ones, for a peer; those first that would live longest.
    pub fn tombstones(&self, now: Time) -> Vec<Tombstone> {
        let revoked = self.names.iter().filter(|(_, ending)| ending.revoked && ending.until > now);
        let mut tombstones: Vec<_> = revoked
            .map(|(name, ending)| Tombstone { name: *name, left: now.until(ending.until) })
            .collect();
        tombstones.sort_by_key(|tombstone| (std::cmp::Reverse(tombstone.left), tombstone.name.0));
        tombstones
    }

    /// Forgets those whose time has come.
    pub fn sweep(&mut self, now: Time) {
        if now >= self.sweep_at {
            self.names.retain(|_, ending| ending.forget_at() > now);
            let next = self.names.values().map(Ending::forget_at).min();
            // Not one by one: many end at about the same time.
            self.sweep_at = next.map_or(Time::NEVER, |next| next + MEMORY);
        }
    }

    fn bury(&mut self, name: KeyName, until: Time, revoked: bool) -> bool {
        if self.names.len() >= self.most && !self.names.contains_key(&name) {
            // Full: what ended by itself gives way to what was revoked, and nothing else does.
            let Some(other) = self
                .names
                .iter()
                .find(|(_, ending)| revoked && !ending.revoked)
                .map(|(name, _)| *name)
            else {
                return false;
            };
            self.names.remove(&other);
        }
        let ending = self.names.entry(name).or_insert(Ending { until, revoked });
        ending.until = ending.until.max(until);
        ending.revoked |= revoked;
        self.sweep_at = self.sweep_at.min(ending.forget_at());
        true
    }
}
