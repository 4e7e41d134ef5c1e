//! The mesh: an encrypted connection with every peer, kept up, over which nodes share keys.
//!
//! All of it runs on one thread, in a [`tokio::task::LocalSet`]. Modules use only those further down:
//!
//! | module | holds |
//! |---|---|
//! | [`listener`] | connections from peers |
//! | [`dialler`] | connections to peers |
//! | [`greeting`] | the first words on a connection |
//! | [`connection`] | frames, messages and signs of life |
//! | [`state`] | what all of these have in common, and what the agent is told |
//! | [`registry`] | one connection for each pair of nodes |
//! | [`targets`] | the addresses that are dialled |
//! | [`admission`] | how many connections may be strangers' |
//! | [`link`] | a connection, as others have it |
//! | [`age`] | how old a message is |
//! | [`tls`], [`psk`] | who belongs to the fleet |

mod admission;
mod age;
mod connection;
mod dialler;
mod greeting;
mod link;
mod listener;
mod psk;
mod registry;
mod state;
mod targets;
#[cfg(test)]
mod tests;
mod tls;

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tktrot::clock::Time;
use tktrot::secret::KeySecrets;
use tktrot_fleet::config::{self, Peer};
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::wire::{self, Hello};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

pub use state::MeshEvent;

use crate::journal::Once;
use connection::End;
use link::Link;
use state::{MeshState, Timing};
use targets::{State, Targets};
use tls::Tls;

/// Complaints that are told apart; beyond that none is logged until some are old.
const COMPLAINTS: usize = 256;

/// What a mesh needs. It is made before privileges are given up.
pub struct MeshConfig {
    /// Bound to where peers call.
    listener: TcpListener,
    /// The peers of the settings, which are dialled.
    peers: Vec<Peer>,
    /// What nodes prove to each other.
    tls: Tls,
    /// How long is waited for what.
    timing: Timing,
}

impl MeshConfig {
    /// For these settings.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or a secret or certificate not be read.
    pub fn read(mesh: &config::Mesh) -> Result<MeshConfig> {
        let tls = Tls::read(&mesh.credentials).context("[mesh]")?;
        let listener = TcpListener::bind(mesh.listen)
            .with_context(|| format!("[mesh]: cannot listen on {}", mesh.listen))?;
        Ok(MeshConfig { listener, peers: mesh.peers.clone(), tls, timing: Timing::default() })
    }
}

/// The connections with all peers.
pub struct Mesh {
    state: Rc<MeshState>,
    events: mpsc::Receiver<MeshEvent>,
    /// The connections of whose beginning the agent has heard: what it says goes there, never the
    /// rest of a conversation into the next one.
    outlets: HashMap<NodeId, Rc<Link>>,
    tasks: Vec<AbortHandle>,
}

impl Mesh {
    /// Begins to listen and to dial, as a node that says this of itself. To be called in a
    /// [`tokio::task::LocalSet`].
    ///
    /// # Errors
    ///
    /// The listener cannot be used.
    pub fn start(config: MeshConfig, me: Hello) -> Result<Mesh> {
        let MeshConfig { listener, peers, tls, timing } = config;
        let listens = listener.local_addr().context("the listening socket")?;
        listener.set_nonblocking(true).context("the listening socket")?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (sender, events) = mpsc::channel(state::WAITING);
        let state = Rc::new(MeshState {
            me,
            tls,
            timing,
            listens,
            registry: RefCell::default(),
            targets: RefCell::new(Targets::new(&peers)),
            admission: Default::default(),
            complaints: RefCell::new(Once::of_at_most(COMPLAINTS)),
            events: RefCell::new(Some(sender)),
            changed: Notify::new(),
        });
        let mut tasks = vec![spawn_local(listener::listen(state.clone(), listener)).abort_handle()];
        for (number, peer) in peers.into_iter().enumerate() {
            tasks.push(spawn_local(dialler::follow(state.clone(), number, peer)).abort_handle());
        }
        if tasks.len() == 1 {
            let state = state.clone();
            spawn_local(async move { dialler::tell_first_round(&state).await });
        }
        Ok(Mesh { state, events, outlets: HashMap::new(), tasks })
    }

    /// What happens next; none once the mesh has stopped. Nothing is lost if this is cancelled.
    pub async fn recv(&mut self) -> Option<MeshEvent> {
        let event = self.events.recv().await?;
        match &event {
            MeshEvent::Up(link) => drop(self.outlets.insert(link.hello.node, link.clone())),
            MeshEvent::Down(link, _) => drop(self.outlets.remove(&link.hello.node)),
            MeshEvent::Received { .. } | MeshEvent::FirstRound => {}
        }
        Some(event)
    }

    /// Says something to a peer, as of `said`, when it was decided. Never waits: if the peer is not
    /// there, nothing is said; if it does not read, its connection ends.
    pub fn send<S: Borrow<KeySecrets>>(&self, to: NodeId, message: &Message<S>, said: Time) {
        let Some(link) = self.outlets.get(&to) else { return };
        let has_room = wire::message(message, said).into_iter().all(|frame| link.queue.push(frame));
        if !has_room {
            link.stop.say(&End::NotReading.to_string());
        }
    }

    /// Ends the connection with a peer. It can come back.
    pub fn drop_peer(&self, peer: NodeId, reason: &str) {
        if let Some(link) = self.state.registry.borrow().get(peer) {
            link.stop.say(reason);
        }
    }

    /// How it stands with all peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        peers(&self.state)
    }

    /// Says what is still to be said, for a bounded time, and ends all connections.
    pub async fn stop(self) {
        let state = &self.state;
        // Nothing more is told: who stops it need not listen any longer.
        drop(state.events.take());
        self.tasks.iter().for_each(AbortHandle::abort);
        state.targets.borrow_mut().stop();
        for link in state.registry.borrow().links() {
            link.queue.close();
        }
        let all_ended = async {
            loop {
                let changed = state.changed.notified();
                if state.registry.borrow().links().next().is_none() {
                    return;
                }
                changed.await;
            }
        };
        // Who does not take it in time does without.
        let _ = timeout(state.timing.farewell, all_ended).await;
        for link in state.registry.borrow().links() {
            link.stop.say("the agent is stopping");
        }
    }
}

/// An address of the settings, or a node that called from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The address, or the name that has none.
    pub address: String,
    /// Who is there, or was there last.
    pub node: Option<NodeId>,
    /// Whether it is connected.
    pub state: PeerState,
    /// The least round trip of late.
    pub round_trip: Option<Duration>,
    /// When it last said that it took keys.
    pub acknowledged: Option<Time>,
    /// Why the last attempt failed that did.
    pub error: Option<String>,
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

/// All, those of the settings first.
fn peers(state: &MeshState) -> Vec<PeerStatus> {
    let (registry, targets) = (state.registry.borrow(), state.targets.borrow());
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
