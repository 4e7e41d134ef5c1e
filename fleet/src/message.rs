//! What nodes tell each other, and how they speak of keys. What is told has no times but spans that were
//! left when it was said: no clock of one host means anything on another.

use std::fmt;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

/// A node of the fleet: the id of its host's ring, random, made with it and gone with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// All of a key in the ring but its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its public name.
    pub name: KeyName,
    /// The node that made it.
    pub origin: NodeId,
    /// When it lives, on this host's clock.
    pub times: KeyTimes,
    /// True if its tickets carry no associated data.
    pub plain: bool,
}

/// A key on its way. `S` is its secrets: the state machine passes them on and never looks at
/// them, and what it sends names keys only, whose secrets the ring has (`S = ()`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<S> {
    /// Its public name, the same in the whole fleet.
    pub name: KeyName,
    /// The node that made it.
    pub origin: NodeId,
    /// What was left of its times.
    pub left: Left,
    /// True if its tickets carry no associated data.
    pub plain: bool,
    /// Its secrets.
    pub secrets: S,
}

/// What is left of a key's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Until it encrypts; zero if it does or did.
    pub begins: Duration,
    /// Until it no longer encrypts.
    pub encrypts: Duration,
    /// Until it is gone.
    pub decrypts: Duration,
}

impl Left {
    /// What is left of `times` at `now`.
    pub fn of(times: KeyTimes, now: Time) -> Self {
        Left {
            begins: now.until(times.encrypt_from),
            encrypts: now.until(times.encrypt_until),
            decrypts: now.until(times.decrypt_until),
        }
    }

    /// The times on the clock of who hears it at `now`, when it was said `age` ago.
    pub fn times(&self, now: Time, age: Duration) -> KeyTimes {
        let at = |left: Duration| now + left.saturating_sub(age);
        KeyTimes {
            encrypt_from: at(self.begins),
            encrypt_until: at(self.encrypts),
            decrypt_until: at(self.decrypts),
        }
    }
}

/// A key that was revoked: nobody may bring it back before it would have ended anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The key.
    pub name: KeyName,
    /// How much longer a copy of it can live somewhere.
    pub left: Duration,
}

/// A key that was revoked, on the clock of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grave {
    /// The key.
    pub name: KeyName,
    /// Until then a copy of it can live somewhere.
    pub until: Time,
}

/// Why a node did not take a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It has ended, or was revoked.
    Ended,
    /// The node that made it has its share of the ring, and what is common is for others, too.
    TooMany,
    /// The ring is full.
    Full,
    /// It is no key: a constant name or secret, or one that another key has.
    Unusable,
    /// The ring cannot be written at the moment. The key is offered again.
    Busy,
    /// For a reason that only a later version knows.
    Other,
}

impl Refusal {
    /// Whether the same key may be taken a while later.
    pub fn may_pass(self) -> bool {
        matches!(self, Refusal::TooMany | Refusal::Full | Refusal::Busy | Refusal::Other)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Ended => "it has ended or was revoked",
            Refusal::TooMany => "its node has its share of the ring, and no more is free",
            Refusal::Full => "the ring is full",
            Refusal::Unusable => {
                "it is not a key, or another key has its name or one of its secrets"
            }
            Refusal::Busy => "the ring cannot be written at the moment",
            Refusal::Other => "for a reason that this version of tktrot does not know",
        })
    }
}

/// One thing that a node says to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<S> {
    /// Keys that the sender made and may encrypt with: to be taken and acknowledged. The first
    /// one after a connection names all of them, even if there are none.
    Keys(Vec<Offer<S>>),
    /// These are in the ring of the sender now.
    Taken(Vec<KeyName>),
    /// These are not, and why.
    Refused(Vec<(KeyName, Refusal)>),
    /// These were revoked; with `all`, every key was that the receiver holds.
    Revoked {
        keys: Vec<Tombstone>,
        /// Also those that the sender does not know.
        all: bool,
    },
    /// The ring of the sender knows that these were revoked, and no longer has them: the answer to
    /// [`Message::Revoked`].
    Buried(Vec<KeyName>),
    /// Asks for all that the receiver holds, whoever made it.
    Pull,
    /// Keys of any node; not to be acknowledged.
    Held {
        keys: Vec<Offer<S>>,
        /// True if these were the last of a [`Message::Pull`]'s answer.
        last: bool,
    },
    /// The sender stops: nobody needs to wait for it. Its keys live on to their ends.
    Leaving,
}
