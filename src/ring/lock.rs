//! Who may write a ring, and who has the right to.

use std::time::Duration;

use super::Ring;
pub use super::gates::Taken;
use super::writer::NotLocked;
use crate::process::ProcessId;

/// How long a waiter sleeps before it looks again, at first and at last.
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(2);

/// Who has the writer lock, as far as the ring tells an onlooker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is free.
    Nobody,
    /// A thread that lives.
    Thread {
        /// Its process.
        process: ProcessId,
        /// Its number (gettid(2)), in its own PID namespace.
        thread: u32,
    },
    /// Its holder died with it; who takes it next repairs what it protects.
    Dead,
}

/// What a mutex tells of the thread whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is nobody's.
    None,
    /// The thread of this number (gettid(2)), in its own PID namespace, lives.
    Lives(u32),
    /// It is gone.
    Died,
}

/// What an attempt to take a mutex came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// The caller has it.
    Taken,
    /// Somebody else has it.
    Busy,
    /// The bytes are not a mutex that works: the errno value.
    Broken(i32),
}

impl Ring {
    /// Waits for the lock, but no longer than `limit` by a clock that nobody sets:
    /// who has it has it for microseconds.
    pub(super) fn take_lock_within(&self, limit: Duration) -> Result<Taken, NotLocked> {
        let began = monotonic();
        let mut nap = SHORTEST;
        // By this, too, should the clock fail.
        let mut slept = Duration::ZERO;
        loop {
            let attempt = self.take_lock();
            let waited = began.zip(monotonic()).map_or(slept, |(then, now)| now - then).max(slept);
            if attempt != Err(NotLocked::Busy) || waited >= limit {
                return attempt;
            }
            sleep(nap.min(limit - waited));
            slept += nap;
            nap = (2 * nap).min(LONGEST);
        }
    }
}

/// The time since some moment; `None` if the clock fails.
fn monotonic() -> Option<Duration> {
    // A model has no time, and its threads let others go on as they wait.
    if cfg!(loom) {
        return None;
    }
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (rc == 0).then(|| Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// A shorter sleep than asked for is one more look.
fn sleep(span: Duration) {
    #[cfg(loom)]
    loom::thread::yield_now();
    let span = libc::timespec { tv_sec: span.as_secs() as _, tv_nsec: span.subsec_nanos().into() };
    if cfg!(not(loom)) {
        // SAFETY: a valid span; what is left of it is not asked for.
        unsafe { libc::nanosleep(&span, std::ptr::null_mut()) };
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;
    use crate::ring::layout::Capacity;

    #[test]
    fn a_wait_ends_with_its_limit_or_with_the_lock() {
        let ring = Ring::private(Capacity::new(8).unwrap()).unwrap();
        let limit = Duration::from_millis(30);
        std::thread::scope(|scope| {
            let held = ring.take_lock().unwrap();
            let began = std::time::Instant::now();
            let waiter = scope.spawn(|| ring.take_lock_within(limit).err());
            assert_eq!(waiter.join().unwrap(), Some(NotLocked::Busy));
            assert!(began.elapsed() >= limit);

            let waiter = scope.spawn(|| {
                let taken = ring.take_lock_within(Duration::from_secs(100));
                ring.give_back(taken.as_ref().unwrap());
                taken.is_ok()
            });
            std::thread::sleep(limit);
            ring.give_back(&held);
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn who_waits_inherits_from_a_thread_that_ends() {
        let ring = Ring::private(Capacity::new(8).unwrap()).unwrap();
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| ring.take_lock().is_ok_and(|taken| !taken.inherited));
            assert!(owner.join().unwrap());
        });
        assert_eq!(ring.holder(), Holder::Dead);
        let taken = ring.take_lock_within(Duration::from_secs(100)).unwrap();
        assert!(taken.inherited);
        ring.give_back(&taken);
        assert_eq!(ring.holder(), Holder::Nobody);
        let again = ring.take_lock().unwrap();
        assert!(!again.inherited);
        // A thread that ends looks at what it has (musl), and the ring is gone by then.
        ring.give_back(&again);
    }
}
