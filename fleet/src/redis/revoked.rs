//! What was revoked, or is gone on this host, and must not come back.
//!
//! A revocation of all keys begins an epoch, which only moves forward and is a part of every stored
//! key: what is of an epoch before is refused, whatever its name. Single keys are revoked by their
//! names. Both are in Redis, so that the fleet knows, and in the ring of every host, because Redis may
//! lose them, or somebody may take them away there.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tktrot::clock::{Time, nanos};
use tktrot::secret::KeyName;

use super::clock::SLACK;
use super::clock::{ClockReading, RedisTime};
use super::stored::{Grave, Revoked};

/// What was revoked in the fleet, and what is gone on this host.
#[derive(Default)]
pub struct Graves {
    all: HashMap<KeyName, Until>,
    /// Those that Redis had at the last look.
    told: HashSet<KeyName>,
    /// Names that the ring is to be told.
    news: Vec<(KeyName, Time)>,
    /// Gone on this host alone, or over.
    here: HashMap<KeyName, Time>,
    /// Every key of an epoch before was revoked.
    epoch: u64,
    /// Redis says so, too.
    epoch_is_told: bool,
}

struct Until {
    here: Time,
    /// As it is told, once it was.
    redis: Option<RedisTime>,
}

impl Until {
    fn in_redis(&self, reading: &ClockReading, now: Time) -> RedisTime {
        self.redis.unwrap_or_else(|| reading.latest_of_both(now).after(now.until(self.here)))
    }
}

impl Graves {
    /// Those of a ring whose former agents had come as far as this epoch.
    pub fn since(epoch: u64) -> Graves {
        Graves { epoch, ..Graves::default() }
    }

    /// The present epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Another epoch is known. True if it is a later one.
    pub fn advance(&mut self, epoch: u64) -> bool {
        let is_later = epoch > self.epoch;
        self.epoch = self.epoch.max(epoch);
        self.epoch_is_told &= !is_later;
        is_later
    }

    /// Somebody on this host revokes a key for the whole fleet. True if that is news. Redis is told
    /// in any case: whether it still has what it had is what is asked.
    pub fn dig(&mut self, name: KeyName, until: Time) -> bool {
        self.told.remove(&name);
        self.news.push((name, until));
        self.recall(name, until)
    }

    /// The ring remembers it. True if that is news.
    pub fn recall(&mut self, name: KeyName, until: Time) -> bool {
        let is_news = !self.all.contains_key(&name);
        self.all.entry(name).or_insert(Until { here: until, redis: None });
        is_news
    }

    /// Redis has it, to its `ends` there, which is `until` on this host. True if that is news. Where
    /// Redis would forget it before this host does, it has not been told yet.
    pub fn learn(
        &mut self,
        name: KeyName,
        ends: RedisTime,
        until: Time,
        reading: &ClockReading,
        now: Time,
    ) -> bool {
        let ours = self.all.get(&name).map(|ours| ours.in_redis(reading, now));
        if ours.is_some_and(|ours| ends.after(SLACK) < ours) {
            return false;
        }
        self.told.insert(name);
        let redis = Some(ends);
        let is_news = self.all.insert(name, Until { here: until, redis }).is_none();
        if is_news {
            self.news.push((name, until));
        }
        is_news
    }

    /// Redis has this epoch.
    pub fn learn_epoch(&mut self, epoch: u64) {
        self.epoch_is_told |= epoch >= self.epoch;
    }

    /// A key is gone on this host, and is not taken again.
    pub fn lose(&mut self, name: KeyName, until: Time) {
        self.here.insert(name, until);
    }

    /// True if this key must not come back.
    pub fn has(&self, name: &KeyName) -> bool {
        self.all.contains_key(name) || self.here.contains_key(name)
    }

    /// True if Redis says itself that this key was revoked.
    pub fn is_told(&self, name: &KeyName) -> bool {
        self.told.contains(name)
    }

    /// True if Redis says itself that every key of an epoch before this one was revoked.
    pub fn is_epoch_told(&self, epoch: u64) -> bool {
        self.epoch_is_told && self.epoch >= epoch
    }

    /// Nothing is known any more about what Redis has.
    pub fn forget_told(&mut self) {
        self.told.clear();
        self.epoch_is_told = false;
    }

    /// What Redis does not have. The epoch is told for so long at least, and then again.
    pub fn untold(&mut self, reading: &ClockReading, now: Time, keep: Duration) -> Vec<Grave> {
        let untold = self.all.iter_mut().filter(|(name, _)| !self.told.contains(name));
        let names = untold.map(|(name, until)| {
            let ends = until.in_redis(reading, now);
            until.redis = Some(ends);
            Grave { what: Revoked::Key(*name), ends }
        });
        // The same moment on every host and at every try: it is one record, however often it is told.
        let moment = nanos(keep).max(1);
        let until = reading.latest_of_both(now).after(keep).0.div_ceil(moment);
        let epoch = (self.epoch > 0 && !self.epoch_is_told).then(|| Grave {
            what: Revoked::All(self.epoch),
            ends: RedisTime(until.saturating_mul(moment)),
        });
        names.chain(epoch).collect()
    }

    /// The names that the ring does not have, each once.
    pub fn take_news(&mut self) -> Vec<(KeyName, Time)> {
        std::mem::take(&mut self.news)
    }

    /// Forgets those whose time has come.
    pub fn sweep(&mut self, now: Time) {
        self.all.retain(|_, until| until.here > now);
        self.here.retain(|_, until| *until > now);
    }
}
