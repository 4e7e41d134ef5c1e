//! What `tktrot status` and `tktrot watch` know of a ring, and how they say it.
//!
//! - [`snapshot`]: the ring, at a moment at which nobody writes it
//! - [`processes`]: who maps it, out of /proc
//! - [`observer`]: one who looks, again and again
//! - [`reading`]: both, as plain figures
//! - [`counters`]: what it counted
//! - [`rates`]: two of them, per second
//! - [`alarms`]: what is wrong with them, and what to do
//! - [`unserved`]: what could not be served, and why
//! - [`text`], [`json`], [`prometheus`]: the forms in which it is told
//! - [`span`]: lengths of time in words
//!
//! Nothing here takes a lock or writes to a ring.

pub mod alarms;
pub mod counters;
pub mod json;
pub mod observer;
pub mod processes;
pub mod prometheus;
pub mod rates;
pub mod reading;
pub mod snapshot;
pub mod span;
pub mod text;
pub mod unserved;

#[cfg(test)]
pub mod example;
