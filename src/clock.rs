//! Time that no one can set back: nanoseconds since boot, suspended time
//! included (`CLOCK_BOOTTIME`, clock_gettime(2)). A jump of the wall clock
//! changes nothing here.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A point in time: nanoseconds since this host booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// A time that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// How long from `self` until `later`; zero if it has passed.
    #[inline]
    pub fn until(self, later: Time) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    #[inline]
    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(nanos(span)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    #[inline]
    fn sub(self, span: Duration) -> Time {
        Time(self.0.saturating_sub(nanos(span)))
    }
}

/// A span as whole nanoseconds, capped at what 64 bits hold (584 years).
#[inline]
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the logic gets its time from.
pub trait Clock {
    /// The present.
    fn now(&self) -> Time;
}

/// The clock of the running host; a read costs no syscall where the vDSO has
/// `CLOCK_BOOTTIME` (Linux 5.3 and later).
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Time {
        let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `ts` is a valid timespec for the call to fill.
        let rc = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut ts) };
        if rc != 0 {
            // Only where CLOCK_BOOTTIME is unknown (before Linux 2.6.39). Never
            // lengthens a key: every key reads as expired.
            return Time::NEVER;
        }
        Time(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
    }
}

/// A clock that stands until it is told to move: for tests, which show a
/// year of rotations without sleeping.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicU64);

impl VirtualClock {
    /// A clock that shows `start`.
    pub fn new(start: Time) -> Self {
        VirtualClock(AtomicU64::new(start.0))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }
}

/// A clock that several share.
impl<C: Clock> Clock for &C {
    fn now(&self) -> Time {
        (**self).now()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_runs_forward() {
        let first = BootClock.now();
        let second = BootClock.now();
        assert!(Time(0) < first && first <= second && second < Time::NEVER);
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time(5) - Duration::from_secs(1), Time(0));
        assert_eq!(Time(9).until(Time(5)), Duration::ZERO);
    }
}
