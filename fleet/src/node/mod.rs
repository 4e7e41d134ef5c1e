//! A node of the fleet as a state machine: `(event, now) -> actions`. No socket, no thread, no
//! clock, no secret.

pub mod event;
pub mod limits;

use tktrot::clock::Time;
use tktrot::schedule::Policy;

use crate::message::NodeId;
use event::{Action, Event};
use limits::Limits;

/// One host's writer.
pub struct Node<S> {
    id: NodeId,
    limits: Limits,
    policy: Policy,
    secrets: std::marker::PhantomData<S>,
}

impl<S> Node<S> {
    /// A node that holds no key and has no peer.
    pub fn new(id: NodeId, limits: Limits, policy: Policy) -> Self {
        Node { id, limits, policy, secrets: std::marker::PhantomData }
    }

    /// What is to be done about an event, in order.
    pub fn handle(&mut self, event: Event<S>, now: Time) -> Vec<Action<S>> {
        let _ = (event, now, self.id, self.limits, self.policy);
        Vec::new()
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn deadline(&self) -> Time {
        Time::NEVER
    }

    /// True if every peer that is up has told its keys, and those asked for all they hold have
    /// answered. True without peers, too.
    pub fn is_synced(&self) -> bool {
        true
    }

    /// True if a key of this node's own encrypts at `now`.
    pub fn has_active(&self, now: Time) -> bool {
        let _ = now;
        false
    }
}
