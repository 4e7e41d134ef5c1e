//! A revocation whose peers are waited for: who has it, and who could not be told.

use std::collections::{HashMap, HashSet};

use tktrot::secret::KeyName;
use tktrot_fleet::message::NodeId;

use super::control::{Missing, Reach};
use super::departed::Host;
use super::mesh::{PeerState, PeerStatus};
use super::waiting::Waiting;

/// One that somebody waits for.
pub struct Revocation {
    /// How many keys ended on this host.
    keys: usize,
    /// What the peers have to know.
    graves: HashSet<KeyName>,
    /// What each peer has said that it knows, of these.
    known: HashMap<NodeId, HashSet<KeyName>>,
    waiting: Waiting,
}

impl Revocation {
    /// One of these keys.
    pub fn new(keys: usize, graves: HashSet<KeyName>, waiting: Waiting) -> Revocation {
        Revocation { keys, graves, known: HashMap::new(), waiting }
    }

    /// These ended by it, too: keys that this host did not know.
    pub fn extend(&mut self, graves: impl IntoIterator<Item = KeyName>) {
        self.graves.extend(graves);
    }

    /// A peer has these graves in its ring.
    pub fn acknowledge(&mut self, peer: NodeId, names: &[KeyName]) {
        let known = self.known.entry(peer).or_default();
        known.extend(names.iter().filter(|name| self.graves.contains(name)));
    }

    fn is_known_by(&self, peer: NodeId) -> bool {
        self.known.get(&peer).is_some_and(|known| known.len() == self.graves.len())
    }

    /// The peers that have it, and those that do not.
    fn reach(&self, peers: &[PeerStatus], departed: &[&Host]) -> (Vec<String>, Vec<Missing>) {
        let (mut told, mut missing) = (Vec::new(), Vec::new());
        let mut counted = HashSet::new();
        for peer in peers.iter().filter(|peer| peer.state != PeerState::Myself) {
            let is_known = peer.node.is_some_and(|node| self.is_known_by(node));
            // A host may have several addresses.
            let is_another = peer.node.is_none_or(|node| counted.insert(node));
            match (is_known, is_another) {
                (true, true) => told.push(peer.name.clone()),
                (false, true) => {
                    missing.push(Missing { peer: peer.name.clone(), why: self.why(peer) })
                }
                (_, false) => {}
            }
        }
        // Nobody has answered yet where it did: since the settings were read again.
        let is_named = |host: &&&Host| {
            let answered: Vec<_> = host.answered.iter().map(ToString::to_string).collect();
            let is_there = |peer: &PeerStatus| {
                peer.node.is_none() && answered.iter().all(|one| peer.addresses.contains(one))
            };
            !answered.is_empty() && peers.iter().any(is_there)
        };
        let departed = departed.iter().filter(|host| !self.is_known_by(host.node));
        for host in departed.filter(|host| !is_named(host)) {
            if counted.insert(host.node) {
                let why = format!(
                    "it was connected, as node {}, is gone, and is not among the peers of the \
                     settings; unless it was rebooted since, its servers may have the key",
                    host.node
                );
                missing.push(Missing { peer: host.address.to_string(), why });
            }
        }
        (told, missing)
    }

    /// Why a peer is not known to have it.
    fn why(&self, peer: &PeerStatus) -> String {
        match (peer.state, &peer.failure) {
            (PeerState::Up, _) => {
                let wait = self.waiting.wait();
                format!(
                    "it is connected, and has not confirmed it within {wait}; agents of an older version do not"
                )
            }
            (_, Some(failure)) => failure.what.clone(),
            (_, None) => "it is not connected".into(),
        }
    }

    /// Whether there is an answer: all peers have it, or were waited for long enough.
    pub fn is_over(&self, peers: &[PeerStatus], departed: &[&Host]) -> bool {
        self.waiting.is_over() || self.reach(peers, departed).1.is_empty()
    }

    /// Answers whoever waits.
    pub fn end(self, peers: &[PeerStatus], departed: &[&Host]) {
        let (told, missing) = self.reach(peers, departed);
        self.waiting.end(self.keys, Reach::Peers { told, missing });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tktrot::clock::Time;
    use tokio::sync::oneshot;

    use super::super::control::{Reply, Revoked};
    use super::*;

    fn name(number: u8) -> KeyName {
        let mut name = KeyName([7; 16]);
        name.0[0] = number;
        name
    }

    fn peer(node: Option<u64>, name: &str, state: PeerState) -> PeerStatus {
        PeerStatus {
            name: name.into(),
            addresses: vec![name.into()],
            node: node.map(NodeId),
            state,
            was_seen: node.is_some(),
            round_trip: None,
            acknowledged: None,
            told: None,
            failure: None,
        }
    }

    fn revocation(wait: u64) -> (Revocation, oneshot::Receiver<Reply>) {
        let (answer, answered) = oneshot::channel();
        let graves = [name(1), name(2)].into();
        let waiting = Waiting::new(Duration::from_secs(wait), answer);
        (Revocation::new(2, graves, waiting), answered)
    }

    fn said(mut answered: oneshot::Receiver<Reply>) -> Revoked {
        match answered.try_recv().expect("an answer") {
            Reply::Answer(value) => serde_json::from_value(value).expect("a revocation"),
            Reply::Error(why) => panic!("{why}"),
        }
    }

    #[test]
    fn it_is_over_when_every_peer_has_every_grave() {
        let (mut revocation, answered) = revocation(3600);
        let peers = [
            peer(Some(1), "me", PeerState::Myself),
            peer(Some(2), "two", PeerState::Up),
            peer(Some(2), "two again", PeerState::Up),
            // It has acknowledged, and is gone since.
            peer(Some(3), "three", PeerState::Down),
        ];
        revocation.acknowledge(NodeId(2), &[name(1), name(9)]);
        revocation.acknowledge(NodeId(3), &[name(1), name(2)]);
        assert!(!revocation.is_over(&peers, &[]), "one grave is not known to one peer");
        revocation.acknowledge(NodeId(2), &[name(2)]);
        assert!(revocation.is_over(&peers, &[]));
        // What a peer says that ended by it all others have to know, too.
        revocation.extend([name(3)]);
        assert!(!revocation.is_over(&peers, &[]));
        for node in [2, 3] {
            revocation.acknowledge(NodeId(node), &[name(3)]);
        }
        assert!(revocation.is_over(&peers, &[]));
        revocation.end(&peers, &[]);
        let told = ["two", "three"].map(Into::into).to_vec();
        let reach = Reach::Peers { told, missing: Vec::new() };
        assert_eq!(said(answered), Revoked { keys: 2, reach });
    }

    #[test]
    fn who_is_missing_is_named_when_it_was_waited_for() {
        let (mut revocation, answered) = revocation(0);
        let peers = [
            peer(Some(2), "two", PeerState::Up),
            peer(Some(3), "three", PeerState::Up),
            peer(None, "four", PeerState::Down),
        ];
        revocation.acknowledge(NodeId(2), &[name(1), name(2)]);
        assert!(revocation.is_over(&peers, &[]));
        revocation.end(&peers, &[]);
        let Revoked { reach: Reach::Peers { told, missing }, .. } = said(answered) else {
            panic!()
        };
        assert_eq!(told, ["two"]);
        let names: Vec<_> = missing.iter().map(|missing| &*missing.peer).collect();
        assert_eq!(names, ["three", "four"]);
        assert!(missing[0].why.contains("has not confirmed"), "{missing:?}");
    }

    #[test]
    fn who_is_gone_is_named_once_by_the_settings_if_they_have_it() {
        let address = "192.0.2.1:4744";
        let gone = |node, answered: &[&str]| Host {
            node: NodeId(node),
            address: "192.0.2.1".parse().unwrap(),
            answered: answered.iter().map(|address| address.parse().unwrap()).collect(),
            until: Time(1),
        };
        let (called, answered) = (gone(2, &[]), gone(3, &[address]));
        let named = |peers: &[PeerStatus]| {
            let (mut revocation, answers) = revocation(0);
            revocation.acknowledge(NodeId(4), &[name(1), name(2)]);
            revocation.end(peers, &[&called, &answered]);
            let Revoked { reach: Reach::Peers { missing, .. }, .. } = said(answers) else {
                panic!()
            };
            missing.into_iter().map(|missing| missing.peer).collect::<Vec<_>>()
        };
        assert_eq!(named(&[]), ["192.0.2.1"; 2]);
        // Nobody has answered there since the settings were read again.
        let down = |node| peer(node, address, PeerState::Down);
        assert_eq!(named(&[down(None)]), [address, "192.0.2.1"]);
        // It was there, and is gone.
        assert_eq!(named(&[down(Some(3))]), [address, "192.0.2.1"]);
        // Another one is there, and has it.
        assert_eq!(named(&[peer(Some(4), address, PeerState::Up)]), ["192.0.2.1"; 2]);
    }

    #[test]
    fn without_peers_nobody_is_waited_for() {
        let (revocation, answered) = revocation(3600);
        assert!(revocation.is_over(&[], &[]));
        revocation.end(&[], &[]);
        let reach = Reach::Peers { told: Vec::new(), missing: Vec::new() };
        assert_eq!(said(answered).reach, reach);
    }
}
