//! What was revoked, or is gone on this host, and must not come back.

use std::collections::{HashMap, HashSet};

use tktrot::clock::Time;
use tktrot::secret::KeyName;

use super::clock::SLACK;
use super::clock::{ClockReading, RedisTime};
use super::stored::{Grave, Revoked};

/// What was revoked in the fleet, and what is gone on this host.
#[derive(Default)]
pub struct Graves {
    all: HashMap<Revoked, Until>,
    /// Those that Redis had at the last look.
    told: HashSet<Revoked>,
    /// Revoked on this host alone, or over.
    here: HashMap<KeyName, Time>,
}

struct Until {
    here: Time,
    /// As it is told, once it was.
    redis: Option<RedisTime>,
}

impl Until {
    fn in_redis(&self, reading: &ClockReading, now: Time) -> RedisTime {
        self.redis.unwrap_or_else(|| reading.latest(now).after(now.until(self.here)))
    }
}

impl Graves {
    /// Somebody on this host revokes for the whole fleet.
    pub fn dig(&mut self, what: Revoked, until: Time) {
        self.all.entry(what).or_insert(Until { here: until, redis: None });
    }

    /// Redis has it, which is `until` then on this host. True if that is news. Where Redis would
    /// forget it before this host does, it has not been told yet.
    pub fn learn(&mut self, grave: &Grave, until: Time, reading: &ClockReading, now: Time) -> bool {
        let ours = self.all.get(&grave.what).map(|ours| ours.in_redis(reading, now));
        if ours.is_some_and(|ours| grave.ends.after(SLACK) < ours) {
            return false;
        }
        self.told.insert(grave.what);
        let redis = Some(grave.ends);
        self.all.insert(grave.what, Until { here: until, redis }).is_none()
    }

    /// A key is gone on this host, and is not taken again.
    pub fn lose(&mut self, name: KeyName, until: Time) {
        self.here.insert(name, until);
    }

    /// True if this key must not come back.
    pub fn has(&self, name: &KeyName) -> bool {
        self.all.contains_key(&Revoked::Key(*name)) || self.here.contains_key(name)
    }

    /// Nothing is known any more about what Redis has.
    pub fn forget_told(&mut self) {
        self.told.clear();
    }

    /// What Redis does not have.
    pub fn untold(&mut self, reading: &ClockReading, now: Time) -> Vec<Grave> {
        let untold = self.all.iter_mut().filter(|(what, _)| !self.told.contains(what));
        untold
            .map(|(what, until)| {
                let ends = until.in_redis(reading, now);
                until.redis = Some(ends);
                Grave { what: *what, ends }
            })
            .collect()
    }

    /// Forgets those whose time has come.
    pub fn sweep(&mut self, now: Time) {
        self.all.retain(|_, until| until.here > now);
        self.here.retain(|_, until| *until > now);
    }
}
