//! When a node encrypts with which key.

use super::*;

#[test]
fn alone_the_first_key_begins_after_the_floor_and_has_a_successor() {
    let mut host = Host::started();
    assert_eq!(host.active(), None);
    host.pass(secs(0.999));
    assert_eq!(host.active(), None, "before lead_min");
    host.pass(secs(0.001));
    assert_eq!(host.active(), Some(name(1)));
    assert_eq!(host.in_state(KeyState::Announced).len(), 1);
    assert!(host.node.has_active(host.now));
}

#[test]
fn rotation_goes_on_without_a_gap_and_within_its_bounds() {
    let mut host = Host::started();
    host.pass(secs(1.0));
    for minute in 0..(3 * 24 * 60) {
        host.pass(secs(60.0));
        assert!(host.active().is_some(), "minute {minute}");
        assert!(!host.in_state(KeyState::Announced).is_empty(), "minute {minute}");
        assert!(host.ring.len() <= 6, "{} keys", host.ring.len());
    }
    assert!((70..=74).contains(&host.made), "{} keys in three days", host.made);
    assert!(host.ring.values().all(|facts| facts.times.retention() == 2 * HOUR));
}

#[test]
fn a_key_begins_when_all_peers_have_it_and_not_before_the_floor() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.handle(Event::Up(EVE));
    host.all_is_taken_by(BOB);
    host.pass(secs(3.0));
    assert_eq!(host.active(), None, "one peer has not answered");
    host.all_is_taken_by(EVE);
    assert_eq!(host.active(), Some(name(1)));
}

#[test]
fn a_silent_peer_is_dropped_at_the_ceiling_and_the_key_begins() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.handle(Event::Up(EVE));
    host.all_is_taken_by(BOB);
    host.pass(secs(4.99));
    assert_eq!((host.active(), host.dropped.len()), (None, 0));
    host.pass(secs(0.01));
    assert_eq!((host.active(), host.dropped.clone()), (Some(name(1)), vec![EVE]));
}

#[test]
fn a_peer_that_goes_or_stops_is_not_waited_for() {
    for event in [
        Event::Down(BOB),
        Event::Received { from: BOB, message: Message::Leaving, age: Duration::ZERO },
    ] {
        let mut host = Host::started();
        host.handle(Event::Up(BOB));
        host.pass(secs(2.0));
        assert_eq!(host.active(), None);
        host.handle(event);
        assert_eq!(host.active(), Some(name(1)));
        host.pass(secs(20.0));
        assert!(host.dropped.is_empty());
    }
}

#[test]
fn a_refusal_is_an_answer() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.pass(secs(1.0));
    let told = host.told(BOB);
    host.hears(BOB, Message::Refused(vec![(told[0].name, crate::message::Refusal::Full)]));
    assert_eq!(host.active(), Some(name(1)));
}

#[test]
fn a_rotation_by_hand_turns_to_the_successor_at_once() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.all_is_taken_by(BOB);
    host.pass(secs(1.0));
    host.all_is_taken_by(BOB);
    host.pass(HOUR / 4);
    let (old, next) = (host.active(), host.in_state(KeyState::Announced)[0].name);
    host.handle(Event::Rotate);
    assert_eq!(host.active(), Some(next));
    assert_ne!(old, Some(next));
    let active = host.ring[&next].times;
    assert_eq!(active, policy().times_from(host.now), "it lives as if it were made for now");
    assert_eq!(host.told(BOB)[0].left, Left::of(active, host.now), "the peers have to know");
    let following = host.in_state(KeyState::Announced);
    assert_eq!(following[0].times.encrypt_from, active.encrypt_until);
    host.handle(Event::Tick);
    assert_eq!(host.active(), Some(next), "once is once");
}

#[test]
fn a_rotation_waits_for_a_successor_that_a_peer_has_not_got() {
    let mut host = Host::started();
    host.pass(secs(10.0));
    let old = host.active();
    host.handle(Event::Up(BOB));
    host.handle(Event::Rotate);
    // Announced long ago, but this peer has just come: it is not waited for, it gets it now.
    assert!(host.told(BOB).iter().any(|offer| Some(offer.name) != old));
    host.pass(secs(5.0));
    assert_ne!(host.active(), old);
}

#[test]
fn a_shorter_interval_takes_effect_when_the_fleet_has_a_key_for_it() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.all_is_taken_by(BOB);
    host.pass(secs(1.0));
    host.all_is_taken_by(BOB);
    host.pass(secs(9.0));
    let old = host.active();
    let minutely = Policy { rotate_every: secs(60.0), lead: secs(6.0), ..policy() };
    host.handle(Event::Policy(minutely));
    host.pass(secs(2.0));
    assert_eq!(host.active(), old, "not before the peer has the new key");
    host.all_is_taken_by(BOB);
    assert_ne!(host.active(), old);
    let times = host.ring[&host.active().unwrap()].times;
    assert_eq!(times.encrypt_from.until(times.encrypt_until), secs(60.0));
}

#[test]
fn every_key_of_a_fast_rotation_is_announced_longer_than_a_peer_is_waited_for() {
    let mut host = Host::started();
    let fast = Policy { rotate_every: secs(1.0), lifetime: secs(10.0), lead: secs(0.5) };
    host.handle(Event::Policy(fast));
    host.pass(secs(10.0));
    let before: Vec<_> = host.ring.keys().copied().collect();
    let mut announced_at = HashMap::new();
    for _ in 0..300 {
        for facts in host.in_state(KeyState::Announced) {
            announced_at.entry(facts.name).or_insert(host.now);
        }
        host.pass(secs(0.1));
        let active = host.active().expect("a key that encrypts");
        if let Some(at) = announced_at.get(&active).filter(|_| !before.contains(&active)) {
            assert!(at.until(host.now) >= Limits::LEAD_MAX);
        }
    }
    assert!(announced_at.len() > 25);
}

#[test]
fn a_restarted_agent_goes_on_with_the_keys_of_its_ring() {
    let mut before = Host::started();
    before.pass(secs(100.0));
    let mut host = Host::new();
    (host.now, host.ring, host.made) = (before.now, before.ring.clone(), 50);
    let facts = before.ring.values().copied();
    facts.for_each(|facts| host.handle(Event::Found(facts)));
    host.handle(Event::Tick);
    assert_eq!((host.active(), host.made), (before.active(), 50), "nothing new is needed");
    host.handle(Event::Up(BOB));
    assert_eq!(host.told(BOB).len(), before.ring.len());
}

#[test]
fn a_key_that_a_server_made_by_hand_is_told_and_serves_for_the_rotation() {
    let mut host = Host::started();
    host.pass(secs(10.0));
    host.handle(Event::Up(BOB));
    host.all_is_taken_by(BOB);
    let made = facts(99, ME, policy().times_from(host.now));
    host.ring.insert(made.name, made);
    host.handle(Event::Found(made));
    assert_eq!(host.active(), Some(made.name));
    assert_eq!(host.told(BOB)[0].name, made.name);
}

#[test]
fn without_a_generator_keys_end_when_they_said_and_it_is_tried_again() {
    let mut host = Host::started();
    host.pass(secs(1.0));
    host.generator_works = false;
    host.pass(3 * HOUR);
    assert_eq!((host.active(), host.ring.len()), (None, 1), "one decrypts for another hour");
    host.generator_works = true;
    host.pass(secs(6.0));
    assert!(host.active().is_some());
}

#[test]
fn a_successor_that_comes_late_waits_for_the_peers_too() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.all_is_taken_by(BOB);
    host.obliging = vec![BOB];
    host.pass(HOUR - secs(2.0));
    let announced: Vec<_> =
        host.in_state(KeyState::Announced).iter().map(|facts| facts.name).collect();
    let active = host.active();
    host.obliging.clear();
    host.told(BOB);
    host.handle(Event::Revoke(announced));
    // The active key ends in about two seconds; its new successor is one that BOB has not got.
    assert!(!host.told(BOB).is_empty());
    assert_eq!(host.active(), active);
    host.pass(secs(4.0));
    assert_eq!(host.active(), None);
    let late = host.in_state(KeyState::Announced).iter().map(|facts| facts.name).collect();
    host.hears(BOB, Message::Taken(late));
    assert!(host.active().is_some());
    host.obliging = vec![BOB];
    host.pass(3 * HOUR);
    assert!(host.active().is_some());
}

#[test]
fn peers_hear_of_a_key_that_will_never_be_needed() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.all_is_taken_by(BOB);
    host.obliging = vec![BOB];
    host.pass(secs(10.0));
    host.obliging.clear();
    host.told(BOB);
    let successor = host.in_state(KeyState::Announced)[0].name;
    let minutely = Policy { rotate_every: secs(60.0), ..policy() };
    host.handle(Event::Policy(minutely));
    assert!(host.ring.contains_key(&successor), "it may be needed until another one begins");
    host.all_is_taken_by(BOB);
    host.pass(secs(1.0));
    assert!(!host.ring.contains_key(&successor));
    let over = host.told(BOB).into_iter().rfind(|offer| offer.name == successor);
    assert_eq!(over.expect("what became of it").left.decrypts, Duration::ZERO);
}

#[test]
fn a_generator_that_fails_delays_only_what_needs_it() {
    let mut host = Host::started();
    host.pass(secs(1.0));
    let first = host.active().unwrap();
    host.generator_works = false;
    host.handle(Event::Revoke(vec![name(2)]));
    // Servers rotate by hand, twice within the second in which the generator is not asked again.
    for number in [11, 12] {
        let facts = facts(number, ME, policy().times_from(host.now));
        host.ring.insert(facts.name, facts);
        host.handle(Event::Found(facts));
        assert_eq!(host.active(), Some(name(number)), "no other encrypts any more");
    }
    assert_eq!(host.ring[&first].times.state(host.now), KeyState::Retired);
    host.pass(secs(100.0));
    assert_eq!(host.active(), Some(name(12)));
}
