//! What a node waits for, and what it takes at most.

use std::time::Duration;

use tktrot::schedule::Policy;

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

/// How many keys of others are taken.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Of one node, told by that node itself.
    pub of_a_node: usize,
    /// Told by other nodes than their makers, all together.
    pub of_others: usize,
    /// All together.
    pub of_all: usize,
}

impl Limits {
    /// How long a node waits before it encrypts with a new key (the stud maintainers: 1 to 5 s).
    pub const LEAD_MIN: Duration = Duration::from_secs(1);
    /// See [`Limits::LEAD_MIN`].
    pub const LEAD_MAX: Duration = Duration::from_secs(5);

    /// How many keys a node may have at once: twice those that its schedule needs, for rotations
    /// by hand.
    pub fn keys_of_a_node(&self, policy: &Policy) -> usize {
        let scheduled = Policy::keys_kept(policy.rotate_every, policy.lifetime);
        let ahead = policy.lead.as_nanos().div_ceil(policy.rotate_every.as_nanos().max(1));
        let scheduled =
            usize::try_from(scheduled).unwrap_or(usize::MAX).saturating_add(ahead as usize);
        scheduled.saturating_mul(2).saturating_add(4)
    }

    /// The policy that this fleet can have: every node's keys must fit every ring, and a key must
    /// be announced so early that each peer has answered, or counts as down, before it encrypts.
    pub fn fitting(&self, policy: Policy) -> Policy {
        let lead = policy.lead.max(self.lead_max);
        let share = self.capacity / self.nodes.max(1);
        let ahead = lead.as_nanos().div_ceil(policy.rotate_every.as_nanos().max(1)) as usize;
        let retired = (share / 2).saturating_sub(ahead + 5).max(1);
        let longest =
            policy.rotate_every.saturating_mul(u32::try_from(retired).unwrap_or(u32::MAX));
        Policy { lead, lifetime: policy.lifetime.min(longest), ..policy }
    }

    /// How many keys of others a node with this policy takes.
    pub fn room(&self, policy: &Policy) -> Room {
        let kept = self.keys_of_a_node(policy);
        // Room for its own first: its next key is more than anybody's.
        let of_all = self.capacity.saturating_sub(kept);
        let for_makers = kept * self.nodes.saturating_sub(1);
        Room { of_a_node: kept, of_others: of_all.saturating_sub(for_makers).max(kept), of_all }
    }
}
