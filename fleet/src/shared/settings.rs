//! How a fleet shares keys through Redis.

use std::time::Duration;

use tktrot::schedule::Policy;

/// What is not a [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long before it encrypts a key is stored at least.
    pub lead: Duration,
    /// How often Redis is asked whether anything changed.
    pub poll: Duration,
    /// How long a node that starts waits for Redis before it makes a key of its own.
    pub patience: Duration,
    /// True if tickets of the keys that this node makes carry no associated data.
    pub plain: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            lead: Duration::from_secs(5),
            poll: Duration::from_secs(1),
            patience: Duration::from_secs(2),
            plain: false,
        }
    }
}

impl Settings {
    /// The lead that this R allows.
    pub fn lead(&self, policy: &Policy) -> Duration {
        self.lead.min(policy.rotate_every / 2)
    }

    /// The interval that this R and the lead allow: everybody has looked twice before a key begins.
    pub fn poll(&self, policy: &Policy) -> Duration {
        self.poll.min(policy.rotate_every / 10).min(self.lead(policy) / 2)
    }
}
