//! How old a message is, at most, by two clocks that have nothing in common but their pace.
//!
//! A message says when it was sent on the sender's clock. Received minus sent is the way it took
//! plus what the clocks differ by. The least such difference, of the fastest message, has the least
//! of the way in it, and that is no longer than a round trip was. So what a message has above that
//! least difference, and a round trip, is never less than its age.
//!
//! Clocks also differ in pace, by up to 0.05 % while one is being corrected; so only the last
//! minutes count.

use std::time::Duration;

use tktrot::clock::Time;

/// What was seen counts for one to two of these.
const WINDOW: Duration = Duration::from_secs(120);

/// The measurements of one connection.
pub struct Ages {
    since: Time,
    current: Least,
    former: Least,
}

#[derive(Clone, Copy, Default)]
struct Least {
    difference: Option<i128>,
    round_trip: Option<Duration>,
}

impl Ages {
    /// Nothing was measured yet.
    pub fn new(now: Time) -> Self {
        Ages { since: now, current: Least::default(), former: Least::default() }
    }

    /// The age of a message at `now`, when it was received.
    pub fn heard(&mut self, sent: Time, now: Time) -> Duration {
        self.turn(now);
        let difference = i128::from(now.0) - i128::from(sent.0);
        put_least(&mut self.current.difference, difference);
        let least = least(self.current.difference, self.former.difference).unwrap_or(difference);
        let above = u64::try_from(difference - least).unwrap_or(u64::MAX);
        let round_trip = self.round_trip().unwrap_or(Duration::MAX);
        Duration::from_nanos(above).saturating_add(round_trip)
    }

    /// A question was asked at `asked` and its answer [heard](Ages::heard) at `now`.
    pub fn answered(&mut self, asked: Time, now: Time) {
        put_least(&mut self.current.round_trip, asked.until(now));
    }

    /// The least of late.
    pub fn round_trip(&self) -> Option<Duration> {
        least(self.current.round_trip, self.former.round_trip)
    }

    fn turn(&mut self, now: Time) {
        if self.since.until(now) >= WINDOW {
            self.since = now;
            self.former = std::mem::take(&mut self.current);
        }
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    a.into_iter().chain(b).min()
}

fn put_least<T: Ord + Copy>(place: &mut Option<T>, value: T) {
    *place = least(*place, Some(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    /// Two hosts; the other one's clock is `ahead`, and runs by `slow` ppm slower.
    struct Hosts {
        ahead: i64,
        slow: u64,
    }

    impl Hosts {
        /// What the other one's clock shows.
        fn other(&self, now: u64) -> Time {
            Time((now - now / 1_000_000 * self.slow).wrapping_add_signed(self.ahead))
        }
    }

    /// A question at `now` with these ways.
    fn ping(ages: &mut Ages, hosts: &Hosts, now: u64, to: u64, back: u64) {
        let received = Time(now + to + back);
        ages.heard(hosts.other(now + to), received);
        ages.answered(Time(now), received);
    }

    #[test]
    fn an_age_is_never_less_than_it_is_and_not_much_more() {
        let clocks = [0, 3600 * SECOND as i64, -(90 * SECOND as i64)];
        for ahead in clocks {
            let hosts = Hosts { ahead, slow: 0 };
            let mut ages = Ages::new(Time(100 * SECOND));
            // The way back is the longer one, and the first of them a slow one.
            ping(&mut ages, &hosts, 100 * SECOND, 10 * MS, 400 * MS);
            ping(&mut ages, &hosts, 101 * SECOND, 10 * MS, 30 * MS);
            let sent = 102 * SECOND;
            for way in [30 * MS, 31 * MS, 90 * MS, 5 * SECOND] {
                let age = ages.heard(hosts.other(sent), Time(sent + way)).as_nanos() as u64;
                assert!(age >= way && age <= way + 40 * MS, "{age} for {way}, {ahead}");
            }
        }
    }

    #[test]
    fn a_slow_clock_does_not_make_messages_ever_older() {
        let hosts = Hosts { ahead: 0, slow: 100 };
        let mut ages = Ages::new(Time(1000 * SECOND));
        let seconds = 1000..1000 + 24 * 3600;
        for now in seconds.clone() {
            ping(&mut ages, &hosts, now * SECOND, MS, MS);
        }
        let now = seconds.end * SECOND;
        let age = ages.heard(hosts.other(now), Time(now + MS));
        assert!(age >= Duration::from_millis(1) && age < Duration::from_millis(100), "{age:?}");
    }

    #[test]
    fn a_path_that_becomes_slow_is_seen_as_slow() {
        let hosts = Hosts { ahead: 0, slow: 0 };
        let mut ages = Ages::new(Time(1000 * SECOND));
        for second in 0..600 {
            let way = if second < 100 { MS } else { 800 * MS };
            let now = (1000 + second) * SECOND;
            ping(&mut ages, &hosts, now, way, way);
            let age = ages.heard(hosts.other(now), Time(now + way));
            assert!(age >= Duration::from_nanos(way), "{age:?} after {second} s");
        }
    }

    #[test]
    fn nothing_that_a_clock_shows_is_too_much() {
        let mut ages = Ages::new(Time(5));
        assert_eq!(ages.heard(Time(0), Time(5)), Duration::MAX, "without a round trip");
        ages.answered(Time(1), Time(5));
        ages.heard(Time::NEVER, Time(6));
        assert!(ages.heard(Time(0), Time::NEVER) >= Duration::from_nanos(u64::MAX));
    }
}
