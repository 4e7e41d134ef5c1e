//! What the tasks of a mesh have in common. All of them run on one thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;

use tktrot::clock::{BootClock, Clock, Time};
use tktrot_fleet::message::NodeId;
use tokio::sync::{Notify, mpsc};

use super::admission::Admission;
use super::complaints::Complaints;
use super::events::Noticed;
use super::link::Link;
use super::me::Me;
use super::registry::Registry;
use super::targets::Targets;
use super::timing::Timing;
use super::tls::Tls;

/// It.
pub struct Shared {
    pub me: Me,
    pub tls: Tls,
    pub timing: Timing,
    /// Where this node is called.
    pub listens: SocketAddr,
    pub registry: RefCell<Registry>,
    pub targets: RefCell<Targets>,
    pub admission: Admission,
    pub complaints: RefCell<Complaints>,
    /// None once the mesh stops.
    pub events: RefCell<Option<mpsc::Sender<Noticed>>>,
    /// The connections that the agent knows to be up: what it says goes there.
    pub outlets: RefCell<HashMap<NodeId, Rc<Link>>>,
    /// Tells that a connection has come or gone.
    pub changed: Notify,
}

impl Shared {
    /// The present, for what is sent.
    pub fn now(&self) -> Time {
        BootClock.now()
    }

    /// Tells the agent, unless the mesh stops.
    pub async fn tell(&self, noticed: Noticed) {
        let events = self.events.borrow().clone();
        if let Some(events) = events {
            // It fails only if the agent is gone.
            let _ = events.send(noticed).await;
        }
    }

    /// Logs once why an address was refused.
    pub fn complain(&self, address: impl Display, reason: &str) {
        if self.complaints.borrow_mut().is_new(format!("{address} {reason}")) {
            tracing::warn!(%address, reason, "refused");
        }
    }

    /// Logs once that something is wrong with an address, until it [is over](Shared::is_over).
    pub fn complain_about(&self, address: &impl Display, what: &str, reason: &str) {
        if self.complaints.borrow_mut().is_new(format!("{address} {what}")) {
            tracing::warn!(%address, reason, "{what}");
        }
    }

    /// See [`Shared::complain_about`].
    pub fn is_over(&self, address: &impl Display, what: &str) {
        self.complaints.borrow_mut().is_over(&format!("{address} {what}"));
    }
}
