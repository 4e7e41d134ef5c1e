//! What a ring has counted since it was made, and how much of it happened per second.

use std::time::Duration;

use serde::Serialize;
use tktrot::ring::stats::Counter;
use tktrot::ring::view::View;

use crate::output::seconds;

/// Counts since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Tickets sealed: one for a full handshake in TLS 1.2, two in TLS 1.3, and one for a resumption
    /// in TLS 1.3. So they do not tell the number of full handshakes.
    pub issued: u64,
    /// Tickets that came back and for which the TLS library got the active key. `not_resumed` counts
    /// those among them that it then did not resume.
    pub resumed_active: u64,
    /// The same, with a retired key.
    pub resumed_retired: u64,
    /// Tickets that were opened, and that the TLS library then did not resume.
    pub not_resumed: u64,
    /// Tickets of a key that is not in the ring.
    pub unknown: u64,
    /// Tickets of an expired key.
    pub expired: u64,
    /// Tickets known to be of another scope.
    pub wrong_scope: u64,
    pub errors: u64,
    /// Handshakes that went on without a ticket that can be resumed.
    pub unsealed: u64,
    /// Connections with tickets disabled.
    pub tickets_off: u64,
    /// Connections with early data and OpenSSL's own replay protection: their TLS 1.3 tickets are
    /// stateful.
    pub anti_replay: u64,
    /// Contexts that keep ticket keys of their own.
    pub left_alone: u64,
    /// Keys published.
    pub rotations: u64,
    pub generator_failures: u64,
    /// Repairs after a writer that died with the lock.
    pub repairs: u64,
}

impl Counters {
    /// The counters of a ring.
    pub fn of(view: &View) -> Counters {
        let totals = view.totals();
        Counters {
            issued: totals.of(Counter::Issued),
            resumed_active: totals.of(Counter::ResumedActive),
            resumed_retired: totals.of(Counter::ResumedRetired),
            not_resumed: totals.of(Counter::Refused),
            unknown: totals.of(Counter::Unknown),
            expired: totals.of(Counter::Expired),
            wrong_scope: totals.of(Counter::WrongScope),
            errors: totals.of(Counter::Errors),
            unsealed: totals.of(Counter::Unsealed),
            tickets_off: totals.of(Counter::TicketsOff),
            anti_replay: totals.of(Counter::AntiReplay),
            left_alone: totals.of(Counter::LeftAlone),
            rotations: view.rotations(),
            generator_failures: view.generator_failures(),
            repairs: view.repairs(),
        }
    }

    /// Tickets that came back and found their key.
    pub fn opened(&self) -> u64 {
        self.resumed_active.saturating_add(self.resumed_retired)
    }

    /// Tickets that came back and were resumed.
    pub fn resumed(&self) -> u64 {
        self.opened().saturating_sub(self.not_resumed)
    }

    /// True if libtktrot has sealed or opened any ticket.
    pub fn has_served(&self) -> bool {
        self.issued > 0 || self.opened() > 0
    }

    /// True if only connections and contexts that cannot be served were counted, and no tickets.
    pub fn are_only_of_unserved(&self) -> bool {
        let unserved = [self.tickets_off, self.anti_replay, self.left_alone];
        let of_tickets = [self.turned_away(), self.errors, self.unsealed];
        let none = |counts: &[u64]| counts.iter().all(|count| *count == 0);
        !none(&unserved) && none(&of_tickets) && !self.has_served()
    }

    /// Tickets that came back and were turned away, before they were opened or after; a full
    /// handshake followed.
    pub fn turned_away(&self) -> u64 {
        let unopened = [self.unknown, self.expired, self.wrong_scope];
        let unopened = unopened.into_iter().fold(0_u64, u64::saturating_add);
        unopened.saturating_add(self.not_resumed.min(self.opened()))
    }

    /// Tickets that came back.
    pub fn returned(&self) -> u64 {
        self.resumed().saturating_add(self.turned_away())
    }

    /// The share of the tickets that came back which were resumed; `None` if none came back.
    pub fn resumption_ratio(&self) -> Option<f64> {
        let offered = self.returned();
        (offered > 0).then(|| self.resumed() as f64 / offered as f64)
    }
}

/// Events per second between two looks: tickets, not handshakes (see [`Counters::issued`]).
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
        // If there are fewer than before, the ring is a new one.
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
