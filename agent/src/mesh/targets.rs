//! The addresses that are dialled, and how it stands with each: those of the settings, and those that
//! their names stand for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

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
    /// Why the last attempt failed.
    pub error: RefCell<Option<String>>,
    /// Ends the pause before the next attempt.
    pub wake: Notify,
    /// False until the first attempt is over.
    pub was_tried: Cell<bool>,
}

/// A peer of the settings.
struct Named {
    peer: Peer,
    addresses: BTreeSet<SocketAddr>,
    was_looked_up: bool,
    error: Option<String>,
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
            error: None,
        };
        Targets { named: peers.iter().map(named).collect(), ..Targets::default() }
    }

    /// The addresses that are dialled.
    pub fn all(&self) -> impl Iterator<Item = &Rc<Target>> {
        self.dialled.values().map(|(target, _)| target)
    }

    /// The names that have no address, and why.
    pub fn without_address(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        let lost = self.named.iter().filter(|named| named.addresses.is_empty());
        lost.map(|named| (name(&named.peer), named.error.as_deref()))
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
        found: Result<BTreeSet<SocketAddr>, String>,
        dial: impl Fn(Rc<Target>) -> AbortHandle,
    ) {
        let named = &mut self.named[number];
        named.was_looked_up = true;
        match found {
            Ok(addresses) => {
                named.addresses = addresses;
                named.error = None;
            }
            Err(error) => named.error = Some(error),
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
                    error: RefCell::default(),
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
