//! Time that no one can set back: nanoseconds since the machine booted, suspended
//! time included (`CLOCK_BOOTTIME`, clock_gettime(2)). A jump of the wall clock
//! changes nothing here. In a time namespace (time_namespaces(7)), as containers
//! and restored processes may have, that clock is ahead of the machine's or behind
//! it: how far is subtracted, so that all processes of a machine have one time.

use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A point in time: nanoseconds since this machine booted.
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
    /// The current time.
    fn now(&self) -> Time;
}

/// The clock of the running machine; a read costs no syscall where the vDSO has
/// `CLOCK_BOOTTIME` (Linux 5.3 and later).
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    #[inline]
    fn now(&self) -> Time {
        // Never lengthens a key: where there is no clock, every key reads as expired.
        namespace_time().map_or(Time::NEVER, |time| Time(time.wrapping_sub(ahead() as u64)))
    }
}

impl BootClock {
    /// When the clock of this process' time namespace shows that the machine's is
    /// `time`: for system calls that take a `CLOCK_BOOTTIME`.
    pub fn in_namespace(time: Time) -> Duration {
        Duration::from_nanos(time.0.saturating_add_signed(ahead()))
    }
}

/// Nanoseconds, as `CLOCK_BOOTTIME` of this process' time namespace shows them;
/// `None` where it is unknown (before Linux 2.6.39).
pub fn namespace_time() -> Option<u64> {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec for the call to fill.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut ts) };
    (rc == 0).then_some(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
}

/// How far that clock is ahead of the machine's, in nanoseconds; [`UNREAD`] before the first look.
static AHEAD: AtomicI64 = AtomicI64::new(UNREAD);
const UNREAD: i64 = i64::MIN;
/// What it showed before the last fork.
static BEFORE_FORK: AtomicU64 = AtomicU64::new(0);

#[inline]
fn ahead() -> i64 {
    match AHEAD.load(Ordering::Relaxed) {
        UNREAD => read_ahead(),
        known => known,
    }
}

/// Once, and early: a server that changes its root directory has no /proc later.
#[cold]
fn read_ahead() -> i64 {
    let ahead = offset_of_namespace().unwrap_or(0);
    AHEAD.store(ahead, Ordering::Relaxed);
    ahead
}

/// For the thread that forks.
pub fn before_fork() {
    BEFORE_FORK.store(namespace_time().unwrap_or(0), Ordering::Relaxed);
}

/// For the child of a fork: a child may be in another time namespace than its
/// parent (unshare(2), `CLONE_NEWTIME`), and nothing tells it but the clock. No
/// file is opened where the clock goes on: the child may be one that may not.
pub fn after_fork() {
    const A_FORK: u64 = 2_000_000_000;
    let before = BEFORE_FORK.load(Ordering::Relaxed);
    let passed = namespace_time().and_then(|now| now.checked_sub(before));
    if passed.is_none_or(|passed| passed > A_FORK)
        && let Some(ahead) = offset_of_namespace()
    {
        AHEAD.store(ahead, Ordering::Relaxed);
    }
}

/// From /proc; `None` where it does not tell. By system calls alone, for a child
/// of a fork.
fn offset_of_namespace() -> Option<i64> {
    let mut text = [0u8; 256];
    // SAFETY: a NUL-terminated name; a descriptor of ours, closed once; a valid buffer.
    let length = unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let file = libc::open(c"/proc/self/timens_offsets".as_ptr(), flags);
        if file < 0 {
            return None;
        }
        let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        length
    };
    parse_offset(text.get(..usize::try_from(length).ok()?)?)
}

/// The line `boottime SECONDS NANOSECONDS`; only the seconds can be negative.
fn parse_offset(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut fields = line.split_ascii_whitespace().map(str::parse::<i64>);
    let (seconds, nanos) = (fields.next()?.ok()?, fields.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
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
    fn the_offset_of_a_time_namespace_is_read_as_the_kernel_writes_it() {
        let text = b"monotonic           0         0\nboottime        86400       500\n";
        assert_eq!(parse_offset(text), Some(86_400_000_000_500));
        assert_eq!(parse_offset(b"boottime  -2  999999999\n"), Some(-1_000_000_001));
        assert_eq!(parse_offset(b"monotonic 1 0\n"), None);
        assert_eq!(parse_offset(b""), None);
    }

    #[test]
    fn a_time_of_the_machine_is_told_in_that_of_the_namespace() {
        let now = BootClock.now();
        let there = Duration::from_nanos(namespace_time().unwrap());
        assert!(BootClock::in_namespace(now) <= there);
        assert_eq!(BootClock::in_namespace(Time::NEVER), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time(5) - Duration::from_secs(1), Time(0));
        assert_eq!(Time(9).until(Time(5)), Duration::ZERO);
    }
}
