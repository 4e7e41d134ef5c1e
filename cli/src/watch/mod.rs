//! A ring, live: [`screen`] draws it on a terminal, [`lines`] prints it elsewhere.
//!
//! - [`history`]: what happened per second, as far back as a screen is wide
//! - [`terminal`]: the keys, and the terminal as it was before

mod history;
mod lines;
mod screen;
mod terminal;

use std::time::Duration;

pub use lines::print;
pub use terminal::draw;

/// How often to look, and how many times.
pub struct Rounds {
    pub interval: Duration,
    pub count: Option<u64>,
}

impl Rounds {
    /// True if so many looks are enough.
    fn are_over(&self, looks: u64) -> bool {
        self.count.is_some_and(|count| looks >= count)
    }
}
