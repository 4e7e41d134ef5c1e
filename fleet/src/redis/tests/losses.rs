//! Redis is gone, has lost everything, or has another clock.

use super::super::clock::Doubt;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settled(hosts: usize) -> Fleet {
    let mut fleet = Fleet::new(hosts);
    fleet.run(4 * R + Duration::from_secs(20));
    assert!(fleet.agrees());
    fleet
}

/// Steps, and everybody encrypts all the time.
fn serve(fleet: &mut Fleet, span: Duration) {
    let end = fleet.now + span;
    while fleet.now < end {
        fleet.step();
        for number in 0..fleet.hosts.len() {
            assert!(fleet.encrypting(number).is_some(), "host {number} has no key");
        }
    }
}

fn agree(fleet: &mut Fleet, span: Duration) {
    let end = fleet.now + span;
    while fleet.now < end {
        fleet.step();
        assert!(fleet.agrees());
    }
}

#[test]
fn an_outage_shorter_than_a_period_loses_nothing() {
    let mut fleet = settled(3);
    fleet.redis.up = false;
    agree(&mut fleet, R - 21 * SECOND);
    fleet.redis.up = true;
    agree(&mut fleet, 3 * R);
}

#[test]
fn without_redis_each_goes_on_alone_and_returns() {
    let mut fleet = settled(3);
    fleet.redis.up = false;
    serve(&mut fleet, 3 * R);
    let names: Vec<_> = (0..3).map(|number| fleet.encrypting(number).unwrap()).collect();
    assert!(names.iter().all(|name| fleet.own.contains(name)));
    assert_eq!(fleet.notes(0, |note| matches!(note, RedisNote::Alone(_))), 1);
    fleet.redis.up = true;
    serve(&mut fleet, LEAD + 2 * SECOND);
    assert!(fleet.agrees(), "the shared key is back after the lead");
    agree(&mut fleet, 4 * R);
    assert!(!fleet.own.contains(&fleet.encrypting(0).unwrap()));
    assert_eq!(fleet.notes(0, |note| *note == RedisNote::Back), 1);
}

#[test]
fn an_agent_that_starts_without_redis_encrypts_after_its_patience() {
    let mut fleet = Fleet::new(1);
    fleet.redis.up = false;
    fleet.run(Duration::from_millis(1900));
    assert_eq!(fleet.encrypting(0), None);
    fleet.run(Duration::from_millis(200));
    assert!(fleet.encrypting(0).is_some());
}

#[test]
fn what_a_flush_has_lost_is_put_back_and_nothing_else_changes() {
    let mut fleet = settled(3);
    let stored: Vec<_> =
        fleet.redis.values.iter().map(|(slot, (key, _))| (*slot, key.clone())).collect();
    assert!(stored.len() >= 4);
    let key = fleet.encrypting(0);
    fleet.redis.flush();
    agree(&mut fleet, 3 * SECOND);
    for (slot, key) in stored {
        assert_eq!(fleet.redis.values.get(&slot).map(|(key, _)| key), Some(&key), "{slot}");
    }
    assert_eq!(fleet.encrypting(1), key);
    let joined = fleet.join(policy());
    fleet.run(SECOND);
    assert_eq!(fleet.encrypting(joined), key);
    agree(&mut fleet, 3 * R);
}

#[test]
fn a_newcomer_faster_than_those_who_put_back_is_adopted_and_both_keys_decrypt() {
    let mut fleet = settled(3);
    let old = fleet.encrypting(0).unwrap();
    (0..3).for_each(|number| fleet.hosts[number].reaches_redis = false);
    fleet.redis.flush();
    let joined = fleet.join(policy());
    fleet.run(2 * SECOND);
    (0..3).for_each(|number| fleet.hosts[number].reaches_redis = true);
    fleet.run(3 * SECOND);
    assert!(fleet.hosts[joined].ring.contains_key(&old.0), "the old one is kept for all");
    fleet.run(LEAD);
    let new = fleet.encrypting(joined).unwrap();
    assert_ne!(new, old);
    assert!((0..3).all(|number| fleet.encrypting(number) == Some(new)));
    agree(&mut fleet, 3 * R);
}

#[test]
fn agents_restarted_one_after_the_other_lose_nothing() {
    let mut fleet = settled(3);
    for number in 0..3 {
        fleet.hosts[number].running = false;
        fleet.run(SECOND);
        fleet.restart(number);
        agree(&mut fleet, 3 * SECOND);
    }
    let own = fleet.own.len();
    agree(&mut fleet, 3 * R);
    assert_eq!(fleet.own.len(), own, "they have known the keys of their rings again");
}

/// A fail-over to a Redis whose clock is off by so much; whoever joins then, and everybody.
fn fail_over(seconds: i64) {
    let mut fleet = settled(3);
    let clock = i64::try_from(fleet.redis.clock).unwrap() + seconds * 1_000_000_000;
    fleet.redis.clock = u64::try_from(clock).unwrap();
    agree(&mut fleet, 3 * SECOND);
    assert!(
        (0..3).all(|number| fleet.notes(number, |note| matches!(note, RedisNote::ClockMoved(_))) == 1)
    );
    // `Fleet::check` sees to it that nothing lives longer, here neither.
    let joined = fleet.join(policy());
    serve_from(&mut fleet, joined, 5 * SECOND);
    let mut split = 0;
    for _ in 0..(6 * R.as_millis() / STEP.as_millis()) {
        fleet.step();
        let is_own = |number| fleet.encrypting(number).is_none_or(|name| fleet.own.contains(&name));
        assert!(!(0..4).any(is_own), "at {:?}", fleet.now);
        split += u32::from(!fleet.agrees());
    }
    assert_eq!(split, 0);
}

/// Who joins may have to wait for a key that the new clock knows.
fn serve_from(fleet: &mut Fleet, number: usize, span: Duration) {
    fleet.run(LEAD + Duration::from_millis(200));
    assert!(fleet.encrypting(number).is_some());
    serve(fleet, span);
}

#[test]
fn a_redis_whose_clock_is_a_little_behind_lengthens_nothing() {
    fail_over(-5);
    fail_over(-14);
}

/// So little that nobody amends what Redis has: it has a key after its end.
#[test]
fn a_key_that_is_over_does_not_come_back_with_a_clock_that_is_a_little_behind() {
    let mut fleet = settled(2);
    fleet.redis.clock -= nanos(Duration::from_millis(900));
    // `Fleet::act` sees to it.
    agree(&mut fleet, 6 * R);
    assert!(fleet.hosts.iter().all(|host| host.over.len() > 3));
}

#[test]
fn a_redis_whose_clock_is_a_little_ahead_lengthens_nothing() {
    fail_over(5);
    fail_over(14);
}

#[test]
fn a_redis_with_quite_another_clock_is_not_believed_until_it_is_set_right() {
    for seconds in [-3600, -100, -30, 30, 100, 3600] {
        let mut fleet = settled(3);
        let right = fleet.redis.clock;
        fleet.redis.clock = right.saturating_add_signed(seconds * 1_000_000_000);
        // The keys that all have last first.
        agree(&mut fleet, R / 2);
        let doubted = |note: &RedisNote| matches!(note, RedisNote::Doubted(Doubt::Apart(_), _));
        assert!((0..3).all(|number| fleet.notes(number, doubted) == 1), "{seconds}");
        let joined = fleet.join(policy());
        serve_from(&mut fleet, joined, 4 * R);
        assert!((0..4).all(|number| fleet.own.contains(&fleet.encrypting(number).unwrap())));
        fleet.redis.clock = right;
        serve(&mut fleet, R + LEAD);
        agree(&mut fleet, 3 * R);
        assert!(!fleet.own.contains(&fleet.encrypting(joined).unwrap()));
        let again = |note: &RedisNote| *note == RedisNote::Believed;
        assert!((0..4).all(|number| fleet.notes(number, again) == 1), "{seconds}");
    }
}

#[test]
fn a_host_whose_own_clock_is_wrong_goes_alone_and_disturbs_nobody() {
    let mut fleet = settled(3);
    fleet.hosts[2].wrong_by = -1_000_000;
    agree(&mut fleet, R / 2);
    let end = fleet.now + 4 * R;
    while fleet.now < end {
        fleet.step();
        let names: Vec<_> = (0..3).map(|number| fleet.encrypting(number).unwrap()).collect();
        assert!(names[..2].iter().all(|name| !fleet.own.contains(name)));
        assert!((0..2).all(|number| fleet.hosts[number].ring.contains_key(&names[0].0)));
    }
    assert!(fleet.own.contains(&fleet.encrypting(2).unwrap()));
    fleet.hosts[2].wrong_by = 0;
    serve(&mut fleet, R);
    agree(&mut fleet, 3 * R);
}

#[test]
fn a_day_of_outages_leaves_nobody_without_a_key() {
    let mut fleet = settled(8);
    // A generator of the test's own: the same every time.
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    for _ in 0..120 {
        match random(6) {
            0 => fleet.redis.up = false,
            1 => fleet.redis.flush(),
            2 => {
                let host = random(8) as usize;
                fleet.hosts[host].reaches_redis ^= true;
            }
            3 => {
                let host = random(8) as usize;
                fleet.restart(host);
            }
            _ => {
                fleet.redis.up = true;
                fleet.hosts.iter_mut().for_each(|host| host.reaches_redis = true);
            }
        }
        serve(&mut fleet, Duration::from_secs(random(40)));
    }
    fleet.redis.up = true;
    fleet.hosts.iter_mut().for_each(|host| host.reaches_redis = true);
    fleet.run(R + LEAD);
    agree(&mut fleet, 3 * R);
}
