//! The locks in a ring, and what trying to take one comes to.

pub use super::mutex::RobustMutex;

/// What an attempt to lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The caller owns the lock.
    Owned,
    /// The caller owns the lock; its former owner died with it, so what it
    /// protects needs repair.
    Inherited,
    /// Somebody else owns it (and did so until the time ran out).
    Busy,
    /// The bytes are not a mutex that works: the errno value.
    Broken(i32),
}

/// Who has a lock, as far as its bytes tell an onlooker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is free.
    Nobody,
    /// The thread of this id (gettid(2)), in the holder's PID namespace.
    Thread(u32),
    /// Its holder died with it; who takes it next repairs what it protects.
    Dead,
}
