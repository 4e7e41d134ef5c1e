//! How much happens per second.

use std::time::Duration;

use serde::Serialize;

use super::counters::Counters;
use super::span::seconds;

/// Events per second, between two readings.
///
/// Only what is counted: tickets, not handshakes. A full handshake is issued
/// one ticket in TLS 1.2 and two in TLS 1.3, whose resumption is issued one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    #[serde(rename = "over_seconds", serialize_with = "seconds")]
    pub over: Duration,
    /// Tickets sealed.
    pub issued: f64,
    /// Tickets that came back and were resumed.
    pub resumed: f64,
    /// Tickets that came back and were turned away.
    pub refused: f64,
}

impl Rates {
    /// From the counters at the beginning and at the end of `over`.
    pub fn between(before: &Counters, after: &Counters, over: Duration) -> Rates {
        // Less than before: the ring is a new one.
        let per_second = |count: fn(&Counters) -> u64| {
            count(after).saturating_sub(count(before)) as f64
                / over.as_secs_f64().max(f64::MIN_POSITIVE)
        };
        Rates {
            over,
            issued: per_second(|counters| counters.issued),
            resumed: per_second(Counters::resumed),
            refused: per_second(Counters::turned_away),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_a_new_ring_has_none() {
        let before = Counters { issued: 10, resumed_active: 5, unknown: 1, ..Counters::default() };
        let after =
            Counters { issued: 30, resumed_retired: 11, not_resumed: 2, unknown: 1, ..before };
        let over = Duration::from_secs(4);
        let rates = Rates::between(&before, &after, over);
        assert_eq!((rates.issued, rates.resumed, rates.refused), (5.0, 2.25, 0.5));
        let back = Rates::between(&after, &before, over);
        assert_eq!((back.issued, back.resumed, back.refused), (0.0, 0.0, 0.0));
    }
}
