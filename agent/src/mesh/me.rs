//! Who this node is.

use tktrot_fleet::message::NodeId;
use tktrot_fleet::wire::Hello;

/// What it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its ring's id.
    pub node: NodeId,
    /// Random in every start.
    pub instance: u64,
    /// Its ring's name: nodes of a mesh share one ring.
    pub ring: String,
}

impl Me {
    /// The same, as it is said.
    pub fn hello(&self) -> Hello {
        Hello { node: self.node, instance: self.instance, ring: self.ring.clone() }
    }
}
