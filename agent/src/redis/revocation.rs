//! A revocation that somebody waits for: until Redis has it, or for long enough.

use std::time::Duration;

use tktrot::config::values::Written;
use tktrot_fleet::redis::RedisNode;
use tktrot_fleet::redis::stored::Revoked as What;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::control::{Reach, Reply, Revoked};

/// One that Redis is not known to have.
pub struct Revocation {
    /// How many keys ended on this host.
    keys: usize,
    /// What Redis is to have a record of.
    what: Vec<What>,
    wait: Duration,
    /// It is waited for no longer.
    until: Instant,
    /// The last reason why Redis could not be used, of those since it was asked for.
    failure: Option<String>,
    answer: oneshot::Sender<Reply>,
}

impl Revocation {
    /// One that ended so many keys here, while Redis is in this trouble.
    pub fn new(
        keys: usize,
        what: Vec<What>,
        wait: Duration,
        trouble: Option<&String>,
        answer: oneshot::Sender<Reply>,
    ) -> Revocation {
        let until = Instant::now() + wait;
        Revocation { keys, what, wait, until, failure: trouble.cloned(), answer }
    }

    /// Redis cannot be used: why.
    pub fn fail(&mut self, why: &str) {
        self.failure = Some(why.into());
    }

    fn is_stored(&self, node: &RedisNode) -> bool {
        self.what.iter().all(|what| node.is_told(what))
    }

    /// Whether there is an answer.
    pub fn is_over(&self, node: &RedisNode) -> bool {
        self.is_stored(node) || Instant::now() >= self.until
    }

    /// Answers whoever waits. Redis is at this address, while it can be asked.
    pub fn end(self, node: &RedisNode, address: Option<String>) {
        let missing = (!self.is_stored(node)).then(|| {
            let silent = || format!("it has not answered within {}", Written(self.wait));
            self.failure.clone().unwrap_or_else(silent)
        });
        let reply =
            Reply::of(&Revoked { keys: self.keys, reach: Reach::Redis { address, missing } });
        // Who no longer waits does not want to know.
        let _ = self.answer.send(reply);
    }
}
