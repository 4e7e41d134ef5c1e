//! One connection for each pair of nodes, though both may dial.
//!
//! The accepting side says who it is first, and the dialling side only if it wants this connection:
//! not if it has one with that node already. So two connections are wanted at the same time only if
//! both sides dialled at the same time, and then the one stays whose dialler has the lower id: both
//! sides find the same. A node that was restarted says another instance, and its former connection
//! is dead, whether that was noticed or not.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use tktrot_fleet::message::NodeId;
use tktrot_fleet::wire::Hello;
use tokio::sync::Mutex;

use super::link::{Dialler, Link};

/// The connections that stay.
#[derive(Default)]
pub struct Registry {
    links: HashMap<NodeId, Rc<Link>>,
    turns: HashMap<NodeId, Arc<Mutex<()>>>,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// The other end is this node itself.
    Myself,
    /// There is another one with that node.
    Duplicate,
}

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unwanted::Myself => "it is this node itself",
            Unwanted::Duplicate => "there is another connection with that node",
        })
    }
}

impl Registry {
    /// Whether a connection with that node is wanted.
    ///
    /// # Errors
    ///
    /// Why it is not wanted.
    pub fn wants(&self, me: &Hello, hello: &Hello, dialler: Dialler) -> Result<(), Unwanted> {
        if (hello.node, hello.instance) == (me.node, me.instance) {
            return Err(Unwanted::Myself);
        }
        let Some(there) = self.links.get(&hello.node) else { return Ok(()) };
        let is_other_instance = there.hello.instance != hello.instance;
        let stays = match (dialler, there.dialler) {
            (Dialler::We, _) => true,
            (Dialler::They, Dialler::We) => me.node < hello.node,
            // It would not want this one if it still had that one.
            (Dialler::They, Dialler::They) => false,
        };
        if stays && !is_other_instance { Err(Unwanted::Duplicate) } else { Ok(()) }
    }

    /// This connection stays, and the one that was there ends. Who holds the lock that is returned
    /// is the only one whose messages with that node pass: the new one waits for the old one.
    pub fn put(&mut self, link: &Rc<Link>) -> Arc<Mutex<()>> {
        if let Some(former) = self.links.insert(link.hello.node, link.clone()) {
            former.stop.say("replaced by a newer connection");
        }
        self.turns.entry(link.hello.node).or_default().clone()
    }

    /// This connection has ended.
    pub fn remove(&mut self, link: &Rc<Link>) {
        let node = link.hello.node;
        if self.links.get(&node).is_some_and(|there| Rc::ptr_eq(there, link)) {
            self.links.remove(&node);
        }
        // One for the map itself; who removes has given its own back.
        self.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// The connection with that node.
    pub fn get(&self, node: NodeId) -> Option<&Rc<Link>> {
        self.links.get(&node)
    }

    /// All connections that stay.
    pub fn links(&self) -> impl Iterator<Item = &Rc<Link>> {
        self.links.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(node: u64) -> Hello {
        Hello { node: NodeId(node), instance: 100 + node, ring: "ring".into() }
    }

    fn link(hello: Hello, dialler: Dialler) -> Rc<Link> {
        Rc::new(Link::new(hello, dialler, "127.0.0.1:1".parse().unwrap()))
    }

    #[test]
    fn a_node_knows_itself() {
        let registry = Registry::default();
        assert_eq!(registry.wants(&me(1), &me(1), Dialler::We), Err(Unwanted::Myself));
        let other = Hello { instance: 7, ..me(1) };
        assert_eq!(registry.wants(&me(1), &other, Dialler::We), Ok(()));
    }

    #[test]
    fn who_is_connected_does_not_dial_on() {
        for there in [Dialler::We, Dialler::They] {
            let mut registry = Registry::default();
            registry.put(&link(me(2), there));
            let wants = |dialler| registry.wants(&me(1), &me(2), dialler);
            assert_eq!(wants(Dialler::We), Err(Unwanted::Duplicate));
        }
    }

    #[test]
    fn of_two_at_the_same_time_both_sides_keep_the_same() {
        // Each has put its own before the other's is heard of.
        let (mut low, mut high) = (Registry::default(), Registry::default());
        low.put(&link(me(2), Dialler::We));
        high.put(&link(me(1), Dialler::We));
        let duplicate = Err(Unwanted::Duplicate);
        assert_eq!(low.wants(&me(1), &me(2), Dialler::They), duplicate);
        assert_eq!(high.wants(&me(2), &me(1), Dialler::They), Ok(()));
    }

    #[test]
    fn a_node_that_dials_again_or_anew_replaces_its_former_connection() {
        let mut registry = Registry::default();
        let former = link(me(2), Dialler::They);
        let turn = registry.put(&former);
        assert_eq!(registry.wants(&me(1), &me(2), Dialler::They), Ok(()));
        let restarted = Hello { instance: 7, ..me(2) };
        for dialler in [Dialler::We, Dialler::They] {
            assert_eq!(registry.wants(&me(1), &restarted, dialler), Ok(()));
        }
        let new = link(restarted, Dialler::They);
        assert!(Arc::ptr_eq(&registry.put(&new), &turn), "they wait for each other");
        registry.remove(&former);
        assert!(registry.get(NodeId(2)).is_some_and(|there| Rc::ptr_eq(there, &new)));
        drop(turn);
        registry.remove(&new);
        assert!(registry.links.is_empty() && registry.turns.is_empty());
    }
}
