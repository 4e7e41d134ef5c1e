//! A revoked key is gone everywhere, and stays gone.

use std::ops::Range;

use super::*;

fn settled() -> Fleet {
    let mut fleet = Fleet::new(3);
    fleet.run(4 * R + Duration::from_secs(20));
    fleet
}

fn has(fleet: &Fleet, number: usize, name: KeyName) -> bool {
    fleet.hosts[number].ring.contains_key(&name.0)
}

/// Host 0 has revoked a key, which nobody else knows: Redis is away.
fn revoked_without_redis() -> (Fleet, KeyName) {
    let mut fleet = settled();
    let revoked = fleet.encrypting(0).unwrap();
    fleet.redis.up = false;
    fleet.run(Duration::from_secs(1));
    fleet.tell(0, RedisEvent::Revoke(vec![revoked]));
    (fleet, revoked)
}

/// For so long, none of those hosts has it.
fn stays_away(fleet: &mut Fleet, name: KeyName, hosts: Range<usize>, time: Duration) {
    for _ in 0..(time.as_millis() / STEP.as_millis()) {
        fleet.step();
        assert!(!hosts.clone().any(|number| has(fleet, number, name)), "it came back");
    }
}

#[test]
fn a_revoked_key_is_gone_everywhere_and_something_else_encrypts() {
    let mut fleet = settled();
    let revoked = fleet.encrypting(0).unwrap();
    fleet.tell(0, RedisEvent::Revoke(vec![revoked]));
    assert!(!has(&fleet, 0, revoked) && fleet.encrypting(0).is_some(), "here at once");
    fleet.run(Duration::from_millis(1100));
    for number in 0..3 {
        assert!(!has(&fleet, number, revoked) && fleet.encrypting(number).is_some());
    }
    assert!(fleet.redis.values.values().all(|(key, _)| key.name != revoked));
    fleet.run(LEAD + Duration::from_secs(2));
    assert!(fleet.agrees());
    assert_eq!(fleet.encrypting(0), fleet.encrypting(1));
    stays_away(&mut fleet, revoked, 0..3, 3 * R);
}

#[test]
fn revoking_all_reaches_one_that_was_away_before_it_is_ready() {
    let mut fleet = settled();
    let before: Vec<_> = fleet.hosts[1].ring.keys().map(|name| KeyName(*name)).collect();
    fleet.hosts[2].running = false;
    fleet.tell(0, RedisEvent::RevokeAll);
    fleet.run(Duration::from_millis(1100));
    for number in 0..2 {
        assert!(!before.iter().any(|name| has(&fleet, number, *name)), "host {number}");
        assert!(fleet.encrypting(number).is_some());
    }
    assert!(before.iter().any(|name| has(&fleet, 2, *name)));
    fleet.restart(2);
    while !fleet.hosts[2].node.is_synced() {
        fleet.step();
    }
    assert!(!before.iter().any(|name| has(&fleet, 2, *name)));
    fleet.run(LEAD + Duration::from_secs(2));
    assert!(fleet.agrees());
    // A flush does not bring anything back.
    fleet.redis.flush();
    fleet.run(Duration::from_secs(3));
    let joined = fleet.join(policy());
    fleet.run(Duration::from_secs(3));
    assert!(!before.iter().any(|name| (0..=joined).any(|number| has(&fleet, number, *name))));
    let graves = &fleet.redis.graves;
    assert!(before.iter().all(|name| graves.iter().any(|grave| grave.what == Revoked::Key(*name))));
}

#[test]
fn what_is_revoked_without_redis_is_told_when_it_is_back() {
    let (mut fleet, revoked) = revoked_without_redis();
    fleet.run(Duration::from_secs(1));
    assert!(!has(&fleet, 0, revoked) && has(&fleet, 1, revoked));
    fleet.redis.up = true;
    fleet.run(Duration::from_secs(3));
    assert!(!(0..3).any(|number| has(&fleet, number, revoked)));
    fleet.run(LEAD + Duration::from_secs(1));
    assert!(fleet.agrees());
}

/// Somebody else's clock, or settings, were not as ours.
#[test]
fn a_revocation_that_redis_would_forget_too_early_is_told_again() {
    let (mut fleet, revoked) = revoked_without_redis();
    let ends = fleet.redis.time(fleet.now).after(Duration::from_secs(2));
    fleet.redis.graves.push(Grave { what: Revoked::Key(revoked), ends });
    fleet.redis.change();
    fleet.redis.up = true;
    fleet.run(Duration::from_secs(2));
    stays_away(&mut fleet, revoked, 0..3, 4 * R);
    let told = fleet.redis.graves.iter().filter(|grave| grave.what == Revoked::Key(revoked));
    let now = fleet.redis.time(fleet.now);
    assert!(told.map(|grave| grave.ends).max() > Some(now.after(4 * R)));
}

#[test]
fn keys_of_a_nodes_own_are_revoked_with_all() {
    let mut fleet = settled();
    fleet.redis.up = false;
    fleet.run(3 * R);
    let own = fleet.encrypting(1).unwrap();
    assert!(fleet.own.contains(&own));
    fleet.tell(0, RedisEvent::RevokeAll);
    fleet.redis.up = true;
    fleet.run(Duration::from_secs(3));
    assert!(!has(&fleet, 1, own) && fleet.encrypting(1).is_some());
}

#[test]
fn what_is_revoked_on_one_host_is_gone_everywhere() {
    let mut fleet = settled();
    let gone = fleet.encrypting(0).unwrap();
    fleet.revoke_here(0, gone);
    fleet.run(Duration::from_millis(1100));
    assert!(!(0..3).any(|number| has(&fleet, number, gone)));
    stays_away(&mut fleet, gone, 0..3, R);
    assert!(fleet.agrees());
}

#[test]
fn what_is_revoked_while_no_agent_runs_is_told_when_one_does() {
    let mut fleet = settled();
    let gone = fleet.encrypting(0).unwrap();
    fleet.hosts[0].running = false;
    fleet.revoke_here(0, gone);
    fleet.run(Duration::from_secs(2));
    assert!(has(&fleet, 1, gone));
    fleet.restart(0);
    fleet.run(Duration::from_millis(1500));
    stays_away(&mut fleet, gone, 0..3, R);
}

/// Gone without a grave: nobody has revoked it.
#[test]
fn a_key_that_is_gone_on_one_host_does_not_come_back_there() {
    let mut fleet = settled();
    let gone = fleet.encrypting(0).unwrap();
    fleet.hosts[0].ring.remove(&gone.0);
    fleet.tell(0, RedisEvent::Lost(gone));
    fleet.run(R);
    assert!(!has(&fleet, 0, gone) && has(&fleet, 1, gone));
    assert_eq!(fleet.encrypting(0), fleet.encrypting(1));
}

/// Its tickets live longer than those of the host that it was revoked on.
#[test]
fn a_key_of_a_longer_life_that_was_revoked_does_not_come_back_either() {
    for all in [false, true] {
        let mut fleet = Fleet::new(0);
        fleet.join(Policy { lifetime: 20 * R, ..policy() });
        fleet.run(3 * R);
        let careful = fleet.join(policy());
        fleet.run(R / 2);
        let gone = fleet.encrypting(0).unwrap();
        assert!(has(&fleet, careful, gone));
        if all {
            fleet.tell(careful, RedisEvent::Revoke(vec![gone]));
            fleet.run(Duration::from_secs(2));
            assert!(!has(&fleet, 0, gone));
        } else {
            fleet.hosts[careful].ring.remove(&gone.0);
            fleet.tell(careful, RedisEvent::Lost(gone));
        }
        stays_away(&mut fleet, gone, careful..careful + 1, 8 * R);
        assert_eq!(has(&fleet, 0, gone), !all, "the others' life is not ours");
    }
}
