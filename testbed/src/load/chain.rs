use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use crate::client::{Client, Handshake, Ticket, TlsVersion};
use crate::visit::{Promise, Visit};

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
#[derive(Clone)]
pub(crate) struct Chain {
    pub client: Client,
    /// The server that it names.
    pub host: Option<String>,
    newest: Option<Held>,
    old: VecDeque<Held>,
    turn: u64,
}

/// A ticket, and who had it.
pub struct Souvenir {
    ticket: Ticket,
    owner: Chain,
}

impl Souvenir {
    /// Its owner, with nothing but this.
    pub(super) fn owner(&self) -> Chain {
        Chain { old: VecDeque::new(), ..self.owner.clone() }
    }
}

impl Deref for Souvenir {
    type Target = Ticket;

    fn deref(&self) -> &Ticket {
        &self.ticket
    }
}

impl Chain {
    pub fn new(client: Client, host: Option<&str>) -> Chain {
        let host = host.map(str::to_owned);
        Chain { client, host, newest: None, old: VecDeque::new(), turn: 0 }
    }

    /// Its newest ticket.
    pub fn souvenir(&self) -> Option<Souvenir> {
        let ticket = self.newest.as_ref()?.ticket.clone();
        Some(Souvenir { ticket, owner: self.clone() })
    }

    /// Makes the next visit one without a ticket.
    pub fn forget_newest(&mut self) {
        self.newest = None;
    }

    /// Makes one connection and remembers the tickets that it brought. Also tells the run that the
    /// offered ticket is from.
    pub fn visit(&mut self, addr: SocketAddr, promise: &Promise, run: u64) -> (Visit, Option<u64>) {
        let offered = self.choose(promise);
        let ticket = offered.as_ref().map(|held| &held.ticket);
        let visit = Visit::new(&self.client, addr, self.host.as_deref(), ticket);
        // After a failure the same ticket is offered again: it must not be lost.
        if let Ok(handshake) = &visit.result {
            self.remember(handshake, promise, run);
        }
        (visit, offered.map(|held| held.run))
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
