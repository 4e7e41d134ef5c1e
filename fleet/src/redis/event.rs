//! What happens to a node whose fleet shares keys through Redis, and what it wants done.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;

use super::clock::{ClockReading, Doubt, RedisTime};
use super::stored::{Flaw, Grave, Slot, Stored, Terms, Turn};
use crate::message::{Facts, Refusal};

/// What Redis has under the ring's name beside keys: who changes anything there writes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// A random number.
    pub token: u64,
}

/// What the ring remembers beyond the end of an agent, beside keys and graves. Neither ever goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// How often all keys of the fleet were revoked, as far as this host knows.
    pub epoch: u64,
    /// The beginning of the latest period that there was, on Redis' clock.
    pub period: RedisTime,
}

impl Memory {
    /// Of a ring that no agent had before.
    pub const NONE: Memory = Memory { epoch: 0, period: RedisTime(0) };
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisEvent<S> {
    /// [`super::RedisNode::deadline`] has come, or may have.
    Tick,
    /// The ring has this key with these times, and not because of an [`RedisAction`]: at the start, and
    /// when somebody on this host made or retired one.
    Found(Facts),
    /// The ring no longer has this key, though it has not ended.
    Lost(KeyName),
    /// The ring has these graves, each until then: at the start, and when somebody on this host has
    /// revoked a key, which is then told to the fleet.
    Graves(Vec<(KeyName, Time)>),
    /// [`RedisAction::Make`] was done.
    Made(Facts),
    /// [`RedisAction::Make`] failed: no slot, or the generator. It is asked for again.
    NotMade,
    /// [`RedisAction::Take`] was done, or not.
    Took(KeyName, Result<(), Refusal>),
    /// Redis can be asked.
    Up,
    /// It cannot: nothing that was asked for and not answered will be.
    Down,
    /// Somebody says that something changed in Redis.
    Heard,
    /// [`RedisAction::Poll`] was answered.
    Polled(ClockReading, Option<Mark>),
    /// [`RedisAction::Look`] was answered.
    Looked(Look<S>),
    /// The writing [`RedisAction`]s were all answered, with whatever result.
    Written,
    /// What the keys should be like, when that changed.
    Policy(Policy),
    /// A new key is to encrypt in the whole fleet.
    Rotate,
    /// These keys are to end everywhere, at once.
    Revoke(Vec<KeyName>),
    /// Every key is.
    RevokeAll,
}

/// All that Redis has for the ring, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<S> {
    /// The clocks, when it was read.
    pub reading: ClockReading,
    /// The mark then.
    pub mark: Option<Mark>,
    /// The keys.
    pub keys: Vec<(Slot, Result<Stored<S>, Flaw>)>,
    /// What was revoked.
    pub graves: Vec<Grave>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAction<S> {
    /// Make a key of this node's own with these times and put it into the ring; then say
    /// [`RedisEvent::Made`] or [`RedisEvent::NotMade`].
    Make(KeyTimes),
    /// Put this key into the ring, as one that this node encrypts with; then say [`RedisEvent::Took`].
    Take(Stored<S>, KeyTimes),
    /// This key has these times now: none of them is later than it was.
    Shorten(KeyName, KeyTimes),
    /// This key is gone.
    Erase(KeyName),
    /// Bury this name in the ring, until then.
    Entomb(KeyName, Time),
    /// The ring is to remember this.
    Remember(Memory),
    /// Ask Redis for its time and the mark; then say [`RedisEvent::Polled`].
    Poll,
    /// Ask it for everything that has not ended, and for what is in these slots, whatever its index says;
    /// then say [`RedisEvent::Looked`].
    Look(Vec<Slot>),
    /// Make a key and store it at its turn, if that is free; for so long. Not for the ring yet:
    /// what is stored is what counts, and the next look tells it. After these and the other writing
    /// actions, of which several come together, say [`RedisEvent::Written`] once.
    Offer(Terms, Duration),
    /// Store this key of the ring there, if the slot is free; for so long.
    PutBack(Slot, KeyName, Terms, Duration),
    /// Tell what was revoked, and delete what is in these slots.
    Bury(Vec<Grave>, Vec<Slot>),
    /// Something for the log.
    Note(RedisNote),
}

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisNote {
    /// The fleet's key of this turn is in the ring.
    Adopted(Turn, KeyName),
    /// The ring did not take a key of the fleet.
    Refused(KeyName, Refusal),
    /// What Redis has in a slot is not used. Said once for each flaw.
    Flawed(Slot, Flaw),
    /// Redis cannot be asked any more. The fleet's keys last for so long; then this node goes on
    /// with keys of its own.
    Alone(Duration),
    /// Redis can be asked again.
    Back,
    /// This node encrypts with a key of its own, which no other has.
    OwnKey(KeyName),
    /// So many keys that Redis had lost were put back.
    PutBack(usize),
    /// Redis' clock was set by so many nanoseconds, or another Redis has taken over.
    ClockMoved(i64),
    /// Redis' clock is not believed: nothing is taken from Redis but what was revoked. The fleet's keys
    /// last for so long; then this node goes on with keys of its own.
    Doubted(Doubt, Duration),
    /// Redis' clock is believed again.
    Believed,
    /// A key is not taken, as its times cannot be true.
    Implausible(KeyName, RedisTime),
    /// The rotation that was asked for: the fleet turns to this key, in so long.
    Turns(KeyName, Duration),
    /// So many keys were revoked; by whom is not known.
    Revoked(usize),
    /// What was revoked here is told in Redis.
    Buried(usize),
}
