//! The peers that are up, and what each has yet to answer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::secret::KeyName;

use crate::message::NodeId;

/// A node that starts asks so many peers for everything: that is enough to learn what nodes that
/// are gone have left. Later it asks one in a while: in a fleet of a thousand an answer is long.
const PULLS: usize = 3;
const PULL_EVERY: Duration = Duration::from_secs(10);
/// A peer that was gone for no longer than this, as when a connection broke, has nothing to tell
/// but its own keys. In a fleet of a thousand somebody's connection breaks all the time.
const BREAK: Duration = Duration::from_secs(10);
/// A peer that was gone for longer than this is one that never was here.
const ABSENCE: Duration = Duration::from_secs(24 * 3600);
/// So many of those that are gone are known.
const ABSENT: usize = 4096;
/// A peer that asks more often gets no answer.
const ANSWER_EVERY: Duration = Duration::from_secs(1);

/// One of them.
#[derive(Default)]
struct Peer {
    /// It has told its own keys.
    greeted: bool,
    /// It was asked for all it holds, and has not answered yet.
    pulling: bool,
    /// It said that it stops.
    leaving: bool,
    /// Keys it has not answered for, and since when.
    owed: HashMap<KeyName, Time>,
    answered: Option<Time>,
}

/// All of them.
#[derive(Default)]
pub struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    /// How many have told all they hold.
    pulled: usize,
    /// When the last one was asked for it.
    asked: VecDeque<Time>,
    /// Peers that went, and when.
    gone: HashMap<NodeId, Time>,
    /// Nobody is overdue before.
    overdue_at: Option<Time>,
}

impl Peers {
    /// A new one.
    pub fn insert(&mut self, node: NodeId) {
        self.peers.insert(node, Peer::default());
    }

    /// One is gone; the keys that it owed an answer for.
    pub fn remove(&mut self, node: NodeId, now: Time) -> Vec<KeyName> {
        let Some(peer) = self.peers.remove(&node) else { return Vec::new() };
        if self.gone.len() >= ABSENT {
            self.gone.retain(|_, at| *at + ABSENCE > now);
        }
        if self.gone.len() < ABSENT {
            // What it was asked for and did not tell it has to be asked again.
            let at = if peer.greeted && !peer.pulling { now } else { now - BREAK };
            self.gone.insert(node, at);
        }
        peer.owed.into_keys().collect()
    }

    /// Whether it is up.
    pub fn has(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    /// Those after `node` in the order of their ids, round the corner: who passes news on to these
    /// reaches everybody in a few steps.
    pub fn after(&self, node: NodeId, count: usize) -> impl Iterator<Item = NodeId> {
        let after = self.peers.range(node..).chain(self.peers.range(..node));
        after.map(|(node, _)| *node).take(count)
    }

    /// It told its keys.
    pub fn greeted(&mut self, node: NodeId) {
        self.change(node, |peer| peer.greeted = true);
    }

    /// It told all it holds.
    pub fn pulled(&mut self, node: NodeId) {
        self.pulled += 1;
        self.change(node, |peer| peer.pulling = false);
    }

    /// Whether to ask it for all it holds, now that it is up; if so, it counts as asked.
    ///
    /// The keys of nodes that are up come from themselves. So this is for a node that starts, and
    /// after a partition, on the other side of which nodes may have stopped. Who was never here
    /// has nothing to tell that nobody else has.
    pub fn may_pull(&mut self, node: NodeId, now: Time) -> bool {
        let starts = self.pulled < PULLS;
        let was_away = self.gone.remove(&node).is_some_and(|at| at + BREAK <= now);
        if !starts && !was_away {
            return false;
        }
        self.asked.retain(|at| *at + PULL_EVERY > now);
        if self.asked.len() >= if starts { PULLS } else { 1 } {
            return false;
        }
        self.asked.push_back(now);
        self.change(node, |peer| peer.pulling = true);
        true
    }

    /// Whether to answer when it asks for everything.
    pub fn may_answer(&mut self, node: NodeId, now: Time) -> bool {
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        let may = peer.answered.is_none_or(|last| last + ANSWER_EVERY <= now);
        if may {
            peer.answered = Some(now);
        }
        may
    }

    /// It was told of a key; true if it has to answer.
    pub fn owes(&mut self, node: NodeId, name: KeyName, now: Time, limit: Duration) -> bool {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| !peer.leaving) else {
            return false;
        };
        let due = now + limit;
        self.overdue_at = Some(self.overdue_at.map_or(due, |at| at.min(due)));
        peer.owed.insert(name, now).is_none()
    }

    /// It answered for a key; true if it had to.
    pub fn answers(&mut self, node: NodeId, name: &KeyName) -> bool {
        self.peers.get_mut(&node).is_some_and(|peer| peer.owed.remove(name).is_some())
    }

    /// Nobody needs to answer for this key any more.
    pub fn forget(&mut self, name: &KeyName) {
        for peer in self.peers.values_mut() {
            peer.owed.remove(name);
        }
    }

    /// It stops: the keys that it owed an answer for.
    pub fn leaves(&mut self, node: NodeId) -> Vec<KeyName> {
        let Some(peer) = self.peers.get_mut(&node) else { return Vec::new() };
        peer.leaving = true;
        // What it was asked for it may no longer say.
        (peer.greeted, peer.pulling) = (true, false);
        peer.owed.drain().map(|(name, _)| name).collect()
    }

    /// Those that have not answered for `limit`, each with one such key.
    pub fn overdue(&mut self, now: Time, limit: Duration) -> Vec<(NodeId, KeyName)> {
        if self.overdue_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut overdue = Vec::new();
        let mut next: Option<Time> = None;
        for (node, peer) in &self.peers {
            let Some((name, since)) = peer.owed.iter().min_by_key(|(_, since)| **since) else {
                continue;
            };
            let due = *since + limit;
            if due <= now {
                overdue.push((*node, *name));
            } else {
                next = Some(next.map_or(due, |at| at.min(due)));
            }
        }
        self.overdue_at = next;
        overdue
    }

    /// Nobody is overdue before.
    pub fn overdue_at(&self) -> Time {
        self.overdue_at.unwrap_or(Time::NEVER)
    }

    /// True if everybody has told what it was to tell.
    pub fn are_synced(&self) -> bool {
        self.peers.values().all(|peer| peer.greeted && !peer.pulling)
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(&node) {
            change(peer);
        }
    }
}
