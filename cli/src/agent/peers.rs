//! Who carries what nodes tell each other.

use std::future;
use std::net::SocketAddr;
use std::time::Duration;

use tktrot_fleet::message::{Message, NodeId};

use super::ring::Secrets;

/// A peer as the carrier knows it.
pub struct PeerStatus {
    /// Where it is, or is looked for.
    pub address: SocketAddr,
    /// Who it is, once it has said so.
    pub node: Option<NodeId>,
    /// True if it can be talked to.
    pub is_up: bool,
    /// How long a message takes, there and back.
    pub round_trip: Option<Duration>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// What the carrier has to tell.
#[allow(dead_code)]
pub enum News {
    /// A peer can be talked to.
    Up { node: NodeId, address: SocketAddr },
    /// It no longer can.
    Down { node: NodeId, reason: String },
    /// It said something, so long ago at most.
    Received { from: NodeId, message: Message<Secrets>, age: Duration },
    /// Every peer that is configured is connected, or failed to be.
    FirstRound,
}

/// The way to the peers.
pub enum Carrier {
    /// There are none.
    Nobody,
}

impl Carrier {
    /// True if there can be peers.
    pub fn has_peers(&self) -> bool {
        false
    }

    /// What happens next. Nothing is lost if this is not waited for to its end.
    pub async fn next(&mut self) -> News {
        match self {
            Carrier::Nobody => future::pending().await,
        }
    }

    /// Puts a message into the queue for a peer.
    pub fn send(&self, _to: NodeId, _message: &Message<Secrets>) {}

    /// Ends the connection to a peer.
    pub fn drop_peer(&self, _peer: NodeId, _reason: &str) {}

    /// All peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// Sends what is in the queues, and ends.
    pub async fn stop(self) {}
}
