//! A ring, live.
//!
//! - [`rounds`]: looks again and again, and prints or draws
//! - [`screen`]: what is drawn
//! - [`terminal`]: what it is drawn on

pub mod rounds;
mod screen;
mod terminal;
