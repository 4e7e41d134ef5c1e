//! Who sees to a ring: of the upkeep threads of its servers, one leads. And it
//! can be governed: an agent steers its keys, for a whole fleet, and
//! servers only erase what is over. The agent's right is a lease, which it
//! renews while it lives; when it has run out, servers rotate themselves again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Ring;
use super::layout::Header;
use super::lock::Attempt;
use super::view::View;
use crate::clock::Time;

/// How long a ring stays governed without a sign of life of its agent.
pub const LEASE: Duration = Duration::from_secs(3);

impl Header {
    /// How much of the lease is left; `None` if nobody governs the ring.
    ///
    /// A word further ahead than any agent puts it is none: it must not keep
    /// servers from rotating. Twice the lease, because an onlooker may have
    /// read his clock before the agent renewed it.
    pub fn lease_left(&self, now: Time) -> Option<Duration> {
        let left = now.until(Time(self.governed_until.load(Ordering::Relaxed)));
        (!left.is_zero() && left <= 2 * LEASE).then_some(left)
    }

    /// True if the calling thread, one that does the upkeep, leads: it sees to the
    /// ring. `so_far` is what this told it before: it has the lead until its
    /// process is gone. Never waits.
    pub fn leads(&self, so_far: bool) -> bool {
        so_far || matches!(self.leader.try_lock(), Attempt::Owned | Attempt::Inherited)
    }
}

impl Ring {
    /// How much is left of the lease of an agent that governs the ring.
    pub fn governed(&self, now: Time) -> Option<Duration> {
        self.header().lease_left(now)
    }
}

impl View {
    /// How much is left of the lease of an agent that governs the ring.
    pub fn governed(&self, now: Time) -> Option<Duration> {
        self.header().lease_left(now)
    }
}
