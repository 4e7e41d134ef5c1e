//! The keys that a node encrypts with: a pure function of (keys, who has acknowledged them, now).
//!
//! A scheduled key is announced a whole rotation and `lead` before it encrypts, which is more than
//! any peer is waited for. So acknowledgements decide only where a key is wanted sooner: at the
//! start, after a revocation, for a deliberate rotation, and when the policy changed. Then the
//! successor that everybody has begins at once; where there is none, a new key does when all peers
//! have it, `lead_min` after its announcement at the soonest and `lead_max` at the latest.

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes, Policy};
use tktrot::secret::KeyName;

use super::limits::Limits;
use super::owed::Owed;
use crate::message::Facts;

/// A key of the node's own.
pub struct Own {
    /// What it is.
    pub facts: Facts,
    /// When the peers were told of it.
    pub announced: Time,
    /// The peers that are up and have yet to answer.
    pub owed: Owed,
}

impl Own {
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
pub enum Step {
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
    pub turn: bool,
}

impl Line<'_> {
    /// The key that encrypts.
    pub fn active(&self, now: Time) -> Option<&Own> {
        // A key that begins replaces the one before it.
        let active = self.own.iter().filter(|key| key.state(now) == KeyState::Active);
        active.max_by_key(|key| key.facts.times.encrypt_from)
    }

    /// The one change to make now.
    pub fn next_step(&self, now: Time) -> Option<Step> {
        let active = self.active(now);
        if let Some(active) = active {
            let replaced = |key: &&Own| {
                key.state(now) == KeyState::Active && key.facts.name != active.facts.name
            };
            if let Some(old) = self.own.iter().find(replaced) {
                return Some(Step::Retire(old.facts.name));
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
            Some(active) => self.policy.extend_at(self.reach(active, now)),
            None => self.next_in_turn(now).map_or(now, |key| key.ready_at(self.limits)),
        };
        switch.min(due)
    }

    fn serves_on(&self, active: &Own, now: Time) -> bool {
        !self.turn && self.policy.fits(&active.facts.times, now)
    }

    /// The announced keys follow the active one without a gap, far enough ahead.
    ///
    /// A successor may come too late for that, after a revocation or when the generator works
    /// again: its peers are waited for like those of any key. If they all have it when its turn
    /// comes it begins then, before the time that it was published with.
    fn mend(&self, active: &Own, now: Time) -> Option<Step> {
        let mut turn = active.facts.times.encrypt_until;
        let mut end = turn;
        for key in self.announced(now) {
            let times = &key.facts.times;
            // Only where there is time for a better one.
            let late =
                times.encrypt_from > turn && turn == end && now + self.limits.lead_max <= turn;
            if times.encrypt_from < end || late || !self.policy.fits(times, now) {
                return Some(Step::Discard(key.facts.name));
            }
            turn = turn + times.encrypt_from.until(times.encrypt_until);
            end = times.encrypt_until;
        }
        let from = end.max(now + self.limits.lead_max);
        (now >= self.policy.extend_at(turn)).then(|| Step::Make(self.policy.times_from(from)))
    }

    /// Until when there is a key to encrypt with, if each begins when its turn comes.
    fn reach(&self, active: &Own, now: Time) -> Time {
        let spans = self.announced(now).map(|key| {
            let times = key.facts.times;
            times.encrypt_from.until(times.encrypt_until)
        });
        spans.fold(active.facts.times.encrypt_until, |end, span| end + span)
    }

    /// No key encrypts, or not one that should: the next one is wanted as soon as can be.
    fn replace(&self, now: Time) -> Option<Step> {
        match self.next_in_turn(now) {
            Some(key) if key.is_ready(self.limits, now) => Some(Step::Begin(key.facts.name)),
            Some(_) => None,
            // By itself it begins when it would at the latest: also if nobody says so.
            None => Some(Step::Make(self.policy.times_from(now + self.limits.lead_max))),
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
