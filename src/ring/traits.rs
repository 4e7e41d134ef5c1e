//! What the contexts of a process bind their tickets to, so that contexts that differ are told
//! apart by part: some bits of a hash of each. Enough to say "these two have other
//! certificates" to an operator whose tickets do not open, and nothing to go by: equal bits
//! may be of different contexts.

use std::sync::atomic::Ordering;

use super::Ring;
use super::layout::Member;

/// A part of what a ticket is bound to that belongs to a context, not to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    /// The service's label.
    Label,
    /// The leaf certificates.
    Certificates,
    /// The demand for client certificates, with the trusted CAs.
    Verification,
}

impl Trait {
    /// All of them.
    pub const ALL: [Trait; 3] = [Trait::Label, Trait::Certificates, Trait::Verification];
}

/// 16 bits for each [`Trait`]; all zeroes: nothing was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u64);

/// The contexts of a process differ in it.
const SEVERAL: u16 = u16::MAX;
/// Tickets are not bound to it.
const UNBOUND: u16 = 1;

impl Traits {
    /// Those of a context; a part is what the ticket is bound to, or none if it is not.
    pub fn of(part: impl Fn(Trait) -> Option<Vec<u8>>) -> Traits {
        let lanes = Trait::ALL.map(|one| part(one).map_or(UNBOUND, |bytes| hash(&bytes)));
        Traits::from_lanes(lanes)
    }

    fn from_lanes(lanes: [u16; 3]) -> Traits {
        let at = |place: usize| u64::from(lanes[place]) << (16 * place);
        Traits(at(0) | at(1) | at(2))
    }

    fn lane(self, one: Trait) -> u16 {
        (self.0 >> (16 * one as u32)) as u16
    }

    /// Of two contexts of one process.
    fn with(self, other: Traits) -> Traits {
        Traits::from_lanes(Trait::ALL.map(|one| match (self.lane(one), other.lane(one)) {
            (0, lane) | (lane, 0) => lane,
            (one, other) if one == other => one,
            _ => SEVERAL,
        }))
    }

    /// True if contexts of the one differ from those of the other, or among themselves.
    pub fn differ(self, other: Traits, one: Trait) -> bool {
        let (own, other) = (self.lane(one), other.lane(one));
        let told = own != 0 && other != 0;
        told && (own != other || own == SEVERAL)
    }
}

/// FNV-1a, folded: neither 0, [`UNBOUND`] nor [`SEVERAL`].
fn hash(bytes: &[u8]) -> u16 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619);
    let hash = bytes.iter().fold(2_166_136_261, step);
    let folded = (hash >> 16) as u16 ^ hash as u16;
    folded.clamp(UNBOUND + 1, SEVERAL - 1)
}

impl Ring {
    /// Tells those of one more context, in the block that the process claimed. Lock-free.
    pub fn tell_traits(&self, block: usize, traits: Traits) {
        let Some(member) = self.members().get(block) else { return };
        let relaxed = Ordering::Relaxed;
        let _ = member.traits.fetch_update(relaxed, relaxed, |told| {
            let both = Traits(told).with(traits).0;
            (both != told).then_some(both)
        });
    }
}

impl Member {
    pub(super) fn traits(&self) -> Traits {
        Traits(self.traits.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn context(label: &str, certificates: Option<&str>) -> Traits {
        Traits::of(|one| match one {
            Trait::Label => Some(label.into()),
            Trait::Certificates => certificates.map(Into::into),
            Trait::Verification => Some(b"none".to_vec()),
        })
    }

    #[test]
    fn contexts_differ_in_what_they_differ_in() {
        let (one, other) = (context("web", Some("a")), context("web", Some("b")));
        let differ = |one: Traits, other: Traits| Trait::ALL.map(|each| one.differ(other, each));
        assert_eq!(differ(one, one), [false; 3]);
        assert_eq!(differ(one, other), [false, true, false]);
        assert_eq!(differ(one, context("mail", None)), [true, true, false]);
        // Who has told nothing differs from nobody.
        assert_eq!(differ(one, Traits::default()), [false; 3]);
        // Two contexts of one process.
        let both = one.with(other);
        assert_eq!(differ(both, one), [false, true, false]);
        assert_eq!(differ(both, both), [false, true, false]);
        assert_eq!(one.with(Traits::default()), one);
    }
}
