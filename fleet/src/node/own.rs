//! The keys that a node encrypts with: a pure function of (keys, who has acknowledged them, now).
//!
//! A scheduled key is announced [`Limits::ahead`] of its turn, which is a whole rotation and `lead` at
//! least, and more than any peer is waited for. So acknowledgements decide only where a key is wanted sooner: at the
//! start, after a revocation, for a deliberate rotation, and when the policy changed. Then the
//! successor that everybody has begins at once; where there is none, a new key does when all peers
//! have it, `lead_min` after its announcement at the soonest and `lead_max` at the latest.
//!
//! What times a key has, when it fits a policy and when a line is too short is decided by
//! [`tktrot::schedule`]. Its `next_step` is not used: that one makes keys that encrypt at once where none
//! does, and lays them end to end, for it knows nobody who must have them first. Here a key begins when
//! the peers have it, which may be before or after the time that it was made with; and whatever began
//! last is active, whether it fits the policy or not, as the peers were told so.

use std::collections::HashMap;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes, Policy};
use tktrot::secret::KeyName;

use super::limits::Limits;
use crate::message::{Facts, NodeId};

/// A key of the node's own.
pub struct Own {
    /// All of the key but its secrets.
    pub facts: Facts,
    /// When the peers were told of it.
    pub announced: Time,
    /// The peers that are up and have yet to answer.
    pub owed: Owed,
    /// The peers that had no room for it, and when it is offered to them again.
    pub again: HashMap<NodeId, Time>,
}

impl Own {
    /// When it is offered again to one that had no room.
    pub fn again_at(&self) -> Time {
        self.again.values().copied().min().unwrap_or(Time::NEVER)
    }

    fn is_ready(&self, limits: &Limits, now: Time) -> bool {
        now >= self.ready_at(limits)
    }

    /// When it is published to begin.
    pub fn begins(&self) -> Time {
        self.facts.times.encrypt_from
    }

    /// When it may begin, if nobody answers meanwhile.
    fn ready_at(&self, limits: &Limits) -> Time {
        self.announced + if self.owed.is_empty() { limits.lead_min } else { limits.lead_max }
    }

    fn state(&self, now: Time) -> KeyState {
        self.facts.times.state(now)
    }
}

/// One change to the node's own keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStep {
    /// Make a key with these times.
    Make(KeyTimes),
    /// This announced key encrypts from now on.
    Begin(KeyName),
    /// A newer key encrypts: this one does no longer.
    Retire(KeyName),
    /// This announced key is one that will never be needed.
    Discard(KeyName),
}

/// The keys of a node, and what they should be like.
pub struct Line<'n> {
    /// In the order in which they begin.
    pub own: &'n [Own],
    pub policy: &'n Policy,
    pub limits: &'n Limits,
    /// A rotation was asked for.
    pub rotation_asked: bool,
}

impl Line<'_> {
    /// The key that encrypts.
    pub fn active(&self, now: Time) -> Option<&Own> {
        // A key that begins replaces the one before it.
        let active = self.own.iter().filter(|key| key.state(now) == KeyState::Active);
        active.max_by_key(|key| key.facts.times.encrypt_from)
    }

    /// The one change to make now.
    pub fn next_step(&self, now: Time) -> Option<LineStep> {
        let active = self.active(now);
        if let Some(active) = active {
            let replaced = |key: &&Own| {
                key.state(now) == KeyState::Active && key.facts.name != active.facts.name
            };
            if let Some(old) = self.own.iter().find(replaced) {
                return Some(LineStep::Retire(old.facts.name));
            }
        }
        match active.filter(|key| self.serves_on(key, now)) {
            Some(active) => self.mend(active, now),
            None => self.replace(now),
        }
    }

    /// When [`Line::next_step`] has something to do, if nothing happens before.
    pub fn deadline(&self, now: Time) -> Time {
        let switches = self
            .own
            .iter()
            .flat_map(|key| [key.facts.times.encrypt_from, key.facts.times.encrypt_until]);
        let switch = switches.filter(|at| *at > now).min().unwrap_or(Time::NEVER);
        let due = match self.active(now).filter(|key| self.serves_on(key, now)) {
            Some(active) => self.limits.extend_at(self.policy, self.reach(active, now)),
            None => self.next_in_turn(now).map_or(now, |key| key.ready_at(self.limits)),
        };
        switch.min(due)
    }

    fn serves_on(&self, active: &Own, now: Time) -> bool {
        !self.rotation_asked && self.policy.fits(&active.facts.times, now)
    }

    /// The announced keys follow the active one without a gap, far enough ahead.
    ///
    /// A successor may come too late for that, after a revocation, when the generator works again, or
    /// where keys change more often than peers are waited for: they are waited for as with any key.
    /// If all have it when its turn comes it begins then, before the time that it was published with.
    /// So that one follows that is published for its turn: servers alone begin no key early.
    fn mend(&self, active: &Own, now: Time) -> Option<LineStep> {
        let mut turn = active.facts.times.encrypt_until;
        for key in self.announced(now) {
            let times = &key.facts.times;
            // Only where there is time for a better one.
            let late = times.encrypt_from > turn && now + self.limits.lead_max <= turn;
            if late || !self.policy.fits(times, now) {
                return Some(LineStep::Discard(key.facts.name));
            }
            turn = next_turn(turn, times);
        }
        let from = turn.max(now + self.limits.lead_max);
        let is_short = now >= self.limits.extend_at(self.policy, turn);
        is_short.then(|| LineStep::Make(self.policy.times_from(from)))
    }

    /// Until when there is a key to encrypt with, if each begins when its turn comes.
    fn reach(&self, active: &Own, now: Time) -> Time {
        let announced = self.announced(now).map(|key| key.facts.times);
        announced.fold(active.facts.times.encrypt_until, |turn, times| next_turn(turn, &times))
    }

    /// No key encrypts, or not one that should: the next one is wanted as soon as can be.
    fn replace(&self, now: Time) -> Option<LineStep> {
        match self.next_in_turn(now) {
            Some(key) if key.is_ready(self.limits, now) => Some(LineStep::Begin(key.facts.name)),
            Some(_) => None,
            // By itself it begins when it would at the latest: also if nobody says so.
            None => Some(LineStep::Make(self.policy.times_from(now + self.limits.lead_max))),
        }
    }

    /// Of the announced keys that fit, the one that may begin first.
    fn next_in_turn(&self, now: Time) -> Option<&Own> {
        self.announced(now)
            .filter(|key| self.policy.fits(&key.facts.times, now))
            .min_by_key(|key| (key.ready_at(self.limits).max(now), key.facts.times.encrypt_from))
    }

    fn announced(&self, now: Time) -> impl Iterator<Item = &Own> {
        self.own.iter().filter(move |key| key.state(now) == KeyState::Announced)
    }
}

/// When the turn of a key ends that comes then. One that was published for an earlier time, before the
/// keys in front of it began late, begins at that time, and they end sooner.
fn next_turn(turn: Time, key: &KeyTimes) -> Time {
    turn.min(key.encrypt_from) + key.encrypt_from.until(key.encrypt_until)
}

/// The peers that were told of one key and have not answered.
#[derive(Default)]
pub struct Owed {
    /// When each was told.
    told: HashMap<NodeId, Time>,
    /// None of them was told before.
    oldest: Option<Time>,
}

impl Owed {
    /// Waits for this peer, which was just told.
    pub fn wait_for(&mut self, peer: NodeId, now: Time) {
        self.told.insert(peer, now);
        self.oldest = Some(self.oldest.map_or(now, |oldest| oldest.min(now)));
    }

    /// Waits once more for this one, if it is waited for: it was there, and could not answer for good.
    pub fn wait_again_for(&mut self, peer: NodeId, now: Time) {
        if let Some(told) = self.told.get_mut(&peer) {
            *told = now;
        }
    }

    /// Waits no longer for this one: it answered, or it is gone.
    pub fn settle(&mut self, peer: NodeId) {
        if self.told.remove(&peer).is_some() && self.told.is_empty() {
            // Nearly all keys are in this state nearly all the time: without a table for a fleet.
            *self = Owed::default();
        }
    }

    /// How many are waited for.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Nobody is.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Those that have not answered for `limit`.
    pub fn overdue(&mut self, now: Time, limit: Duration) -> Vec<NodeId> {
        if self.overdue_at(limit) > now {
            return Vec::new();
        }
        self.oldest = self.told.values().copied().filter(|told| *told + limit > now).min();
        let silent = self.told.iter().filter(|(_, told)| **told + limit <= now);
        silent.map(|(peer, _)| *peer).collect()
    }

    /// Nobody is overdue before.
    pub fn overdue_at(&self, limit: Duration) -> Time {
        self.oldest.map_or(Time::NEVER, |oldest| oldest + limit)
    }
}
