//! How often the same is written to a Redis that does not have it afterwards: something else may have
//! taken its place there, or hide it. The first tries follow each other soon, as another host may have
//! come between; later ones are as far apart as looks are.

use std::collections::HashMap;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::secret::KeyName;

use super::exchange::LOOK_EVERY;
use super::stored::{Revoked, Turn};

/// Something that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Try {
    /// A new key for this turn.
    Offer(Turn),
    /// A key that Redis lost.
    PutBack(KeyName),
    /// What was revoked.
    Bury(Revoked),
}

/// What was written, and is still wanted.
#[derive(Debug, Default)]
pub struct Tries {
    /// How often, and when it may be written again.
    all: HashMap<Try, (u32, Time)>,
}

impl Tries {
    /// Only these are still wanted.
    pub fn keep(&mut self, wanted: Vec<Try>) {
        self.all.retain(|what, _| wanted.contains(what));
    }

    /// It is written as if it had not been before.
    pub fn forget(&mut self, what: &Try) {
        self.all.remove(what);
    }

    /// How often it was written.
    pub fn times(&self, what: &Try) -> u32 {
        self.all.get(what).map_or(0, |(times, _)| *times)
    }

    /// True if it may be written at `now`.
    pub fn is_due(&self, what: &Try, now: Time) -> bool {
        self.all.get(what).is_none_or(|(_, next)| *next <= now)
    }

    /// It was written at `now`.
    pub fn made(&mut self, what: Try, now: Time, poll: Duration) {
        let (times, next) = self.all.entry(what).or_insert((0, now));
        *times = times.saturating_add(1);
        // Half a poll, one, two, four, eight, and then as often as is looked.
        let pause = poll.saturating_mul(1 << (*times - 1).min(5)) / 2;
        *next = now + pause.min(LOOK_EVERY * poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_vain_is_written_as_often_as_is_looked() {
        let (poll, what) = (Duration::from_secs(1), Try::Bury(Revoked::All(1)));
        let (mut tries, mut now, mut written) = (Tries::default(), Time(0), Vec::new());
        for tenth in 0..600 {
            now = Time(tenth * 100_000_000);
            tries.keep(vec![what]);
            if tries.is_due(&what, now) {
                tries.made(what, now, poll);
                written.push(tenth);
            }
        }
        assert_eq!(written, [0, 5, 15, 35, 75, 155, 255, 355, 455, 555]);
        tries.keep(Vec::new());
        assert!(tries.is_due(&what, now) && tries.times(&what) == 0);
    }
}
