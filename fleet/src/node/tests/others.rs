//! The keys of peers: which are taken, how many, and for how long.

use super::*;
use crate::message::Refusal;
use crate::node::limits::Room;

fn with_bob() -> Host {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.all_is_taken_by(BOB);
    host.pass(secs(1.0));
    host.all_is_taken_by(BOB);
    host.obliging = vec![BOB];
    host.sent.clear();
    host
}

fn refusal(host: &Host, number: u32) -> Option<Refusal> {
    host.sent.iter().find_map(|(_, message)| match message {
        Message::Refused(refused) => {
            refused.iter().find(|(refused, _)| *refused == name(number)).map(|(_, why)| *why)
        }
        _ => None,
    })
}

#[test]
fn a_key_is_taken_acknowledged_and_erased_at_its_end() {
    let mut host = with_bob();
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    assert!(host.has_sent(BOB, |said| *said == Message::Taken(vec![name(500)])));
    host.pass(HOUR - secs(0.1));
    assert!(host.ring.contains_key(&name(500)));
    host.pass(secs(0.1));
    assert!(!host.ring.contains_key(&name(500)));
}

#[test]
fn a_key_ends_here_no_later_than_where_it_was_made() {
    let mut host = with_bob();
    let message = Message::Keys(vec![offer(500, BOB, HOUR)]);
    host.handle(Event::Received { from: BOB, message, age: secs(3.0) });
    let end = host.ring[&name(500)].times.decrypt_until;
    assert_eq!(host.now.until(end), HOUR - secs(3.0));
}

#[test]
fn saying_it_again_lengthens_nothing() {
    let mut host = with_bob();
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    let end = host.ring[&name(500)].times;
    host.pass(secs(60.0));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    host.hears(BOB, Message::Held { keys: vec![offer(500, BOB, HOUR)], last: true });
    assert_eq!(host.ring[&name(500)].times, end);
    host.pass(HOUR - secs(60.0));
    assert!(!host.ring.contains_key(&name(500)));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    assert!(!host.ring.contains_key(&name(500)), "nor when it has ended");
    assert_eq!(refusal(&host, 500), Some(Refusal::Ended));
}

#[test]
fn a_key_that_its_maker_shortens_is_shortened_here() {
    let mut host = with_bob();
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR / 2)]));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    host.pass(HOUR / 2 - secs(0.1));
    assert!(host.ring.contains_key(&name(500)));
    host.pass(secs(0.1));
    assert!(!host.ring.contains_key(&name(500)));
}

#[test]
fn a_lying_clock_is_cut_and_what_has_ended_is_refused() {
    let mut host = with_bob();
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, 1000 * HOUR)]));
    assert_eq!(host.now.until(host.ring[&name(500)].times.decrypt_until), 4 * HOUR);
    host.hears(BOB, Message::Keys(vec![offer(501, BOB, Duration::ZERO)]));
    assert_eq!(refusal(&host, 501), Some(Refusal::Ended));
    let message = Message::Keys(vec![offer(502, BOB, secs(2.0))]);
    host.handle(Event::Received { from: BOB, message, age: secs(2.0) });
    assert_eq!(refusal(&host, 502), Some(Refusal::Ended));
}

#[test]
fn a_flood_is_bounded_and_costs_nobody_a_key() {
    let mut host = with_bob();
    host.handle(Event::Up(EVE));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    let of = |host: &Host, node| host.ring.values().filter(|key| key.origin == node).count();
    for number in 1000..2000 {
        host.hears(EVE, Message::Keys(vec![offer(number, EVE, 3 * HOUR)]));
    }
    // Her share, and half of what is common.
    let Room { share, common, .. } = limits().room(host.in_all_states().len());
    assert_eq!(of(&host, EVE), share + common.div_ceil(2));
    assert_eq!(refusal(&host, 1999), Some(Refusal::TooMany));
    // Nor in the name of others, who need not exist.
    for number in 2000..3000 {
        let foreign = offer(number, NodeId(u64::from(number)), HOUR);
        host.hears(EVE, Message::Held { keys: vec![foreign], last: false });
    }
    let bobs = (501..600).map(|number| offer(number, BOB, HOUR)).collect();
    host.hears(BOB, Message::Keys(bobs));
    assert!(of(&host, BOB) > share, "an honest peer has its share all the same, and more");
    host.pass(2 * HOUR);
    assert!(host.active().is_some());
    assert!(host.ring.len() <= limits().capacity);
}

#[test]
fn nodes_that_nobody_expected_share_what_is_common() {
    let mut host = Host::started();
    let mut refused = 0;
    for node in 10..1000 {
        host.handle(Event::Up(NodeId(node)));
        let keys = (0..4).map(|key| offer(10 * node as u32 + key, NodeId(node), HOUR)).collect();
        host.hears(NodeId(node), Message::Keys(keys));
        refused += usize::from(refusal(&host, 10 * node as u32 + 3) == Some(Refusal::Full));
        assert!(host.ring.len() < limits().capacity);
        host.sent.clear();
    }
    assert!(refused > 900, "{refused}");
    host.pass(2 * HOUR);
    assert!(host.active().is_some());
}

#[test]
fn nobody_speaks_for_another_node_or_for_this_one() {
    let mut host = with_bob();
    host.handle(Event::Up(EVE));
    host.hears(EVE, Message::Keys(vec![offer(500, BOB, HOUR)]));
    assert_eq!(refusal(&host, 500), Some(Refusal::Unusable));
    host.hears(EVE, Message::Held { keys: vec![offer(501, BOB, HOUR)], last: false });
    host.hears(EVE, Message::Held { keys: vec![offer(502, ME, HOUR)], last: true });
    let mut own = offer(1, EVE, HOUR);
    own.name = host.active().unwrap();
    host.hears(EVE, Message::Keys(vec![own]));
    assert!(host.ring.values().all(|facts| facts.origin == ME));
}

/// Where a fleet that shared a Redis becomes a mesh, each node has the same keys as its own.
#[test]
fn a_key_that_is_here_already_is_not_refused_whoever_has_it_as_its_own() {
    let mut host = with_bob();
    host.handle(Event::Up(EVE));
    let shared = host.active().unwrap();
    let mut bobs = offer(1, BOB, HOUR);
    bobs.name = shared;
    host.hears(BOB, Message::Keys(vec![bobs, offer(500, BOB, HOUR)]));
    assert!(host.has_sent(BOB, |said| *said == Message::Taken(vec![shared])));
    host.hears(EVE, Message::Keys(vec![offer(500, EVE, HOUR)]));
    assert!(host.has_sent(EVE, |said| *said == Message::Taken(vec![name(500)])));
    assert!(!host.sent.iter().any(|(_, said)| matches!(said, Message::Refused(_))));
    assert_eq!((host.ring[&shared].origin, host.ring[&name(500)].origin), (ME, BOB));
}

#[test]
fn a_node_that_joins_asks_for_what_nodes_that_are_gone_have_left() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    assert!(host.has_sent(BOB, |said| *said == Message::Pull));
    assert!(!host.node.is_synced());
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    assert!(!host.node.is_synced(), "one answer is missing");
    host.hears(BOB, Message::Held { keys: vec![offer(600, EVE, HOUR)], last: true });
    assert!(host.node.is_synced());
    assert!(host.ring.contains_key(&name(500)) && host.ring.contains_key(&name(600)));
    // The node itself comes back.
    host.handle(Event::Up(EVE));
    host.hears(EVE, Message::Keys(vec![offer(600, EVE, HOUR)]));
    assert!(host.has_sent(EVE, |said| *said == Message::Taken(vec![name(600)])));
}

#[test]
fn who_asks_gets_everything_but_not_all_the_time() {
    let mut host = with_bob();
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    host.handle(Event::Up(EVE));
    host.sent.clear();
    host.hears(EVE, Message::Pull);
    host.hears(EVE, Message::Pull);
    let answers: Vec<_> = host
        .sent
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Held { keys, last: true } => Some(keys.len()),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [host.ring.len()]);
}

#[test]
fn who_is_not_connected_is_not_heard() {
    let mut host = Host::started();
    let ring = host.ring.len();
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    host.hears(BOB, Message::Pull);
    assert_eq!((host.ring.len(), host.sent.len()), (ring, 0));
}

#[test]
fn a_key_that_is_told_twice_at_once_is_taken_once() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    let (long, short) = (offer(50, BOB, HOUR), offer(50, BOB, HOUR / 2));
    host.hears(BOB, Message::Keys(vec![long.clone(), short.clone()]));
    assert_eq!(host.ring[&name(50)].times.decrypt_until, host.now + HOUR);
    host.hears(BOB, Message::Keys(vec![short, long]));
    assert_eq!(host.ring[&name(50)].times.decrypt_until, host.now + HOUR / 2);
}

/// A node that no longer starts: it has asked often enough, and everybody has answered.
fn settled() -> Host {
    let mut host = Host::started();
    for peer in [BOB, EVE, NodeId(4)] {
        comes(&mut host, peer);
        host.hears(peer, Message::Held { keys: Vec::new(), last: true });
    }
    host.handle(Event::Down(NodeId(4)));
    host.obliging = vec![BOB, EVE];
    host.pass(secs(60.0));
    assert!(host.node.is_synced());
    host.sent.clear();
    host
}

/// Connected, and both have told each other their keys.
fn comes(host: &mut Host, peer: NodeId) {
    host.handle(Event::Up(peer));
    host.all_is_taken_by(peer);
    host.hears(peer, Message::Keys(Vec::new()));
}

fn is_asked(host: &Host, peer: NodeId) -> bool {
    host.has_sent(peer, |said| *said == Message::Pull)
}

#[test]
fn who_was_away_alone_is_not_asked_for_what_it_holds() {
    let mut host = settled();
    host.handle(Event::Down(BOB));
    host.pass(secs(30.0));
    host.handle(Event::Down(EVE));
    host.pass(secs(30.0));
    comes(&mut host, BOB);
    host.pass(secs(60.0));
    assert!(host.dropped.is_empty() && !is_asked(&host, BOB));
}

#[test]
fn nobody_is_asked_after_a_partition_from_which_all_come_back() {
    let mut host = settled();
    host.handle(Event::Down(BOB));
    host.handle(Event::Down(EVE));
    host.pass(secs(60.0));
    comes(&mut host, BOB);
    host.pass(secs(3.0));
    comes(&mut host, EVE);
    host.pass(secs(60.0));
    assert!(host.dropped.is_empty());
    assert!(!is_asked(&host, BOB) && !is_asked(&host, EVE));
}

#[test]
fn after_a_partition_one_is_asked_for_the_keys_of_who_does_not_come_back() {
    let mut host = settled();
    host.handle(Event::Down(EVE));
    host.pass(secs(2.0));
    host.handle(Event::Down(BOB));
    host.pass(secs(60.0));
    comes(&mut host, BOB);
    assert!(!is_asked(&host, BOB), "EVE may be about to come, too");
    host.pass(secs(10.0));
    assert!(is_asked(&host, BOB) && !host.node.is_synced());
    host.hears(BOB, Message::Held { keys: vec![offer(600, EVE, HOUR)], last: true });
    assert!(host.ring.contains_key(&name(600)) && host.node.is_synced());
}

#[test]
fn who_goes_before_it_has_answered_is_asked_again() {
    let mut host = settled();
    host.handle(Event::Down(EVE));
    host.handle(Event::Down(BOB));
    host.pass(secs(60.0));
    comes(&mut host, BOB);
    host.pass(secs(10.0));
    assert!(is_asked(&host, BOB));
    host.handle(Event::Down(BOB));
    host.pass(secs(10.0));
    host.sent.clear();
    comes(&mut host, BOB);
    assert!(is_asked(&host, BOB));
}

#[test]
fn what_a_peer_had_no_room_for_is_offered_again() {
    for (why, after) in [(Refusal::Full, 10), (Refusal::TooMany, 10), (Refusal::Busy, 1)] {
        let mut host = with_bob();
        host.obliging.clear();
        host.handle(Event::Rotate);
        let key = host.active().unwrap();
        host.all_is_taken_by(BOB);
        host.hears(BOB, Message::Refused(vec![(key, why)]));
        // Once; and never again when it was taken.
        for second in 1..=60 {
            host.pass(secs(1.0));
            let told: Vec<_> = host.told(BOB).iter().map(|offer| offer.name).collect();
            assert_eq!(told.contains(&key), second == after, "{why:?}, {second} s");
            host.hears(BOB, Message::Taken(told));
        }
    }
}

#[test]
fn a_peer_that_is_busy_is_waited_for_and_not_dropped() {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    let first = name(1);
    for _ in 0..4 {
        assert!(host.told(BOB).iter().any(|offer| offer.name == first));
        host.hears(BOB, Message::Refused(vec![(first, Refusal::Busy)]));
        host.pass(secs(1.0));
        assert_eq!(host.active(), None);
    }
    host.hears(BOB, Message::Taken(vec![first]));
    assert_eq!(host.active(), Some(first));
    // Another one is busy for as long as anybody can be.
    host.handle(Event::Up(EVE));
    for _ in 0..20 {
        let told: Vec<_> = host.told(EVE).iter().map(|key| (key.name, Refusal::Busy)).collect();
        host.hears(EVE, Message::Refused(told));
        host.all_is_taken_by(BOB);
        host.pass(secs(1.0));
    }
    assert!(host.dropped.is_empty() && host.active().is_some());
}
