//! What the tasks of a mesh have in common. All of them run on one thread.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tktrot::clock::{BootClock, Clock, Time};
use tktrot::secret::KeySecrets;
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::wire::Hello;
use tokio::sync::{Notify, mpsc};

use super::about::Settings;
use super::admission::Admission;
use super::link::Link;
use super::registry::Registry;
use super::targets::Targets;
use super::tls::Tls;
use crate::journal::Once;

/// Events that may wait for the agent; beyond that peers wait.
pub const WAITING: usize = 32;

/// What the mesh tells the agent.
pub enum MeshEvent {
    /// A peer is connected. What is said to it goes there.
    Up(Rc<Link>),
    /// It no longer is, and why.
    Down(Rc<Link>, String),
    /// A peer says something.
    Received {
        from: NodeId,
        message: Message<Box<KeySecrets>>,
        /// How old it was, at most, when it came.
        age: Duration,
        /// When that was.
        at: Time,
    },
    /// Every configured address was tried once: it is connected, or it failed. Comes once.
    FirstRound,
}

/// What the tasks of a mesh have in common.
pub struct MeshState {
    /// What this node says of itself.
    pub me: Hello,
    pub tls: Tls,
    pub timing: Timing,
    /// The address on which this node listens.
    pub listens: SocketAddr,
    pub registry: RefCell<Registry>,
    pub targets: RefCell<Targets>,
    pub admission: Admission,
    /// What is wrong with others is logged once, however often they try.
    pub complaints: RefCell<Once<String>>,
    /// The addresses of this host.
    pub addresses: RefCell<Vec<IpAddr>>,
    /// What keys are made here: told to all peers, once it is known.
    pub settings: Cell<Option<Settings>>,
    /// None once the mesh stops.
    pub events: RefCell<Option<mpsc::Sender<MeshEvent>>>,
    /// Tells that a connection has come or gone.
    pub changed: Notify,
}

impl MeshState {
    /// The present, for what is sent.
    pub fn now(&self) -> Time {
        BootClock.now()
    }

    /// Tells the agent, unless the mesh stops.
    pub async fn tell(&self, event: MeshEvent) {
        let events = self.events.borrow().clone();
        if let Some(events) = events {
            // It fails only if the agent is gone.
            let _ = events.send(event).await;
        }
    }

    /// Logs once why an address was refused.
    pub fn complain(&self, address: impl Display, reason: &str) {
        if self.complaints.borrow_mut().is_news(format!("{address} {reason}")) {
            tracing::warn!(%address, reason, "refused");
        }
    }

    /// Logs once that something is wrong with an address, until it [is over](MeshState::is_over).
    pub fn complain_about(&self, address: &impl Display, what: &str, reason: &str) {
        if self.complaints.borrow_mut().is_news(format!("{address} {what}")) {
            tracing::warn!(%address, reason, "{what}");
        }
    }

    /// See [`MeshState::complain_about`].
    pub fn is_over(&self, address: &impl Display, what: &str) {
        self.complaints.borrow_mut().is_over(&format!("{address} {what}"));
    }
}

/// The times of a mesh; tests have shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Until a new connection's other end has proved who it is, and has said so.
    pub handshake: Duration,
    /// Between signs of life.
    pub ping: Duration,
    /// Without a sign of life the other end is gone; so is one that takes nothing.
    pub silence: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// Between attempts to connect: at first, and at last.
    pub redial: (Duration, Duration),
    /// A peer that cannot be reached for so long is worth a warning.
    pub patience: Duration,
    /// Between look-ups of a name.
    pub lookup: Duration,
    /// For what is still to be sent when the agent stops.
    pub farewell: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            handshake: Duration::from_secs(5),
            ping: Duration::from_secs(1),
            silence: Duration::from_secs(3),
            message: Duration::from_secs(10),
            redial: (Duration::from_millis(500), Duration::from_secs(5)),
            patience: Duration::from_secs(15),
            lookup: Duration::from_secs(30),
            farewell: Duration::from_secs(1),
        }
    }
}
