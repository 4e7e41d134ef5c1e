//! Redis answers, but late.

use super::*;

/// There and back.
const SLOW: Duration = Duration::from_secs(2);
/// What is recommended for it.
const LONG_LEAD: Duration = Duration::from_secs(10);

/// Hosts whose answers take so long.
fn starting(trips: &[Duration]) -> Fleet {
    let mut fleet = Fleet::new(trips.len());
    for (host, trip) in fleet.hosts.iter_mut().zip(trips) {
        host.trip = *trip;
        let slow = Settings { lead: LONG_LEAD, ..settings() };
        host.node = RedisNode::new(host.id, slow, policy(), Memory::NONE);
    }
    fleet
}

/// Hosts that have worked for a while.
fn settled(trips: &[Duration]) -> Fleet {
    let mut fleet = starting(trips);
    fleet.run(4 * R + Duration::from_secs(20));
    assert!(fleet.agrees());
    fleet
}

/// All encrypt with keys of the fleet, which all have, and none is alone for a moment.
fn share(fleet: &mut Fleet, span: Duration) {
    let own = fleet.own.len();
    let end = fleet.now + span;
    while fleet.now < end {
        fleet.step();
        assert!(fleet.agrees(), "after {:?}", fleet.now);
    }
    assert_eq!(fleet.own.len(), own, "nobody needed a key of its own");
    for number in 0..fleet.hosts.len() {
        assert_eq!(fleet.notes(number, |note| matches!(note, RedisNote::Alone(_))), 0);
    }
}

#[test]
fn two_seconds_there_and_back_cost_no_ticket() {
    for trips in [[SLOW; 3], [TRIP, SLOW, SLOW]] {
        let mut fleet = settled(&trips);
        share(&mut fleet, 20 * R);
    }
}

#[test]
fn a_rotation_by_hand_costs_no_ticket_either() {
    for asker in [0, 1] {
        // Whatever is on its way at that moment.
        for moment in 0..30 {
            let mut fleet = settled(&[TRIP, SLOW, SLOW]);
            fleet.run(Duration::from_millis(100) * moment);
            let before = fleet.encrypting(1);
            fleet.tell(asker, RedisEvent::Rotate);
            share(&mut fleet, R / 2);
            assert_ne!(fleet.encrypting(1), before);
        }
    }
}

/// What has to be agreed upon anew takes as much longer as it takes to ask, write and look.
#[test]
fn a_start_and_a_revocation_of_all_take_longer() {
    let longest = LONG_LEAD + 5 * SLOW / 2;
    for moment in 0..30 {
        let mut fleet = starting(&[SLOW; 3]);
        fleet.run(longest);
        share(&mut fleet, R + Duration::from_millis(100) * moment);
        fleet.tell(0, RedisEvent::RevokeAll);
        fleet.run(longest);
        share(&mut fleet, R);
    }
}

#[test]
fn an_outage_shorter_than_a_period_costs_nothing() {
    let mut fleet = settled(&[SLOW; 3]);
    for up in [false, true] {
        fleet.redis.up = up;
        let end = fleet.now + R - Duration::from_secs(25);
        while fleet.now < end {
            fleet.step();
            assert!(fleet.agrees());
        }
    }
}
