//! A key as the fleet has it in Redis, and what was revoked.

use std::fmt;
use std::time::Duration;

use tktrot::clock::{Time, nanos};
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;

use super::clock::{Reading, RedisTime};
use super::place::Place;

/// All of a stored key but its name and secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The turn that it was made for.
    pub place: Place,
    /// R, as its maker has it.
    pub rotate_every: Duration,
    /// When it was made.
    pub made: RedisTime,
    /// From then on it encrypts.
    pub begins: RedisTime,
    /// From then on it only decrypts.
    pub retires: RedisTime,
    /// From then on it is gone.
    pub ends: RedisTime,
    /// True if its tickets carry no associated data.
    pub plain: bool,
}

/// A key that is kept in Redis. `S` is its secrets, which the state machine passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<S> {
    /// Its public name.
    pub name: KeyName,
    /// What it is for, and when.
    pub terms: Terms,
    /// Its secrets.
    pub secrets: S,
}

/// The beginning of a period.
pub fn start_of(period: u64, rotate_every: Duration) -> RedisTime {
    RedisTime(period.saturating_mul(nanos(rotate_every)))
}

impl Terms {
    /// The terms of a key that is made at `made` for a place: it encrypts to the end of the period,
    /// and from its beginning, but not before everybody has it.
    pub fn new(place: Place, policy: &Policy, lead: Duration, made: RedisTime) -> Terms {
        let start = start_of(place.period, policy.rotate_every);
        let retires = start.after(policy.rotate_every);
        Terms {
            place,
            rotate_every: policy.rotate_every,
            made,
            begins: start.max(made.after(lead)).min(retires),
            retires,
            ends: retires.after(policy.lifetime),
            plain: false,
        }
    }

    /// The same with other times: those that a key has here, said on Redis' clock. None of them is
    /// later than it is.
    pub fn with_times(self, times: &KeyTimes, reading: &Reading) -> Terms {
        let at = |time: Time| {
            let since = reading.answered.until(time);
            let before = time.until(reading.answered);
            RedisTime(reading.redis.after(since).0.saturating_sub(nanos(before)))
        };
        Terms {
            made: self.made.min(reading.redis),
            begins: at(times.encrypt_from),
            retires: at(times.encrypt_until),
            ends: at(times.decrypt_until),
            ..self
        }
    }

    /// When it lives on this host's clock.
    pub fn local(&self, reading: &Reading) -> KeyTimes {
        KeyTimes {
            encrypt_from: reading.local(self.begins),
            encrypt_until: reading.local(self.retires),
            decrypt_until: reading.local(self.ends),
        }
    }

    /// True if the times are in order.
    pub fn are_ordered(&self) -> bool {
        self.begins <= self.retires && self.retires <= self.ends
    }
}

/// Something that was revoked, until when nobody may bring it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grave {
    /// What.
    pub what: Revoked,
    /// Until then, on Redis' clock.
    pub ends: RedisTime,
}

/// What was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// This key.
    Key(KeyName),
    /// All that there were when this random number was drawn.
    All([u8; 16]),
}

/// Why what is stored is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// It has the wrong size, or makes no sense.
    NoKey,
    /// It is of another version.
    Version(u8),
    /// It is wrapped with a secret that this node does not have: the secret's public identity.
    Secret([u8; 8]),
    /// It was changed, or belongs to another ring.
    Damaged,
    /// It belongs to another place.
    Misplaced,
    /// Its maker has another R.
    Rotation(Duration),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NoKey => f.write_str("it is no wrapped key; something else wrote it"),
            Flaw::Version(version) => write!(
                f,
                "it has version {version}, which this tktrot does not know; update the older hosts"
            ),
            Flaw::Secret(id) => {
                f.write_str("it is wrapped with fleet secret ")?;
                id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(
                    ", which is not among this host's; every host needs all secrets that are in \
                     use: add the missing one to secrets in [redis]",
                )
            }
            Flaw::Damaged => f.write_str("it was changed, or wrapped for another ring"),
            Flaw::Misplaced => f.write_str("it was copied from another place"),
            Flaw::Rotation(theirs) => write!(
                f,
                "its maker rotates every {} s: rotate must be the same on all hosts that share \
                 keys through a Redis",
                theirs.as_secs_f64()
            ),
        }
    }
}
