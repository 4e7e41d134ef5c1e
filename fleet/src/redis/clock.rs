//! Redis' clock, on which the whole fleet agrees, and this host's, on which its keys live.

use std::time::Duration;

use tktrot::clock::{Time, nanos};

/// What two clocks may differ by before it counts, beside a thousandth of a key's life.
pub const SLACK: Duration = Duration::from_secs(1);

/// A moment on Redis' clock: nanoseconds since 1970 (`TIME`).
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

    /// How far Redis' clock has moved against this host's since an `earlier` reading, beyond what
    /// the two readings leave open; positive if it is ahead.
    pub fn jump_since(&self, earlier: &ClockReading) -> i64 {
        let (low, high) = (earlier.earliest(self.answered), earlier.latest(self.answered));
        let (new_low, new_high) = (self.earliest(self.answered), self.latest(self.answered));
        let ahead = new_low.0.saturating_sub(high.0);
        let behind = low.0.saturating_sub(new_high.0);
        i64::try_from(ahead).unwrap_or(i64::MAX) - i64::try_from(behind).unwrap_or(i64::MAX)
    }
}

/// `base`, moved by as much as `to` is after `from`.
fn shifted(base: u64, from: u64, to: u64) -> u64 {
    if to >= from { base.saturating_add(to - from) } else { base.saturating_sub(from - to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: ClockReading =
        ClockReading { asked: Time(100), answered: Time(130), redis: RedisTime(5000) };

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
        let next = |redis| ClockReading { asked: Time(1100), answered: Time(1110), redis };
        assert_eq!(next(RedisTime(6000)).jump_since(&READING), 0);
        assert_eq!(next(RedisTime(5980)).jump_since(&READING), 0);
        assert_eq!(next(RedisTime(7010)).jump_since(&READING), 1000);
        assert_eq!(next(RedisTime(4970)).jump_since(&READING), -1000);
    }
}
