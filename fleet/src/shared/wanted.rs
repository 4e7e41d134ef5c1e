//! What is to be written to Redis: keys that are missing, lost ones, ones that would live too long,
//! and what was revoked.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

use super::clock::{Reading, RedisTime};
use super::event::{Action, Note};
use super::held::{Held, line_end};
use super::place::{Place, Slot};
use super::stored::{Revoked, Terms, start_of};
use super::{Asked, SLACK, Seen, Shared, Turn};

/// What has less time left is not stored: it would be gone before anybody reads it.
const TOO_SHORT: Duration = Duration::from_millis(100);

impl Shared {
    /// Writes what the last look calls for, if nothing has changed since.
    pub(super) fn write<S>(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
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
        let lost = wanted.iter().filter(|action| matches!(action, Action::PutBack(..))).count();
        if lost > 0 {
            actions.push(Action::Note(Note::PutBack(lost)));
        }
        actions.append(&mut wanted);
        self.asked = Some(Asked::Write);
        self.write_at = now + self.poll() / 2;
    }

    fn untold<S>(&mut self, reading: &Reading, now: Time) -> Vec<Action<S>> {
        let graves = self.graves.untold(reading, now);
        if graves.is_empty() {
            return Vec::new();
        }
        let is_buried = |seen: &&Seen| {
            seen.what
                .is_ok_and(|(name, _)| graves.iter().any(|grave| grave.what == Revoked::Key(name)))
        };
        let slots = self.seen.iter().filter(is_buried).map(|seen| seen.slot).collect();
        vec![Action::Note(Note::Buried(graves.len())), Action::Bury(graves, slots)]
    }

    /// The keys of the fleet that this node holds and Redis does not.
    fn lost_keys<S>(&self, reading: &Reading, now: Time) -> Vec<Action<S>> {
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
                lost.push(Action::PutBack(slot, key.name, terms, keep));
            }
        }
        lost
    }

    /// The stored keys that would live longer, by the clock that Redis has now, than the copies
    /// here: whoever joins would take them for longer than they were made for.
    fn too_long<S>(&self, reading: &Reading, now: Time) -> Vec<Action<S>> {
        let mut amended = Vec::new();
        for seen in &self.seen {
            let Ok((name, terms)) = seen.what else { continue };
            let Some(held) = self.keys.iter().find(|key| key.name == name) else { continue };
            if reading.local(terms.ends) > held.times.decrypt_until + self.slack() {
                let terms = terms.with_times(&held.times, reading);
                amended.push(Action::Amend(seen.slot, terms, keep(&terms, reading, now)));
            }
        }
        amended
    }

    /// The keys of this period and the next, where there is none.
    fn missing<S>(&self, reading: &Reading, now: Time) -> Vec<Action<S>> {
        let period = self.period(now);
        let wanted = [period, period + 1].into_iter().filter_map(|period| {
            let from = self.wanted_from(period, reading, now)?;
            self.offer(period, reading, now, from)
        });
        wanted.map(|(_, offer)| offer).collect()
    }

    /// What a rotation by hand asks for: from now on no key encrypts that was made before.
    fn rotation<S>(&mut self, reading: &Reading, now: Time) -> Vec<Action<S>> {
        if self.turn != Some(Turn::Asked) {
            return Vec::new();
        }
        let period = self.period(now);
        let lead = self.settings.lead(&self.policy);
        // Not for a moment only, which not every host would see.
        let left = reading.latest(now).until(self.end_of(period));
        let present = (left >= 2 * lead).then(|| self.offer(period, reading, now, now)).flatten();
        let offers = [present, self.offer(period + 1, reading, now, now)];
        let offers: Vec<_> = offers.into_iter().flatten().collect();
        if let Some((place, _)) = offers.first() {
            self.turn = Some(Turn::Offered(*place));
        }
        offers.into_iter().map(|(_, offer)| offer).collect()
    }

    /// A key for the next turn of a period, if it would begin before that ends.
    fn offer<S>(
        &self,
        period: u64,
        reading: &Reading,
        now: Time,
        from: Time,
    ) -> Option<(Place, Action<S>)> {
        let place = Place { period, turn: self.next_turn(period)? };
        let made = reading.latest(now);
        let lead = self.settings.lead(&self.policy);
        let terms = Terms::new(place, &self.policy, lead, made);
        let begins = terms.begins.max(reading.earliest(from)).min(terms.retires);
        let terms = Terms { begins, plain: self.settings.plain, ..terms };
        (terms.begins < self.end_of(period))
            .then(|| (place, Action::Offer(terms, keep(&terms, reading, now))))
    }

    fn next_turn(&self, period: u64) -> Option<u32> {
        let held = self.keys.iter().filter_map(|key| Some(key.shared?.slot));
        let slots = self.seen.iter().map(|seen| seen.slot).chain(held);
        let turns = slots.filter_map(|slot| match slot {
            Slot::At(place) if place.period == period => Some(place.turn),
            _ => None,
        });
        turns.max().map_or(Some(0), |last| last.checked_add(1))
    }

    /// From when on a period needs a key; `None` if it has one that serves to its end. One that this
    /// node cannot unwrap is none: it makes the next turn's. Who can unwrap both turns to that, too,
    /// so that all agree while hosts are given a new fleet secret; who can unwrap the first one only
    /// stays with it, and takes no further turn.
    fn wanted_from(&self, period: u64, reading: &Reading, now: Time) -> Option<Time> {
        let is_of = |slot: Slot| matches!(slot, Slot::At(place) if place.period == period);
        let is_refused =
            |seen: &Seen| seen.what.is_ok_and(|(name, _)| self.refused.contains(&name));
        if self.seen.iter().any(|seen| is_of(seen.slot) && is_refused(seen)) {
            return None;
        }
        let end = reading.local(self.end_of(period));
        let reaches = |until: Time| until + self.tolerance() >= end;
        // As long as they encrypt here, and on a host that has joined only now.
        let everywhere = |key: &Held| {
            let until = key.times.encrypt_until.min(reading.local(key.shared?.terms.retires));
            let times = KeyTimes { encrypt_until: until, ..key.times };
            times.will_encrypt(now).then_some(Held { times, ..*key })
        };
        let shared: Vec<_> = self.keys.iter().filter_map(everywhere).collect();
        let of_period = |key: &&Held| key.shared.is_some_and(|shared| is_of(shared.slot));
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
fn keep(terms: &Terms, reading: &Reading, now: Time) -> Duration {
    let now: RedisTime = reading.latest(now);
    now.until(terms.ends)
}
