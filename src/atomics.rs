//! The atomics of everything that is model-checked: the standard library's, or,
//! where `checks/models/` compiles these sources, loom's, which try every order of
//! loads and stores that the memory model allows (docs/models.md).

#[cfg(loom)]
pub use loom::hint::spin_loop;
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::hint::spin_loop;
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
