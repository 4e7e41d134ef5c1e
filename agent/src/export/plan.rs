//! What the ring has, what a server should have of it, and with which key it should encrypt. The
//! module above says why.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;
use tktrot_keyfile::files::Format;
use tktrot_keyfile::selection::{Lineup, Selection};

/// The ring's own keys, without secrets, in the order in which they encrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub keys: Vec<(KeyName, KeyTimes)>,
    /// Which of them the ring encrypts with.
    pub active: usize,
}

impl Line {
    /// Whether a key is among them.
    pub fn has(&self, name: &KeyName) -> bool {
        self.keys.iter().any(|(other, _)| other == name)
    }

    /// The newest key that all others can decrypt, of those that encrypt at `now` (or within `ahead`
    /// of it) or did so and still live long enough; if there is none, that of the ring.
    pub fn encrypts(
        &self,
        now: Time,
        ahead: Duration,
        all_others_have: impl Fn(&KeyName) -> bool,
    ) -> KeyName {
        let is_due = |(place, (_, times)): &(usize, &(KeyName, KeyTimes))| {
            *place <= self.active || times.encrypt_from <= now + ahead
        };
        let is_fresh = |(place, (_, times)): &(usize, &(KeyName, KeyTimes))| {
            *place >= self.active || now.until(times.decrypt_until) >= times.retention() / 2
        };
        let newest_first = self.keys.iter().enumerate().rev();
        let mut candidates = newest_first.filter(is_due).filter(is_fresh).map(|(_, key)| key.0);
        candidates.find(all_others_have).unwrap_or(self.keys[self.active].0)
    }
}

/// What the ring has, without secrets.
#[derive(Debug, PartialEq, Eq)]
pub struct Outline {
    /// The ring's own keys.
    pub line: Line,
    /// The names of all other keys that its servers have.
    pub others: Vec<KeyName>,
}

/// What a server is to have: names in the order of its files, the one that encrypts first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish(pub Vec<KeyName>);

impl Outline {
    /// The outline of what was selected from the ring.
    pub fn of(selection: &Selection) -> Outline {
        let keys = selection.line().iter().map(|key| (key.name, key.times)).collect();
        let others = selection.others().iter().map(|key| key.name).collect();
        Outline { line: Line { keys, active: selection.active() }, others }
    }

    /// What the server of a format is to have that is to encrypt with that key; `None` if it is gone.
    pub fn wish(&self, format: Format, encrypts: &KeyName) -> Option<Wish> {
        let line: Vec<KeyName> = self.line.keys.iter().map(|(name, _)| *name).collect();
        let place = line.iter().position(|name| name == encrypts)?;
        Some(Wish(format.holds(&Lineup::at(&line, place, &self.others))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: u64 = 100;
    const L: u64 = 200;

    fn name(number: u8) -> KeyName {
        let mut name = KeyName([0; 16]);
        name.0[0] = number;
        name
    }

    fn seconds(span: u64) -> Duration {
        Duration::from_secs(span)
    }

    fn at(second: u64) -> Time {
        Time(0) + seconds(second)
    }

    /// Keys 0, 1, 2, … of which key n encrypts from n · R on; the active one is that of `now`.
    fn line(keys: u8, now: u64) -> Line {
        let times = |number: u8| {
            let from = u64::from(number) * R;
            let (encrypt_from, encrypt_until) = (at(from), at(from + R));
            KeyTimes { encrypt_from, encrypt_until, decrypt_until: at(from + R + L) }
        };
        let keys = (0..keys).map(|number| (name(number), times(number))).collect();
        Line { keys, active: (now / R) as usize }
    }

    fn chosen(now: u64, ahead: u64, have: &[u8]) -> u8 {
        let have: Vec<_> = have.iter().map(|number| name(*number)).collect();
        line(4, now).encrypts(at(now), seconds(ahead), |name| have.contains(name)).0[0]
    }

    #[test]
    fn a_switch_is_at_the_rings_time_where_all_have_the_key() {
        assert_eq!(chosen(199, 0, &[0, 1, 2]), 1);
        assert_eq!(chosen(200, 0, &[0, 1, 2]), 2);
    }

    #[test]
    fn nobody_switches_to_a_key_that_somebody_lacks() {
        assert_eq!(chosen(200, 0, &[0, 1]), 1);
        assert_eq!(chosen(250, 0, &[1]), 1);
    }

    #[test]
    fn who_lags_for_too_long_is_left_behind() {
        // Key 1 encrypted up to 200 and decrypts up to 400.
        let line = Line { active: 2, ..line(3, 0) };
        let has_1 = |other: &KeyName| *other == name(1);
        assert_eq!(line.encrypts(at(300), seconds(0), has_1), name(1));
        assert_eq!(line.encrypts(at(301), seconds(0), has_1), name(2));
    }

    #[test]
    fn where_no_key_is_common_to_all_the_rings_own_is_chosen() {
        assert_eq!(chosen(250, 0, &[]), 2);
        assert_eq!(chosen(250, 0, &[3]), 2);
    }

    #[test]
    fn a_key_for_later_is_given_in_time_but_not_before_all_others_have_it() {
        assert_eq!(chosen(239, 60, &[0, 1, 2, 3]), 2);
        assert_eq!(chosen(240, 60, &[0, 1, 2, 3]), 3);
        assert_eq!(chosen(240, 60, &[0, 1, 2]), 2);
    }
}
