//! A node whose fleet shares one key per rotation through Redis: `(event, now) -> actions`. No
//! socket, no thread, no clock, no secret.
//!
//! Time on Redis' clock is cut into periods of R. During period n the keys of later periods are made,
//! of as many as `ahead` has ([`Settings::periods_ahead`]), each by whoever stores one first, and taken
//! by everybody. So a key was in every ring for a whole period at least before it encrypts, and while
//! Redis is away for less than `ahead`, everybody encrypts with keys that all have. Where the present
//! period has no key (the first start, after a loss), one is made that begins `lead` later.
//!
//! ```text
//!   Redis' clock   |      period n       |     period n + 1    |
//!   key n          |▒ encrypts ▒▒▒▒▒▒▒▒▒▒| decrypts …
//!   key n + 1      | made, taken         |▒ encrypts ▒▒▒▒▒▒▒▒▒▒|
//! ```
//!
//! Nodes with another R have other periods, and keys of their own for these. Each node encrypts with
//! the keys of its own R, and takes those of others before they encrypt, to decrypt with: whoever changes
//! R does so host by host.
//!
//! A node that cannot reach Redis encrypts with the keys it has to their ends, and then with keys of
//! its own ([`tktrot::schedule`]), until the fleet's next key begins. Times are fixed when a key is
//! taken; whatever Redis' clock does later, they are never made later.
//!
//! Redis proves nothing. Who writes to it without the fleet secret can put back whatever was there
//! before, take away what is there, and set its clock. So everything that is stored is authenticated
//! with all it says ([`crate::wrap`]); what a key says never changes; and of what says the truth about
//! another time, nothing is taken: no key that has ended by Redis' clock, by this host's own, or by the
//! latest one that the ring remembers; none of an epoch before the ring's; none that the ring has
//! buried. At worst a node goes alone.
//!
//! - [`event`]: what happens to it, and what it wants done
//! - [`exchange`]: what Redis says, and what is to be written there
//! - [`keys`]: the keys that it encrypts with, or did
//! - [`revoked`]: what must not come back
//! - [`stored`]: keys and records as Redis has them
//! - [`clock`]: Redis' clock and this host's
//! - [`tries`]: how often the same is written to a Redis that does not have it afterwards

pub mod clock;
pub mod event;
mod exchange;
mod keys;
mod revoked;
pub mod stored;
#[cfg(test)]
mod tests;
mod tries;

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes, MAX_LIFETIME, Policy};
use tktrot::secret::KeyName;

use crate::ahead::Ahead;
use crate::message::{Facts, NodeId, Refusal};
use clock::{ClockReading, Doubt, RedisTime, Trust};
use event::{Mark, Memory, RedisAction, RedisEvent, RedisNote};
use keys::{HeldKey, Replacement};
use revoked::Graves;
use stored::{Flaw, Revoked, Slot, Terms, Turn, start_of};
use tries::{Tries, Try};

/// A key that was made so much later than now, by Redis' clock, was made by another clock.
const FUTURE: Duration = Duration::from_secs(3);
/// How long after the generator failed it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The most periods that keys are made ahead of, whatever is set: the one that has just begun is one more.
const MOST_AHEAD: u32 = Ahead::KEYS + 1;

/// How a fleet shares keys through Redis, beside a [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long before it encrypts a key is stored at least.
    pub lead: Duration,
    /// How often Redis is asked whether anything changed.
    pub poll: Duration,
    /// How long a node that starts waits for Redis before it makes a key of its own.
    pub patience: Duration,
    /// True if tickets of the keys that this node makes carry no associated data.
    pub plain: bool,
    /// For how long the keys in Redis last.
    pub ahead: Ahead,
    /// How many keys the ring can hold.
    pub capacity: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lead: Duration::from_secs(5),
            poll: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            plain: false,
            ahead: Ahead::default(),
            capacity: usize::MAX,
        }
    }
}

/// The longest that any node's key lives: its tickets may have another lifetime, and it may be further
/// ahead.
pub fn longest_life(rotate_every: Duration) -> Duration {
    let ahead = rotate_every.saturating_mul(MOST_AHEAD + 1);
    ahead.min(Ahead::LONGEST + 3 * rotate_every) + MAX_LIFETIME
}

/// How far a key's end and the end of its period may be apart, as clocks drift.
fn tolerance(rotate_every: Duration) -> Duration {
    rotate_every / 3
}

/// The times of a key with which this node does not encrypt.
fn only_decrypting(times: &KeyTimes, now: Time) -> KeyTimes {
    times.shortened(&KeyTimes { encrypt_from: now, ..KeyTimes::retiring(now) })
}

impl Settings {
    /// The lead that this R allows.
    pub fn lead(&self, policy: &Policy) -> Duration {
        self.lead.min(policy.rotate_every / 2)
    }

    /// Of how many periods beyond the present one there are keys, so that those which all have last for
    /// `ahead` at any moment: as far as the ring has room for them beside those that only decrypt, and
    /// for some that are made by hand.
    pub fn periods_ahead(&self, policy: &Policy) -> u64 {
        let every = tktrot::clock::nanos(policy.rotate_every).max(1);
        // The last of them is made, and told, a little after its period has begun to be ahead.
        let span = self.ahead.of(policy).saturating_add(self.lead(policy));
        let wanted = tktrot::clock::nanos(span).div_ceil(every).min(MOST_AHEAD.into());
        let room = u64::try_from(self.capacity / 2).unwrap_or(u64::MAX);
        let kept = Policy::keys_kept(policy.rotate_every, policy.lifetime);
        wanted.min(room.saturating_sub(kept)).max(1)
    }

    /// The interval that this R and the lead allow: everybody has looked twice before a key begins.
    pub fn poll(&self, policy: &Policy) -> Duration {
        self.poll.min(policy.rotate_every / 10).min(self.lead(policy) / 2)
    }
}

/// What Redis was asked and has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Poll,
    Look,
    Write,
}

/// What the last look found in a slot.
#[derive(Clone, Copy, Debug)]
struct Seen {
    slot: Slot,
    what: Result<(KeyName, Terms), Flaw>,
}

/// A rotation that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// Its key is to be offered.
    Asked,
    /// A key was offered for this turn.
    Offered(Turn),
}

/// One host's writer.
pub struct RedisNode {
    id: NodeId,
    settings: Settings,
    policy: Policy,
    keys: Vec<HeldKey>,
    graves: Graves,
    /// Keys that the ring was given, and has not said whether it has them.
    taking: HashSet<KeyName>,
    /// Keys that the ring does not want.
    refused: HashSet<KeyName>,
    /// Set with the first tick: when the node no longer waits for Redis.
    patient_until: Option<Time>,
    /// Redis has been read to the end once.
    synced: bool,
    /// A key has encrypted since the start.
    has_served: bool,
    up: bool,
    asked: Option<Asked>,
    /// When Redis is asked next.
    poll_at: Time,
    /// When it is asked though nothing is heard. Nothing that all hosts hear changes that: they would ask
    /// at the same moment from then on.
    beat: Time,
    look_at: Time,
    write_at: Time,
    reading: Option<ClockReading>,
    trust: Trust,
    /// What the ring was told to remember.
    remembered: Memory,
    /// The last look, while nothing is known to have changed since.
    fresh: Option<(Option<Mark>, u64)>,
    seen: Vec<Seen>,
    said: HashSet<Flaw>,
    /// What was written and Redis did not have at the looks after it.
    tries: Tries,
    rotation: Option<Rotation>,
    making: bool,
    make_at: Time,
    deadline: Time,
}

impl RedisNode {
    /// A node that holds no key and has not reached Redis, on a ring that remembers this. It is told
    /// what its ring has by [`RedisEvent::Graves`] and [`RedisEvent::Found`], and begins with the first
    /// [`RedisEvent::Tick`].
    pub fn new(id: NodeId, settings: Settings, policy: Policy, memory: Memory) -> Self {
        RedisNode {
            id,
            settings,
            policy,
            keys: Vec::new(),
            graves: Graves::since(memory.epoch),
            taking: HashSet::new(),
            refused: HashSet::new(),
            patient_until: None,
            synced: false,
            has_served: false,
            up: false,
            asked: None,
            poll_at: Time(0),
            beat: Time(0),
            look_at: Time(0),
            write_at: Time(0),
            reading: None,
            trust: Trust::new(memory.period),
            remembered: memory,
            fresh: None,
            seen: Vec::new(),
            said: HashSet::new(),
            tries: Tries::default(),
            rotation: None,
            making: false,
            make_at: Time(0),
            deadline: Time(0),
        }
    }

    /// True if all that Redis has was read and heeded once since the start.
    pub fn is_synced(&self) -> bool {
        self.synced && self.taking.is_empty()
    }

    /// True if Redis answers.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Why Redis' clock is not believed; `None` if it is.
    pub fn doubt(&self) -> Option<Doubt> {
        self.trust.doubt()
    }

    /// How often all keys of the fleet were revoked, as far as this node knows.
    pub fn epoch(&self) -> u64 {
        self.graves.epoch()
    }

    /// True if Redis had the record of this at the last look, and there was one since it was
    /// revoked here.
    pub fn is_told(&self, what: &Revoked) -> bool {
        match what {
            Revoked::Key(name) => self.graves.is_told(name),
            Revoked::All(epoch) => self.graves.is_epoch_told(*epoch),
        }
    }

    /// True if a key encrypts at `now`.
    pub fn has_active(&self, now: Time) -> bool {
        self.keys.iter().any(|key| key.times.state(now) == KeyState::Active)
    }

    /// The turn of the fleet's key that encrypts at `now`; `None` if it is one of the node's own.
    pub fn turn(&self, now: Time) -> Option<(Turn, KeyName)> {
        let active = self.keys.iter().filter(|key| key.times.state(now) == KeyState::Active);
        let best =
            active.max_by(|a, b| a.rank().partial_cmp(&b.rank()).expect("ranks are ordered"));
        best.and_then(|key| Some((key.shared?.terms.turn, key.name)))
    }

    /// How many of the keys in the ring are the fleet's.
    pub fn shared_keys(&self) -> usize {
        self.keys.iter().filter(|key| key.shared.is_some()).count()
    }

    /// When [`RedisEvent::Tick`] is wanted at the latest.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// What is to be done about an event, in order.
    pub fn handle<S>(&mut self, event: RedisEvent<S>, now: Time) -> Vec<RedisAction<S>> {
        let mut actions = Vec::new();
        let mut erased = Vec::new();
        self.has_served |= self.has_active(now);
        match event {
            RedisEvent::Tick => {
                self.patient_until.get_or_insert(now + self.settings.patience);
            }
            RedisEvent::Found(facts) => self.found(facts, now),
            RedisEvent::Lost(name) => self.lost(name, now),
            RedisEvent::Graves(graves) => self.recall(&graves, now, &mut erased),
            RedisEvent::Made(facts) => {
                self.making = false;
                self.found(facts, now);
                actions.push(RedisAction::Note(RedisNote::OwnKey(facts.name)));
            }
            RedisEvent::NotMade => {
                self.making = false;
                self.make_at = now + RETRY;
            }
            RedisEvent::Took(name, result) => self.took(name, result, now, &mut actions),
            RedisEvent::Up => self.up(now, &mut actions),
            RedisEvent::Down => self.down(now, &mut actions),
            RedisEvent::Heard => self.poll_at = now,
            RedisEvent::Polled(reading, mark) => self.polled(reading, mark, now, &mut actions),
            RedisEvent::Looked(look) => self.looked(look, now, &mut actions, &mut erased),
            RedisEvent::Written => {
                if self.asked == Some(Asked::Write) {
                    self.ask_look(now, &mut actions);
                }
            }
            RedisEvent::Policy(policy) => self.adapt(policy),
            RedisEvent::Rotate => self.rotation = Some(Rotation::Asked),
            RedisEvent::Revoke(names) => {
                let ended = self.revoke(&names, now, &mut erased);
                if ended > 0 {
                    actions.push(RedisAction::Note(RedisNote::Revoked(ended)));
                }
            }
            RedisEvent::RevokeAll => self.revoke_all(now, &mut actions, &mut erased),
        }
        self.tend(now, erased, &mut actions);
        self.deadline = self.due(now);
        actions
    }

    /// When something will be to do, if nothing happens before.
    fn due(&self, now: Time) -> Time {
        let Some(waits_until) = self.waits_until() else { return now };
        let switches = self.keys.iter().flat_map(|key| {
            let times = key.times;
            [times.encrypt_from, times.encrypt_until, times.decrypt_until]
        });
        let made = if self.making { Time::NEVER } else { self.make_at };
        let extend = self.extend_at(keys::line_end(&self.keys, now)).max(made);
        let ask = if self.up && self.asked.is_none() { self.poll_at } else { Time::NEVER };
        let wanted = switches.chain([waits_until, extend, ask]);
        wanted.filter(|at| *at > now).min().unwrap_or(Time::NEVER)
    }

    fn found(&mut self, facts: Facts, now: Time) {
        let mut times = facts.times;
        if facts.origin != self.id {
            times = only_decrypting(&times, now);
        }
        match self.keys.iter_mut().find(|key| key.name == facts.name) {
            Some(key) => key.times = times,
            None => self.keys.push(HeldKey { name: facts.name, times, shared: None }),
        }
    }

    fn lost(&mut self, name: KeyName, now: Time) {
        self.keys.retain(|key| key.name != name);
        self.graves.lose(name, now + self.longest_of_any());
    }

    fn recall(&mut self, graves: &[(KeyName, Time)], now: Time, erased: &mut Vec<KeyName>) {
        for (name, until) in graves {
            if self.graves.recall(*name, *until) {
                self.remove(|key| key.name == *name, erased);
                self.write_at = now;
            }
        }
    }

    fn took<S>(
        &mut self,
        name: KeyName,
        result: Result<(), Refusal>,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
    ) {
        self.taking.remove(&name);
        let Some(turn) = self.keys.iter().find(|key| key.name == name).and_then(|key| key.shared)
        else {
            return;
        };
        match result {
            Ok(()) => {
                self.refused.remove(&name);
                actions.push(RedisAction::Note(RedisNote::Adopted(turn.terms.turn, name)));
            }
            Err(refusal) => {
                self.keys.retain(|key| key.name != name);
                if self.refused.insert(name) {
                    actions.push(RedisAction::Note(RedisNote::Refused(name, refusal)));
                }
                // A full ring has room again some day.
                self.write_at = now + self.poll();
            }
        }
    }

    fn adapt(&mut self, policy: Policy) {
        if policy.rotate_every != self.policy.rotate_every {
            // The turns of the keys there are were those of other periods.
            self.keys.iter_mut().for_each(|key| key.shared = None);
            self.seen.clear();
            self.fresh = None;
        }
        self.policy = policy;
    }

    /// How many of them were not revoked before.
    fn revoke(&mut self, names: &[KeyName], now: Time, erased: &mut Vec<KeyName>) -> usize {
        let mut ended = 0;
        for name in names {
            // Whoever asks again is told what Redis has now.
            self.tries.forget(&Try::Bury(Revoked::Key(*name)));
            ended += usize::from(self.graves.dig(*name, now + self.longest_of_any()));
            self.remove(|key| key.name == *name, erased);
        }
        self.write_at = now;
        ended
    }

    fn revoke_all<S>(
        &mut self,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
        erased: &mut Vec<KeyName>,
    ) {
        let seen = self.seen.iter().filter_map(|seen| Some(seen.what.ok()?.0));
        let mut names: Vec<_> = seen.chain(self.keys.iter().map(|key| key.name)).collect();
        names.sort_by_key(|name| name.0);
        names.dedup();
        self.graves.advance(self.graves.epoch() + 1);
        let ended = self.revoke(&names, now, erased);
        actions.push(RedisAction::Note(RedisNote::Revoked(ended)));
    }

    fn remove(&mut self, which: impl Fn(&HeldKey) -> bool, erased: &mut Vec<KeyName>) {
        erased.extend(self.keys.extract_if(.., |key| which(key)).map(|key| key.name));
    }

    /// Brings everything nearer to what it should be.
    fn tend<S>(&mut self, now: Time, erased: Vec<KeyName>, actions: &mut Vec<RedisAction<S>>) {
        // Redis may have it for a little longer, by its clock.
        let remembered = now + 2 * self.policy.rotate_every + self.policy.lifetime;
        let is_over = |key: &mut HeldKey| key.times.state(now) == KeyState::Expired;
        for key in self.keys.extract_if(.., is_over) {
            self.graves.lose(key.name, remembered);
        }
        self.graves.sweep(now);
        self.remember(actions);
        // First the new, then the old: something encrypts all the time.
        self.fill(now, actions);
        actions.extend(erased.into_iter().map(RedisAction::Erase));
        while let Some(step) = keys::replace(&self.keys, self.tolerance(), now) {
            match step {
                Replacement::Shorten(name, times) => {
                    let key = self.keys.iter_mut().find(|key| key.name == name);
                    key.expect("a step is about a key").times = times;
                    actions.push(RedisAction::Shorten(name, times));
                }
                Replacement::Discard(name) => {
                    self.keys.retain(|key| key.name != name);
                    actions.push(RedisAction::Erase(name));
                }
            }
        }
        if self.up && self.asked.is_none() && self.patient_until.is_some() {
            self.write(now, actions);
            if self.asked.is_none() && now >= self.poll_at {
                self.asked = Some(Asked::Poll);
                self.poll_at = Time::NEVER;
                actions.push(RedisAction::Poll);
            }
        }
    }

    /// What must not be forgotten is in the ring before anything follows from it.
    fn remember<S>(&mut self, actions: &mut Vec<RedisAction<S>>) {
        let every = self.policy.rotate_every;
        let period = self.trust.floor().0 / tktrot::clock::nanos(every).max(1);
        let period = start_of(period, every).max(self.remembered.period);
        let memory = Memory { epoch: self.graves.epoch(), period };
        if memory != self.remembered {
            self.remembered = memory;
            actions.push(RedisAction::Remember(memory));
        }
        let news = self.graves.take_news();
        actions.extend(news.into_iter().map(|(name, until)| RedisAction::Entomb(name, until)));
    }

    /// True if the fleet's keys are neither taken nor made, though Redis answers.
    fn stays_apart(&self) -> bool {
        self.trust.doubt().is_some()
    }

    /// Until when a node that starts waits for a key of the fleet. While Redis answers, it waits for
    /// the very first one to begin: a ticket of a key of its own would open on this host only.
    fn waits_until(&self) -> Option<Time> {
        let patient_until = self.patient_until?;
        Some(match (self.synced, self.up && !self.stays_apart() && !self.has_served) {
            (false, _) => patient_until,
            (true, true) => patient_until + self.settings.lead(&self.policy),
            (true, false) => Time(0),
        })
    }

    /// Makes a key of the node's own where the fleet has none.
    fn fill<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        let Some(waits_until) = self.waits_until() else { return };
        if self.making || now < self.make_at || now == Time::NEVER {
            return;
        }
        let end = keys::line_end(&self.keys, now);
        let waits = now < waits_until;
        let due = if end == now { !waits } else { now >= self.extend_at(end) };
        if due {
            self.making = true;
            actions.push(RedisAction::Make(self.policy.times_from(end)));
        }
    }

    /// When a line that reaches to `end` needs a key of the node's own. While Redis gives keys,
    /// later: it is a reserve then.
    fn extend_at(&self, end: Time) -> Time {
        if self.up && self.fresh.is_some() && !self.stays_apart() {
            end - self.policy.rotate_every / 2
        } else {
            self.policy.extend_at(end)
        }
    }

    fn poll(&self) -> Duration {
        self.settings.poll(&self.policy)
    }

    /// See [`longest_life`].
    fn longest_of_any(&self) -> Duration {
        longest_life(self.policy.rotate_every)
    }

    /// The periods that are to have keys.
    fn wanted_periods(&self, now: Time) -> RangeInclusive<u64> {
        let period = self.period(now);
        period..=period.saturating_add(self.settings.periods_ahead(&self.policy))
    }

    fn tolerance(&self) -> Duration {
        tolerance(self.policy.rotate_every)
    }

    fn period(&self, now: Time) -> u64 {
        let now = self.reading.map_or(RedisTime(0), |reading| reading.latest(now));
        now.0 / tktrot::clock::nanos(self.policy.rotate_every).max(1)
    }

    fn end_of(&self, period: u64) -> RedisTime {
        start_of(period + 1, self.policy.rotate_every)
    }
}
