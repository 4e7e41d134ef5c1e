//! A node whose fleet shares one key per rotation through Redis: `(event, now) -> actions`. No
//! socket, no thread, no clock, no secret.
//!
//! Time on Redis' clock is cut into periods of R. During period n the key of period n + 1 is made,
//! by whoever stores one first, and taken by everybody, so that it was in every ring for a whole
//! period before it encrypts. Where the present period has no key (the first start, after a loss),
//! one is made that begins `lead` later.
//!
//! ```text
//!   Redis' clock   |      period n       |     period n + 1    |
//!   key n          |▒ encrypts ▒▒▒▒▒▒▒▒▒▒| decrypts …
//!   key n + 1      | made, taken         |▒ encrypts ▒▒▒▒▒▒▒▒▒▒|
//! ```
//!
//! A node that cannot reach Redis encrypts with the keys it has to their ends, and then with keys of
//! its own ([`tktrot::schedule`]), until the fleet's next key begins. Times are fixed when a key is
//! taken; whatever Redis' clock does later, they are never made later, and a stored key that would
//! live longer than one that a node holds is amended.

pub mod clock;
pub mod event;
mod held;
pub mod place;
mod revoked;
pub mod settings;
pub mod stored;
#[cfg(test)]
mod tests;
mod wanted;

use std::collections::HashSet;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes, MAX_LIFETIME, Policy};
use tktrot::secret::KeyName;

use crate::message::{Facts, NodeId, Refusal};
use clock::{Reading, RedisTime};
use event::{Action, Event, Look, Mark, Note};
use held::{Held, Step};
use place::{Place, Slot};
use revoked::Graves;
use settings::Settings;
use stored::{Flaw, Revoked, Stored, Terms, start_of};

/// What two clocks may differ by before it counts, beside a thousandth of a key's life.
const SLACK: Duration = Duration::from_secs(1);
/// A key that was made so much later than now, by Redis' clock, was made by another clock.
const FUTURE: Duration = Duration::from_secs(3);
/// How long after the generator failed it is tried again.
const RETRY: Duration = Duration::from_secs(1);

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
enum Turn {
    /// Its key is to be offered.
    Asked,
    /// It was, for this place.
    Offered(Place),
}

/// One host's writer.
pub struct Shared {
    id: NodeId,
    settings: Settings,
    policy: Policy,
    keys: Vec<Held>,
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
    poll_at: Time,
    write_at: Time,
    reading: Option<Reading>,
    /// The last look, while nothing is known to have changed since.
    fresh: Option<(Option<Mark>, u64)>,
    seen: Vec<Seen>,
    /// Another R.
    barred: Option<Duration>,
    said: HashSet<Flaw>,
    turn: Option<Turn>,
    making: bool,
    make_at: Time,
    deadline: Time,
}

impl Shared {
    /// A node that holds no key and has not reached Redis. It is told what its ring has by
    /// [`Event::Found`], and begins with the first [`Event::Tick`].
    pub fn new(id: NodeId, settings: Settings, policy: Policy) -> Self {
        Shared {
            id,
            settings,
            policy,
            keys: Vec::new(),
            graves: Graves::default(),
            taking: HashSet::new(),
            refused: HashSet::new(),
            patient_until: None,
            synced: false,
            has_served: false,
            up: false,
            asked: None,
            poll_at: Time(0),
            write_at: Time(0),
            reading: None,
            fresh: None,
            seen: Vec::new(),
            barred: None,
            said: HashSet::new(),
            turn: None,
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

    /// True if a key encrypts at `now`.
    pub fn has_active(&self, now: Time) -> bool {
        self.keys.iter().any(|key| key.times.state(now) == KeyState::Active)
    }

    /// The place of the fleet's key that encrypts at `now`; `None` if it is one of the node's own.
    pub fn turn(&self, now: Time) -> Option<(Place, KeyName)> {
        let active = self.keys.iter().filter(|key| key.times.state(now) == KeyState::Active);
        let best =
            active.max_by(|a, b| a.rank().partial_cmp(&b.rank()).expect("ranks are ordered"));
        best.and_then(|key| Some((key.shared?.terms.place, key.name)))
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// What is to be done about an event, in order.
    pub fn handle<S>(&mut self, event: Event<S>, now: Time) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        let mut erased = Vec::new();
        self.has_served |= self.has_active(now);
        match event {
            Event::Tick => {
                self.patient_until.get_or_insert(now + self.settings.patience);
            }
            Event::Found(facts) => self.found(facts, now),
            Event::Lost(name) => self.lost(name, now),
            Event::Made(facts) => {
                self.making = false;
                self.found(facts, now);
                actions.push(Action::Note(Note::OwnKey(facts.name)));
            }
            Event::NotMade => {
                self.making = false;
                self.make_at = now + RETRY;
            }
            Event::Took(name, result) => self.took(name, result, now, &mut actions),
            Event::Up => self.up(now, &mut actions),
            Event::Down => self.down(now, &mut actions),
            Event::Heard => self.poll_at = now,
            Event::Polled(reading, mark) => self.polled(reading, mark, now, &mut actions),
            Event::Looked(look) => self.looked(look, now, &mut actions, &mut erased),
            Event::Written => {
                if self.asked == Some(Asked::Write) {
                    self.ask_look(now, &mut actions);
                }
            }
            Event::Policy(policy) => self.adapt(policy),
            Event::Rotate => self.turn = Some(Turn::Asked),
            Event::Revoke(names) => {
                self.revoke(&names, now, &mut erased);
                actions.push(Action::Note(Note::Revoked(names.len())));
            }
            Event::RevokeAll(id) => self.revoke_all(id, now, &mut actions, &mut erased),
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
        let extend = self.extend_at(held::line_end(&self.keys, now)).max(made);
        let ask = if self.up && self.asked.is_none() { self.poll_at } else { Time::NEVER };
        let wanted = switches.chain([waits_until, extend, ask]);
        wanted.filter(|at| *at > now).min().unwrap_or(Time::NEVER)
    }

    fn found(&mut self, facts: Facts, now: Time) {
        let mut times = facts.times;
        if facts.origin != self.id {
            // It only decrypts here.
            let until = KeyTimes { encrypt_from: now, ..KeyTimes::retiring(now) };
            times = times.shortened(&until);
        }
        match self.keys.iter_mut().find(|key| key.name == facts.name) {
            Some(key) => key.times = times,
            None => self.keys.push(Held { name: facts.name, times, shared: None }),
        }
    }

    fn lost(&mut self, name: KeyName, now: Time) {
        self.keys.retain(|key| key.name != name);
        self.graves.lose(name, now + self.longest_of_any());
    }

    fn took<S>(
        &mut self,
        name: KeyName,
        result: Result<(), Refusal>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        self.taking.remove(&name);
        let Some(place) = self.keys.iter().find(|key| key.name == name).and_then(|key| key.shared)
        else {
            return;
        };
        match result {
            Ok(()) => {
                self.refused.remove(&name);
                actions.push(Action::Note(Note::Adopted(place.terms.place, name)));
            }
            Err(refusal) => {
                self.keys.retain(|key| key.name != name);
                if self.refused.insert(name) {
                    actions.push(Action::Note(Note::Refused(name, refusal)));
                }
                // A full ring has room again some day.
                self.write_at = now + self.poll();
            }
        }
    }

    fn up<S>(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        if !self.up && self.reading.is_some() {
            actions.push(Action::Note(Note::Back));
        }
        self.up = true;
        self.asked = None;
        self.fresh = None;
        self.poll_at = now;
    }

    fn down<S>(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        if self.up {
            let shared: Vec<_> =
                self.keys.iter().filter(|key| key.shared.is_some()).copied().collect();
            let left = now.until(held::line_end(&shared, now));
            actions.push(Action::Note(Note::Alone(left)));
        }
        self.up = false;
        self.asked = None;
        self.fresh = None;
        self.graves.forget_told();
        if self.turn.is_some() {
            self.turn = Some(Turn::Asked);
        }
    }

    fn polled<S>(
        &mut self,
        reading: Reading,
        mark: Option<Mark>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        if self.asked != Some(Asked::Poll) {
            return;
        }
        self.asked = None;
        self.poll_at = now + self.poll();
        let moved = self.read_clock(reading, actions);
        if moved || self.fresh != Some((mark, self.period(now))) {
            self.ask_look(now, actions);
        }
    }

    /// Notes Redis' time. True if its clock is not the one that it was.
    fn read_clock<S>(&mut self, reading: Reading, actions: &mut Vec<Action<S>>) -> bool {
        let jump = self.reading.map_or(0, |old| reading.jump_since(&old));
        self.reading = Some(reading);
        let moved = Duration::from_nanos(jump.unsigned_abs()) > SLACK;
        if moved {
            actions.push(Action::Note(Note::ClockMoved(jump)));
        }
        moved
    }

    fn ask_look<S>(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        self.asked = Some(Asked::Look);
        let period = self.period(now);
        let first = |period| Place { period, turn: 0 };
        actions.push(Action::Look(vec![first(period), first(period + 1)]));
    }

    fn looked<S>(
        &mut self,
        look: Look<S>,
        now: Time,
        actions: &mut Vec<Action<S>>,
        erased: &mut Vec<KeyName>,
    ) {
        if self.asked != Some(Asked::Look) {
            return;
        }
        self.asked = None;
        self.read_clock(look.reading, actions);
        let reading = look.reading;
        self.compare_rotation(look.mark, actions);

        self.seen.clear();
        let mut stored = Vec::new();
        for (slot, found) in look.keys {
            let what = found.map(|found| {
                let facts = (found.name, found.terms);
                stored.push((slot, found));
                facts
            });
            self.seen.push(Seen { slot, what });
        }
        self.say_flaws(actions);

        self.graves.forget_told();
        let mut news = 0;
        for grave in &look.graves {
            let until = reading.local(grave.ends).min(now + self.longest() + MAX_LIFETIME);
            if self.graves.learn(grave, until + SLACK, &reading, now) {
                news += self.heed(grave.what, erased);
            }
        }
        if news > 0 {
            actions.push(Action::Note(Note::Revoked(news)));
        }
        for (slot, key) in stored {
            self.meet(slot, key, now, actions);
        }
        self.fresh = Some((look.mark, self.period(now)));
        self.report_turn(now, actions);
        self.synced = true;
    }

    fn compare_rotation<S>(&mut self, mark: Option<Mark>, actions: &mut Vec<Action<S>>) {
        let theirs = mark.map(|mark| mark.rotate_every);
        let other = theirs.filter(|theirs| *theirs != self.policy.rotate_every);
        if other != self.barred {
            let note = other.map_or(Note::Joined, Note::OtherRotation);
            actions.push(Action::Note(note));
        }
        self.barred = other;
    }

    fn say_flaws<S>(&mut self, actions: &mut Vec<Action<S>>) {
        let flaws: Vec<_> =
            self.seen.iter().filter_map(|seen| Some((seen.slot, seen.what.err()?))).collect();
        self.said.retain(|said| flaws.iter().any(|(_, flaw)| flaw == said));
        for (slot, flaw) in flaws {
            if self.said.insert(flaw) {
                actions.push(Action::Note(Note::Flawed(slot, flaw)));
            }
        }
    }

    /// Something was revoked: what of it is here goes. Says how many keys that are.
    fn heed(&mut self, what: Revoked, erased: &mut Vec<KeyName>) -> usize {
        let before = erased.len();
        match what {
            Revoked::Key(name) => self.remove(|key| key.name == name, erased),
            Revoked::All(_) => {
                // Whoever revoked named all the fleet's keys; what is in Redis is newer.
                let seen: Vec<_> = self.seen.iter().filter_map(|seen| seen.what.ok()).collect();
                self.remove(|key| seen.iter().all(|(name, _)| *name != key.name), erased);
            }
        }
        erased.len() - before
    }

    fn remove(&mut self, which: impl Fn(&Held) -> bool, erased: &mut Vec<KeyName>) {
        erased.extend(self.keys.extract_if(.., |key| which(key)).map(|key| key.name));
    }

    /// A key that Redis has.
    fn meet<S>(&mut self, slot: Slot, key: Stored<S>, now: Time, actions: &mut Vec<Action<S>>) {
        let Some(reading) = self.reading else { return };
        let Stored { name, terms, .. } = key;
        if self.graves.has(&name) || self.taking.contains(&name) {
            return;
        }
        if let Some(held) = self.keys.iter_mut().find(|held| held.name == name) {
            let ends = reading.local(terms.ends);
            let amended = held.shared.is_some_and(|shared| terms.ends < shared.terms.ends);
            held.shared = Some(held::Shared { slot, terms });
            if amended && ends < held.times.decrypt_until {
                let limit =
                    KeyTimes { encrypt_from: ends, encrypt_until: ends, decrypt_until: ends };
                held.times = held.times.shortened(&limit);
                actions.push(Action::Shorten(name, held.times));
            }
            return;
        }
        if self.barred.is_some() || terms.ends <= reading.latest(now) {
            return;
        }
        if !self.is_plausible(&terms, now) {
            return actions.push(Action::Note(Note::Implausible(name, terms.made)));
        }
        let times = self.fitted(&terms, &reading, now);
        self.keys.push(Held { name, times, shared: Some(held::Shared { slot, terms }) });
        self.taking.insert(name);
        actions.push(Action::Take(key, times));
    }

    /// False for a key that another clock made than Redis has now.
    fn is_plausible(&self, terms: &Terms, now: Time) -> bool {
        let Some(reading) = self.reading else { return false };
        let latest = reading.latest(now);
        terms.made <= latest.after(FUTURE) && terms.ends <= latest.after(self.longest_of_any())
    }

    /// When a key lives here. Where another one ends a little before it begins, it begins then:
    /// clocks do not agree so well that no moment is left over between them.
    fn fitted(&self, terms: &Terms, reading: &Reading, now: Time) -> KeyTimes {
        let mut times = terms.local(reading);
        let ends = self.keys.iter().filter(|key| key.shared.is_some());
        let ends = ends.map(|key| key.times.encrypt_until).filter(|end| *end > now);
        let near = |end: &Time| {
            *end < times.encrypt_from && end.until(times.encrypt_from) <= self.tolerance()
        };
        if let Some(end) = ends.filter(near).max() {
            let known = reading.local(terms.made) + self.settings.lead(&self.policy);
            times.encrypt_from = end.max(known).min(times.encrypt_from);
        }
        let until = times.encrypt_until.min(times.encrypt_from + self.policy.rotate_every);
        times.encrypt_until = until;
        times
    }

    fn report_turn<S>(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        let Some(Turn::Offered(place)) = self.turn else { return };
        let there = self.seen.iter().find(|seen| seen.slot == Slot::At(place));
        self.turn = match (there.and_then(|seen| seen.what.ok()), self.reading) {
            (Some((name, terms)), Some(reading)) => {
                let left = reading.latest(now).until(terms.begins);
                actions.push(Action::Note(Note::Turns(name, left)));
                None
            }
            _ => Some(Turn::Asked),
        };
    }

    fn adapt(&mut self, policy: Policy) {
        if policy.rotate_every != self.policy.rotate_every {
            // The places of the keys there are were those of other periods.
            self.keys.iter_mut().for_each(|key| key.shared = None);
            self.seen.clear();
            self.fresh = None;
            self.barred = None;
        }
        self.policy = policy;
    }

    fn revoke(&mut self, names: &[KeyName], now: Time, erased: &mut Vec<KeyName>) {
        for name in names {
            self.graves.dig(Revoked::Key(*name), now + self.longest_of_any());
            self.remove(|key| key.name == *name, erased);
        }
        self.write_at = now;
    }

    fn revoke_all<S>(
        &mut self,
        id: [u8; 16],
        now: Time,
        actions: &mut Vec<Action<S>>,
        erased: &mut Vec<KeyName>,
    ) {
        let seen = self.seen.iter().filter_map(|seen| Some(seen.what.ok()?.0));
        let mut names: Vec<_> = seen.chain(self.keys.iter().map(|key| key.name)).collect();
        names.sort_by_key(|name| name.0);
        names.dedup();
        self.graves.dig(Revoked::All(id), now + self.longest());
        self.revoke(&names, now, erased);
        actions.push(Action::Note(Note::Revoked(names.len())));
    }

    /// Brings everything nearer to what it should be.
    fn tend<S>(&mut self, now: Time, erased: Vec<KeyName>, actions: &mut Vec<Action<S>>) {
        // Redis may have it for a little longer, by its clock.
        let remembered = now + self.longest();
        let is_over = |key: &mut Held| key.times.state(now) == KeyState::Expired;
        for key in self.keys.extract_if(.., is_over) {
            self.graves.lose(key.name, remembered);
        }
        self.graves.sweep(now);
        // First the new, then the old: something encrypts all the time.
        self.fill(now, actions);
        actions.extend(erased.into_iter().map(Action::Erase));
        while let Some(step) = held::replace(&self.keys, self.tolerance(), now) {
            match step {
                Step::Shorten(name, times) => {
                    let key = self.keys.iter_mut().find(|key| key.name == name);
                    key.expect("a step is about a key").times = times;
                    actions.push(Action::Shorten(name, times));
                }
                Step::Discard(name) => {
                    self.keys.retain(|key| key.name != name);
                    actions.push(Action::Erase(name));
                }
            }
        }
        if self.up && self.asked.is_none() && self.patient_until.is_some() {
            self.write(now, actions);
            if self.asked.is_none() && now >= self.poll_at {
                self.asked = Some(Asked::Poll);
                actions.push(Action::Poll);
            }
        }
    }

    /// Until when a node that starts waits for a key of the fleet. While Redis answers, it waits for
    /// the very first one to begin: a ticket of a key of its own would open on this host only.
    fn waits_until(&self) -> Option<Time> {
        let patient_until = self.patient_until?;
        Some(match (self.synced, self.up && self.barred.is_none() && !self.has_served) {
            (false, _) => patient_until,
            (true, true) => patient_until + self.settings.lead(&self.policy),
            (true, false) => Time(0),
        })
    }

    /// Makes a key of the node's own where the fleet has none.
    fn fill<S>(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        let Some(waits_until) = self.waits_until() else { return };
        if self.making || now < self.make_at || now == Time::NEVER {
            return;
        }
        let end = held::line_end(&self.keys, now);
        let waits = now < waits_until;
        let due = if end == now { !waits } else { now >= self.extend_at(end) };
        if due {
            self.making = true;
            actions.push(Action::Make(self.policy.times_from(end)));
        }
    }

    /// When a line that reaches to `end` needs a key of the node's own. While Redis gives keys,
    /// later: it is a reserve then.
    fn extend_at(&self, end: Time) -> Time {
        if self.up && self.fresh.is_some() && self.barred.is_none() {
            end - self.policy.rotate_every / 2
        } else {
            self.policy.extend_at(end)
        }
    }

    fn poll(&self) -> Duration {
        self.settings.poll(&self.policy)
    }

    /// The longest that a key of this node's making lives.
    fn longest(&self) -> Duration {
        2 * self.policy.rotate_every + self.policy.lifetime
    }

    /// The longest that any key lives: another node's tickets may have another lifetime.
    fn longest_of_any(&self) -> Duration {
        2 * self.policy.rotate_every + MAX_LIFETIME
    }

    /// What clocks that run differently may make of a key's end.
    fn slack(&self) -> Duration {
        SLACK.max(self.longest() / 1000)
    }

    /// How far a key's end and the end of its period may be apart, as clocks drift.
    fn tolerance(&self) -> Duration {
        self.policy.rotate_every / 3
    }

    fn period(&self, now: Time) -> u64 {
        let now = self.reading.map_or(RedisTime(0), |reading| reading.latest(now));
        now.0 / tktrot::clock::nanos(self.policy.rotate_every).max(1)
    }

    fn end_of(&self, period: u64) -> RedisTime {
        start_of(period + 1, self.policy.rotate_every)
    }
}
