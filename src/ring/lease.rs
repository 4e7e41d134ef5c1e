//! Who sees to a ring: of the upkeep threads of its servers, one leads. And it
//! can be governed: an agent steers its keys, for a whole fleet, and
//! servers only erase what is over. The agent's right is a lease, which it
//! renews while it lives; when it has run out, servers rotate themselves again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Ring;
use super::layout::Header;
use super::view::View;
use crate::clock::Time;
use crate::process::ProcessId;

/// How long who leads the upkeep may show nothing.
pub const SILENCE: Duration = Duration::from_secs(2);

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

    /// True if this process leads, by the thread that does the upkeep and calls: it
    /// sees to the ring. Who leads shows it with each call; who shows nothing for
    /// [`SILENCE`], killed, stopped or paused, leads no more. One that goes on then
    /// leads for a moment beside another, which does no harm: what they do, they do
    /// under the writer lock. Never waits.
    pub fn leads(&self, process: ProcessId, now: Time) -> bool {
        // Acquire: who sees who leads, sees when he last showed it.
        let leader = self.leader.load(Ordering::Acquire);
        let led_at = Time(self.led_at.load(Ordering::Relaxed));
        // Nobody has led at a time that is yet to come.
        let is_silent = led_at + SILENCE <= now || led_at > now + SILENCE;
        if leader != process.0 && leader != 0 && !is_silent {
            return false;
        }
        self.led_at.store(now.0, Ordering::Relaxed);
        let (taken, not) = (Ordering::AcqRel, Ordering::Relaxed);
        self.leader.compare_exchange(leader, process.0, taken, not).is_ok()
    }

    /// Leaves the lead to another one, at once.
    pub fn leave_lead(&self, process: ProcessId) {
        let relaxed = Ordering::Relaxed;
        let _ = self.leader.compare_exchange(process.0, 0, relaxed, relaxed);
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
