//! What `tktrot status` and `tktrot watch` know of a ring, and how they say it.
//!
//! - [`observer`]: looks at the ring and at /proc, again and again
//! - [`ring`]: all that it saw, as plain figures
//! - [`counters`]: what the ring counted, and what of it happened per second
//! - [`alarms`]: what is wrong, and what to do about it
//! - [`sentence`]: how it is, in one sentence
//! - [`text`], [`json`], [`prometheus`]: the forms in which it is said
//!
//! Nothing here takes a lock or writes to a ring.

pub mod alarms;
pub mod counters;
pub mod json;
pub mod observer;
pub mod prometheus;
pub mod ring;
pub mod sentence;
pub mod text;

#[cfg(test)]
pub mod example;
