//! The keys that this node encrypts with, or did: the fleet's and its own.
//!
//! What times a key of the node's own has, and when a line is too short, is decided by
//! [`tktrot::schedule`]. Its `next_step` is not used: that one lays the keys of one node end to end and
//! takes the newest. Here keys of several makers overlap, by clocks that differ, and all nodes must
//! choose the same one of them: by rank, not by age.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes};
use tktrot::secret::KeyName;

use super::stored::{Slot, Terms};

/// A key in the ring.
#[derive(Clone, Copy, Debug)]
pub struct HeldKey {
    /// Its public name.
    pub name: KeyName,
    /// When it lives here.
    pub times: KeyTimes,
    /// What Redis has, or had, of it; `None` for a key of this node's own.
    pub shared: Option<InRedis>,
}

/// What Redis has, or had, of a key.
#[derive(Clone, Copy, Debug)]
pub struct InRedis {
    pub slot: Slot,
    /// Its terms, as they were last stored.
    pub terms: Terms,
    /// Its maker has the R that this node has.
    pub is_kin: bool,
}

impl HeldKey {
    /// Of two keys that could encrypt, the one with the higher rank does: the fleet's rather than
    /// the node's own, of the fleet's one that was made with this R, and of these the one of the later
    /// turn. All nodes of this R rank them alike.
    pub fn rank(&self) -> impl Ord + use<> {
        let of = |shared: InRedis| {
            let at = matches!(shared.slot, Slot::At(_));
            (shared.is_kin, shared.terms.turn, at)
        };
        self.shared.map(of)
    }

    /// True for a key of the fleet that was made with this node's R.
    pub fn is_kin(&self) -> bool {
        self.shared.is_some_and(|shared| shared.is_kin)
    }
}

/// What is to be done to the keys of a ring so that one encrypts at every moment, and the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// A better one begins before it ends.
    Shorten(KeyName, KeyTimes),
    /// A better one is there for all its time; it has encrypted nothing.
    Discard(KeyName),
}

/// The one change to make now to keys that others replace. Ends that are no more than `tolerance`
/// apart are the same: they were told by clocks.
pub fn replace(keys: &[HeldKey], tolerance: Duration, now: Time) -> Option<Replacement> {
    let will_encrypt = || keys.iter().filter(|key| key.times.will_encrypt(now));
    will_encrypt().find_map(|key| {
        let start = key.times.encrypt_from.max(now);
        let better =
            |other: &&HeldKey| other.rank() > key.rank() && other.times.encrypt_until > start;
        let better: Vec<_> = will_encrypt().filter(better).copied().collect();
        let replaces = |from: &Time| {
            // One of the fleet's is needed on where better ones end before it does, as they may if
            // another clock made them. One of the node's own can be made anew.
            *from < key.times.encrypt_until
                && (key.shared.is_none()
                    || line_end(&better, (*from).max(now)) + tolerance >= key.times.encrypt_until)
        };
        let begins = better.iter().map(|other| other.times.encrypt_from.max(now));
        let begins = begins.filter(replaces).min()?;
        let announced = key.times.state(now) == KeyState::Announced;
        if announced && begins <= key.times.encrypt_from && key.shared.is_none() {
            return Some(Replacement::Discard(key.name));
        }
        let until = KeyTimes::retiring(begins.max(key.times.encrypt_from));
        Some(Replacement::Shorten(key.name, key.times.shortened(&until)))
    })
}

/// The moment up to which some key encrypts, from `start` on without a gap; `start` if none does.
pub fn line_end(keys: &[HeldKey], start: Time) -> Time {
    let mut end = start;
    for _ in keys {
        let covers =
            |key: &&HeldKey| key.times.encrypt_from <= end && key.times.encrypt_until > end;
        match keys.iter().filter(covers).map(|key| key.times.encrypt_until).max() {
            Some(later) => end = later,
            None => break,
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::clock::RedisTime;
    use crate::redis::stored::Turn;

    const NONE: Duration = Duration::ZERO;

    fn key(number: u8, turn: Option<(u64, u32)>, times: [u64; 3]) -> HeldKey {
        let [from, until, ends] = times.map(Time);
        let of = |(period, number)| {
            let turn = Turn { period, number };
            let zero = RedisTime(0);
            let terms = Terms {
                turn,
                rotate_every: Duration::from_secs(1),
                made: zero,
                begins: zero,
                retires: zero,
                ends: zero,
                epoch: 0,
                plain: false,
            };
            InRedis { slot: Slot::At(turn), terms, is_kin: true }
        };
        HeldKey {
            name: KeyName([number; 16]),
            times: KeyTimes { encrypt_from: from, encrypt_until: until, decrypt_until: ends },
            shared: turn.map(of),
        }
    }

    #[test]
    fn an_own_key_ends_where_the_fleets_begins() {
        let keys = [key(1, None, [0, 100, 200]), key(2, Some((5, 0)), [40, 80, 300])];
        let Some(Replacement::Shorten(name, times)) = replace(&keys, NONE, Time(10)) else {
            panic!()
        };
        assert_eq!((name, times.encrypt_until), (keys[0].name, Time(40)));
        assert_eq!(times.decrypt_until, Time(200));
        let Some(Replacement::Shorten(_, times)) = replace(&keys, NONE, Time(50)) else { panic!() };
        assert_eq!(times.encrypt_until, Time(50));
        assert_eq!(line_end(&keys, Time(10)), Time(100));
    }

    #[test]
    fn an_own_key_that_has_not_begun_is_discarded() {
        let keys = [key(1, None, [50, 100, 200]), key(2, Some((5, 0)), [40, 80, 300])];
        assert_eq!(replace(&keys, NONE, Time(10)), Some(Replacement::Discard(keys[0].name)));
    }

    #[test]
    fn an_own_key_fills_a_gap_between_the_fleets() {
        let gap = [key(1, Some((5, 0)), [0, 50, 200]), key(2, Some((6, 0)), [60, 90, 300])];
        let keys = [gap[0], key(3, None, [50, 60, 200]), gap[1]];
        assert_eq!(replace(&keys, NONE, Time(10)), None);
        assert_eq!(line_end(&keys, Time(10)), Time(90));
    }

    #[test]
    fn a_key_of_the_fleet_that_outlasts_better_ones_is_kept() {
        // Another clock made the better ones, and they end first.
        let keys = [key(1, Some((5, 0)), [50, 90, 200]), key(2, Some((60, 0)), [0, 60, 300])];
        assert_eq!(replace(&keys, NONE, Time(10)), None);
    }

    #[test]
    fn clocks_that_do_not_agree_to_the_millisecond_keep_no_old_key() {
        let keys = [key(1, Some((5, 0)), [0, 100, 200]), key(2, Some((5, 1)), [30, 98, 200])];
        let Some(Replacement::Shorten(name, times)) =
            replace(&keys, Duration::from_nanos(5), Time(10))
        else {
            panic!()
        };
        assert_eq!((name, times.encrypt_until), (keys[0].name, Time(30)));
    }

    #[test]
    fn periods_follow_each_other_untouched() {
        let keys = [key(1, Some((5, 0)), [0, 100, 200]), key(2, Some((6, 0)), [100, 200, 300])];
        assert_eq!(replace(&keys, NONE, Time(10)), None);
        assert_eq!(line_end(&keys, Time(10)), Time(200));
    }

    #[test]
    fn a_later_turn_replaces_what_has_begun_and_what_has_not() {
        let keys = [key(1, Some((5, 0)), [0, 100, 200]), key(2, Some((5, 1)), [30, 100, 200])];
        let Some(Replacement::Shorten(name, times)) = replace(&keys, NONE, Time(10)) else {
            panic!()
        };
        assert_eq!((name, times.encrypt_until), (keys[0].name, Time(30)));
        let keys = [key(1, Some((6, 0)), [100, 200, 300]), key(2, Some((6, 1)), [100, 200, 300])];
        let Some(Replacement::Shorten(name, times)) = replace(&keys, NONE, Time(10)) else {
            panic!()
        };
        assert_eq!(name, keys[0].name);
        assert!(!times.will_encrypt(Time(10)), "never");
    }

    #[test]
    fn a_gap_ends_the_line() {
        let keys = [key(1, None, [0, 40, 200]), key(2, Some((5, 1)), [41, 100, 200])];
        assert_eq!(line_end(&keys, Time(10)), Time(40));
        assert_eq!(line_end(&keys, Time(40)), Time(40));
        assert_eq!(line_end(&[], Time(40)), Time(40));
    }
}
