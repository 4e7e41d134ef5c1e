//! Where a key is kept in Redis: the first key of period 7 at `7`, a later one, which a rotation
//! by hand makes, at `7:1`, and one whose place another key was given meanwhile under its name.

use std::fmt;
use std::str::FromStr;

use tktrot::secret::KeyName;

/// The turn of a period. Whoever makes the key of a place first decides it for the whole fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Redis' time divided by R.
    pub period: u64,
    /// 0 for the key that the schedule asks for; one more for each that replaces it.
    pub turn: u32,
}

/// What a stored key is found under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Its place: it is the fleet's key of that turn.
    At(Place),
    /// Its name: it only decrypts any more.
    Kept(KeyName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.turn {
            0 => write!(f, "{}", self.period),
            turn => write!(f, "{}:{turn}", self.period),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::At(place) => place.fmt(f),
            Slot::Kept(name) => write!(f, "kept:{}", name.to_hex()),
        }
    }
}

/// It is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSlot;

impl FromStr for Slot {
    type Err = NoSlot;

    fn from_str(text: &str) -> Result<Self, NoSlot> {
        let slot = match text.strip_prefix("kept:") {
            Some(digits) => Slot::Kept(KeyName::from_hex(digits).ok_or(NoSlot)?),
            None => {
                let (period, turn) = text.split_once(':').unwrap_or((text, "0"));
                let period = period.parse().map_err(|_| NoSlot)?;
                Slot::At(Place { period, turn: turn.parse().map_err(|_| NoSlot)? })
            }
        };
        // One text for each: `07`, `+7` or `7:0` are none.
        if slot.to_string() == text { Ok(slot) } else { Err(NoSlot) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_text() {
        let name = KeyName(std::array::from_fn(|index| index as u8 * 16));
        for (slot, text) in [
            (Slot::At(Place { period: 7, turn: 0 }), "7"),
            (Slot::At(Place { period: 7, turn: 12 }), "7:12"),
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
