//! The writer lock in models and under Miri: one word with the same outcomes. What it
//! leaves out is how a holder's death becomes known.

use crate::atomics::Ordering;
use crate::process::ProcessId;
use crate::ring::lock::{Holder, Lock, NotLocked};

const FREE: u64 = 0;
const HELD: u64 = 1;
const LEFT_BY_THE_DEAD: u64 = 2;

/// The lock, taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its former holder died with it: what it protects needs repair.
    pub inherited: bool,
}

impl Lock<'_> {
    /// Takes the lock if it is free, or its holder is dead; never waits.
    pub fn take(&self) -> Result<Taken, NotLocked> {
        let take = |from| {
            let (taken, not) = (Ordering::Acquire, Ordering::Relaxed);
            self.0.header().writer.compare_exchange(from, HELD, taken, not).is_ok()
        };
        if take(FREE) {
            Ok(Taken { inherited: false })
        } else if take(LEFT_BY_THE_DEAD) {
            Ok(Taken { inherited: true })
        } else {
            Err(NotLocked::Busy)
        }
    }

    /// Gives it back; a dead owner leaves it to the next one.
    pub fn give_back(&self, _taken: &Taken) {
        #[cfg(loom)]
        let left = if crate::kill_points::is_dead() { LEFT_BY_THE_DEAD } else { FREE };
        #[cfg(not(loom))]
        let left = FREE;
        self.0.header().writer.store(left, Ordering::Release);
    }

    /// Looks who has the lock; there are no numbers here.
    pub fn holder(&self) -> Holder {
        match self.0.header().writer.load(Ordering::Relaxed) {
            FREE => Holder::Nobody,
            HELD => Holder::Thread { process: ProcessId(1), thread: 1 },
            _ => Holder::Dead,
        }
    }
}
