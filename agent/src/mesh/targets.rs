//! The addresses that are dialled, and how it stands with each: those of the settings, and those that
//! their names stand for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tktrot::clock::Time;
use tktrot_fleet::config::{Host, Peer};
use tktrot_fleet::message::NodeId;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How it stands with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being dialled.
    Dialling,
    /// The node there is connected, whoever dialled.
    Connected,
    /// It will be dialled again.
    Waiting,
    /// It is this node's own.
    Myself,
}

/// An address.
pub struct Target {
    pub address: SocketAddr,
    pub state: Cell<State>,
    /// The node that answered there last.
    pub node: Cell<Option<NodeId>>,
    /// The one that answered there before it.
    former: Cell<Option<NodeId>>,
    /// Why the last attempt failed, or the last connection ended.
    pub failure: RefCell<Option<Failure>>,
    /// Since when all attempts have failed.
    pub failing: Cell<Option<Time>>,
    /// Ends the pause before the next attempt.
    pub wake: Notify,
    /// False until the first attempt is over.
    pub was_tried: Cell<bool>,
}

impl Target {
    /// This node answers there.
    pub fn answers_as(&self, node: NodeId) {
        let before = self.node.replace(Some(node));
        if before != Some(node) {
            self.former.set(before);
        }
    }
}

/// What went wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub what: String,
    pub at: Time,
}

/// A peer of the settings.
struct Named {
    peer: Peer,
    addresses: BTreeSet<SocketAddr>,
    was_looked_up: bool,
    /// Why its name could not be looked up.
    failure: Option<Failure>,
}

/// The addresses of all peers of the settings.
#[derive(Default)]
pub struct Targets {
    named: Vec<Named>,
    dialled: BTreeMap<SocketAddr, (Rc<Target>, AbortHandle)>,
    is_first_round_over: bool,
}

impl Targets {
    /// None of these has an address yet.
    pub fn new(peers: &[Peer]) -> Self {
        let named = |peer: &Peer| Named {
            peer: peer.clone(),
            addresses: BTreeSet::new(),
            was_looked_up: false,
            failure: None,
        };
        Targets { named: peers.iter().map(named).collect(), ..Targets::default() }
    }

    /// The addresses that are dialled.
    pub fn all(&self) -> impl Iterator<Item = &Rc<Target>> {
        self.dialled.values().map(|(target, _)| target)
    }

    /// The names that have no address, and why.
    pub fn without_address(&self) -> impl Iterator<Item = (String, Option<&Failure>)> {
        let lost = self.named.iter().filter(|named| named.addresses.is_empty());
        lost.map(|named| (name(&named.peer), named.failure.as_ref()))
    }

    /// The first name in the settings that stands for some of these addresses, and for no others.
    pub fn name_of(&self, addresses: &BTreeSet<SocketAddr>) -> Option<String> {
        let is_theirs =
            |named: &&Named| !named.addresses.is_empty() && named.addresses.is_subset(addresses);
        self.named.iter().find(is_theirs).map(|named| name(&named.peer))
    }

    /// If this address is one of a name that stands for one address of IPv4 and one of IPv6, as names of
    /// single hosts do: the number of that peer in the settings, and the other address.
    pub fn pair_of(&self, address: SocketAddr) -> Option<(usize, SocketAddr)> {
        self.named.iter().enumerate().find_map(|(number, named)| {
            let [one, other] = named.addresses.iter().collect::<Vec<_>>()[..] else { return None };
            let are_both = one.is_ipv4() != other.is_ipv4();
            let other = if *one == address { *other } else { *one };
            (are_both && named.addresses.contains(&address)).then_some((number, other))
        })
    }

    /// The other addresses of the names in the settings that stand for this one, too.
    pub fn beside(&self, address: SocketAddr) -> impl Iterator<Item = &Rc<Target>> {
        let named = self.named.iter().filter(move |named| named.addresses.contains(&address));
        let others = named.flat_map(|named| &named.addresses);
        others.filter_map(|other| self.dialled.get(other).map(|(target, _)| target))
    }

    /// The addresses at which this node answered last, or before the one that did last: a host that
    /// was rebooted may answer before its former connection is known to have ended.
    pub fn answered(&self, node: NodeId) -> BTreeSet<SocketAddr> {
        let is_its =
            |target: &&Rc<Target>| [target.node.get(), target.former.get()].contains(&Some(node));
        self.all().filter(is_its).map(|target| target.address).collect()
    }

    /// The node that answered last at this address.
    pub fn answering(&self, address: &SocketAddr) -> Option<NodeId> {
        self.dialled.get(address).and_then(|(target, _)| target.node.get())
    }

    /// A connection with this node has ended.
    pub fn lost(&self, node: NodeId, why: &str, at: Time) {
        for target in self.all().filter(|target| target.node.get() == Some(node)) {
            target.failure.replace(Some(Failure { what: why.to_owned(), at }));
        }
    }

    /// Dials at once where it would be waited: somebody is there.
    pub fn wake(&self, address: IpAddr) {
        let there = self.all().filter(|target| target.address.ip().to_canonical() == address);
        there.for_each(|target| target.wake.notify_one());
    }

    /// The addresses of the peer of this number are these now; one whose look-up fails keeps those
    /// that it had. New ones are dialled, in a task of their own each.
    pub fn update(
        &mut self,
        number: usize,
        found: Result<BTreeSet<SocketAddr>, Failure>,
        dial: impl Fn(Rc<Target>) -> AbortHandle,
    ) {
        let named = &mut self.named[number];
        named.was_looked_up = true;
        match found {
            Ok(addresses) => {
                named.addresses = addresses;
                named.failure = None;
            }
            Err(failure) => named.failure = Some(failure),
        }
        let wanted: BTreeSet<SocketAddr> =
            self.named.iter().flat_map(|named| named.addresses.iter().copied()).collect();
        self.dialled.retain(|address, (_, task)| {
            let stays = wanted.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for address in wanted {
            self.dialled.entry(address).or_insert_with(|| {
                let target = Rc::new(Target {
                    address,
                    state: Cell::new(State::Dialling),
                    node: Cell::new(None),
                    former: Cell::new(None),
                    failure: RefCell::default(),
                    failing: Cell::new(None),
                    wake: Notify::new(),
                    was_tried: Cell::new(false),
                });
                (target.clone(), dial(target))
            });
        }
    }

    /// True once: when every address was tried.
    pub fn ends_first_round(&mut self) -> bool {
        let is_known = self.named.iter().all(|named| named.was_looked_up);
        let is_over = is_known && self.all().all(|target| target.was_tried.get());
        let ends = is_over && !self.is_first_round_over;
        self.is_first_round_over |= is_over;
        ends
    }

    /// Ends all attempts; connections stay.
    pub fn stop(&mut self) {
        self.dialled.values().for_each(|(_, task)| task.abort());
        self.dialled.clear();
    }
}

/// The name of a peer, as it is written in the settings.
pub fn name(peer: &Peer) -> String {
    match &peer.host {
        Host::Address(address) => SocketAddr::new(*address, peer.port).to_string(),
        Host::Name(name) => format!("{name}:{}", peer.port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_host_that_was_rebooted_may_answer_before_it_is_known_to_be_gone() {
        let address: SocketAddr = "192.0.2.1:4744".parse().unwrap();
        let peer = Peer { host: Host::Address(address.ip()), port: address.port() };
        let mut targets = Targets::new(&[peer]);
        targets.update(0, Ok([address].into()), |_| tokio::spawn(async {}).abort_handle());
        let (before, now) = (NodeId(1), NodeId(2));
        for node in [before, before, now, now] {
            targets.all().for_each(|target| target.answers_as(node));
        }
        assert_eq!(targets.answering(&address), Some(now));
        for node in [before, now] {
            assert_eq!(targets.answered(node), [address].into());
        }
        assert!(targets.answered(NodeId(3)).is_empty());
    }
}
