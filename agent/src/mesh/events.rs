//! What the mesh tells the agent.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::secret::KeySecrets;
use tktrot_fleet::message::{Message, NodeId};
use tokio::sync::mpsc;

use super::link::Link;
use super::shared::Shared;

/// So many may wait for the agent; beyond that peers wait.
pub const WAITING: usize = 32;

/// What happened.
pub enum MeshEvent {
    /// A peer is connected.
    Up {
        /// Which.
        node: NodeId,
        /// Its address; the port is one for calls only if this node dialled.
        address: SocketAddr,
    },
    /// It no longer is.
    Down {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// It says something.
    Received {
        /// Which.
        from: NodeId,
        /// What.
        message: Message<Box<KeySecrets>>,
        /// How long ago it said so, at most.
        age: Duration,
    },
    /// Every configured address was tried once: it is connected, or it failed. Comes once.
    FirstRound,
}

/// The same, on its way.
pub enum Noticed {
    Up(Rc<Link>),
    Down(Rc<Link>, String),
    Received { from: NodeId, message: Message<Box<KeySecrets>>, age: Duration, at: Time },
    FirstRound,
}

/// The agent's end. What it says to a peer goes to the connection of whose beginning it has heard
/// here: never the rest of a conversation into the next one.
pub struct Events {
    pub(super) receiver: mpsc::Receiver<Noticed>,
    pub(super) shared: Rc<Shared>,
}

impl Events {
    /// The next one; none once the mesh has stopped. Nothing is lost if this is cancelled.
    pub async fn recv(&mut self) -> Option<MeshEvent> {
        let noticed = self.receiver.recv().await?;
        let mut outlets = self.shared.outlets.borrow_mut();
        Some(match noticed {
            Noticed::Up(link) => {
                let (node, address) = (link.hello.node, link.address);
                outlets.insert(node, link);
                MeshEvent::Up { node, address }
            }
            Noticed::Down(link, reason) => {
                outlets.remove(&link.hello.node);
                MeshEvent::Down { node: link.hello.node, reason }
            }
            Noticed::Received { from, message, age, at } => {
                let age = age.saturating_add(at.until(self.shared.now()));
                MeshEvent::Received { from, message, age }
            }
            Noticed::FirstRound => MeshEvent::FirstRound,
        })
    }
}
