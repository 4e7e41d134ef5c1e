//! What Redis says, and what is to be written there: keys that are missing, lost ones, and what was
//! revoked. The rest of [`RedisNode`], which is too long for one file: the
//! module above has what happens on this host.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

use super::clock::{ClockReading, RedisTime, SLACK};
use super::event::{Look, Mark, RedisAction, RedisNote};
use super::keys::{self, HeldKey, InRedis, line_end};
use super::stored::{Flaw, Grave, Revoked, Slot, Stored, Terms, Turn, start_of};
use super::tries::{Tries, Try};
use super::{Asked, FUTURE, RedisNode, Rotation, Seen, only_decrypting, tolerance};

/// What has less time left is not stored: it would be gone before anybody reads it.
const TOO_SHORT: Duration = Duration::from_millis(100);
/// After so many polls all is looked at, though nothing is said to have changed.
pub(super) const LOOK_EVERY: u32 = 10;

impl RedisNode {
    pub(super) fn up<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        if !self.up && self.reading.is_some() {
            actions.push(RedisAction::Note(RedisNote::Back));
        }
        self.up = true;
        self.asked = None;
        self.fresh = None;
        self.tries = Tries::default();
        self.poll_at = now;
        self.beat = now;
    }

    pub(super) fn down<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        if self.up {
            actions.push(RedisAction::Note(RedisNote::Alone(self.shared_for(now))));
        }
        self.up = false;
        self.asked = None;
        self.fresh = None;
        self.graves.forget_told();
        if self.rotation.is_some() {
            self.rotation = Some(Rotation::Asked);
        }
    }

    /// How long the fleet's keys last.
    fn shared_for(&self, now: Time) -> Duration {
        let shared = self.keys.iter().filter(|key| key.shared.is_some());
        now.until(keys::line_end(&shared.copied().collect::<Vec<_>>(), now))
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
        while self.beat <= now {
            let behind = self.beat.until(now).as_nanos() / self.poll().as_nanos().max(1);
            self.beat = self.beat + self.poll() * u32::try_from(behind + 1).unwrap_or(u32::MAX);
        }
        // What was heard after it was asked may be news.
        self.poll_at = self.poll_at.min(self.beat);
        let moved = self.read_clock(reading, now, actions);
        // Whoever may write to Redis may leave the mark as it was.
        if moved || now >= self.look_at || self.fresh != Some((mark, self.period(now))) {
            self.ask_look(now, actions);
        }
    }

    /// Notes Redis' time. True if its clock is not the one that it was, or is believed as it was not.
    fn read_clock<S>(
        &mut self,
        reading: ClockReading,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
    ) -> bool {
        let jump = self.reading.map_or(0, |old| reading.jump_since(&old));
        self.reading = Some(reading);
        let moved = Duration::from_nanos(jump.unsigned_abs()) > SLACK;
        if moved {
            actions.push(RedisAction::Note(RedisNote::ClockMoved(jump)));
        }
        let turned = self.trust.compare(&reading, self.policy.rotate_every);
        if turned {
            let note = match self.trust.doubt() {
                Some(doubt) => RedisNote::Doubted(doubt, self.shared_for(now)),
                None => RedisNote::Believed,
            };
            actions.push(RedisAction::Note(note));
        }
        moved || turned
    }

    pub(super) fn ask_look<S>(&mut self, now: Time, actions: &mut Vec<RedisAction<S>>) {
        self.asked = Some(Asked::Look);
        let first = |period| Slot::At(Turn { period, number: 0 });
        let mut slots: Vec<_> = self.wanted_periods(now).map(first).collect();
        let held = self.keys.iter().filter_map(|key| Some(key.shared?.slot));
        let held: Vec<_> = held.filter(|slot| !slots.contains(slot)).collect();
        slots.extend(held);
        actions.push(RedisAction::Look(slots));
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
        self.read_clock(look.reading, now, actions);
        let reading = look.reading;

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
        // What was revoked comes first: nothing of it is taken.
        self.heed(&look.graves, &reading, now, actions, erased);
        let mut flaws: Vec<_> =
            self.seen.iter().filter_map(|seen| Some((seen.slot, seen.what.err()?))).collect();
        for (slot, key) in stored {
            let flaw = self.meet(slot, key, now, actions, erased);
            flaws.extend(flaw.map(|flaw| (slot, flaw)));
        }
        self.say(flaws, actions);
        self.fresh = Some((look.mark, self.period(now)));
        self.look_at = now + LOOK_EVERY * self.poll();
        self.report_rotation(now, actions);
        self.synced = true;
    }

    fn say<S>(&mut self, flaws: Vec<(Slot, Flaw)>, actions: &mut Vec<RedisAction<S>>) {
        self.said.retain(|said| flaws.iter().any(|(_, flaw)| flaw == said));
        for (slot, flaw) in flaws {
            if self.said.insert(flaw) {
                actions.push(RedisAction::Note(RedisNote::Flawed(slot, flaw)));
            }
        }
    }

    /// What Redis says was revoked: what of it is here goes.
    fn heed<S>(
        &mut self,
        graves: &[Grave],
        reading: &ClockReading,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
        erased: &mut Vec<KeyName>,
    ) {
        self.graves.forget_told();
        let before = erased.len();
        for grave in graves {
            match grave.what {
                Revoked::Key(name) => {
                    let latest = now + 2 * self.longest_of_any();
                    let until = reading.forgotten(grave.ends).min(latest) + SLACK;
                    if self.graves.learn(name, grave.ends, until, reading, now) {
                        self.remove(|key| key.name == name, erased);
                    }
                }
                Revoked::All(epoch) => self.begin_epoch(epoch, erased),
            }
        }
        // A key of a later epoch tells that there was a revocation, whatever became of its record.
        let stored: Vec<_> = self.seen.iter().filter_map(|seen| Some(seen.what.ok()?.1)).collect();
        for terms in stored {
            self.begin_epoch(terms.epoch, erased);
        }
        for grave in graves {
            if let Revoked::All(epoch) = grave.what {
                self.graves.learn_epoch(epoch);
            }
        }
        if erased.len() > before {
            actions.push(RedisAction::Note(RedisNote::Revoked(erased.len() - before)));
        }
    }

    /// Every key of an epoch before goes, and every one of which Redis does not say otherwise.
    fn begin_epoch(&mut self, epoch: u64, erased: &mut Vec<KeyName>) {
        if !self.graves.advance(epoch) {
            return;
        }
        let seen: Vec<_> = self.seen.iter().filter_map(|seen| seen.what.ok()).collect();
        let is_of_it = |key: &HeldKey| {
            key.shared.is_some_and(|shared| shared.terms.epoch >= epoch)
                || seen.iter().any(|(name, terms)| *name == key.name && terms.epoch >= epoch)
        };
        self.remove(|key| !is_of_it(key), erased);
    }

    /// A key that Redis has. Why it is not used, if it should not be there.
    fn meet<S>(
        &mut self,
        slot: Slot,
        key: Stored<S>,
        now: Time,
        actions: &mut Vec<RedisAction<S>>,
        erased: &mut Vec<KeyName>,
    ) -> Option<Flaw> {
        let reading = self.reading?;
        let Stored { name, terms, .. } = key;
        if terms.epoch < self.graves.epoch() {
            // It may be of a ring whose agent was killed at this point.
            self.remove(|held| held.name == name, erased);
            return Some(Flaw::Revoked);
        }
        if self.graves.has(&name) {
            return self.graves.is_told(&name).then_some(Flaw::Revoked);
        }
        if self.taking.contains(&name) {
            return None;
        }
        let is_kin = self.is_kin(&terms);
        let shared = Some(InRedis { slot, terms, is_kin });
        if let Some(held) = self.keys.iter_mut().find(|held| held.name == name) {
            held.shared = shared;
            return None;
        }
        if self.stays_apart() {
            return None;
        }
        if terms.ends <= self.trust.floor().max(reading.latest(now))
            || reading.over(terms.ends) <= now
        {
            return Some(Flaw::Over);
        }
        if !is_kin && !self.wants_strange(&terms, &reading, now) {
            return None;
        }
        if !self.is_plausible(&terms, now) {
            actions.push(RedisAction::Note(RedisNote::Implausible(name, terms.made)));
            return None;
        }
        let times = match is_kin {
            true => self.fitted(&terms, &reading, now),
            false => only_decrypting(&terms.local(&reading), now),
        };
        self.keys.push(HeldKey { name, times, shared });
        self.taking.insert(name);
        actions.push(RedisAction::Take(key, times));
        None
    }

    /// True if the maker of a key has the R that this node has.
    fn is_kin(&self, terms: &Terms) -> bool {
        terms.rotate_every == self.policy.rotate_every
    }

    /// True for a key of another R that is to be taken now: shortly before it encrypts elsewhere. One
    /// that was taken to decrypt only does not encrypt here any more, also after R was changed here.
    /// And those of this R have room first.
    fn wants_strange(&self, terms: &Terms, reading: &ClockReading, now: Time) -> bool {
        let soon = self.settings.lead(&self.policy) + 2 * LOOK_EVERY * self.poll();
        // It begins a little earlier where the one before it ends a little earlier.
        let soon = soon + tolerance(terms.rotate_every);
        terms.begins <= reading.latest(now).after(soon)
            && self.keys.len() < self.settings.capacity / 2
            && self.is_plausible(terms, now)
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
        let ends = self.keys.iter().filter(|key| key.is_kin());
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
        let there = there.and_then(|seen| seen.what.ok()).filter(|(_, terms)| self.is_kin(terms));
        self.rotation = match (there, self.reading) {
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
        let graves = self.graves.untold(&reading, now, self.longest_of_any());
        let mut wanted = Vec::new();
        if !self.stays_apart() {
            wanted.extend(self.lost_keys(&reading, now));
            wanted.extend(self.missing(&reading, now));
            wanted.extend(self.rotation(&reading, now));
        }
        let all: Vec<_> = graves.iter().map(|grave| Try::Bury(grave.what)).collect();
        self.tries.keep(all.into_iter().chain(wanted.iter().filter_map(tried)).collect());
        let (graves, news) = self.due_graves(graves, now);
        let mut lost = 0;
        wanted.retain(|action| {
            let Some(what) = tried(action) else { return true };
            let times = self.tries.times(&what);
            lost += usize::from(times == 0 && matches!(action, RedisAction::PutBack(..)));
            self.tries.is_due(&what, now)
        });
        if graves.is_empty() && wanted.is_empty() {
            return;
        }
        if news > 0 {
            actions.push(RedisAction::Note(RedisNote::Buried(news)));
        }
        if lost > 0 {
            actions.push(RedisAction::Note(RedisNote::PutBack(lost)));
        }
        let poll = self.poll();
        let buried = graves.iter().map(|grave| Try::Bury(grave.what));
        for what in buried.chain(wanted.iter().filter_map(tried)).collect::<Vec<_>>() {
            self.tries.made(what, now, poll);
        }
        if !graves.is_empty() {
            let slots = self.slots_of(&graves);
            actions.push(RedisAction::Bury(graves, slots));
        }
        actions.append(&mut wanted);
        self.asked = Some(Asked::Write);
        self.write_at = now + self.poll() / 2;
    }

    /// Those whose turn it is to be written, and how many of them were not before.
    fn due_graves(&self, mut graves: Vec<Grave>, now: Time) -> (Vec<Grave>, usize) {
        graves.retain(|grave| self.tries.is_due(&Try::Bury(grave.what), now));
        let is_new = |grave: &&Grave| self.tries.times(&Try::Bury(grave.what)) == 0;
        let news = graves.iter().filter(is_new).count();
        (graves, news)
    }

    /// Where Redis has the keys of these graves.
    fn slots_of(&self, graves: &[Grave]) -> Vec<Slot> {
        let is_buried = |seen: &&Seen| {
            seen.what
                .is_ok_and(|(name, _)| graves.iter().any(|grave| grave.what == Revoked::Key(name)))
        };
        self.seen.iter().filter(is_buried).map(|seen| seen.slot).collect()
    }

    /// The keys of the fleet that this node holds and Redis does not.
    fn lost_keys<S>(&self, reading: &ClockReading, now: Time) -> Vec<RedisAction<S>> {
        let mut lost = Vec::new();
        for key in &self.keys {
            let Some(shared) = key.shared else { continue };
            if self.taking.contains(&key.name) || self.sees(&key.name) {
                continue;
            }
            // As it was made: what a key says never changes, so that no record of it says more.
            let terms = shared.terms;
            let keep = keep(&terms, reading, now);
            let is_taken = |slot: Slot| self.seen.iter().any(|seen| seen.slot == slot);
            let slot = if is_taken(shared.slot) { Slot::Kept(key.name) } else { shared.slot };
            if keep > TOO_SHORT && !is_taken(slot) {
                lost.push(RedisAction::PutBack(slot, key.name, terms, keep));
            }
        }
        lost
    }

    /// The keys of this period and of those ahead, where there is none.
    fn missing<S>(&self, reading: &ClockReading, now: Time) -> Vec<RedisAction<S>> {
        let wanted = self.wanted_periods(now).filter_map(|period| {
            let from = self.wanted_from(period, reading, now)?;
            self.offer(period, reading, now, from)
        });
        wanted.map(|(_, offer)| offer).collect()
    }

    /// What a rotation by hand asks for: in this period and the next one, no key encrypts that was made
    /// before. Those further ahead stay; whoever distrusts them revokes them.
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
        let epoch = self.graves.epoch();
        let terms = Terms { begins, epoch, plain: self.settings.plain, ..terms };
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
        let of_period =
            |key: &&HeldKey| key.is_kin() && key.shared.is_some_and(|key| is_of(key.slot));
        // There is one, and this node, which had another R when it took it, does not encrypt with it: it
        // goes on with those that it had then.
        let has_one = self.keys.iter().any(|key| of_period(&key));
        let serving = self.keys.iter().filter(|key| key.is_kin() || has_one);
        let shared: Vec<_> = serving.filter_map(everywhere).collect();
        if shared.iter().filter(of_period).any(|key| reaches(key.times.encrypt_until)) {
            return None;
        }
        // Keys of other periods serve in this one, too, if Redis has another clock now.
        let start = reading.local(start_of(period, self.policy.rotate_every)).max(now);
        let covered = line_end(&shared, start);
        if covered > start { (!reaches(covered)).then(|| covered - SLACK) } else { Some(start) }
    }

    fn sees(&self, name: &KeyName) -> bool {
        self.seen.iter().any(|seen| seen.what.is_ok_and(|(other, _)| other == *name))
    }
}

/// What an action tries to write.
fn tried<S>(action: &RedisAction<S>) -> Option<Try> {
    match action {
        RedisAction::Offer(terms, _) => Some(Try::Offer(terms.turn)),
        RedisAction::PutBack(_, name, ..) => Some(Try::PutBack(*name)),
        _ => None,
    }
}

/// How long Redis is to keep it.
fn keep(terms: &Terms, reading: &ClockReading, now: Time) -> Duration {
    let now: RedisTime = reading.latest(now);
    now.until(terms.ends)
}
