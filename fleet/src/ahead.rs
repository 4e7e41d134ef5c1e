//! How far ahead of its turn a key is announced.
//!
//! While an agent, its peers or Redis are away, a host's servers go on with the keys that the others
//! have already: for as long as these last, tickets open everywhere. What it costs: whoever steals a
//! ring has the keys of so much longer a time to come.

use std::time::Duration;

use tktrot::schedule::Policy;

const HOUR: Duration = Duration::from_secs(3600);
/// The setting `ahead`, if it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead(pub Option<Duration>);

impl Ahead {
    /// Nobody may set a longer one.
    pub const LONGEST: Duration = Duration::from_secs(2 * 24 * 3600);

    /// By default so many keys at most: short keys would fill the ring.
    pub const KEYS: u32 = 64;

    /// No further than it takes to have the next key ready.
    pub const LEAST: Ahead = Ahead(Some(Duration::ZERO));

    /// Two rotations or an hour by default, whichever is longer.
    pub fn of(self, policy: &Policy) -> Duration {
        let rotate_every = policy.rotate_every;
        self.0.unwrap_or_else(|| {
            (2 * rotate_every)
                .max(HOUR)
                .min(rotate_every.saturating_mul(Self::KEYS))
                .min(Self::LONGEST)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_it_is_two_rotations_or_an_hour_and_no_more_keys_than_sixty_four() {
        let of = |seconds| {
            let rotate_every = Duration::from_secs(seconds);
            let lead = Policy::default_lead(rotate_every);
            Ahead::default().of(&Policy { rotate_every, lifetime: HOUR, lead }).as_secs()
        };
        assert_eq!([1, 60, 600, 3600, 24 * 3600].map(of), [64, 3600, 3600, 7200, 48 * 3600]);
    }
}
