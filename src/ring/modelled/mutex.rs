//! Instead of the C library's robust mutex, for models and Miri, which have
//! neither it nor the kernel that tells of its owner's death: one word with the
//! same outcomes. What it leaves out is who waits first.

use std::time::Duration;

use crate::atomics::{AtomicU32, Ordering};
use crate::ring::lock::{Attempt, Holder};

const FREE: u32 = 0;
const HELD: u32 = 1;
const LEFT_BY_THE_DEAD: u32 = 2;

/// A lock in 64 bytes, as the real one.
#[repr(C, align(8))]
pub struct RobustMutex {
    state: AtomicU32,
    _room: [u8; 60],
}

impl RobustMutex {
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        RobustMutex { state: AtomicU32::new(FREE), _room: [0; 60] }
    }

    /// Makes it free.
    pub fn init(&self) -> Result<(), i32> {
        self.state.store(FREE, Ordering::Relaxed);
        Ok(())
    }

    /// True if the word is one that this lock has.
    pub fn is_one(&self) -> bool {
        self.state.load(Ordering::Relaxed) <= LEFT_BY_THE_DEAD
    }

    /// Who has the lock; there are no thread ids here.
    pub fn holder(&self) -> Holder {
        match self.state.load(Ordering::Relaxed) {
            FREE => Holder::Nobody,
            HELD => Holder::Thread(1),
            _ => Holder::Dead,
        }
    }

    /// Takes the lock if it is free; never waits.
    pub fn try_lock(&self) -> Attempt {
        let take = |from| {
            let (taken, not) = (Ordering::Acquire, Ordering::Relaxed);
            self.state.compare_exchange(from, HELD, taken, not).is_ok()
        };
        if take(FREE) {
            Attempt::Owned
        } else if take(LEFT_BY_THE_DEAD) {
            Attempt::Inherited
        } else {
            Attempt::Busy
        }
    }

    /// Waits for the lock, however long: there is no time here.
    pub fn lock_within(&self, _limit: Duration) -> Attempt {
        loop {
            match self.try_lock() {
                Attempt::Busy => pause(),
                attempt => return attempt,
            }
        }
    }

    /// Gives the lock back; a dead owner leaves it to the next one.
    ///
    /// # Safety
    ///
    /// The calling thread has it.
    pub unsafe fn unlock(&self) {
        #[cfg(loom)]
        let left = if crate::kill_points::is_dead() { LEFT_BY_THE_DEAD } else { FREE };
        #[cfg(not(loom))]
        let left = FREE;
        self.state.store(left, Ordering::Release);
    }
}

#[cfg(loom)]
fn pause() {
    loom::thread::yield_now();
}

#[cfg(not(loom))]
fn pause() {
    std::thread::yield_now();
}
