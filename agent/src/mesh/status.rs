//! The peers, for `tktrot peers`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot_fleet::message::NodeId;

use super::link::Link;
use super::shared::Shared;
use super::targets::State;

/// An address of the settings, or a node that called from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The address, or the name that has none.
    pub address: String,
    /// Who is there, or was there last.
    pub node: Option<NodeId>,
    /// How it stands.
    pub state: PeerState,
    /// The least of late.
    pub round_trip: Option<Duration>,
    /// When it last said that it took keys.
    pub acknowledged: Option<Time>,
    /// Why the last attempt failed that did.
    pub error: Option<String>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Connected.
    Up,
    /// It is being dialled, or will be.
    Down,
    /// It is this node.
    Myself,
}

/// All, those of the settings first.
pub fn peers(shared: &Shared) -> Vec<PeerStatus> {
    let (registry, targets) = (shared.registry.borrow(), shared.targets.borrow());
    let link_with = |node: Option<NodeId>| {
        node.and_then(|node| registry.get(node)).filter(|link| link.is_up.get())
    };
    let mut peers: Vec<PeerStatus> = targets
        .all()
        .map(|target| {
            let node = target.node.get();
            let state = match target.state.get() {
                State::Myself => PeerState::Myself,
                _ if link_with(node).is_some() => PeerState::Up,
                State::Connected | State::Dialling | State::Waiting => PeerState::Down,
            };
            let error = target.error.borrow().clone();
            status(
                target.address.to_string(),
                node,
                state,
                link_with(node).map(|link| &**link),
                error,
            )
        })
        .collect();
    peers.extend(targets.without_address().map(|(name, error)| {
        status(name, None, PeerState::Down, None, error.map(ToOwned::to_owned))
    }));
    let known: BTreeSet<NodeId> = peers.iter().filter_map(|peer| peer.node).collect();
    let mut others: Vec<_> = registry
        .links()
        .filter(|link| link.is_up.get() && !known.contains(&link.hello.node))
        .map(|link| {
            let address: SocketAddr = link.address;
            let node = Some(link.hello.node);
            status(address.to_string(), node, PeerState::Up, Some(&**link), None)
        })
        .collect();
    others.sort_by_key(|peer| peer.node);
    peers.extend(others);
    peers
}

fn status(
    address: String,
    node: Option<NodeId>,
    state: PeerState,
    link: Option<&Link>,
    error: Option<String>,
) -> PeerStatus {
    PeerStatus {
        address,
        node,
        state,
        round_trip: link.and_then(|link| link.round_trip.get()),
        acknowledged: link.and_then(|link| link.acknowledged.get()),
        error,
    }
}
