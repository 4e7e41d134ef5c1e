//! Peers as hosts: each once, however many addresses and names it has, and always by the same name.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot_fleet::message::NodeId;

use super::about::Theirs;
use super::link::{Dialler, Link};
use super::state::MeshState;
use super::targets::{Failure, State, Target, Targets};

/// A peer: a host of the settings, or one that called from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    /// As the settings name it, if that means this host alone; else its first address. Of one that is not
    /// in the settings, the address from which it calls.
    pub name: String,
    /// The addresses at which it is dialled, or from which it called.
    pub addresses: Vec<String>,
    /// Who is there, or was there last.
    pub node: Option<NodeId>,
    /// Whether it is connected.
    pub state: PeerState,
    /// Whether it ever was.
    pub was_seen: bool,
    /// The least round trip of late.
    pub round_trip: Option<Duration>,
    /// When it last said that it took keys.
    pub acknowledged: Option<Time>,
    /// What it told of its host.
    pub told: Option<Theirs>,
    /// Why it is not connected, as far as that is known, and when that was seen.
    pub failure: Option<Failure>,
}

/// How it stands with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Connected.
    Up,
    /// It is being dialled, or will be.
    Down,
    /// It is this node.
    Myself,
}

/// Addresses of one host.
struct Group {
    who: Who,
    targets: Vec<Rc<Target>>,
}

/// Which host an address is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Myself,
    Node(NodeId),
    /// Nobody has answered there yet: a host of its own, or the one of this number among the peers of the
    /// settings.
    Nobody(Option<usize>),
}

/// All, those of the settings first.
pub fn peers(state: &MeshState) -> Vec<PeerStatus> {
    let (registry, targets) = (state.registry.borrow(), state.targets.borrow());
    let up: Vec<&Rc<Link>> = registry.links().filter(|link| link.is_up.get()).collect();
    let own = state.addresses.borrow();
    let link_with = |node| registry.get(node).filter(|link| link.is_up.get());
    let is_up = |node| link_with(node).is_some();
    let who = |target: &Target| who(target, &targets, &up, is_up, &own, state.listens.port());
    let mut groups: Vec<Group> = Vec::new();
    for target in targets.all() {
        let pair = targets.pair_of(target.address);
        let answering = who(target);
        let who = match (answering, pair) {
            (Who::Nobody(_), Some((number, other))) => {
                let other = targets.all().find(|target| target.address == other);
                let other = other.map(|target| who(target));
                let other = other.filter(|who| !matches!(who, Who::Nobody(_)));
                other.unwrap_or(Who::Nobody(Some(number)))
            }
            (answering, _) => answering,
        };
        let same = |group: &&mut Group| group.who == who && who != Who::Nobody(None);
        match groups.iter_mut().find(same) {
            Some(group) => group.targets.push(target.clone()),
            None => groups.push(Group { who, targets: vec![target.clone()] }),
        }
    }
    let mut peers: Vec<_> = groups
        .iter()
        .map(|group| {
            let addresses: BTreeSet<_> =
                group.targets.iter().map(|target| target.address).collect();
            let first = group.targets[0].address.to_string();
            let name = targets.name_of(&addresses).unwrap_or(first);
            let node = match group.who {
                Who::Myself => Some(state.me.node),
                Who::Node(node) => Some(node),
                Who::Nobody(_) => None,
            };
            let link = node.and_then(link_with);
            let peer = match group.who {
                Who::Myself => PeerState::Myself,
                _ if link.is_some() => PeerState::Up,
                _ => PeerState::Down,
            };
            let failures =
                group.targets.iter().filter_map(|target| target.failure.borrow().clone());
            let failure = failures.max_by_key(|failure| failure.at);
            PeerStatus {
                addresses: addresses.iter().map(ToString::to_string).collect(),
                node,
                was_seen: node.is_some(),
                failure: failure.filter(|_| peer == PeerState::Down),
                ..status(name, peer, link)
            }
        })
        .collect();
    peers.extend(targets.without_address().map(|(name, failure)| PeerStatus {
        addresses: Vec::new(),
        failure: failure.cloned(),
        ..status(name, PeerState::Down, None)
    }));
    let known: BTreeSet<NodeId> = peers.iter().filter_map(|peer| peer.node).collect();
    let mut others: Vec<_> =
        up.iter().filter(|link| !known.contains(&link.hello.node)).copied().collect();
    others.sort_by_key(|link| (link.address.ip(), link.hello.node));
    for link in others {
        let address = match link.dialler {
            Dialler::We => link.address.to_string(),
            // Its port is another one each time.
            Dialler::They => link.address.ip().to_canonical().to_string(),
        };
        let is_taken = |name: &str| peers.iter().any(|peer| peer.name == name);
        let name = match is_taken(&address) {
            true => format!("{address} ({})", link.hello.node),
            false => address.clone(),
        };
        peers.push(PeerStatus {
            addresses: vec![address],
            node: Some(link.hello.node),
            was_seen: true,
            ..status(name, PeerState::Up, Some(link))
        });
    }
    peers
}

/// Which host an address is of. What answered there decides. Where nobody does, a name in the settings may
/// have several addresses of one host, of which some are of no use: whoever answers at another one of these,
/// and says that this one is its own. Nobody is believed to be what the settings call by a name or an
/// address of its own: a host that cannot be reached would be taken for one that has heard of a revocation.
fn who(
    target: &Target,
    targets: &Targets,
    up: &[&Rc<Link>],
    is_up: impl Fn(NodeId) -> bool,
    own: &[IpAddr],
    port: u16,
) -> Who {
    let address = target.address.ip().to_canonical();
    let is_own = own.contains(&address) && target.address.port() == port;
    if target.state.get() == State::Myself || is_own {
        return Who::Myself;
    }
    let node = target.node.get();
    if let Some(node) = node.filter(|node| is_up(*node)) {
        return Who::Node(node);
    }
    let says_so = |link: &&&Rc<Link>| {
        let told = link.told.borrow();
        let its_own = told.as_ref().is_some_and(|told| told.about.addresses.contains(&address));
        let answers = |target: &Rc<Target>| target.node.get() == Some(link.hello.node);
        its_own && targets.beside(target.address).any(answers)
    };
    match (up.iter().find(says_so), node) {
        (Some(link), _) => Who::Node(link.hello.node),
        (None, Some(node)) => Who::Node(node),
        (None, None) => Who::Nobody(None),
    }
}

fn status(name: String, state: PeerState, link: Option<&Rc<Link>>) -> PeerStatus {
    PeerStatus {
        name,
        addresses: Vec::new(),
        node: None,
        state,
        was_seen: false,
        round_trip: link.and_then(|link| link.round_trip.get()),
        acknowledged: link.and_then(|link| link.acknowledged.get()),
        told: link.and_then(|link| link.told.borrow().clone()),
        failure: None,
    }
}
