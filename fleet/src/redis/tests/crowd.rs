//! Many hosts do not all ask Redis at the same moment.

use super::*;

const HOSTS: usize = 100;
const POLL: Duration = Duration::from_secs(1);
/// A revocation is asked about within this time, as the agent's client sees to.
const SPREAD: Duration = Duration::from_millis(250);
const SLICE: Duration = Duration::from_millis(100);

/// How many questions reach Redis in the busiest tenth of a second of so many.
fn busiest(fleet: &mut Fleet, slices: u32) -> u64 {
    let slice = |fleet: &mut Fleet| {
        let before = fleet.redis.asked;
        fleet.run(SLICE);
        fleet.redis.asked - before
    };
    (0..slices).map(|_| slice(fleet)).max().unwrap_or(0)
}

/// Its news, which all hear at once: each asks within the spread.
fn tell_all(fleet: &mut Fleet) {
    let end = fleet.now + SPREAD;
    let mut number = 0;
    while fleet.now < end {
        let until = (SPREAD - fleet.now.until(end)).as_millis() as usize;
        while number < HOSTS && number * SPREAD.as_millis() as usize / HOSTS <= until {
            fleet.tell(number, RedisEvent::Heard);
            number += 1;
        }
        fleet.step();
    }
}

#[test]
fn a_revocation_that_all_hear_does_not_make_them_ask_together_ever_after() {
    let mut fleet = Fleet::new(HOSTS);
    fleet.hosts.iter_mut().for_each(|host| host.reaches_redis = false);
    for number in 0..HOSTS {
        fleet.hosts[number].reaches_redis = true;
        fleet.run(POLL / HOSTS as u32);
    }
    fleet.run(R / 2);
    let key = fleet.encrypting(0).unwrap();
    // Ten of a hundred, each of which may look, too.
    let usual = busiest(&mut fleet, 50);
    assert!(usual <= 20, "{usual}");
    fleet.tell(0, RedisEvent::Revoke(vec![key]));
    fleet.run(TRIP);
    tell_all(&mut fleet);
    fleet.run(POLL);
    assert!(fleet.hosts.iter().all(|host| !host.ring.contains_key(&key.0)));
    let afterwards = busiest(&mut fleet, 50);
    assert!(afterwards <= 25, "{afterwards}, and {usual} before");
}

/// It may be what the answer on its way does not know yet.
#[test]
fn what_is_heard_while_redis_is_asked_is_asked_about_again() {
    let mut fleet = Fleet::new(2);
    fleet.run(R / 2);
    let key = fleet.encrypting(0).unwrap();
    let trip = Duration::from_millis(600);
    fleet.hosts[1].trip = trip;
    fleet.tell(1, RedisEvent::Heard);
    fleet.run(trip / 2 + STEP);
    fleet.tell(0, RedisEvent::Revoke(vec![key]));
    fleet.run(TRIP);
    fleet.tell(1, RedisEvent::Heard);
    // The rest of this answer, one more, and a look.
    fleet.run(trip / 2 + 2 * trip);
    assert!(!fleet.hosts[1].ring.contains_key(&key.0));
}
