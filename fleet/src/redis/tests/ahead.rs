//! Keys are stored so far ahead that everybody has them while Redis is away.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_secs(5);

/// Three hosts that have worked for a while.
fn settled(rotate_every: Duration, lifetime: Duration, ahead: Ahead) -> Fleet {
    let mut fleet = Fleet::empty(Settings { ahead, ..Settings::default() });
    let lead = Policy::default_lead(rotate_every);
    for _ in 0..3 {
        fleet.join(Policy { rotate_every, lifetime, lead });
    }
    fleet.run(4 * rotate_every + 20 * SECOND);
    assert!(fleet.agrees());
    fleet
}

/// Redis is away for so long, and comes back empty; how many steps there were since in which some host
/// encrypted with what another one did not have.
fn lost_by(fleet: &mut Fleet, outage: Duration, afterwards: Duration) -> usize {
    let mut lost = 0;
    for (up, span) in [(false, outage), (true, afterwards)] {
        fleet.redis.up = up;
        fleet.redis.flush();
        let end = fleet.now + span;
        while fleet.now < end {
            fleet.step();
            lost += usize::from(!fleet.agrees());
        }
    }
    lost
}

#[test]
fn twenty_five_seconds_away_cost_nothing_where_keys_last_five() {
    for lifetime in [20 * SECOND, 60 * SECOND] {
        for moment in 0..10 {
            let mut fleet = settled(SHORT, lifetime, Ahead::default());
            fleet.run(SHORT * moment / 10);
            assert_eq!(lost_by(&mut fleet, 25 * SECOND, 10 * SHORT), 0);
            // Nor do they soon afterwards, once more.
            assert_eq!(lost_by(&mut fleet, 25 * SECOND, 10 * SHORT), 0);
        }
        let mut fleet = settled(SHORT, lifetime, Ahead::LEAST);
        assert!(lost_by(&mut fleet, 25 * SECOND, 10 * SHORT) > 0, "it is because they are ahead");
    }
}

#[test]
fn an_outage_as_long_as_keys_are_ahead_costs_nothing() {
    let ahead = Duration::from_secs(600);
    for moment in 0..4 {
        let mut fleet = settled(R, LIFETIME, Ahead(Some(ahead)));
        fleet.run(R * moment / 4);
        let before = fleet.own.len();
        assert_eq!(lost_by(&mut fleet, ahead, 3 * R), 0);
        let own = &fleet.own[before..];
        assert!((0..3).all(|number| !own.contains(&fleet.encrypting(number).unwrap())));
    }
}

/// By default, at most sixty-four keys: 320 s.
#[test]
fn an_outage_of_the_default_costs_nothing_where_keys_are_short() {
    let mut fleet = settled(SHORT, 20 * SECOND, Ahead::default());
    assert_eq!(lost_by(&mut fleet, 320 * SECOND, 10 * SHORT), 0);
}

#[test]
fn after_a_revocation_of_all_new_keys_are_as_far_ahead() {
    let mut fleet = settled(SHORT, 20 * SECOND, Ahead::default());
    fleet.tell(1, RedisEvent::RevokeAll);
    fleet.run(3 * SHORT);
    assert!(fleet.agrees());
    assert_eq!(lost_by(&mut fleet, 300 * SECOND, 10 * SHORT), 0);
}

#[test]
fn a_rotation_by_hand_replaces_the_present_key_and_the_next_one() {
    let mut fleet = settled(R, LIFETIME, Ahead(Some(10 * R)));
    let before: Vec<_> = fleet.hosts[0].ring.keys().copied().map(KeyName).collect();
    fleet.tell(1, RedisEvent::Rotate);
    fleet.run(LEAD + SECOND);
    let new = fleet.encrypting(0).unwrap();
    assert!(!before.contains(&new) && fleet.agrees());
    let after: Vec<_> = fleet.hosts[0].ring.keys().copied().map(KeyName).collect();
    let made = after.iter().filter(|name| !before.contains(name)).count();
    assert!((1..=3).contains(&made), "{made} keys");
    assert_eq!(lost_by(&mut fleet, 9 * R, 3 * R), 0);
}

#[test]
fn keys_ahead_leave_the_room_that_the_lifetime_needs() {
    let policy = Policy { rotate_every: SHORT, lifetime: 60 * SECOND, lead: SECOND };
    let periods = |capacity, ahead| {
        let settings = Settings { capacity, ahead: Ahead(ahead), ..Settings::default() };
        settings.periods_ahead(&policy)
    };
    assert_eq!(periods(16_384, None), 65);
    assert_eq!(periods(16_384, Some(Ahead::LONGEST)), 65);
    assert_eq!(periods(16_384, Some(Duration::ZERO)), 1);
    assert_eq!(periods(64, None), 17);
    assert_eq!(periods(16, None), 1);
}
