//! What a fleet does while all is well, and when somebody asks for a rotation.

use super::*;

#[test]
fn one_key_per_rotation_serves_all_and_was_there_a_period_before() {
    let mut fleet = Fleet::new(3);
    fleet.run(LEAD + 3 * policy().lead);
    fleet.run(R);
    let before = fleet.own.len();
    let mut there_since = HashMap::new();
    let mut used = HashMap::new();
    let asked = fleet.redis.asked;
    let end = fleet.now + 20 * R;
    while fleet.now < end {
        fleet.step();
        assert!(fleet.agrees());
        for (number, host) in fleet.hosts.iter().enumerate() {
            for name in host.ring.keys() {
                there_since.entry((number, *name)).or_insert(fleet.now);
            }
            let reach = host.ring.values().map(|times| times.encrypt_until).max();
            let left = fleet.local(number).until(reach.expect("keys"));
            assert!(left > R - 2 * Settings::default().poll(&policy()), "a successor is there");
            let name = fleet.encrypting(number).expect("agreed");
            *used.entry(name).or_insert(fleet.now) = fleet.now;
            if fleet.now > end - 10 * R {
                let waited = there_since[&(number, name.0)].until(fleet.now);
                assert!(waited >= R - 2 * Settings::default().poll(&policy()), "{waited:?}");
            }
        }
    }
    assert!((20..=22).contains(&used.len()), "{} keys", used.len());
    assert_eq!(fleet.own.len(), before, "no key of a node's own was needed");
    let hourly = (fleet.redis.asked - asked) / 20 / 3;
    assert!(hourly < 80, "{hourly} questions per node and rotation, with 60 polls");
}

#[test]
fn a_fleet_that_starts_gives_no_ticket_before_all_hosts_have_its_key() {
    let mut fleet = Fleet::new(3);
    fleet.run(Duration::from_millis(200));
    for number in 0..3 {
        assert!(fleet.hosts[number].node.is_synced());
        assert_eq!(fleet.encrypting(number), None, "a key of its own would open here only");
    }
    fleet.run(LEAD + Duration::from_millis(200));
    assert!(fleet.agrees());
    let own = |note: &RedisNote| matches!(note, RedisNote::OwnKey(_));
    assert!((0..3).all(|number| fleet.notes(number, own) == 0));
    assert_eq!(fleet.encrypting(0), fleet.encrypting(2));
    let now = fleet.local(1);
    assert_eq!(fleet.hosts[1].node.turn(now).map(|(_, name)| name), fleet.encrypting(1));
}

/// However little of the period is left: a key of each host's own would serve it to its end.
#[test]
fn at_every_moment_of_a_period_a_fleet_has_its_key_after_the_lead() {
    let own = |note: &RedisNote| matches!(note, RedisNote::OwnKey(_));
    for second in 0..R.as_secs() {
        let mut fleet = Fleet::empty(settings());
        fleet.run(Duration::from_secs(second));
        for _ in 0..3 {
            fleet.join(policy());
        }
        fleet.run(LEAD + Duration::from_millis(400));
        assert!(fleet.agrees(), "a start at second {second}");
        assert!((0..3).all(|number| fleet.notes(number, own) == 0), "second {second}");
        fleet.run(2 * R);
        fleet.tell(1, RedisEvent::RevokeAll);
        fleet.run(LEAD + 2 * settings().poll(&policy()));
        assert!(fleet.agrees(), "a revocation at second {second}");
        let shared = fleet.encrypting(0).is_some_and(|name| !fleet.own.contains(&name));
        assert!(shared, "a revocation at second {second}");
    }
}

#[test]
fn a_fleet_that_starts_and_loses_redis_goes_on_without() {
    let mut fleet = Fleet::new(3);
    fleet.run(Duration::from_millis(200));
    fleet.redis.up = false;
    fleet.run(Duration::from_millis(200));
    assert!((0..3).all(|number| fleet.encrypting(number).is_some()));
    fleet.redis.up = true;
    fleet.run(LEAD + Duration::from_secs(2));
    assert!(fleet.agrees());
}

#[test]
fn a_node_that_joins_has_all_keys_at_once() {
    let mut fleet = Fleet::new(2);
    fleet.run(5 * R);
    let joined = fleet.join(policy());
    fleet.run(Duration::from_millis(200));
    assert_eq!(fleet.encrypting(joined), fleet.encrypting(0));
    // All that are the fleet's, though it held none of them.
    let missing: Vec<_> = fleet.hosts[0]
        .ring
        .keys()
        .filter(|name| !fleet.hosts[joined].ring.contains_key(*name))
        .filter(|name| !fleet.own.contains(&KeyName(**name)))
        .collect();
    assert!(missing.is_empty() && fleet.hosts[joined].ring.len() >= 4);
    assert_eq!(fleet.notes(joined, |note| matches!(note, RedisNote::OwnKey(_))), 0);
}

#[test]
fn two_that_ask_for_a_rotation_at_once_agree() {
    let mut fleet = Fleet::new(3);
    fleet.run(2 * R - Duration::from_secs(40));
    let old = fleet.encrypting(0);
    fleet.tell(0, RedisEvent::Rotate);
    fleet.tell(1, RedisEvent::Rotate);
    fleet.run(Duration::from_secs(2));
    assert_eq!(fleet.encrypting(0), old, "not before everybody has the new one");
    let told = |note: &RedisNote| matches!(note, RedisNote::Turns(..));
    assert_eq!((fleet.notes(0, told), fleet.notes(1, told)), (1, 1));
    for _ in 0..800 {
        fleet.step();
        assert!(fleet.agrees());
    }
    let new = fleet.encrypting(0);
    assert_ne!(new, old);
    assert!((1..3).all(|number| fleet.encrypting(number) == new));
    // Once more in the same period, and the schedule goes on.
    fleet.tell(2, RedisEvent::Rotate);
    fleet.run(LEAD + Duration::from_secs(2));
    assert_ne!(fleet.encrypting(0), new);
    for _ in 0..(3 * R.as_millis() / STEP.as_millis()) {
        fleet.step();
        assert!(fleet.agrees());
    }
}

#[test]
fn a_rotation_at_the_end_of_a_period_replaces_the_next_key() {
    let mut fleet = Fleet::new(2);
    fleet.run(2 * R);
    let end = fleet.redis.time(fleet.now).0 / nanos(R) * nanos(R) + nanos(R);
    fleet.run(Duration::from_nanos(end - fleet.redis.time(fleet.now).0) - Duration::from_secs(3));
    let next = fleet.hosts[0]
        .ring
        .iter()
        .find(|(_, times)| times.state(fleet.local(0)) == KeyState::Announced);
    let next = *next.expect("a successor").0;
    fleet.tell(0, RedisEvent::Rotate);
    for _ in 0..1000 {
        fleet.step();
        assert!(fleet.agrees());
    }
    let used = fleet.encrypting(0).expect("agreed");
    assert_ne!(used.0, next);
    assert_eq!(fleet.encrypting(1), Some(used));
}

#[test]
fn hosts_of_either_rotation_agree_among_themselves_and_open_all_tickets() {
    for other in [R / 2, R / 7, 3 * R, R + Duration::from_nanos(1)] {
        // The one that differs comes first, or last.
        for odd in [0, 2] {
            let mut fleet = Fleet::empty(settings());
            for number in 0..3 {
                let rotate_every = if number == odd { other } else { R };
                fleet.join(Policy { rotate_every, ..policy() });
                fleet.run(R / 60);
            }
            fleet.run(R / 2);
            let same: Vec<_> = (0..3).filter(|number| *number != odd).collect();
            let mut names = HashSet::new();
            for _ in 0..20 {
                fleet.run(R / 3);
                let [first, second] = [same[0], same[1]].map(|number| fleet.encrypting(number));
                assert!(first.is_some() && first == second, "{other:?} {odd}");
                let strange = fleet.encrypting(odd).expect("a key");
                assert!(!fleet.own.contains(&strange) && first != Some(strange));
                names.extend([first.expect("agreed"), strange]);
                let opens =
                    |name: KeyName| fleet.hosts.iter().all(|host| host.ring.contains_key(&name.0));
                assert!(opens(strange) && first.is_none_or(opens), "{other:?} {odd}");
            }
            assert!(names.len() >= 8, "they rotate");
        }
    }
}

/// Wherever a ticket is issued meanwhile, it opens everywhere.
#[test]
fn the_rotation_interval_is_changed_host_by_host() {
    for other in [R / 3, 3 * R / 10, 10 * R / 3] {
        for ahead in [Ahead::LEAST, Ahead::default()] {
            let mut fleet = Fleet::empty(Settings { ahead, ..Settings::default() });
            for _ in 0..3 {
                fleet.join(policy());
            }
            fleet.run(3 * R);
            for number in 0..3 {
                let changed = Policy { rotate_every: other, ..policy() };
                fleet.restart_with(number, changed);
                let end = fleet.now + 2 * R + R / 7;
                while fleet.now < end {
                    fleet.run(5 * STEP);
                    for host in 0..3 {
                        let name = fleet.encrypting(host).expect("a key");
                        let opens = |host: &Host| host.ring.contains_key(&name.0);
                        let left = fleet.now.until(end);
                        assert!(
                            fleet.hosts.iter().all(opens),
                            "{other:?} {number} {host} {left:?}"
                        );
                    }
                }
            }
            // Of a period that has a key there is hardly a second one, however many hosts are changed.
            let is_further = |slot: &&Slot| matches!(slot, Slot::At(turn) if turn.number > 0);
            let further = fleet.redis.values.keys().filter(is_further).count();
            assert!(further <= 3, "{other:?} {ahead:?}: {further} further turns");
            fleet.run(2 * R + 2 * other);
            assert!(fleet.agrees());
        }
    }
}

#[test]
fn another_fleet_secret_is_told_once_and_disturbs_nobody() {
    let mut fleet = Fleet::new(2);
    fleet.run(2 * R);
    let other = fleet.join(policy());
    fleet.hosts[other].secrets = vec![2];
    let end = fleet.now + 6 * R;
    while fleet.now < end {
        fleet.step();
        let name = fleet.encrypting(0).expect("the fleet's key");
        assert!(!fleet.own.contains(&name) && fleet.hosts[1].ring.contains_key(&name.0));
        assert!(!fleet.hosts[other].ring.contains_key(&name.0));
        // Each of the two takes one turn of a period, whoever is first.
        assert!(fleet.redis.values.keys().all(|slot| match slot {
            Slot::At(turn) => turn.number < 2,
            Slot::Kept(_) => false,
        }));
    }
    for (number, secret) in [(0, 2), (1, 2), (other, 1)] {
        let flaw = Flaw::Secret([secret; 8]);
        let told =
            fleet.notes(number, |note| matches!(note, RedisNote::Flawed(_, why) if *why == flaw));
        assert_eq!(told, 1, "host {number}");
    }
}

#[test]
fn the_fleet_secret_is_changed_host_by_host() {
    let mut fleet = Fleet::new(3);
    fleet.run(2 * R);
    // As it should be done: first all accept the new one, then all use it, then the old one goes.
    for secrets in [vec![1, 2], vec![2, 1], vec![2]] {
        for number in 0..3 {
            fleet.hosts[number].running = false;
            fleet.run(Duration::from_secs(1));
            fleet.hosts[number].secrets = secrets.clone();
            fleet.restart(number);
            for _ in 0..(R.as_millis() / 4 / STEP.as_millis()) {
                fleet.step();
                assert!(fleet.agrees());
            }
        }
        fleet.run(5 * R);
    }
    // And in a hurry: who has both goes with who has the old one only.
    fleet.hosts[0].secrets = vec![3, 2];
    for _ in 0..(6 * R.as_millis() / STEP.as_millis()) {
        fleet.step();
        assert!(fleet.encrypting(0).is_some() && fleet.encrypting(1).is_some());
    }
    assert!(fleet.agrees());
    assert!(!fleet.own.contains(&fleet.encrypting(1).unwrap()));
}

#[test]
fn a_rotation_on_one_host_becomes_the_fleets() {
    let mut fleet = Fleet::new(2);
    fleet.run(3 * R + Duration::from_secs(20));
    // As `tktrot rotate` does it on the ring: a new key encrypts, the old one is retired.
    let now = fleet.local(0);
    let old = fleet.encrypting(0).expect("agreed");
    let retired = KeyTimes { encrypt_until: now, ..fleet.hosts[0].ring[&old.0] };
    fleet.hosts[0].ring.insert(old.0, retired);
    let (made, times) = (name(999_999), policy().times_from(now));
    fleet.hosts[0].ring.insert(made.0, times);
    fleet.ends.insert(made, Time(times.decrypt_until.0 - fleet.hosts[0].boot));
    let id = fleet.hosts[0].id;
    for (name, times) in [(old, retired), (made, times)] {
        fleet.tell(0, RedisEvent::Found(Facts { name, origin: id, times, plain: false }));
    }
    fleet.run(LEAD + Duration::from_secs(2));
    let new = fleet.encrypting(1).expect("a key");
    assert_ne!(new, old);
    assert_eq!(fleet.encrypting(0), Some(new));
}
