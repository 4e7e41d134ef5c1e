//! What a node waits for, and what it takes at most.
//!
//! How many keys a node makes is up to its own rotation and lifetime, which are not those of its peers while
//! an operator changes them host by host. So nobody's settings say how many of a peer's keys are taken: the
//! ring does. Half of it is divided into equal shares, one for each node that is expected, and nobody
//! gets into the share of another. The other half is common: beyond its share a node may have as much
//! of it as it leaves free for others. So one that makes a thousand keys has room for them, a second
//! one has, too, and whoever takes all it can get leaves room for the next one all the same.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::Policy;

use crate::ahead::Ahead;

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
    /// The longest that a key of a peer may live on here, whatever the peer says. See
    /// [`Limits::longest`].
    pub longest: Duration,
    /// How far ahead keys are announced, as far as every ring has room for them.
    pub ahead: Ahead,
}

/// The room for keys of others, as far as it is not taken.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// What each expected node has for sure.
    pub share: usize,
    /// The shares of all of them but this one.
    pub shares: usize,
    /// What whoever comes first can have.
    pub common: usize,
}

/// Settings of other hosts are longer than those of this one by this factor at most.
const LONGER: u32 = 100;
/// No key lives longer anywhere: two days ahead, a lead of half a day, a rotation of a day, a
/// lifetime of seven.
pub(super) const LONGEST: Duration = Duration::from_secs(11 * 24 * 3600);
/// A node makes no more keys at once.
const AT_ONCE: usize = 4;

impl Limits {
    /// How long a node waits before it encrypts with a new key (the stud maintainers: 1 to 5 s).
    pub const LEAD_MIN: Duration = Duration::from_secs(1);
    /// See [`Limits::LEAD_MIN`].
    pub const LEAD_MAX: Duration = Duration::from_secs(5);

    /// How long a key lives that is made with this policy, at most, and so far ahead.
    pub fn life(policy: &Policy, ahead: Ahead) -> Duration {
        let Policy { rotate_every, lifetime, lead } = *policy;
        ahead.of(policy).max(rotate_every).saturating_add(rotate_every + lead + lifetime)
    }

    /// The longest that a key of a peer lives on a host that itself makes keys with this policy.
    pub fn longest(policy: &Policy, ahead: Ahead) -> Duration {
        let own = Self::life(policy, ahead);
        own.saturating_mul(LONGER).min(LONGEST).max(own.saturating_mul(2))
    }

    /// How many keys a node with this policy has at once: twice those that its schedule needs, for
    /// rotations by hand.
    pub fn keys_of_a_node(&self, policy: &Policy) -> usize {
        let ahead = in_keys(self.ahead.of(policy), policy);
        scheduled(policy).saturating_add(ahead).saturating_mul(2).saturating_add(4)
    }

    /// How far ahead a node with this policy announces its keys: what is asked for, or as far as
    /// there is room beside the keys that its lifetime needs.
    pub fn ahead(&self, policy: &Policy) -> Duration {
        let room = (self.keys_of_each() / 2).saturating_sub(scheduled(policy));
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        self.ahead.of(policy).min(policy.rotate_every.saturating_mul(room))
    }

    /// From when on a node with this policy, whose keys last until then, needs another one. At
    /// whatever moment it falls silent, others have its keys for as long as it is ahead.
    pub fn extend_at(&self, policy: &Policy, line_end: Time) -> Time {
        line_end - self.ahead(policy).max(policy.rotate_every) - policy.lead
    }

    /// How many keys of one node fit into every ring if all that are expected have as many.
    pub fn keys_of_each(&self) -> usize {
        self.capacity / self.nodes.max(1)
    }

    /// The policy that this fleet can have: every node's keys must fit every ring, and a key must
    /// be announced so early that each peer has answered, or counts as down, before it encrypts.
    pub fn fitting(&self, policy: Policy) -> Policy {
        let lead = policy.lead.max(self.lead_max);
        let leading = in_keys(lead, &policy);
        let retired = (self.keys_of_each() / 2).saturating_sub(leading + 5).max(1);
        let longest =
            policy.rotate_every.saturating_mul(u32::try_from(retired).unwrap_or(u32::MAX));
        Policy { lead, lifetime: policy.lifetime.min(longest), ..policy }
    }

    /// The room for keys of others in the ring of a node that has so many itself.
    pub fn room(&self, own: usize) -> Room {
        let share = (self.capacity / 2 / self.nodes.max(1)).max(1);
        let shares = share.saturating_mul(self.nodes.saturating_sub(1));
        // Its own next key is more than anybody's.
        let own = share.max(own + AT_ONCE);
        Room { share, shares, common: self.capacity.saturating_sub(shares + own) }
    }
}

/// How many keys a node needs for its lifetime and its lead alone.
fn scheduled(policy: &Policy) -> usize {
    let kept = Policy::keys_kept(policy.rotate_every, policy.lifetime);
    usize::try_from(kept).unwrap_or(usize::MAX).saturating_add(in_keys(policy.lead, policy))
}

/// How many keys it takes to encrypt for so long.
fn in_keys(span: Duration, policy: &Policy) -> usize {
    let keys = span.as_nanos().div_ceil(policy.rotate_every.as_nanos().max(1));
    usize::try_from(keys).unwrap_or(usize::MAX)
}
