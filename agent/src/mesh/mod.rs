//! The mesh: an encrypted connection with every peer, kept up, over which nodes share keys.
//!
//! All of it runs on one thread, in a [`tokio::task::LocalSet`].
//!
//! | module | holds |
//! |---|---|
//! | [`tls`] | who belongs to the fleet |
//! | [`listener`], [`admission`] | those who call, and how many may be strangers |
//! | [`dialler`], [`targets`], [`addresses`], [`pause`] | those who are called |
//! | [`greeting`], [`me`] | the first words on a connection |
//! | [`registry`] | one connection for each pair |
//! | [`connection`], [`link`], [`frames`], [`queue`], [`stop`], [`age`] | a connection |
//! | [`events`], [`status`], [`complaints`] | what is told: to the agent, to people, to the log |

mod addresses;
mod admission;
mod age;
mod complaints;
mod connection;
mod dialler;
mod events;
mod frames;
mod greeting;
mod link;
mod listener;
mod me;
mod pause;
mod queue;
mod registry;
mod shared;
mod status;
mod stop;
mod targets;
#[cfg(test)]
mod tests;
mod timing;
mod tls;

use std::borrow::Borrow;
use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;

use anyhow::{Context, Result};
use tktrot::clock::Time;
use tktrot::secret::KeySecrets;
use tktrot_fleet::config::Peer;
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::wire;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

pub use events::{Events, MeshEvent};
pub use me::Me;
pub use status::{PeerState, PeerStatus};
pub use timing::Timing;
pub use tls::Tls;

use shared::Shared;
use targets::Targets;

/// What a mesh needs. It is made before privileges are given up.
pub struct MeshConfig {
    /// Bound to where peers call.
    pub listener: TcpListener,
    /// Who is called.
    pub peers: Vec<Peer>,
    /// What nodes prove to each other.
    pub tls: Tls,
    /// How long is waited for what.
    pub timing: Timing,
}

/// The connections with all peers.
pub struct Mesh {
    shared: Rc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl Mesh {
    /// Begins to listen and to dial. To be called in a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    ///
    /// The listener cannot be used.
    pub fn start(config: MeshConfig, me: Me) -> Result<(Mesh, Events)> {
        let MeshConfig { listener, peers, tls, timing } = config;
        let listens = listener.local_addr().context("the listening socket")?;
        listener.set_nonblocking(true).context("the listening socket")?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (events, receiver) = mpsc::channel(events::WAITING);
        let shared = Rc::new(Shared {
            me,
            tls,
            timing,
            listens,
            registry: RefCell::default(),
            targets: RefCell::new(Targets::new(&peers)),
            admission: Default::default(),
            complaints: RefCell::default(),
            events: RefCell::new(Some(events)),
            outlets: RefCell::default(),
            changed: Notify::new(),
        });
        let mut tasks =
            vec![spawn_local(listener::listen(shared.clone(), listener)).abort_handle()];
        for (number, peer) in peers.into_iter().enumerate() {
            tasks.push(spawn_local(addresses::follow(shared.clone(), number, peer)).abort_handle());
        }
        if tasks.len() == 1 {
            let shared = shared.clone();
            spawn_local(async move { targets::tell_first_round(&shared).await });
        }
        Ok((Mesh { shared: shared.clone(), tasks }, Events { receiver, shared }))
    }

    /// Says something to a peer, as of `said`, when it was decided. Never waits: if the peer is not
    /// there, nothing is said; if it does not read, its connection ends.
    pub fn send<S: Borrow<KeySecrets>>(&self, to: NodeId, message: &Message<S>, said: Time) {
        let outlets = self.shared.outlets.borrow();
        let Some(link) = outlets.get(&to) else { return };
        let has_room = wire::message(message, said).into_iter().all(|frame| link.queue.push(frame));
        if !has_room {
            link.stop.say(connection::NOT_READING);
        }
    }

    /// Ends the connection with a peer. It can come back.
    pub fn drop(&self, peer: NodeId, reason: &str) {
        if let Some(link) = self.shared.registry.borrow().get(peer) {
            link.stop.say(reason);
        }
    }

    /// How it stands with all peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        status::peers(&self.shared)
    }

    /// Says what is still to be said, for a bounded time, and ends all connections.
    pub async fn stop(self) {
        let shared = &self.shared;
        // Nothing more is told: who stops it need not listen any longer.
        drop(shared.events.take());
        self.tasks.iter().for_each(AbortHandle::abort);
        shared.targets.borrow_mut().stop();
        for link in shared.registry.borrow().links() {
            link.queue.close();
        }
        let all_ended = async {
            loop {
                let changed = shared.changed.notified();
                if shared.registry.borrow().links().next().is_none() {
                    return;
                }
                changed.await;
            }
        };
        // Who does not take it in time does without.
        let _ = timeout(shared.timing.farewell, all_ended).await;
        for link in shared.registry.borrow().links() {
            link.stop.say("the agent stops");
        }
    }
}
