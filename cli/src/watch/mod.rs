//! A ring, live.
//!
//! - [`rounds`]: looks again and again, and prints or draws
//! - [`screen`]: what is drawn

pub mod rounds;
mod screen;
