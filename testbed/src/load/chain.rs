use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::promise::{Due, Promise};
use super::report::Counts;
use crate::client::{Client, Error, Handshake, Ticket, TlsVersion};

/// How many tickets of different ages a TLS 1.3 chain keeps beside the newest.
const KEEPSAKES: u32 = 8;
/// Every so many turns a TLS 1.3 chain offers the oldest of them.
const OLD_TICKET_EVERY: u64 = 4;

/// A ticket, and the run of the load that it is from.
#[derive(Clone)]
struct Held {
    ticket: Ticket,
    run: u64,
}

/// One visitor who comes again and again. With TLS 1.2 it offers its one session until the server
/// refuses it. With TLS 1.3 it gets a new ticket with each visit and offers the newest; now and then
/// it offers an old one that should still do, as a visitor with several connections would.
pub(super) struct Chain {
    pub client: Client,
    newest: Option<Held>,
    old: VecDeque<Held>,
    turn: u64,
}

/// One handshake of a chain, not yet counted.
pub(super) struct Visit {
    offered: Option<Held>,
    began: Instant,
    ended: Instant,
    result: Result<Handshake, Error>,
}

impl Chain {
    pub fn new(client: Client) -> Chain {
        Chain { client, newest: None, old: VecDeque::new(), turn: 0 }
    }

    /// A visitor who has this ticket, from a run before the one that is numbered `run` + 1.
    pub fn holding(client: Client, ticket: Ticket, run: u64) -> Chain {
        let newest = Some(Held { ticket, run });
        Chain { client, newest, old: VecDeque::new(), turn: 0 }
    }

    /// The newest ticket.
    pub fn newest(&self) -> Option<&Ticket> {
        self.newest.as_ref().map(|held| &held.ticket)
    }

    /// Makes the next visit one without a ticket.
    pub fn forget_newest(&mut self) {
        self.newest = None;
    }

    /// Makes one connection and remembers the tickets that it brought.
    pub fn visit(
        &mut self,
        addr: SocketAddr,
        sni: Option<&str>,
        promise: &Promise,
        run: u64,
    ) -> Visit {
        let offered = self.choose(promise);
        let began = Instant::now();
        let result = self.client.connect(addr, sni, offered.as_ref().map(|held| &held.ticket));
        let ended = Instant::now();
        // After a failure the same ticket is offered again: it must not be lost.
        if let Ok(handshake) = &result {
            self.remember(handshake, promise, run);
        }
        Visit { offered, began, ended, result }
    }

    fn choose(&mut self, promise: &Promise) -> Option<Held> {
        self.turn += 1;
        let still_good =
            |held: &Held| held.ticket.requested().elapsed() + promise.margin < promise.lifetime;
        while self.old.front().is_some_and(|held| !still_good(held)) {
            self.old.pop_front();
        }
        let newest = self.newest.as_ref()?;
        let old = self.old.front().filter(|_| self.turn.is_multiple_of(OLD_TICKET_EVERY));
        Some(old.unwrap_or(newest).clone())
    }

    fn remember(&mut self, handshake: &Handshake, promise: &Promise, run: u64) {
        let Some(ticket) = handshake.tickets.last() else {
            if !handshake.resumed {
                self.newest = None;
            }
            return;
        };
        let held = Held { ticket: ticket.clone(), run };
        if ticket.version() == TlsVersion::V13 {
            let spacing: Duration = promise.lifetime / KEEPSAKES;
            if self.old.back().is_none_or(|last| last.ticket.age() >= spacing) {
                self.old.push_back(held.clone());
            }
        }
        self.newest = Some(held);
    }
}

impl Visit {
    /// Names of the keys of the tickets that this visit brought.
    pub fn new_keys(&self) -> impl Iterator<Item = [u8; 16]> {
        self.result.iter().flat_map(|handshake| &handshake.tickets).map(Ticket::key_name)
    }

    /// Adds the visit to the counts. `latest` is the last key that was seen to seal a ticket.
    pub fn count(
        &self,
        counts: &mut Counts,
        promise: &Promise,
        run: u64,
        latest: Option<[u8; 16]>,
    ) {
        let handshake = match &self.result {
            Ok(handshake) => handshake,
            Err(error) => return counts.fail(error),
        };
        counts.handshakes += 1;
        if !handshake.resumed && handshake.tickets.is_empty() {
            counts.without_ticket += 1;
        }
        let Some(Held { ticket, run: issued_in }) = &self.offered else {
            counts.first_full += 1;
            self.new_keys().for_each(|key| counts.see_key(key));
            return;
        };
        let due = promise.due(ticket, self.began, self.ended);
        if handshake.resumed {
            counts.see_key(ticket.key_name());
            counts.resumed += 1;
            counts.carried += u64::from(*issued_in < run);
            counts.across_keys +=
                u64::from(latest.is_some_and(|latest| latest != ticket.key_name()));
            let age = self.began.saturating_duration_since(ticket.received());
            counts.oldest_resumed = counts.oldest_resumed.max(age);
            if due == Due::FullHandshake {
                counts.overdue += 1;
                counts.note_ticket("resumed after the end of its key", ticket);
            }
        } else if due == Due::Resumption {
            counts.unexpected_full += 1;
            counts.note_ticket("refused within its lifetime", ticket);
        } else {
            counts.expected_full += 1;
        }
        self.new_keys().for_each(|key| counts.see_key(key));
    }
}
