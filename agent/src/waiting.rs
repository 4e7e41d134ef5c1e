//! Somebody who has revoked keys, and waits until others are known to have heard of it.

use std::time::Duration;

use tktrot::config::values::Written;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::control::{Reach, Reply, Revoked};

/// One who asked.
pub struct Waiting {
    wait: Duration,
    until: Instant,
    answer: oneshot::Sender<Reply>,
}

impl Waiting {
    /// Waits for so long.
    pub fn new(wait: Duration, answer: oneshot::Sender<Reply>) -> Waiting {
        Waiting { wait, until: Instant::now() + wait, answer }
    }

    /// For how long, in words.
    pub fn wait(&self) -> Written {
        Written(self.wait)
    }

    /// True if it waits no longer, or is gone.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until || self.answer.is_closed()
    }

    /// Answers that so many keys have ended on this host, and who else knows.
    pub fn end(self, keys: usize, reach: Reach) {
        // Who no longer waits does not want to know.
        let _ = self.answer.send(Reply::of(&Revoked { keys, reach }));
    }
}
