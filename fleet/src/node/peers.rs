//! The peers that are connected, and what each has yet to tell.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tktrot::clock::Time;

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

/// What is known of a peer that is up.
#[derive(Default)]
struct Peer {
    /// It has told its own keys.
    greeted: bool,
    /// It was asked for all it holds, and has not answered yet.
    pulling: bool,
    /// It said that it stops.
    leaving: bool,
    /// When it was last told everything.
    answered: Option<Time>,
}

impl Peer {
    fn is_heard(&self) -> bool {
        self.greeted && !self.pulling
    }
}

/// A peer that went away.
struct Gone {
    at: Time,
    /// It was asked for all it holds, or would have been, and had not answered.
    pulling: bool,
}

/// A peer that came back.
struct Back {
    node: NodeId,
    went: Time,
    /// Others will be back then, if it was no more than the network.
    ask_at: Time,
}

/// The peers of a node.
#[derive(Default)]
pub struct Peers {
    peers: HashMap<NodeId, Peer>,
    /// How many have told all they hold.
    pulled: usize,
    /// When the last one was asked for it.
    asked: VecDeque<Time>,
    gone: HashMap<NodeId, Gone>,
    /// Peers that were away for longer than a [`BREAK`], in the order of their return.
    back: VecDeque<Back>,
    /// How many have not told what they were to tell.
    unheard: usize,
}

impl Peers {
    /// A new one.
    pub fn insert(&mut self, node: NodeId) {
        self.peers.insert(node, Peer::default());
        self.unheard += 1;
    }

    /// A peer went down.
    pub fn remove(&mut self, node: NodeId, now: Time) {
        let Some(peer) = self.peers.remove(&node) else { return };
        self.unheard -= usize::from(!peer.is_heard());
        if self.gone.len() >= ABSENT {
            self.gone.retain(|_, gone| gone.at + ABSENCE > now);
        }
        if self.gone.len() < ABSENT {
            self.gone.insert(node, Gone { at: now, pulling: peer.pulling });
        }
    }

    /// Whether it is up.
    pub fn has(&self, node: NodeId) -> bool {
        self.peers.contains_key(&node)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<NodeId> {
        let mut all: Vec<_> = self.peers.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// All but those that said that they stop.
    pub fn all_that_stay(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| !peer.leaving).map(|(node, _)| *node)
    }

    /// Those after `node` in the order of their ids, round the corner: who passes news on to these
    /// reaches everybody in a few steps.
    pub fn after(&self, node: NodeId, count: usize) -> Vec<NodeId> {
        let mut all = self.all();
        let first = all.partition_point(|peer| *peer < node);
        all.rotate_left(first);
        all.truncate(count);
        all
    }

    /// The peer has told its own keys.
    pub fn greeted(&mut self, node: NodeId) {
        self.change(node, |peer| peer.greeted = true);
    }

    /// The peer has told all the keys that it holds.
    pub fn pulled(&mut self, node: NodeId) {
        self.pulled += 1;
        self.change(node, |peer| peer.pulling = false);
    }

    /// Whether to ask it for all it holds, now that it is up; if so, it counts as asked.
    ///
    /// The keys of nodes that are up come from themselves. So this is for a node that starts; and
    /// for one that went before it had answered. See [`Peers::due_to_pull`], too.
    pub fn may_pull(&mut self, node: NodeId, now: Time) -> bool {
        let gone = self.gone.remove(&node);
        if self.pulled < PULLS || gone.as_ref().is_some_and(|gone| gone.pulling) {
            return self.ask(node, now);
        }
        if let Some(Gone { at, .. }) = gone.filter(|gone| gone.at + BREAK <= now) {
            self.back.push_back(Back { node, went: at, ask_at: now + BREAK });
        }
        false
    }

    /// One to be asked for all it holds, as it was on the other side of a partition on which nodes
    /// may have stopped: others went about when it did, and are not back. If so, it counts as asked.
    ///
    /// One that was away alone has nothing to tell that is not known here, nor has one that was
    /// never here: else each of a thousand nodes would ask one that restarts for the keys of all.
    pub fn due_to_pull(&mut self, now: Time) -> Option<NodeId> {
        while self.pull_at() <= now
            && let Some(back) = self.back.pop_front()
        {
            let together =
                |other: &Gone| other.at + BREAK >= back.went && back.went + BREAK >= other.at;
            let others = self.gone.values().any(together);
            if !others {
                continue;
            }
            if let Some(gone) = self.gone.get_mut(&back.node) {
                // When it is back once more.
                gone.pulling = true;
            } else if self.ask(back.node, now) {
                return Some(back.node);
            }
        }
        None
    }

    /// [`Peers::due_to_pull`] has nobody before.
    pub fn pull_at(&self) -> Time {
        self.back.front().map_or(Time::NEVER, |back| back.ask_at)
    }

    /// Not too often.
    fn ask(&mut self, node: NodeId, now: Time) -> bool {
        self.asked.retain(|at| *at + PULL_EVERY > now);
        if self.asked.len() >= if self.pulled < PULLS { PULLS } else { 1 } {
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

    /// The peer says that it stops.
    pub fn leaves(&mut self, node: NodeId) {
        // What it was asked for it may no longer say.
        self.change(node, |peer| (peer.leaving, peer.greeted, peer.pulling) = (true, true, false));
    }

    /// True if everybody has told what it was to tell.
    pub fn are_synced(&self) -> bool {
        self.unheard == 0
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.get_mut(&node) {
            let before = usize::from(!peer.is_heard());
            change(peer);
            self.unheard = self.unheard - before + usize::from(!peer.is_heard());
        }
    }
}
