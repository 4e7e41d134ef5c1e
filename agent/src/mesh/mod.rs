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
//! | [`hosts`] | peers as hosts |
//! | [`registry`] | one connection for each pair of nodes |
//! | [`targets`] | the addresses that are dialled |
//! | [`admission`] | how many connections may be strangers' |
//! | [`link`] | a connection, as others have it |
//! | [`about`] | what hosts tell of themselves |
//! | [`age`] | how old a message is |
//! | [`tls`], [`psk`] | who belongs to the fleet |

pub mod about;
mod admission;
mod age;
mod connection;
mod dialler;
mod greeting;
mod hosts;
mod link;
mod listener;
mod psk;
mod registry;
mod state;
mod targets;
#[cfg(test)]
mod tests;
pub mod tls;

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use anyhow::{Context, Result};
use tktrot::clock::Time;
use tktrot::secret::KeySecrets;
use tktrot_fleet::config::{self, Peer};
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::wire::{self, Hello};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

pub use hosts::{PeerState, PeerStatus};
pub use link::Link;
pub use state::MeshEvent;

use crate::files::Files;
use crate::journal::Once;
use crate::listening;
use crate::reload::Listener;
use about::Settings;
use connection::End;
use state::{MeshState, Timing};
use targets::Targets;
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
    /// For these settings, with the socket of [`listen`].
    ///
    /// # Errors
    ///
    /// A secret or certificate cannot be read.
    pub fn read(
        mesh: &config::Mesh,
        files: &Files,
        listener: &Option<Listener>,
    ) -> Result<MeshConfig> {
        let tls = Tls::read(&mesh.credentials, files).context("[mesh]")?;
        let (_, listener) = listener.as_ref().context("[mesh]: it does not listen")?;
        let listener = listener.try_clone().context("the listening socket")?;
        Ok(MeshConfig { listener, peers: mesh.peers.clone(), tls, timing: Timing::default() })
    }
}

/// A socket on which peers of these settings may call.
///
/// # Errors
///
/// The address cannot be listened on.
pub fn listen(mesh: &config::Mesh) -> Result<Listener> {
    let listener = listening::on(mesh.listen)
        .with_context(|| format!("[mesh]: cannot listen on {}", mesh.listen))?;
    Ok((mesh.listen, listener))
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
            addresses: RefCell::new(about::addresses()),
            settings: Cell::new(None),
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
        hosts::peers(&self.state)
    }

    /// The connections of whose beginning the agent has heard, and not of their end.
    pub fn links(&self) -> Vec<Rc<Link>> {
        self.outlets.values().cloned().collect()
    }

    /// See [`Targets::answered`].
    pub fn answered(&self, node: NodeId) -> BTreeSet<SocketAddr> {
        self.state.targets.borrow().answered(node)
    }

    /// The node that answered last at this address of the settings.
    pub fn answering(&self, address: &SocketAddr) -> Option<NodeId> {
        self.state.targets.borrow().answering(address)
    }

    /// From now on, peers are told that such keys are made here.
    pub fn tells(&self, settings: Settings) {
        self.state.settings.set(Some(settings));
    }

    /// Whether the peer is of a release that knows [`tktrot_fleet::wire::About`], and all that came with
    /// it.
    pub fn has_told(&self, peer: NodeId) -> bool {
        self.outlets.get(&peer).is_some_and(|link| link.told.borrow().is_some())
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
