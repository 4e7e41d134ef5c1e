//! What the fleet has in Redis: keys, each in a slot, and what was revoked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tktrot::clock::nanos;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;

use super::clock::{ClockReading, RedisTime};

/// A turn to encrypt, of one key after another. Whoever makes the key of a turn first decides it for the
/// whole fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Turn {
    /// Redis' time divided by R.
    pub period: u64,
    /// 0 for the key that the schedule asks for; one more for each that replaces it.
    pub number: u32,
}

/// Where a key is kept in Redis: the first one of period 7 at `7`, a later one, which a rotation by hand
/// makes, at `7:1`, and one whose turn another key was given meanwhile under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Its turn: it is the fleet's key of that one.
    At(Turn),
    /// Its name: it only decrypts any more.
    Kept(KeyName),
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(f, "{}", self.period),
            number => write!(f, "{}:{number}", self.period),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::At(turn) => turn.fmt(f),
            Slot::Kept(name) => write!(f, "kept:{}", name.to_hex()),
        }
    }
}

/// Text that is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSlot;

impl FromStr for Slot {
    type Err = NoSlot;

    fn from_str(text: &str) -> Result<Self, NoSlot> {
        let slot = match text.strip_prefix("kept:") {
            Some(digits) => Slot::Kept(KeyName::from_hex(digits).ok_or(NoSlot)?),
            None => {
                let (period, number) = text.split_once(':').unwrap_or((text, "0"));
                let period = period.parse().map_err(|_| NoSlot)?;
                Slot::At(Turn { period, number: number.parse().map_err(|_| NoSlot)? })
            }
        };
        // One text for each: `07`, `+7` or `7:0` are none.
        if slot.to_string() == text { Ok(slot) } else { Err(NoSlot) }
    }
}

/// All of a stored key but its name and secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The turn that it was made for.
    pub turn: Turn,
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
    /// How often all keys had been revoked, as its maker knew. See [`Revoked::All`].
    pub epoch: u64,
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
    /// The terms of a key that is made at `made` for a turn: it encrypts to the end of the period,
    /// and from its beginning, but not before everybody has it.
    pub fn new(turn: Turn, policy: &Policy, lead: Duration, made: RedisTime) -> Terms {
        let start = start_of(turn.period, policy.rotate_every);
        let retires = start.after(policy.rotate_every);
        Terms {
            turn,
            rotate_every: policy.rotate_every,
            made,
            begins: start.max(made.after(lead)).min(retires),
            retires,
            ends: retires.after(policy.lifetime),
            epoch: 0,
            plain: false,
        }
    }

    /// When it lives on this host's clock: no longer than by either clock.
    pub fn local(&self, reading: &ClockReading) -> KeyTimes {
        let ends = reading.over(self.ends);
        KeyTimes {
            encrypt_from: reading.local(self.begins).min(ends),
            encrypt_until: reading.local(self.retires).min(ends),
            decrypt_until: ends,
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
    pub what: Revoked,
    /// Until then, on Redis' clock.
    pub ends: RedisTime,
}

/// What was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// This key.
    Key(KeyName),
    /// Every key of an epoch before this one. It only moves forward: a key that was made before cannot
    /// come back, whatever its name is and whoever has recorded it.
    All(u64),
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
    /// It belongs to another turn.
    Misplaced,
    /// It was revoked.
    Revoked,
    /// It has ended.
    Over,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::NoKey => f.write_str("not a wrapped key; something else wrote it"),
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
            Flaw::Misplaced => f.write_str("it was copied from another slot"),
            Flaw::Revoked => f.write_str(
                "it was revoked; if this goes on, somebody puts old values back: change who may \
                 write to this Redis",
            ),
            Flaw::Over => f.write_str(
                "it has ended; if this goes on, somebody puts old values back: change who may \
                 write to this Redis",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_text() {
        let name = KeyName(std::array::from_fn(|index| index as u8 * 16));
        for (slot, text) in [
            (Slot::At(Turn { period: 7, number: 0 }), "7"),
            (Slot::At(Turn { period: 7, number: 12 }), "7:12"),
            (Slot::Kept(name), "kept:00102030405060708090a0b0c0d0e0f0"),
        ] {
            assert_eq!(slot.to_string(), text);
            assert_eq!(text.parse(), Ok(slot));
        }
        let bad = ["", "7:0", "07", "+7", "7:", "-1", "kept:", "kept:0", "18446744073709551616"];
        for text in bad {
            assert_eq!(text.parse::<Slot>(), Err(NoSlot), "{text}");
        }
        let upper = "kept:00102030405060708090A0B0C0D0E0F0";
        assert_eq!(upper.parse::<Slot>(), Err(NoSlot));
    }
}
