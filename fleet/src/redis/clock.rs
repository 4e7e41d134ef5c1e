//! Redis' clock, on which the whole fleet agrees, and this host's, on which its keys live.
//!
//! Redis' clock proves nothing: who may write to Redis, or sets its clock, can make it say anything. So
//! it is compared with the time of day that this host has (`CLOCK_REALTIME`) and with the latest one
//! that was believed before ([`Trust`]), and no key ends later than either clock says.

use std::fmt;
use std::time::Duration;

use tktrot::clock::{Time, nanos};

/// What two clocks may differ by before it counts, beside a thousandth of a key's life.
pub const SLACK: Duration = Duration::from_secs(1);

/// The most that Redis' clock and this host's time of day may differ by, whatever R is.
const FURTHEST: Duration = Duration::from_secs(60);

/// A moment on Redis' clock, or on this host's time of day: nanoseconds since 1970 (`TIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisTime(pub u64);

impl RedisTime {
    /// The time that is this much later.
    pub fn after(self, span: Duration) -> RedisTime {
        RedisTime(self.0.saturating_add(nanos(span)))
    }

    /// How long until `later`; zero if it has passed.
    pub fn until(self, later: RedisTime) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

/// Redis was asked for its time: between `asked` and `answered` it was `redis` there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Before it was asked.
    pub asked: Time,
    /// After it answered.
    pub answered: Time,
    /// The time that Redis answered.
    pub redis: RedisTime,
    /// This host's own time of day, after Redis answered.
    pub host: RedisTime,
}

impl ClockReading {
    /// What Redis' clock shows at `now`, at most.
    pub fn latest(&self, now: Time) -> RedisTime {
        RedisTime(shifted(self.redis.0, self.asked.0, now.0))
    }

    /// What Redis' clock shows at `now`, at least.
    pub fn earliest(&self, now: Time) -> RedisTime {
        RedisTime(shifted(self.redis.0, self.answered.0, now.0))
    }

    /// When that will be, or was, on this host's clock: rather too early than too late, so that no
    /// key lives longer here than it was made for.
    pub fn local(&self, at: RedisTime) -> Time {
        Time(shifted(self.asked.0, self.redis.0, at.0))
    }

    /// When a key that ends at `at` is over on this host: by Redis' clock or by its own, whichever
    /// comes first.
    pub fn over(&self, at: RedisTime) -> Time {
        self.local(at).min(self.by_own(at))
    }

    /// When a revocation that is told until `at` may be forgotten: by both clocks.
    pub fn forgotten(&self, at: RedisTime) -> Time {
        self.local(at).max(self.by_own(at))
    }

    /// What either clock shows at `now`, at most.
    pub fn latest_of_both(&self, now: Time) -> RedisTime {
        self.latest(now).max(RedisTime(shifted(self.host.0, self.answered.0, now.0)))
    }

    fn by_own(&self, at: RedisTime) -> Time {
        Time(shifted(self.answered.0, self.host.0, at.0))
    }

    /// How far Redis' clock is ahead of this host's time of day, beyond what the question's way
    /// leaves open; negative if it is behind.
    pub fn ahead(&self) -> i64 {
        // When Redis read its clock, it was here between then and the answer.
        let earliest = self.host.0.saturating_sub(nanos(self.asked.until(self.answered)));
        difference(self.redis.0.saturating_sub(self.host.0), earliest.saturating_sub(self.redis.0))
    }

    /// How far Redis' clock has moved against this host's since an `earlier` reading, beyond what
    /// the two readings leave open; positive if it is ahead.
    pub fn jump_since(&self, earlier: &ClockReading) -> i64 {
        let (low, high) = (earlier.earliest(self.answered), earlier.latest(self.answered));
        let (new_low, new_high) = (self.earliest(self.answered), self.latest(self.answered));
        let ahead = new_low.0.saturating_sub(high.0);
        let behind = low.0.saturating_sub(new_high.0);
        difference(ahead, behind)
    }
}

fn difference(ahead: u64, behind: u64) -> i64 {
    i64::try_from(ahead).unwrap_or(i64::MAX) - i64::try_from(behind).unwrap_or(i64::MAX)
}

/// Why Redis' clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is so many nanoseconds ahead of this host's time of day; behind it, if negative.
    Apart(i64),
    /// It is so far behind what it was before.
    Back(Duration),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Apart(by) => {
                let by = Duration::from_nanos(by.unsigned_abs());
                let which = if matches!(self, Doubt::Apart(0..)) { "ahead of" } else { "behind" };
                write!(f, "its clock is {:.1} s {which} this host's", by.as_secs_f64())
            }
            Doubt::Back(by) => write!(
                f,
                "its clock and this host's are {:.1} s behind what this ring has seen of Redis' \
                 clock before",
                by.as_secs_f64()
            ),
        }
    }
}

/// Whether Redis' clock is believed.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    /// The latest time that was believed: it never goes back, nor beyond the end of the agent.
    floor: RedisTime,
    doubt: Option<Doubt>,
}

impl Trust {
    /// With the latest time that is remembered.
    pub fn new(floor: RedisTime) -> Trust {
        Trust { floor, doubt: None }
    }

    /// Compares Redis' clock with what is known. True if it is believed now and was not, or the
    /// other way round.
    pub fn compare(&mut self, reading: &ClockReading, rotate_every: Duration) -> bool {
        let before = self.doubt.is_some();
        let tolerance = tolerance(rotate_every);
        // Who is at the edge is not believed one moment, and doubted the next.
        let tolerance = if before { tolerance / 2 } else { tolerance };
        let (ahead, behind) = (reading.ahead(), reading.redis.until(self.floor));
        self.doubt = if Duration::from_nanos(ahead.unsigned_abs()) > tolerance {
            Some(Doubt::Apart(ahead))
        } else if behind > tolerance {
            Some(Doubt::Back(behind))
        } else {
            self.floor = self.floor.max(reading.redis);
            None
        };
        before != self.doubt.is_some()
    }

    /// Why Redis' clock is not believed; `None` if it is.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// What ended before has ended, whatever clocks say now.
    pub fn floor(&self) -> RedisTime {
        self.floor
    }
}

/// What clocks may differ by: so little of a rotation that hosts still agree on the key, and never
/// more than [`FURTHEST`].
pub fn tolerance(rotate_every: Duration) -> Duration {
    (rotate_every / 4).clamp(SLACK, FURTHEST)
}

/// `base`, moved by as much as `to` is after `from`.
fn shifted(base: u64, from: u64, to: u64) -> u64 {
    if to >= from { base.saturating_add(to - from) } else { base.saturating_sub(from - to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: ClockReading = ClockReading {
        asked: Time(100),
        answered: Time(130),
        redis: RedisTime(5000),
        host: RedisTime(5020),
    };

    #[test]
    fn a_key_never_ends_later_here_than_on_redis_clock() {
        // Redis read its clock at 100 to 130; 5100 is 100 later: at 200 to 230.
        assert_eq!(READING.local(RedisTime(5100)), Time(200));
        assert_eq!(READING.local(RedisTime(4950)), Time(50));
        assert_eq!(READING.local(RedisTime(0)), Time(0));
        assert_eq!(READING.latest(Time(200)), RedisTime(5100));
        assert_eq!(READING.earliest(Time(200)), RedisTime(5070));
    }

    #[test]
    fn a_jump_is_what_the_round_trips_do_not_explain() {
        let next = |redis| ClockReading {
            asked: Time(1100),
            answered: Time(1110),
            redis,
            host: RedisTime(6000),
        };
        assert_eq!(next(RedisTime(6000)).jump_since(&READING), 0);
        assert_eq!(next(RedisTime(5980)).jump_since(&READING), 0);
        assert_eq!(next(RedisTime(7010)).jump_since(&READING), 1000);
        assert_eq!(next(RedisTime(4970)).jump_since(&READING), -1000);
    }
    const SECOND: Duration = Duration::from_secs(1);

    /// Redis is so many seconds ahead of the host, whose time of day is this.
    fn reading(host: u64, ahead: i64) -> ClockReading {
        let second = nanos(SECOND);
        let redis = (host * second).saturating_add_signed(ahead * 1_000_000_000);
        ClockReading {
            asked: Time(7 * second),
            answered: Time(7 * second),
            redis: RedisTime(redis),
            host: RedisTime(host * second),
        }
    }

    #[test]
    fn a_key_ends_by_the_clock_that_is_ahead_and_a_grave_by_the_other() {
        let at = RedisTime(1_003 * nanos(SECOND));
        for (ahead, over, forgotten) in [(0, 10, 10), (2, 8, 10), (-2, 10, 12)] {
            let reading = reading(1_000, ahead);
            assert_eq!(reading.over(at), Time(over * nanos(SECOND)), "{ahead}");
            assert_eq!(reading.forgotten(at), Time(forgotten * nanos(SECOND)), "{ahead}");
        }
    }

    #[test]
    fn the_way_of_a_question_is_no_difference() {
        assert_eq!(READING.ahead(), 0);
        assert_eq!(ClockReading { redis: RedisTime(5025), ..READING }.ahead(), 5);
        assert_eq!(ClockReading { redis: RedisTime(4980), ..READING }.ahead(), -10);
    }

    #[test]
    fn a_clock_is_believed_within_bounds_of_ones_own_and_never_goes_back() {
        const R: Duration = Duration::from_secs(40);
        let mut trust = Trust::new(RedisTime(0));
        assert!(!trust.compare(&reading(1_000, 10), R), "believed, as before");
        assert_eq!(trust.floor(), RedisTime(1_010 * nanos(SECOND)));
        assert!(trust.compare(&reading(1_001, 11), R));
        assert_eq!(trust.doubt(), Some(Doubt::Apart(11_000_000_000)));
        assert!(!trust.compare(&reading(1_001, 9), R), "not at the edge");
        assert!(trust.compare(&reading(1_002, 4), R));
        assert_eq!((trust.doubt(), trust.floor()), (None, RedisTime(1_010 * nanos(SECOND))));
        // Both clocks were set back, or this host's was wrong before.
        assert!(trust.compare(&reading(900, 0), R));
        assert_eq!(trust.doubt(), Some(Doubt::Back(110 * SECOND)));
        assert_eq!(trust.floor(), RedisTime(1_010 * nanos(SECOND)));
    }
}
