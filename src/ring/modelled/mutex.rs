//! Instead of the C library's robust mutex, for Miri, which has neither it nor the
//! kernel that tells of its owner's death: one word. Models have a lock of their own,
//! and no threads that die unnoticed.

use crate::atomics::{AtomicU32, Ordering};

/// What it tells of the thread whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is nobody's.
    None,
    /// The thread lives; there are no numbers here.
    Lives(u32),
    /// It is gone.
    Died,
}

/// 64 bytes, as the real one.
#[repr(C, align(8))]
pub struct RobustMutex {
    state: AtomicU32,
    _room: [u8; 60],
}

impl RobustMutex {
    /// See the real one.
    ///
    /// # Safety
    ///
    /// See the real one.
    pub unsafe fn take(&self) -> Result<(), i32> {
        self.state.store(1, Ordering::Relaxed);
        Ok(())
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
