//! What a node waits for, and what it takes at most.

use std::time::Duration;

/// The settings of the state machine that are not a [`tktrot::schedule::Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// No key encrypts sooner after it was announced, whoever has acknowledged it.
    pub lead_min: Duration,
    /// A peer that has not acknowledged a key so long after it was announced counts as down.
    pub lead_max: Duration,
    /// Keys that the ring holds.
    pub capacity: usize,
    /// Nodes that are expected, this one included: each has room for its keys kept free.
    pub nodes: usize,
    /// The longest that a key of a peer may live on here, whatever the peer says.
    pub longest: Duration,
}

impl Limits {
    /// How long a node waits before it encrypts with a new key (the stud maintainers: 1 to 5 s).
    pub const LEAD_MIN: Duration = Duration::from_secs(1);
    /// See [`Limits::LEAD_MIN`].
    pub const LEAD_MAX: Duration = Duration::from_secs(5);
}
