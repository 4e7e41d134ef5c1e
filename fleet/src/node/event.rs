//! What happens to a node, and what it wants done.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;

use crate::message::{Facts, Grave, Message, NodeId, Offer, Refusal};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<S> {
    /// [`super::Node::deadline`] has come, or may have.
    Tick,
    /// The ring has this key, and it was not put there by an [`Action`]: at the start, and when a
    /// server made one.
    Found(Facts),
    /// The ring has these graves, and they were not dug by an [`Action`]: at the start all there are,
    /// before what else the ring has, and when somebody on this host revoked.
    Buried(Vec<Grave>),
    /// The ring no longer has this key, though it has not ended, and has no grave of it: it was
    /// pushed out, or a library revoked it that knows of no graves.
    Lost(KeyName),
    /// [`Action::Make`] was done: the key is in the ring.
    Made(Facts),
    /// [`Action::Make`] failed: no slot, or the generator. It is asked for again.
    NotMade,
    /// [`Action::Take`] was done: these keys are in the ring, those are not.
    Took {
        /// The peer that they came from.
        from: NodeId,
        /// In the ring.
        taken: Vec<KeyName>,
        /// Not in the ring.
        refused: Vec<(KeyName, Refusal)>,
    },
    /// A peer is connected. One connection for each at a time: the shell sees to that.
    Up(NodeId),
    /// A peer is gone.
    Down(NodeId),
    /// A peer says something.
    Received {
        from: NodeId,
        message: Message<S>,
        /// How long ago it was said, at most.
        age: Duration,
    },
    /// What the keys should be like: at the start, and when that changed.
    Policy(Policy),
    /// A new key is to encrypt as soon as the fleet has it.
    Rotate,
    /// These keys are to end everywhere, at once.
    Revoke(Vec<KeyName>),
    /// Every key is.
    RevokeAll,
    /// The agent stops.
    Leave,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<S> {
    /// Make a key of this node's own with these times and put it into the ring; then say
    /// [`Event::Made`] or [`Event::NotMade`].
    Make(KeyTimes),
    /// Put these keys of peers into the ring; then say [`Event::Took`].
    Take {
        /// The peer that they came from.
        from: NodeId,
        /// Each with the times that it has here.
        keys: Vec<(Offer<S>, KeyTimes)>,
    },
    /// This key has these times now: none of them is later than it was. So an announced key begins
    /// at once, an active one is retired, and a peer's ends as early as its maker says.
    Shorten(KeyName, KeyTimes),
    /// This key is gone.
    Erase(KeyName),
    /// These were revoked: the ring has none of them any more, and takes none of them again.
    Bury(Vec<Grave>),
    /// Say this to a peer. Keys whose secrets the ring no longer has are left out.
    Send { to: NodeId, message: Message<()> },
    /// End the connection to a peer: it can come back.
    Drop {
        peer: NodeId,
        /// Why: for the log and for `tktrot peers`.
        reason: DropReason,
    },
    /// Something for the log.
    Note(Note),
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It has not acknowledged this key in time.
    Silent(KeyName),
}

/// Something that an operator may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A key of this node begins to encrypt; so many peers have acknowledged it.
    Began {
        /// The key.
        name: KeyName,
        /// Peers that have it.
        peers: usize,
    },
    /// A peer did not take a key of this node, which lives until then.
    RefusedBy(NodeId, KeyName, Refusal, Time),
    /// A key of a peer was not taken, which lives until then.
    Refused(NodeId, KeyName, Refusal, Time),
    /// A key of a peer was taken, and ends here sooner than there: [`super::limits::Limits::longest`].
    Cut(NodeId, KeyName, Time),
    /// So many keys were revoked, because this peer said so, or somebody on this host (`None`).
    Revoked(usize, Option<NodeId>),
    /// A peer says that it stops.
    Left(NodeId),
}
