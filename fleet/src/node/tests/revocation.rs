//! Keys that end at once, and do not come back.

use super::*;
use crate::message::{Grave, Refusal, Tombstone};

fn with_bob_and_a_key_of_his() -> Host {
    let mut host = Host::started();
    host.handle(Event::Up(BOB));
    host.handle(Event::Up(EVE));
    for _ in 0..2 {
        host.all_is_taken_by(BOB);
        host.all_is_taken_by(EVE);
        host.pass(secs(1.0));
    }
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    host.obliging = vec![EVE];
    host.sent.clear();
    host
}

fn tombstones(host: &Host, peer: NodeId) -> Vec<Tombstone> {
    let told = host.sent.iter().filter(|(to, _)| *to == peer);
    let keys = told.filter_map(|(_, message)| match message {
        Message::Revoked { keys, .. } => Some(keys.clone()),
        _ => None,
    });
    keys.flatten().collect()
}

#[test]
fn a_revoked_active_key_is_followed_by_its_successor_at_once() {
    let mut host = with_bob_and_a_key_of_his();
    let (old, next) = (host.active().unwrap(), host.in_state(KeyState::Announced)[0].name);
    host.handle(Event::Revoke(vec![old]));
    assert_eq!(host.active(), Some(next));
    assert!(!host.ring.contains_key(&old));
    for peer in [BOB, EVE] {
        assert_eq!(tombstones(&host, peer)[0].name, old);
    }
}

#[test]
fn a_key_of_a_peer_can_be_revoked_and_nobody_brings_it_back() {
    let mut host = with_bob_and_a_key_of_his();
    host.handle(Event::Revoke(vec![name(500)]));
    assert_eq!(tombstones(&host, BOB), tombstones(&host, EVE));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    host.hears(EVE, Message::Held { keys: vec![offer(500, NodeId(9), HOUR)], last: true });
    assert!(!host.ring.contains_key(&name(500)));
    let refused = Message::Refused(vec![(name(500), Refusal::Ended)]);
    assert!(host.has_sent(BOB, |said| *said == refused));
}

#[test]
fn what_a_peer_revokes_ends_here_and_is_passed_on_once() {
    let mut host = with_bob_and_a_key_of_his();
    let old = host.active().unwrap();
    let keys = vec![Tombstone { name: old, left: HOUR }, Tombstone { name: name(777), left: HOUR }];
    host.hears(BOB, Message::Revoked { keys: keys.clone(), all: false });
    assert!(!host.ring.contains_key(&old) && host.active().is_some());
    assert_eq!(tombstones(&host, EVE).len(), 2);
    assert!(tombstones(&host, BOB).is_empty());
    host.sent.clear();
    host.hears(EVE, Message::Revoked { keys, all: false });
    assert_eq!(host.sent, [(EVE, Message::Buried(vec![old, name(777)]))], "nothing but an answer");
    // One that was never here does not come, either.
    host.hears(EVE, Message::Keys(vec![offer(777, EVE, HOUR)]));
    assert!(!host.ring.contains_key(&name(777)));
}

#[test]
fn a_peer_that_was_away_hears_of_it_with_its_first_message() {
    let mut host = with_bob_and_a_key_of_his();
    host.handle(Event::Down(BOB));
    host.handle(Event::Revoke(vec![name(500)]));
    host.pass(secs(600.0));
    host.handle(Event::Up(BOB));
    let told = tombstones(&host, BOB);
    // A host that was away may not know that the key began early, and so that it ends early.
    let ahead = HOUR + policy().lead;
    assert_eq!((told[0].name, told[0].left), (name(500), HOUR + ahead - secs(600.0)));
    host.pass(HOUR + ahead);
    host.handle(Event::Down(BOB));
    host.sent.clear();
    host.handle(Event::Up(BOB));
    assert!(tombstones(&host, BOB).is_empty(), "nobody needs it when all copies have ended");
}

#[test]
fn after_all_keys_were_revoked_a_new_one_begins_when_the_peers_have_it() {
    let mut host = with_bob_and_a_key_of_his();
    let before: Vec<_> = host.ring.keys().copied().collect();
    host.handle(Event::RevokeAll);
    assert!(before.iter().all(|name| !host.ring.contains_key(name)));
    assert!(host.has_sent(EVE, |said| matches!(said, Message::Revoked { all: true, .. })));
    assert_eq!(tombstones(&host, EVE).len(), before.len());
    assert_eq!(host.active(), None);
    host.pass(secs(1.0));
    host.all_is_taken_by(BOB);
    assert_eq!(host.active(), None);
    host.all_is_taken_by(EVE);
    assert!(host.active().is_some());
}

#[test]
fn when_a_peer_revokes_all_it_learns_of_keys_that_it_did_not_know() {
    let mut host = with_bob_and_a_key_of_his();
    let own: Vec<_> = host.ring.keys().copied().filter(|key| *key != name(500)).collect();
    let keys = vec![Tombstone { name: name(500), left: HOUR }];
    host.hears(BOB, Message::Revoked { keys, all: true });
    assert!(!host.ring.contains_key(&name(500)));
    for peer in [BOB, EVE] {
        let told: Vec<_> = tombstones(&host, peer).iter().map(|key| key.name).collect();
        assert!(own.iter().all(|name| told.contains(name)), "{peer}");
    }
    let all_again = |said: &Message<()>| matches!(said, Message::Revoked { all: true, .. });
    assert!(!host.has_sent(EVE, all_again), "it does not go round for ever");
    // EVE may be one whom BOB does not reach.
    assert!(tombstones(&host, EVE).iter().any(|key| key.name == name(500)));
}

#[test]
fn a_key_that_is_gone_without_a_grave_does_not_come_back_here_and_others_keep_it() {
    let mut host = with_bob_and_a_key_of_his();
    host.ring.remove(&name(500));
    host.handle(Event::Lost(name(500)));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    assert!(!host.ring.contains_key(&name(500)));
    host.handle(Event::Up(EVE));
    host.hears(EVE, Message::Pull);
    assert!(tombstones(&host, EVE).is_empty());
}

/// `tktrot revoke` on the ring itself, `tkt_revoke` in a server.
#[test]
fn what_is_revoked_on_this_host_past_its_agent_ends_everywhere() {
    let mut host = with_bob_and_a_key_of_his();
    let own = host.active().unwrap();
    let until = host.now + 2 * HOUR;
    let graves = [name(500), own].map(|name| Grave { name, until });
    host.ring.retain(|name, _| graves.iter().all(|grave| grave.name != *name));
    host.handle(Event::Buried(graves.to_vec()));
    for peer in [BOB, EVE] {
        let told: Vec<_> = tombstones(&host, peer).iter().map(|key| key.name).collect();
        assert_eq!(told, [name(500), own], "{peer}");
    }
    assert!(host.active().is_some_and(|active| active != own));
    host.hears(BOB, Message::Keys(vec![offer(500, BOB, HOUR)]));
    assert!(!host.ring.contains_key(&name(500)));
}

#[test]
fn an_agent_that_starts_again_knows_what_was_revoked_and_tells_it_first() {
    let mut host = with_bob_and_a_key_of_his();
    host.hears(
        BOB,
        Message::Revoked { keys: vec![Tombstone { name: name(700), left: 3 * HOUR }], all: false },
    );
    host.handle(Event::Revoke(vec![name(500)]));
    host.restarts();
    host.sent.clear();
    host.handle(Event::Up(EVE));
    let first = &host.sent[0];
    assert!(matches!(first, (EVE, Message::Revoked { .. })), "{first:?}");
    let mut told: Vec<_> = tombstones(&host, EVE).iter().map(|key| key.name.0).collect();
    told.sort_unstable();
    assert_eq!(told, [name(500).0, name(700).0]);
    for key in [500, 700] {
        host.hears(EVE, Message::Held { keys: vec![offer(key, BOB, HOUR)], last: true });
        assert!(!host.ring.contains_key(&name(key)));
    }
    // Until the last copy has ended.
    host.pass(4 * HOUR);
    host.restarts();
    host.sent.clear();
    host.handle(Event::Up(EVE));
    assert!(tombstones(&host, EVE).is_empty());
}

#[test]
fn however_many_were_revoked_a_peer_hears_of_all_before_any_key() {
    let mut host = Host::started();
    let until = host.now + HOUR;
    let graves = (1000..6000).map(|number| Grave { name: name(number), until });
    host.handle(Event::Buried(graves.collect()));
    host.handle(Event::Up(BOB));
    assert_eq!(tombstones(&host, BOB).len(), 5000);
    let place = |what: fn(&Message<()>) -> bool| {
        host.sent.iter().position(|(to, said)| *to == BOB && what(said)).unwrap()
    };
    let graves = place(|said| matches!(said, Message::Revoked { .. }));
    assert!(graves < place(|said| matches!(said, Message::Keys(_))));
    assert!(graves < place(|said| matches!(said, Message::Pull)));
}

#[test]
fn who_revoked_is_answered_when_all_that_ended_by_it_was_told() {
    let mut host = with_bob_and_a_key_of_his();
    let keys = vec![Tombstone { name: name(500), left: HOUR }];
    host.hears(BOB, Message::Revoked { keys, all: true });
    let to_bob: Vec<_> = host.sent.iter().filter(|(to, _)| *to == BOB).collect();
    let last_but_keys = to_bob.iter().rev().find(|(_, said)| !matches!(said, Message::Keys(_)));
    assert_eq!(last_but_keys.unwrap().1, Message::Buried(vec![name(500)]));
    assert!(to_bob.iter().any(|(_, said)| matches!(said, Message::Revoked { .. })));
    assert!(host.graves.contains_key(&name(500)));
}

/// Of a fleet of a thousand, not only those that would pass it on.
#[test]
fn what_else_ends_by_a_revocation_of_this_host_all_peers_hear_from_it() {
    let mut host = Host::started();
    for peer in 2..30 {
        host.handle(Event::Up(NodeId(peer)));
    }
    let tell = |host: &mut Host, number| {
        host.sent.clear();
        let keys = vec![Tombstone { name: name(number), left: HOUR }];
        host.hears(NodeId(29), Message::Revoked { keys, all: false });
        (2..30).filter(|peer| !tombstones(host, NodeId(*peer)).is_empty()).count()
    };
    assert_eq!(tell(&mut host, 900), 8);
    host.handle(Event::RevokeAll);
    assert_eq!(tell(&mut host, 901), 28, "and waits for the answers of all");
}

/// A library that knows of no graves, or a backup of the ring.
#[test]
fn a_revoked_key_that_is_found_in_the_ring_is_erased() {
    let mut host = with_bob_and_a_key_of_his();
    let facts = host.ring[&name(500)];
    host.handle(Event::Revoke(vec![name(500)]));
    host.ring.insert(name(500), facts);
    host.handle(Event::Found(facts));
    assert!(!host.ring.contains_key(&name(500)));
}

#[test]
fn who_hears_of_a_key_that_it_does_not_hold_passes_it_on_too() {
    let mut host = with_bob_and_a_key_of_his();
    let keys = vec![Tombstone { name: name(900), left: HOUR }];
    host.hears(BOB, Message::Revoked { keys: keys.clone(), all: false });
    assert_eq!(tombstones(&host, EVE).len(), 1);
    host.sent.clear();
    host.hears(EVE, Message::Revoked { keys, all: false });
    assert_eq!(host.sent, [(EVE, Message::Buried(vec![name(900)]))], "once");
}

/// It may have made keys of its own, of which nobody here knows.
#[test]
fn who_comes_while_all_keys_are_revoked_ends_all_that_it_has() {
    let mut host = with_bob_and_a_key_of_his();
    host.handle(Event::Down(EVE));
    host.handle(Event::RevokeAll);
    let comes = |host: &mut Host, peer| {
        host.handle(Event::Down(peer));
        host.sent.clear();
        host.handle(Event::Up(peer));
        let is_all = |said: &Message<()>| matches!(said, Message::Revoked { all: true, .. });
        host.has_sent(peer, is_all)
    };
    assert!(comes(&mut host, EVE) && comes(&mut host, BOB));
    // Once it has said so, what it makes is none of what was to end.
    for peer in [BOB, EVE] {
        host.hears(peer, Message::Buried(vec![name(500)]));
    }
    assert!(!comes(&mut host, EVE) && !comes(&mut host, BOB));
    let other = NodeId(77);
    assert!(comes(&mut host, other));
    host.pass(secs(600.0));
    assert!(!comes(&mut host, other), "nobody waits for it any more");
}

#[test]
fn a_grave_lasts_as_long_as_a_copy_that_nobody_cut_short() {
    let mut host = with_bob_and_a_key_of_his();
    let long = 2 * host.node.limits.longest;
    host.hears(BOB, Message::Keys(vec![offer(501, BOB, long)]));
    assert!(host.ring[&name(501)].times.decrypt_until < host.now + long);
    host.sent.clear();
    host.handle(Event::Revoke(vec![name(501)]));
    assert!(tombstones(&host, EVE)[0].left >= long);
    // Whoever hears of it keeps it for as long, though its own keys are short.
    host.hears(
        BOB,
        Message::Revoked { keys: vec![Tombstone { name: name(9), left: long }], all: false },
    );
    host.handle(Event::Down(EVE));
    host.sent.clear();
    host.handle(Event::Up(EVE));
    let told = tombstones(&host, EVE);
    assert!(told.iter().any(|told| told.name == name(9) && told.left == long), "{told:?}");
}
