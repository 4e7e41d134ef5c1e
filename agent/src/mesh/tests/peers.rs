//! Nodes find each other, and know when one is gone.

use std::time::Duration;

use testbed::wait::PATIENCE;
use tktrot::clock::{BootClock, Clock};
use tktrot::secret::KeyName;
use tktrot_fleet::config::{Host as PeerHost, Peer};
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::wire::About;

use super::super::PeerState;
use super::super::about::{self, Settings, Theirs};
use super::super::dialler::update;
use super::super::targets::Failure;
use super::host::{Host, address, key, peer, run, timing, tls, until_all_up};
use super::log::Log;

#[test]
fn three_nodes_with_the_same_list_have_one_connection_for_each_pair() {
    run(async {
        let log = Log::new();
        let all = [11, 12, 13].map(address);
        let mut hosts = [1, 2, 3].map(|n| Host::start(n, all[usize::from(n) - 1], tls(&[7]), &all));
        until_all_up(&mut hosts).await;
        for host in &mut hosts {
            host.until("the first round is over", |host| host.first_round_is_over).await;
        }
        // Longer than a silence that would end a connection, and than many pauses.
        for host in &mut hosts {
            host.during(Duration::from_millis(1200)).await;
        }
        for host in &hosts {
            let peers = host.mesh.peers();
            let states: Vec<_> = peers.iter().map(|peer| peer.state).collect();
            let own = peers.iter().position(|peer| peer.name == host.address.to_string());
            let mut expected = [PeerState::Up; 3];
            expected[own.unwrap()] = PeerState::Myself;
            assert_eq!(states, expected, "{peers:?}");
            for peer in peers.iter().filter(|peer| peer.state == PeerState::Up) {
                assert!(peer.round_trip.is_some_and(|span| span < Duration::from_secs(1)));
                assert!(peer.node.is_some() && peer.failure.is_none(), "{peer:?}");
            }
            assert!(host.up.len() == 2);
        }
        // Both may have dialled at the same moment; then one connection gives way, once.
        let downs = |host: &Host| host.changes.iter().filter(|(_, change)| change.is_err()).count();
        assert!(hosts.iter().all(|host| downs(host) <= 2), "{:?}", hosts.each_ref().map(downs));
        assert_eq!(log.lines("WARN"), [""; 0]);
    });
}

#[test]
fn messages_pass_both_ways_in_order_and_with_their_age() {
    run(async {
        let (a, b) = (address(14), address(15));
        let mut hosts = [Host::start(1, a, tls(&[7]), &[b]), Host::start(2, b, tls(&[7]), &[])];
        until_all_up(&mut hosts).await;
        let [one, two] = &mut hosts;
        // More than fits into a frame: 20 000 keys.
        let keys = (0..20_000).map(key).collect();
        one.says(2, &Message::Held { keys, last: true });
        one.says(2, &Message::Pull);
        let mut count = 0;
        loop {
            let (from, message, age) = two.hears().await;
            assert!(from == NodeId(1) && age > Duration::ZERO && age < PATIENCE, "{age:?}");
            let Message::Held { keys, last } = message else { panic!("not held") };
            for held in &keys {
                let expected = key(count);
                assert!(held.name == expected.name && held.left == expected.left);
                assert!(held.secrets.aes.same_as(&expected.secrets.aes));
                assert!(held.secrets.hmac.same_as(&expected.secrets.hmac));
                count += 1;
            }
            if last {
                break;
            }
        }
        assert_eq!(count, 20_000);
        assert!(matches!(two.hears().await.1, Message::Pull));

        two.says(1, &Message::Taken(vec![KeyName([9; 16])]));
        let (from, message, _) = one.hears().await;
        assert_eq!(from, NodeId(2));
        assert!(matches!(message, Message::Taken(names) if names == [KeyName([9; 16])]));
        let acknowledged = |host: &Host| host.mesh.peers()[0].acknowledged;
        assert!(acknowledged(one).is_some() && acknowledged(two).is_none());
    });
}

#[test]
fn a_node_that_leaves_is_heard_to_the_end_and_comes_back_as_another_instance() {
    run(async {
        let (a, b) = (address(16), address(17));
        let mut one = Host::start(1, a, tls(&[7]), &[b]);
        for instance in 1..=3 {
            let peers = vec![peer(a)];
            let mut two = Host::start_as(2, instance, b, tls(&[7]), peers, timing());
            two.until_up(1).await;
            one.until_up(2).await;
            (0..500).for_each(|_| two.says(1, &Message::Pull));
            two.says(1, &Message::Leaving);
            tokio::join!(two.mesh.stop(), one.until_down(2));
            assert_eq!(one.heard.len(), 501);
            assert!(matches!(one.heard.pop(), Some((_, Message::Leaving, _))));
            one.heard.clear();
        }
    });
}

#[test]
fn a_dropped_peer_comes_back() {
    run(async {
        let (a, b) = (address(18), address(19));
        let mut hosts = [Host::start(1, a, tls(&[7]), &[b]), Host::start(2, b, tls(&[7]), &[])];
        until_all_up(&mut hosts).await;
        hosts[0].mesh.drop_peer(NodeId(2), "silent about a key");
        assert_eq!(hosts[0].until_down(2).await, "silent about a key");
        hosts[1].until_down(1).await;
        until_all_up(&mut hosts).await;
    });
}

#[test]
fn names_are_looked_up_and_those_that_are_none_told() {
    run(async {
        let log = Log::new();
        let (a, b) = (address(20), address(1));
        let named = |name: &str| Peer { host: PeerHost::Name(name.into()), port: b.port() };
        let peers = vec![named("localhost"), named("nobody.invalid")];
        let mut one = Host::start_as(1, 1, a, tls(&[7]), peers, timing());
        let mut two = Host::start(2, b, tls(&[7]), &[]);
        one.until_up(2).await;
        two.until_up(1).await;
        one.until("the first round is over", |host| host.first_round_is_over).await;
        let peers = one.mesh.peers();
        let of = |name: &str| peers.iter().find(|peer| peer.name == name).unwrap();
        // Of IPv4 and of IPv6, where nobody listens: one host.
        let named = of(&format!("localhost:{}", b.port()));
        assert_eq!((named.state, peers.len()), (PeerState::Up, 2), "{peers:?}");
        assert!(named.addresses.contains(&b.to_string()));
        let nobody = of(&format!("nobody.invalid:{}", b.port()));
        assert!(nobody.state == PeerState::Down && nobody.failure.is_some());
        log.says_once("cannot look up its name");
    });
}

#[test]
fn the_addresses_of_a_name_come_and_go() {
    run(async {
        let (a, b) = (address(23), address(24));
        let named = Peer { host: PeerHost::Name("nobody.invalid".into()), port: b.port() };
        let mut one = Host::start_as(1, 1, a, tls(&[7]), vec![named], timing());
        let mut two = Host::start(2, b, tls(&[7]), &[]);
        one.until("the first round is over", |host| host.first_round_is_over).await;
        let state = one.mesh.state.clone();
        let addresses = |host: &Host| -> Vec<String> {
            host.mesh.peers().into_iter().flat_map(|peer| peer.addresses).collect()
        };
        update(&state, 0, Ok([b].into()));
        one.until_up(2).await;
        two.until_up(1).await;
        // A resolver that fails says nothing about where peers are.
        let failure = Failure { what: "no answer".into(), at: BootClock.now() };
        update(&state, 0, Err(failure));
        assert_eq!(addresses(&one), [b.to_string()]);
        // An address that goes is not dialled again; a connection is not ended by it.
        let c = address(25);
        update(&state, 0, Ok([c].into()));
        let mut expected = [b, c].map(|address| address.to_string());
        expected.sort();
        let mut known = addresses(&one);
        known.sort();
        assert_eq!(known, expected);
        one.during(Duration::from_millis(100)).await;
        assert_eq!(one.up.len(), 1);
        one.mesh.drop_peer(NodeId(2), "to see whether it comes back");
        one.until_down(2).await;
        one.during(Duration::from_millis(600)).await;
        assert!(one.up.is_empty(), "an address that is gone was dialled");
    });
}

#[test]
fn many_nodes_that_start_at_once_find_each_other() {
    const COUNT: u8 = 24;
    run(async {
        let all: Vec<_> = (1..=COUNT).map(|number| address(100 + number)).collect();
        let hosts: Vec<_> = (1..=COUNT)
            .map(|number| Host::start(number, all[usize::from(number) - 1], tls(&[7]), &all))
            .collect();
        let others = usize::from(COUNT) - 1;
        let settling = hosts.into_iter().map(|mut host| {
            tokio::task::spawn_local(async move {
                host.until("all are up", |host| host.up.len() == others).await;
                host
            })
        });
        let settling: Vec<_> = settling.collect();
        let mut hosts = Vec::new();
        for host in settling {
            hosts.push(host.await.unwrap());
        }
        // None is lost again.
        for host in &mut hosts {
            host.during(Duration::from_millis(20)).await;
            assert_eq!(host.up.len(), others, "{:?}", host.changes);
        }
        let downs = |host: &Host| host.changes.iter().filter(|(_, change)| change.is_err()).count();
        let lost: usize = hosts.iter().map(downs).sum();
        assert!(lost < others * usize::from(COUNT), "{lost} connections gave way to others");
    });
}

#[test]
fn a_peer_that_is_not_there_is_told_once_and_found_when_it_comes() {
    run(async {
        let log = Log::new();
        let (a, b) = (address(21), address(22));
        let mut one = Host::start(1, a, tls(&[7]), &[b]);
        one.until("the first round is over", |host| host.first_round_is_over).await;
        one.during(Duration::from_millis(500)).await;
        let peers = one.mesh.peers();
        assert_eq!(peers[0].state, PeerState::Down);
        assert!(peers[0].failure.as_ref().is_some_and(|failure| failure.what.contains("refused")));
        log.says_once("cannot connect");
        let mut two = Host::start(2, b, tls(&[7]), &[]);
        one.until_up(2).await;
        two.until_up(1).await;
    });
}

#[test]
fn hosts_are_told_apart_by_who_they_are_and_by_what_they_say() {
    run(async {
        // What is logged on a thread that nobody listens on may be lost for those that others listen on.
        let _log = Log::new();
        let (a, b, c) = (address(26), address(27), address(28));
        // One host; one that this one says is itself; and a name, of which nobody has the address.
        let named = Peer { host: PeerHost::Name("nobody.invalid".into()), port: b.port() };
        let peers = vec![peer(b), peer(c), named];
        let mut one = Host::start_as(1, 1, a, tls(&[7]), peers, timing());
        let mut two = Host::start(2, b, tls(&[7]), &[a]);
        one.until_up(2).await;
        two.until_up(1).await;
        one.until("the first round is over", |host| host.first_round_is_over).await;
        assert_eq!(one.mesh.peers().len(), 3);
        let link = one.mesh.state.registry.borrow().get(NodeId(2)).unwrap().clone();
        let settings = Settings {
            rotate_every: Duration::from_secs(60),
            lifetime: Duration::from_secs(120),
            plain: true,
        };
        let about = About { addresses: vec![c.ip()], ..about::own(settings) };
        link.told.replace(Some(Theirs::heard(about, Duration::ZERO)));
        let states = |host: &Host| -> Vec<_> {
            let peers = host.mesh.peers().into_iter();
            peers.map(|peer| (peer.name, peer.state, peer.addresses.len(), peer.was_seen)).collect()
        };
        let name = format!("nobody.invalid:{}", b.port());
        let down = |name: String, addresses| (name, PeerState::Down, addresses, false);
        let expected =
            vec![(b.to_string(), PeerState::Up, 1, true), down(c.to_string(), 1), down(name, 0)];
        assert_eq!(states(&one), expected, "nobody is another one because it says so");
        // Where the settings have both under one name it is.
        update(&one.mesh.state, 1, Ok(std::collections::BTreeSet::new()));
        update(&one.mesh.state, 2, Ok([b, c].into()));
        let all = states(&one);
        assert!(all.contains(&(b.to_string(), PeerState::Up, 2, true)), "{all:?}");
        // Who calls from elsewhere has a name without a port, which would be another one each time.
        let caller = &two.mesh.peers()[0];
        assert_eq!((&*caller.name, caller.state), (&*a.to_string(), PeerState::Up));
    });
}

#[test]
fn peers_learn_how_keys_are_made_here_and_of_every_change() {
    run(async {
        let (a, b) = (address(30), address(31));
        let mut hosts = [Host::start(1, a, tls(&[7]), &[b]), Host::start(2, b, tls(&[7]), &[])];
        let settings = |seconds| Settings {
            rotate_every: Duration::from_secs(seconds),
            lifetime: Duration::from_secs(120),
            plain: false,
        };
        hosts[0].mesh.tells(settings(60));
        until_all_up(&mut hosts).await;
        let [_, two] = &mut hosts;
        let told = |host: &Host| host.mesh.peers()[0].told.clone();
        until_so(|| told(two).is_some()).await;
        let heard = told(two).unwrap();
        assert_eq!(heard.settings(), settings(60));
        assert!(heard.ahead.abs() < 1.0 && !heard.about.release.is_empty(), "{heard:?}");
        let caller = &two.mesh.peers()[0];
        assert_eq!(caller.name, "127.0.0.1", "without a port, which changes");
        hosts[0].mesh.tells(settings(30));
        let changed = |host: &Host| told(host).is_some_and(|told| told.settings() == settings(30));
        until_so(|| changed(&hosts[1])).await;
        assert!(told(&hosts[0]).is_none() && !hosts[0].mesh.has_told(NodeId(2)));
        assert!(hosts[1].mesh.has_told(NodeId(1)));
    });
}

/// What no event tells.
async fn until_so(is_so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "waited in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
