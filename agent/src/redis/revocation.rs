//! A revocation that somebody waits for: until Redis has it, or for long enough.

use tktrot_fleet::redis::RedisNode;
use tktrot_fleet::redis::stored::Revoked as What;

use crate::control::Reach;
use crate::waiting::Waiting;

/// One that Redis is not known to have.
pub struct Revocation {
    /// How many keys ended on this host.
    keys: usize,
    /// What Redis is to have a record of.
    what: Vec<What>,
    /// The last reason why Redis could not be used, of those since it was asked for.
    failure: Option<String>,
    waiting: Waiting,
}

impl Revocation {
    /// One that ended so many keys here, while Redis is in this trouble.
    pub fn new(
        keys: usize,
        what: Vec<What>,
        trouble: Option<&String>,
        waiting: Waiting,
    ) -> Revocation {
        Revocation { keys, what, failure: trouble.cloned(), waiting }
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
        self.is_stored(node) || self.waiting.is_over()
    }

    /// Answers whoever waits. Redis is at this address, while it can be asked, and this is there that no
    /// agent wrote.
    pub fn end(self, node: &RedisNode, address: Option<String>, junk: &[String]) {
        let missing = (!self.is_stored(node)).then(|| {
            let silent = || match junk {
                [] => format!("it has not answered within {}", self.waiting.wait()),
                junk => junk.join("; "),
            };
            self.failure.clone().unwrap_or_else(silent)
        });
        self.waiting.end(self.keys, Reach::Redis { address, missing });
    }
}
