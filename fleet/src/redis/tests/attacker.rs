//! Somebody who may write to Redis and set its clock, but does not have the fleet secret: what was
//! there can be put back, moved, hidden and taken away, and no key be made or changed.
//!
//! [`Fleet`] sees to it that nothing that was over or revoked on a host comes back there, that no
//! epoch and no period goes back, and that no key lives longer than it was made for.

use super::super::clock::{Doubt, tolerance};
use super::super::stored::Terms;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// All that was ever there.
#[derive(Default)]
struct Recorder {
    values: Vec<(Slot, Stored<()>)>,
    graves: Vec<Grave>,
    marks: Vec<Option<Mark>>,
}

impl Recorder {
    fn record(&mut self, redis: &Redis) {
        for (slot, (key, _)) in &redis.values {
            let value = (*slot, key.clone());
            if !self.values.contains(&value) {
                self.values.push(value);
            }
        }
        for grave in &redis.graves {
            if !self.graves.contains(grave) {
                self.graves.push(*grave);
            }
        }
        if self.marks.last() != Some(&redis.mark) {
            self.marks.push(redis.mark);
        }
    }

    /// All of it is put where it was; of what was in one place, what was there last.
    fn put_back(&self, redis: &mut Redis) {
        for (slot, key) in &self.values {
            redis.values.insert(*slot, (key.clone(), RedisTime(u64::MAX)));
        }
        redis.keeps_all = true;
        redis.change();
    }
}

/// So long, while all that is there is recorded.
fn watch(fleet: &mut Fleet, recorder: &mut Recorder, span: Duration) {
    let end = fleet.now + span;
    while fleet.now < end {
        fleet.step();
        recorder.record(&fleet.redis);
    }
}

/// Hosts that agree, and what was there until now.
fn settled() -> (Fleet, Recorder) {
    let (mut fleet, mut recorder) = (Fleet::new(3), Recorder::default());
    watch(&mut fleet, &mut recorder, 6 * R + 20 * SECOND);
    assert!(fleet.agrees());
    (fleet, recorder)
}

fn has(fleet: &Fleet, number: usize, name: KeyName) -> bool {
    fleet.hosts[number].ring.contains_key(&name.0)
}

fn set_clock(fleet: &mut Fleet, seconds: i64) {
    fleet.redis.clock = fleet.redis.clock.saturating_add_signed(seconds * 1_000_000_000);
}

/// Everybody has what to encrypt with, though it may be a key of the host's own.
fn serve(fleet: &mut Fleet, span: Duration) {
    let end = fleet.now + span;
    while fleet.now < end {
        fleet.step();
        assert!((0..fleet.hosts.len()).all(|number| fleet.encrypting(number).is_some()));
    }
}

#[test]
fn keys_that_have_ended_do_not_come_back_with_the_clock_of_their_time() {
    let (mut fleet, recorder) = settled();
    for (agents, back) in [(false, 300), (true, 300), (true, 100)] {
        fleet.redis.flush();
        recorder.put_back(&mut fleet.redis);
        set_clock(&mut fleet, -back);
        if agents {
            (0..3).for_each(|number| fleet.restart(number));
        }
        // The keys that they have go on, and then ones of their own.
        serve(&mut fleet, 4 * R);
        set_clock(&mut fleet, back);
        fleet.run(R);
    }
}

/// Whoever has no ring of former times goes by its own clock.
#[test]
fn keys_that_have_ended_are_not_taken_by_a_host_that_knows_nothing() {
    let (mut fleet, recorder) = settled();
    for back in [14, 100, 300] {
        recorder.put_back(&mut fleet.redis);
        set_clock(&mut fleet, -back);
        fleet.reboot(1);
        // `Fleet::check` sees how long a key lives.
        fleet.run(LEAD + 3 * SECOND);
        serve(&mut fleet, R);
        set_clock(&mut fleet, back);
        fleet.run(R);
    }
}

/// So little that Redis is believed.
#[test]
fn a_clock_that_is_a_little_behind_gives_an_ended_key_no_moment_more() {
    let (mut fleet, mut recorder) = settled();
    let end = |fleet: &Fleet| fleet.redis.time(fleet.now).0 % nanos(R);
    while end(&fleet) > nanos(3 * SECOND) || end(&fleet) < nanos(2 * SECOND) {
        watch(&mut fleet, &mut recorder, STEP);
    }
    // One ended at the beginning of this period, 2 s ago; by Redis it ends in 8 s.
    recorder.put_back(&mut fleet.redis);
    set_clock(&mut fleet, -10);
    fleet.reboot(1);
    fleet.run(SECOND);
    let over = |note: &RedisNote| matches!(note, RedisNote::Flawed(_, Flaw::Over));
    assert!(fleet.notes(1, over) > 0, "it was there");
    assert!(fleet.notes(1, |note| matches!(note, RedisNote::Doubted(..))) == 0, "and believed");
    serve(&mut fleet, R);
}

/// This host's own clock was set back, too: what its ring remembers counts.
#[test]
fn a_ring_remembers_how_late_it_was() {
    for (back, believed) in [(10, true), (3600, false)] {
        let (mut fleet, mut recorder) = settled();
        let end = |fleet: &Fleet| fleet.redis.time(fleet.now).0 % nanos(R);
        while end(&fleet) > nanos(3 * SECOND) || end(&fleet) < nanos(2 * SECOND) {
            watch(&mut fleet, &mut recorder, STEP);
        }
        recorder.put_back(&mut fleet.redis);
        set_clock(&mut fleet, -back);
        fleet.hosts[1].wrong_by = -back;
        // `Fleet::act` sees what was over and comes back.
        fleet.restart(1);
        serve(&mut fleet, 8 * SECOND);
        let doubts = |note: &RedisNote| matches!(note, RedisNote::Doubted(Doubt::Back(_), _));
        assert_eq!(fleet.notes(1, doubts) == 0, believed);
        assert!(fleet.hosts[1].over.len() > 1);
    }
}

#[test]
fn a_revoked_key_that_is_put_back_stays_dead_where_the_agent_was_restarted() {
    let (mut fleet, mut recorder) = settled();
    let revoked = fleet.encrypting(0).expect("agreed");
    fleet.tell(0, RedisEvent::Revoke(vec![revoked]));
    watch(&mut fleet, &mut recorder, 2 * SECOND);
    assert!(!(0..3).any(|number| has(&fleet, number, revoked)));
    for quiet in [false, true] {
        fleet.redis.flush();
        fleet.redis.mark_is_kept = quiet;
        recorder.put_back(&mut fleet.redis);
        (0..3).for_each(|number| fleet.restart(number));
        serve(&mut fleet, LEAD + 2 * SECOND);
        fleet.redis.mark_is_kept = false;
        assert!(!(0..3).any(|number| has(&fleet, number, revoked)));
        // And the fleet knows it again.
        let buried = |grave: &Grave| grave.what == Revoked::Key(revoked);
        assert!(fleet.redis.graves.iter().any(buried));
    }
}

/// Whoever revoked all keys did not know each of them.
#[test]
fn all_keys_of_an_epoch_before_stay_dead_whatever_their_names() {
    let (mut fleet, mut recorder) = settled();
    fleet.hosts[0].reaches_redis = false;
    fleet.tell(1, RedisEvent::Rotate);
    watch(&mut fleet, &mut recorder, LEAD + 3 * SECOND);
    let unknown = fleet.encrypting(1).expect("a key");
    assert!(!has(&fleet, 0, unknown) && has(&fleet, 2, unknown));
    fleet.tell(0, RedisEvent::RevokeAll);
    fleet.hosts[0].reaches_redis = true;
    watch(&mut fleet, &mut recorder, 2 * SECOND);
    assert!(!(0..3).any(|number| has(&fleet, number, unknown)));
    // The others were restarted meanwhile, and names are not known any more.
    for number in 0..3 {
        fleet.hosts[number].graves.clear();
        fleet.restart(number);
    }
    fleet.redis.flush();
    recorder.put_back(&mut fleet.redis);
    serve(&mut fleet, LEAD + 2 * SECOND);
    assert!(!(0..3).any(|number| has(&fleet, number, unknown)));
    assert!(fleet.redis.graves.iter().any(|grave| grave.what == Revoked::All(1)));
}

/// Only keys of the new epoch are left to say that there is one.
#[test]
fn a_host_that_was_away_heeds_a_revocation_whose_record_is_gone() {
    let (mut fleet, _) = settled();
    fleet.hosts[2].reaches_redis = false;
    fleet.tell(1, RedisEvent::Rotate);
    fleet.run(LEAD + 3 * SECOND);
    let before: Vec<_> = fleet.hosts[2].ring.keys().map(|name| KeyName(*name)).collect();
    fleet.tell(0, RedisEvent::RevokeAll);
    fleet.run(LEAD + 3 * SECOND);
    (0..2).for_each(|number| fleet.hosts[number].reaches_redis = false);
    fleet.hosts[2].reaches_redis = true;
    fleet.redis.graves.clear();
    fleet.run(2 * SECOND);
    assert!(before.len() > 2 && !before.iter().any(|name| has(&fleet, 2, *name)));
    assert_eq!(fleet.encrypting(2), fleet.encrypting(0));
}

/// A host joins while others that know better live.
#[test]
fn a_newcomer_learns_what_was_revoked_though_somebody_took_it_away() {
    for (all, quiet) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut fleet, mut recorder) = settled();
        let revoked = fleet.encrypting(0).expect("agreed");
        let event = if all { RedisEvent::RevokeAll } else { RedisEvent::Revoke(vec![revoked]) };
        fleet.tell(0, event);
        watch(&mut fleet, &mut recorder, LEAD + 2 * SECOND);
        let (mark, before) = (fleet.redis.mark, recorder.marks.len());
        fleet.redis.flush();
        fleet.redis.mark_is_kept = quiet;
        recorder.put_back(&mut fleet.redis);
        fleet.redis.mark = if quiet { mark } else { fleet.redis.mark };
        assert!(before > 1);
        let joined = fleet.join(policy());
        // As long as nobody else looks, nobody can tell it.
        fleet.run(Settings::default().poll(&policy()) * 11 + SECOND);
        fleet.redis.mark_is_kept = false;
        fleet.run(2 * SECOND);
        assert!(!has(&fleet, joined, revoked), "all: {all}, quiet: {quiet}");
    }
}

/// What a key says never changes: no later record of it says more than the first.
#[test]
fn a_clock_that_goes_there_and_back_lengthens_no_key() {
    let (mut fleet, mut recorder) = settled();
    let present = fleet.encrypting(0).expect("agreed");
    let ends = |recorder: &Recorder| {
        let of_it = recorder.values.iter().filter(|(_, key)| key.name == present);
        of_it.map(|(_, key)| key.terms.ends).collect::<HashSet<_>>()
    };
    for seconds in [14, -14, -14, 14, 100, -100] {
        set_clock(&mut fleet, seconds);
        fleet.redis.flush();
        watch(&mut fleet, &mut recorder, 3 * SECOND);
    }
    assert_eq!(ends(&recorder).len(), 1);
    let terms: Vec<Terms> = recorder.values.iter().map(|(_, key)| key.terms).collect();
    assert!(terms.iter().all(|terms| terms.ends <= start_of_next(terms).after(LIFETIME)));
}

fn start_of_next(terms: &Terms) -> RedisTime {
    super::super::stored::start_of(terms.turn.period + 1, R)
}

#[test]
fn what_is_moved_to_another_turn_is_not_used() {
    let (mut fleet, recorder) = settled();
    let names: Vec<_> = recorder.values.iter().map(|(_, key)| key.name).collect();
    let mut slots: Vec<_> = fleet.redis.values.keys().copied().collect();
    slots.sort_by_key(Slot::to_string);
    let first = fleet.redis.values[&slots[0]].clone();
    for pair in slots.windows(2) {
        let next = fleet.redis.values[&pair[1]].clone();
        fleet.redis.values.insert(pair[0], next);
    }
    fleet.redis.values.insert(slots[slots.len() - 1], first);
    fleet.redis.change();
    let joined = fleet.join(policy());
    fleet.run(SECOND);
    let misplaced = |note: &RedisNote| matches!(note, RedisNote::Flawed(_, Flaw::Misplaced));
    assert_eq!(fleet.notes(joined, misplaced), 1);
    // The others have put back what they hold, under its name.
    fleet.run(LEAD);
    assert!(fleet.agrees());
    assert!(fleet.hosts[joined].ring.keys().any(|name| names.contains(&KeyName(*name))));
}

/// Whoever writes much more than agents read can do that.
#[test]
fn what_was_revoked_is_told_no_more_often_than_is_looked_where_it_cannot_be_found() {
    let (mut fleet, _) = settled();
    let revoked = fleet.encrypting(0).expect("agreed");
    fleet.redis.hides_graves = true;
    fleet.tell(0, RedisEvent::Revoke(vec![revoked]));
    fleet.tell(1, RedisEvent::RevokeAll);
    fleet.run(LEAD + 20 * SECOND);
    let (before, graves) = (fleet.redis.written, fleet.redis.graves.clone());
    let poll = Settings::default().poll(&policy());
    fleet.run(20 * 10 * poll);
    // Each host tells both kinds, names and the epoch, and makes keys beside that.
    let told = fleet.redis.written - before;
    assert!((20..=3 * 3 * 20).contains(&told), "{told}");
    assert!(fleet.redis.graves.len() >= graves.len());
    // It is all there when it can be found.
    fleet.redis.hides_graves = false;
    let joined = fleet.join(policy());
    fleet.run(LEAD);
    assert!(!has(&fleet, joined, revoked) && fleet.hosts[joined].node.epoch() == 1);
}

/// Each host is shown another Redis.
#[test]
fn hosts_that_are_shown_different_things_go_alone_at_worst() {
    let (mut fleet, recorder) = settled();
    let revoked = fleet.encrypting(0).expect("agreed");
    fleet.tell(0, RedisEvent::Revoke(vec![revoked]));
    fleet.run(2 * SECOND);
    let end = fleet.now + 4 * R;
    let mut shown = 0;
    while fleet.now < end {
        shown = (shown + 1) % 3;
        (0..3).for_each(|number| fleet.hosts[number].reaches_redis = number == shown);
        fleet.redis.flush();
        if shown == 1 {
            recorder.put_back(&mut fleet.redis);
        }
        serve(&mut fleet, 2 * SECOND);
        assert!(!(0..3).any(|number| has(&fleet, number, revoked)));
    }
}

/// All at once, and in any order; hosts start and operators revoke meanwhile.
#[test]
fn whoever_writes_to_redis_can_make_hosts_go_alone_and_no_more() {
    for seed in 1..=12_u64 {
        let (mut fleet, mut recorder) = settled();
        fleet.lied = tolerance(R);
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..40 {
            match random(12) {
                0 => fleet.redis.flush(),
                1 => recorder.put_back(&mut fleet.redis),
                2 => {
                    let offset = random(600) as i64 - 300;
                    fleet.redis.clock = 50 * YEAR;
                    set_clock(&mut fleet, offset);
                }
                3 => {
                    let offset = random(30) as i64 - 15;
                    fleet.redis.clock = 50 * YEAR;
                    set_clock(&mut fleet, offset);
                }
                4 => fleet.redis.clock = 50 * YEAR,
                5 => fleet.redis.graves = recorder.graves.clone(),
                6 => fleet.redis.graves.clear(),
                7 => {
                    fleet.redis.mark_is_kept ^= true;
                    fleet.redis.mark = recorder.marks[random(recorder.marks.len() as u64) as usize];
                }
                8 => {
                    let number = random(3) as usize;
                    fleet.restart(number);
                }
                9 => {
                    let number = random(3) as usize;
                    fleet.hosts[number].reaches_redis ^= true;
                }
                10 => {
                    let number = random(3) as usize;
                    let name = fleet.encrypting(number).expect("it encrypts all the time");
                    fleet.tell(number, RedisEvent::Revoke(vec![name]));
                }
                _ => {
                    let number = random(3) as usize;
                    fleet.tell(number, RedisEvent::RevokeAll);
                }
            }
            let end = fleet.now + Duration::from_secs(random(30));
            while fleet.now < end {
                fleet.step();
                recorder.record(&fleet.redis);
                let all = (0..3).all(|number| fleet.encrypting(number).is_some());
                assert!(all, "seed {seed}");
            }
        }
        // It is over, and all is well again.
        fleet.redis.clock = 50 * YEAR;
        (fleet.redis.keeps_all, fleet.redis.mark_is_kept) = (false, false);
        (0..3).for_each(|number| fleet.hosts[number].reaches_redis = true);
        fleet.run(2 * R + LEAD);
        assert!(fleet.agrees(), "seed {seed}");
        assert!(!fleet.own.contains(&fleet.encrypting(0).expect("agreed")), "seed {seed}");
    }
}
