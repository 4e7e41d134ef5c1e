//! Instead of the C library's robust mutex, for Miri, which has neither it nor the
//! kernel that tells of its owner's death: one word. Models have a lock of their own,
//! and no threads that die unnoticed.

use crate::atomics::{AtomicU32, Ordering};
use crate::ring::mutex::{Sign, Taking};

/// 64 bytes, as the real one.
#[repr(C, align(8))]
pub struct RobustMutex {
    state: AtomicU32,
    _room: [u8; 60],
}

impl RobustMutex {
    /// See the real one.
    pub fn init(&self) -> Result<(), i32> {
        self.state.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// See the real one.
    pub fn is_one(&self) -> bool {
        self.state.load(Ordering::Relaxed) <= 1
    }

    /// See the real one.
    ///
    /// # Safety
    ///
    /// See the real one.
    pub unsafe fn try_take(&self) -> Taking {
        let (taken, not) = (Ordering::Acquire, Ordering::Relaxed);
        match self.state.compare_exchange(0, 1, taken, not) {
            Ok(_) => Taking::Taken,
            Err(_) => Taking::Busy,
        }
    }

    /// See the real one.
    ///
    /// # Safety
    ///
    /// See the real one.
    pub unsafe fn give_back(&self) {
        self.state.store(0, Ordering::Release);
    }

    /// See the real one.
    pub fn sign(&self) -> Sign {
        match self.state.load(Ordering::Acquire) {
            0 => Sign::None,
            1 => Sign::Lives(1),
            _ => Sign::Died,
        }
    }
}
