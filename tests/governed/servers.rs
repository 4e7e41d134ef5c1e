//! What servers leave to the agent, what they still do, and when they take over.

use super::*;

#[test]
fn servers_make_nothing_while_an_agent_governs() {
    let bench = bench(64);
    drop(bench.govern());
    for _ in 0..100 {
        bench.pass(RENEWAL);
        assert_eq!(bench.sealing_name(), None, "a key, where the agent has made none");
    }
    assert!(bench.entries().is_empty());
    assert_eq!(bench.source.draws.load(Ordering::Relaxed), 0);

    let governed = bench.govern();
    let made = governed.make(times(governed.now(), HOUR)).unwrap();
    drop(governed);
    assert_eq!(bench.sealing_name(), Some(made));
    // Not when it is time for a successor, nor when the key is over.
    bench.pass(HOUR);
    assert_eq!(bench.sealing_name(), None, "a key was made, or lengthened");
    assert_eq!(bench.entries().len(), 1);
    bench.is_sound();
}

#[test]
fn a_handshake_without_a_key_looks_once_and_goes_on() {
    let bench = bench(64);
    drop(bench.govern());
    let deadline = bench.server.ring().deadline();
    assert!(deadline > bench.clock.now(), "every handshake would take the lock");
    let writer = bench.agent.ring().try_write().unwrap();
    assert_eq!(bench.sealing_name(), None);
    drop(writer);
    assert_eq!(bench.server.ring().deadline(), deadline);
}

#[test]
fn servers_take_over_after_the_lease_without_a_gap() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let active = governed.make(times(now, HOUR)).unwrap();
    let next = governed.make(times(now + HOUR, HOUR)).unwrap();
    drop(governed);

    bench.clock.advance(LEASE - Duration::from_nanos(1));
    bench.serve();
    assert!(bench.server.is_governed());
    assert_eq!(bench.entries().len(), 2);

    bench.clock.advance(Duration::from_nanos(1));
    assert!(!bench.server.is_governed());
    assert!(bench.server.ring().deadline() <= bench.clock.now(), "nobody is woken");
    bench.serve();
    assert_eq!(bench.sealing_name(), Some(active), "the active key is given up");
    let mut last = active;
    let mut seen = vec![active];
    for _ in 0..(5 * 60) {
        bench.clock.advance(60 * SECOND);
        let name = bench.sealing_name().expect("a gap");
        if name != last {
            seen.push(name);
            last = name;
        }
    }
    assert_eq!(seen[..2], [active, next]);
    assert!(seen.len() >= 5, "servers do not rotate: {seen:?}");
    bench.is_sound();
}

#[test]
fn a_ring_whose_agent_left_nothing_gets_keys_after_the_lease() {
    let bench = bench(64);
    drop(bench.govern());
    bench.clock.advance(LEASE);
    assert!(bench.sealing_name().is_some());
    assert_eq!(bench.entries().len(), 2);
}

#[test]
fn a_released_ring_rotates_at_once() {
    let bench = bench(64);
    let governed = bench.govern();
    let key = governed.make(times(governed.now(), HOUR)).unwrap();
    governed.release();
    assert!(!bench.server.is_governed());
    assert_eq!(bench.sealing_name(), Some(key));
    assert_eq!(bench.entries().len(), 2, "no successor");
}

#[test]
fn what_is_over_is_erased_while_an_agent_governs() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let own = governed.make(times(now, SECOND)).unwrap();
    let short = KeyTimes { decrypt_until: now + SECOND * 2, ..times(now, SECOND) };
    let taken = foreign(1, short);
    governed.take(&taken).unwrap();
    drop(governed);
    // The deadline is the end of the key, not that of the lease.
    assert_eq!(bench.server.ring().deadline(), now + SECOND * 2);
    bench.clock.advance(2 * SECOND);
    bench.serve();
    assert!(bench.server.is_governed());
    assert_eq!(bench.times(&taken.name), None, "a server leaves a key that is over");
    assert!(bench.times(&own).is_some());

    // Without servers, the agent does it.
    for _ in 0..(2 * 3600 / 2 + 1) {
        bench.clock.advance(2 * SECOND);
        drop(bench.govern());
    }
    assert!(bench.entries().is_empty());
}

#[test]
fn a_rotation_by_hand_acts_at_once_and_leaves_the_agents_keys_alone() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let active = governed.make(times(now, HOUR)).unwrap();
    let announced = governed.make(times(now + HOUR, HOUR)).unwrap();
    drop(governed);
    bench.pass(SECOND);
    bench.server.rotate().unwrap();
    let by_hand = bench.sealing_name().unwrap();
    assert!(by_hand != active && by_hand != announced);
    let state = |name| bench.times(name).unwrap().state(bench.clock.now());
    assert_eq!(state(&active), KeyState::Retired);
    assert_eq!(state(&announced), KeyState::Announced);
    assert_eq!(bench.entries().len(), 3);
    bench.is_sound();
}

#[test]
fn a_revocation_by_hand_acts_at_once() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    governed.make(times(now, HOUR)).unwrap();
    let announced = governed.make(times(now + HOUR, HOUR)).unwrap();
    governed.take(&foreign(1, times(now, HOUR))).unwrap();
    drop(governed);
    let active = bench.sealing_name().unwrap();

    assert_eq!(bench.server.revoke_those(|name| *name == active), Ok(vec![active]));
    let new = bench.sealing_name().expect("a gap");
    assert!(new != active && new != announced);
    bench.server.revoke().unwrap();
    let newest = bench.sealing_name().expect("a gap");
    assert_eq!(bench.entries().iter().map(|entry| entry.name).collect::<Vec<_>>(), [newest]);
    bench.is_sound();
}

#[test]
fn the_agents_policy_holds_unless_a_server_asks_for_less() {
    let bench = bench(64);
    let governed = bench.govern();
    let plain = Some(Bind::NONE);
    let quick = Config { rotate_every: Some(HOUR / 6), bind: plain, ..Config::default() };
    governed.configure(&quick);
    drop(governed);
    let policy = bench.server.policy();
    assert_eq!((policy.rotate_every, policy.lifetime), (HOUR / 6, 2 * HOUR));
    let make = || {
        let governed = bench.govern();
        let name = governed.make(times(governed.now(), HOUR)).unwrap();
        governed.entries().into_iter().find(|entry| entry.name == name).unwrap()
    };
    let plain = make();
    assert!(plain.plain);
    // Both are this process: tests/asking.rs has others.
    let less = Config { rotate_every: Some(HOUR / 12), bind: Some(Bind::ALL), ..hourly() };
    bench.server.configure(&less).unwrap();
    assert_eq!(bench.server.policy().rotate_every, HOUR / 12);
    assert!(!make().plain, "the agent's next key");
    assert_eq!(bench.times(&plain.name), Some(plain.times), "the keys that it made are its own");
}

#[test]
fn a_server_that_ends_leaves_the_fleets_keys() {
    let bench = bench(64);
    let governed = bench.govern();
    governed.make(times(governed.now(), HOUR)).unwrap();
    drop(governed);
    bench.server.abandon().unwrap();
    assert_eq!(bench.entries().len(), 1);
    bench.clock.advance(LEASE);
    bench.server.abandon().unwrap();
    assert!(bench.entries().is_empty());
}

#[test]
fn a_lease_that_no_agent_gave_is_none() {
    let bench = bench(64);
    for until in [Time::NEVER, bench.clock.now() + HOUR, bench.clock.now()] {
        bench.server.ring().header().governed_until.store(until.0, Ordering::Relaxed);
        assert!(!bench.server.is_governed(), "{until:?}");
    }
    assert!(bench.sealing_name().is_some());
}

#[test]
fn while_an_agent_governs_no_server_lowers_what_the_ring_may_hold() {
    let bench = bench(64);
    let capacity = || bench.server.ring().capacity();
    let ask = |capacity, seconds| {
        // Another R each time: a server that asks for the same as before asks for nothing.
        let rotate_every = Some(SECOND * seconds);
        let lifetime = Some(SECOND);
        let config = Config { capacity: Some(capacity), rotate_every, lifetime, ..hourly() };
        bench.server.configure(&config).unwrap();
    };
    ask(16, 900);
    assert_eq!(capacity(), 16, "nobody governs it");
    let governed = bench.govern();
    assert_eq!(governed.raise_capacity(Capacity::MAX), Some(16));
    assert_eq!(governed.raise_capacity(Capacity::MAX), None);
    drop(governed);
    ask(32, 800);
    assert_eq!(capacity(), Capacity::MAX.0);
    bench.clock.advance(2 * LEASE);
    ask(32, 700);
    assert_eq!(capacity(), 32, "its agent is gone");
}
