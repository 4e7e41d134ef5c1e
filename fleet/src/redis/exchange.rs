//! What Redis says, and what is to be written there: keys that are missing, lost ones, ones that would
//! live too long, and what was revoked. The rest of [`RedisNode`], which is too long for one file: the
//! module above has what happens on this host.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyTimes, MAX_LIFETIME};
use tktrot::secret::KeyName;

use super::clock::{ClockReading, RedisTime, SLACK};
use super::event::{Look, Mark, RedisAction, RedisNote};
use super::keys::{self, HeldKey, InRedis, line_end};
use super::stored::{Revoked, Slot, Stored, Terms, Turn, start_of};
use super::{Asked, FUTURE, RedisNode, Rotation, Seen};

/// What has less time left is not stored: it would be gone before anybody reads it.
const TOO_SHORT: Duration = Duration::from_millis(100);

impl RedisNode {
    pub(super) fn up<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        if !self.up && self.reading.is_some() {
            actions.push(RedisAction::Note(RedisNote::Back));
        }
        self.up = true;
        self.asked = None;
        self.fresh = None;
        self.poll_at = now;
    }

    pub(super) fn down<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        if self.up {
            let shared: Vec<_> =
                self.keys.iter().filter(|key| key.shared.is_some()).copied().collect();
            let left = now.until(keys::line_end(&shared, now));
            actions.push(RedisAction::Note(RedisNote::Alone(left)));
        }
        self.up = false;
        self.asked = None;
        self.fresh = None;
        self.graves.forget_told();
        if self.rotation.is_some() {
            self.rotation = Some(Rotation::Asked);
        }
    }

    pub(super) fn polled<S>(
        &mut self,
        reading: ClockReading,
        mark: Option<Mark>,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
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
    fn read_clock<S>(&mut self, reading: ClockReading, actions: &mut Vec<RedisAction<S>>) -> bool {
        let jump = self.reading.map_or(0, |old| reading.jump_since(&old));
        self.reading = Some(reading);
        let moved = Duration::from_nanos(jump.unsigned_abs()) > SLACK;
        if moved {
            actions.push(RedisAction::Note(RedisNote::ClockMoved(jump)));
        }
        moved
    }

    pub(super) fn ask_look<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        self.asked = Some(Asked::Look);
        let period = self.period(now);
        let first = |period| Turn { period, number: 0 };
        actions.push(RedisAction::Look(vec![first(period), first(period + 1)]));
    }

    pub(super) fn looked<S>(
        &mut self,
        look: Look<S>,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
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
            actions.push(RedisAction::Note(RedisNote::Revoked(news)));
        }
        for (slot, key) in stored {
            self.meet(slot, key, now, actions);
        }
        self.fresh = Some((look.mark, self.period(now)));
        self.report_rotation(now, actions);
        self.synced = true;
    }

    fn compare_rotation<S>(&mut self, mark: Option<Mark>, actions: &mut Vec<RedisAction<S>>) {
        let theirs = mark.map(|mark| mark.rotate_every);
        let other = theirs.filter(|theirs| *theirs != self.policy.rotate_every);
        if other != self.barred {
            let note = other.map_or(RedisNote::Joined, RedisNote::OtherRotation);
            actions.push(RedisAction::Note(note));
        }
        self.barred = other;
    }

    fn say_flaws<S>(&mut self, actions: &mut Vec<RedisAction<S>>) {
        let flaws: Vec<_> =
            self.seen.iter().filter_map(|seen| Some((seen.slot, seen.what.err()?))).collect();
        self.said.retain(|said| flaws.iter().any(|(_, flaw)| flaw == said));
        for (slot, flaw) in flaws {
            if self.said.insert(flaw) {
                actions.push(RedisAction::Note(RedisNote::Flawed(slot, flaw)));
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

    /// A key that Redis has.
    fn meet<S>(
        &mut self,
        slot: Slot,
        key: Stored<S>,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
    ) {
        let Some(reading) = self.reading else { return };
        let Stored { name, terms, .. } = key;
        if self.graves.has(&name) || self.taking.contains(&name) {
            return;
        }
        if let Some(held) = self.keys.iter_mut().find(|held| held.name == name) {
            let ends = reading.local(terms.ends);
            let amended = held.shared.is_some_and(|shared| terms.ends < shared.terms.ends);
            held.shared = Some(InRedis { slot, terms });
            if amended && ends < held.times.decrypt_until {
                let limit =
                    KeyTimes { encrypt_from: ends, encrypt_until: ends, decrypt_until: ends };
                held.times = held.times.shortened(&limit);
                actions.push(RedisAction::Shorten(name, held.times));
            }
            return;
        }
        if self.barred.is_some() || terms.ends <= reading.latest(now) {
            return;
        }
        if !self.is_plausible(&terms, now) {
            return actions.push(RedisAction::Note(RedisNote::Implausible(name, terms.made)));
        }
        let times = self.fitted(&terms, &reading, now);
        self.keys.push(HeldKey { name, times, shared: Some(InRedis { slot, terms }) });
        self.taking.insert(name);
        actions.push(RedisAction::Take(key, times));
    }

    /// False for a key that another clock made than Redis has now.
    fn is_plausible(&self, terms: &Terms, now: Time) -> bool {
        let Some(reading) = self.reading else { return false };
        let latest = reading.latest(now);
        terms.made <= latest.after(FUTURE) && terms.ends <= latest.after(self.longest_of_any())
    }

    /// When a key lives here. Where another one ends a little before it begins, it begins then:
    /// clocks do not agree so well that no moment is left over between them.
    fn fitted(&self, terms: &Terms, reading: &ClockReading, now: Time) -> KeyTimes {
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

    fn report_rotation<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        let Some(Rotation::Offered(turn)) = self.rotation else { return };
        let there = self.seen.iter().find(|seen| seen.slot == Slot::At(turn));
        self.rotation = match (there.and_then(|seen| seen.what.ok()), self.reading) {
            (Some((name, terms)), Some(reading)) => {
                let left = reading.latest(now).until(terms.begins);
                actions.push(RedisAction::Note(RedisNote::Turns(name, left)));
                None
            }
            _ => Some(Rotation::Asked),
        };
    }

    /// Writes what the last look calls for, if nothing has changed since.
    pub(super) fn write<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        let Some(reading) = self.reading.filter(|_| self.fresh.is_some()) else { return };
        if now < self.write_at {
            return;
        }
        let mut wanted = self.untold(&reading, now);
        if self.barred.is_none() {
            wanted.extend(self.lost_keys(&reading, now));
            wanted.extend(self.too_long(&reading, now));
            wanted.extend(self.missing(&reading, now));
            wanted.extend(self.rotation(&reading, now));
        }
        if wanted.is_empty() {
            return;
        }
        let lost =
            wanted.iter().filter(|action| matches!(action, RedisAction::PutBack(..))).count();
        if lost > 0 {
            actions.push(RedisAction::Note(RedisNote::PutBack(lost)));
        }
        actions.append(&mut wanted);
        self.asked = Some(Asked::Write);
        self.write_at = now + self.poll() / 2;
    }

    fn untold<S>(&mut self, reading: &ClockReading, now: Time) -> Vec<RedisAction<S>> {
        let graves = self.graves.untold(reading, now);
        if graves.is_empty() {
            return Vec::new();
        }
        let is_buried = |seen: &&Seen| {
            seen.what
                .is_ok_and(|(name, _)| graves.iter().any(|grave| grave.what == Revoked::Key(name)))
        };
        let slots = self.seen.iter().filter(is_buried).map(|seen| seen.slot).collect();
        vec![RedisAction::Note(RedisNote::Buried(graves.len())), RedisAction::Bury(graves, slots)]
    }

    /// The keys of the fleet that this node holds and Redis does not.
    fn lost_keys<S>(&self, reading: &ClockReading, now: Time) -> Vec<RedisAction<S>> {
        let mut lost = Vec::new();
        for key in &self.keys {
            let Some(shared) = key.shared else { continue };
            if self.taking.contains(&key.name) || self.sees(&key.name) {
                continue;
            }
            let end = reading.local(shared.terms.ends);
            let apart = end.until(key.times.decrypt_until).max(key.times.decrypt_until.until(end));
            // By the clock that it was made by, unless Redis has another one now.
            let terms = if apart <= self.slack() {
                shared.terms
            } else {
                shared.terms.with_times(&key.times, reading)
            };
            let keep = keep(&terms, reading, now);
            let is_taken = |slot: Slot| self.seen.iter().any(|seen| seen.slot == slot);
            let slot = if is_taken(shared.slot) { Slot::Kept(key.name) } else { shared.slot };
            if keep > TOO_SHORT && !is_taken(slot) {
                lost.push(RedisAction::PutBack(slot, key.name, terms, keep));
            }
        }
        lost
    }

    /// The stored keys that would live longer, by the clock that Redis has now, than the copies
    /// here: whoever joins would take them for longer than they were made for.
    fn too_long<S>(&self, reading: &ClockReading, now: Time) -> Vec<RedisAction<S>> {
        let mut amended = Vec::new();
        for seen in &self.seen {
            let Ok((name, terms)) = seen.what else { continue };
            let Some(held) = self.keys.iter().find(|key| key.name == name) else { continue };
            if reading.local(terms.ends) > held.times.decrypt_until + self.slack() {
                let terms = terms.with_times(&held.times, reading);
                amended.push(RedisAction::Amend(seen.slot, terms, keep(&terms, reading, now)));
            }
        }
        amended
    }

    /// The keys of this period and the next, where there is none.
    fn missing<S>(&self, reading: &ClockReading, now: Time) -> Vec<RedisAction<S>> {
        let period = self.period(now);
        let wanted = [period, period + 1].into_iter().filter_map(|period| {
            let from = self.wanted_from(period, reading, now)?;
            self.offer(period, reading, now, from)
        });
        wanted.map(|(_, offer)| offer).collect()
    }

    /// What a rotation by hand asks for: from now on no key encrypts that was made before.
    fn rotation<S>(&mut self, reading: &ClockReading, now: Time) -> Vec<RedisAction<S>> {
        if self.rotation != Some(Rotation::Asked) {
            return Vec::new();
        }
        let period = self.period(now);
        let lead = self.settings.lead(&self.policy);
        // Not for a moment only, which not every host would see.
        let left = reading.latest(now).until(self.end_of(period));
        let present = (left >= 2 * lead).then(|| self.offer(period, reading, now, now)).flatten();
        let offers = [present, self.offer(period + 1, reading, now, now)];
        let offers: Vec<_> = offers.into_iter().flatten().collect();
        if let Some((turn, _)) = offers.first() {
            self.rotation = Some(Rotation::Offered(*turn));
        }
        offers.into_iter().map(|(_, offer)| offer).collect()
    }

    /// A key for the next turn of a period, if it would begin before that ends.
    fn offer<S>(
        &self,
        period: u64,
        reading: &ClockReading,
        now: Time,
        from: Time,
    ) -> Option<(Turn, RedisAction<S>)> {
        let turn = Turn { period, number: self.next_turn(period)? };
        let made = reading.latest(now);
        let lead = self.settings.lead(&self.policy);
        let terms = Terms::new(turn, &self.policy, lead, made);
        let begins = terms.begins.max(reading.earliest(from)).min(terms.retires);
        let terms = Terms { begins, plain: self.settings.plain, ..terms };
        (terms.begins < self.end_of(period))
            .then(|| (turn, RedisAction::Offer(terms, keep(&terms, reading, now))))
    }

    fn next_turn(&self, period: u64) -> Option<u32> {
        let held = self.keys.iter().filter_map(|key| Some(key.shared?.slot));
        let slots = self.seen.iter().map(|seen| seen.slot).chain(held);
        let turns = slots.filter_map(|slot| match slot {
            Slot::At(turn) if turn.period == period => Some(turn.number),
            _ => None,
        });
        turns.max().map_or(Some(0), |last| last.checked_add(1))
    }

    /// From when on a period needs a key; `None` if it has one that serves to its end. One that this
    /// node cannot unwrap is none: it makes the next turn's. Who can unwrap both turns to that, too,
    /// so that all agree while hosts are given a new fleet secret; who can unwrap the first one only
    /// stays with it, and takes no further turn.
    fn wanted_from(&self, period: u64, reading: &ClockReading, now: Time) -> Option<Time> {
        let is_of = |slot: Slot| matches!(slot, Slot::At(turn) if turn.period == period);
        let is_refused =
            |seen: &Seen| seen.what.is_ok_and(|(name, _)| self.refused.contains(&name));
        if self.seen.iter().any(|seen| is_of(seen.slot) && is_refused(seen)) {
            return None;
        }
        let end = reading.local(self.end_of(period));
        let reaches = |until: Time| until + self.tolerance() >= end;
        // As long as they encrypt here, and on a host that has joined only now.
        let everywhere = |key: &HeldKey| {
            let until = key.times.encrypt_until.min(reading.local(key.shared?.terms.retires));
            let times = KeyTimes { encrypt_until: until, ..key.times };
            times.will_encrypt(now).then_some(HeldKey { times, ..*key })
        };
        let shared: Vec<_> = self.keys.iter().filter_map(everywhere).collect();
        let of_period = |key: &&HeldKey| key.shared.is_some_and(|shared| is_of(shared.slot));
        if shared.iter().filter(of_period).any(|key| reaches(key.times.encrypt_until)) {
            return None;
        }
        // Keys of other periods serve in this one, too, if Redis has another clock now.
        let start = reading.local(start_of(period, self.policy.rotate_every)).max(now);
        let covered = line_end(&shared, start);
        (!reaches(covered)).then(|| if covered > start { covered - SLACK } else { start })
    }

    fn sees(&self, name: &KeyName) -> bool {
        self.seen.iter().any(|seen| seen.what.is_ok_and(|(other, _)| other == *name))
    }
}

/// How long Redis is to keep it.
fn keep(terms: &Terms, reading: &ClockReading, now: Time) -> Duration {
    let now: RedisTime = reading.latest(now);
    now.until(terms.ends)
}
