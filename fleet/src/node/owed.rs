//! Who has yet to answer for a key.

use std::collections::HashMap;
use std::time::Duration;

use tktrot::clock::Time;

use crate::message::NodeId;

/// The peers that were told of one key and have not answered.
#[derive(Default)]
pub struct Owed {
    /// When each was told.
    told: HashMap<NodeId, Time>,
    /// None of them was told before.
    oldest: Option<Time>,
}

impl Owed {
    /// Waits for this peer, which was just told.
    pub fn wait_for(&mut self, peer: NodeId, now: Time) {
        self.told.insert(peer, now);
        self.oldest = Some(self.oldest.map_or(now, |oldest| oldest.min(now)));
    }

    /// Waits no longer for this one: it answered, or it is gone.
    pub fn settle(&mut self, peer: NodeId) {
        if self.told.remove(&peer).is_some() && self.told.is_empty() {
            // Nearly all keys are in this state nearly all the time: without a table for a fleet.
            *self = Owed::default();
        }
    }

    /// How many are waited for.
    pub fn len(&self) -> usize {
        self.told.len()
    }

    /// Nobody is.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Those that have not answered for `limit`.
    pub fn overdue(&mut self, now: Time, limit: Duration) -> Vec<NodeId> {
        if self.overdue_at(limit) > now {
            return Vec::new();
        }
        self.oldest = self.told.values().copied().filter(|told| *told + limit > now).min();
        let silent = self.told.iter().filter(|(_, told)| **told + limit <= now);
        silent.map(|(peer, _)| *peer).collect()
    }

    /// Nobody is overdue before.
    pub fn overdue_at(&self, limit: Duration) -> Time {
        self.oldest.map_or(Time::NEVER, |oldest| oldest + limit)
    }
}
