//! Visitors who carry their tickets from host to host, and what became of each visit.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::journal::{Carried, Journal, Outcome, Visit};
use super::namespace::Namespace;
use crate::client::{Client, Ticket, TlsVersion};

/// For the granularity of clocks. Not for slow machines: ages are bounds.
const MARGIN: Duration = Duration::from_millis(500);
/// How many tickets of different ages a TLS 1.3 visitor keeps beside the newest.
const KEEPSAKES: u32 = 8;
/// Every so many visits it offers the oldest of them.
const OLD_TICKET_EVERY: usize = 3;

/// A server that is visited: the number of its host, and where it listens.
pub type Stop = (usize, SocketAddr);

/// Visitors on their way, until this is dropped.
pub struct Travellers {
    journal: Arc<Mutex<Vec<Visit>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Travellers {
    /// As many visitors for each protocol version as a route has stops, and a thread for each
    /// route: every visitor begins at another stop and goes round. After each visit there is this
    /// pause.
    pub fn depart(
        namespace: &Namespace,
        routes: &[Vec<Stop>],
        lifetime: Duration,
        pause: Duration,
    ) -> Result<Travellers> {
        let mut all = Travellers {
            journal: Arc::default(),
            stop: Arc::default(),
            threads: Vec::with_capacity(routes.len()),
        };
        for route in routes {
            let mut visitors = visitors(route.len(), lifetime)?;
            let (journal, stop, route) = (all.journal.clone(), all.stop.clone(), route.clone());
            let go_round = move || {
                loop {
                    for visitor in &mut visitors {
                        // Relaxed: the flag publishes nothing but itself.
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let visit = visitor.visit(&route, lifetime);
                        journal.lock().unwrap().push(visit);
                        thread::sleep(pause);
                    }
                }
            };
            all.threads.push(namespace.run(|| thread::spawn(go_round)));
        }
        Ok(all)
    }

    /// All visits so far.
    pub fn journal(&self) -> Journal {
        Journal::new(self.journal.lock().unwrap().clone())
    }

    /// Ends the journey and tells all visits.
    pub fn arrive(mut self) -> Journal {
        self.end();
        self.journal()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread has told itself; the visits that are missing will tell, too.
            let _ = thread.join();
        }
    }
}

impl Drop for Travellers {
    fn drop(&mut self) {
        self.end();
    }
}

/// So many for each version.
fn visitors(stops: usize, lifetime: Duration) -> Result<Vec<Visitor>> {
    let mut visitors = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        for number in 0..stops {
            // Those of TLS 1.2 have one ticket for its whole life: they give up the first at
            // different ages, so that there are always tickets of all.
            let first = lifetime * (number + 1) as u32 / stops as u32;
            visitors.push(Visitor::new(client.clone(), number, first));
        }
    }
    Ok(visitors)
}

/// A ticket, and the host that issued it.
#[derive(Clone)]
struct Held {
    ticket: Ticket,
    issuer: usize,
}

/// One visitor. With TLS 1.2 it offers one ticket until its lifetime is over. With TLS 1.3 it gets a
/// new one with each visit and offers the newest; now and then an old one that should still do.
struct Visitor {
    client: Client,
    next: usize,
    turn: usize,
    /// The ticket is given up at this age: less than its lifetime for the first.
    give_up: Duration,
    newest: Option<Held>,
    old: VecDeque<Held>,
}

impl Visitor {
    fn new(client: Client, first: usize, give_up: Duration) -> Visitor {
        Visitor { client, next: first, turn: 0, give_up, newest: None, old: VecDeque::new() }
    }

    fn visit(&mut self, route: &[Stop], lifetime: Duration) -> Visit {
        let (host, addr) = route[self.next % route.len()];
        self.next += 1;
        let offered = self.choose(lifetime);
        let began = Instant::now();
        let result = self.client.connect(addr, None, offered.as_ref().map(|held| &held.ticket));
        let ended = Instant::now();
        let carried = offered.as_ref().map(|Held { ticket, issuer }| Carried {
            issuer: *issuer,
            key: ticket.key_name(),
            received: ticket.received(),
            is_due: ended - ticket.requested() + MARGIN < lifetime,
        });
        let outcome = match &result {
            Ok(handshake) if handshake.resumed => Outcome::Resumed,
            Ok(_) => Outcome::Full,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        let mut sealed_with = None;
        if let Ok(handshake) = result {
            sealed_with = handshake.tickets.last().map(Ticket::key_name);
            self.remember(handshake.tickets.last(), host, handshake.resumed, lifetime);
        }
        Visit { version: self.client.version(), host, began, ended, carried, outcome, sealed_with }
    }

    fn choose(&mut self, lifetime: Duration) -> Option<Held> {
        self.turn += 1;
        let is_good = |held: &Held, age| held.ticket.requested().elapsed() + 2 * MARGIN < age;
        while self.old.front().is_some_and(|held| !is_good(held, lifetime)) {
            self.old.pop_front();
        }
        if self.newest.as_ref().is_some_and(|held| !is_good(held, self.give_up)) {
            (self.newest, self.give_up) = (None, lifetime);
        }
        let newest = self.newest.as_ref()?;
        let old = self.old.front().filter(|_| self.turn.is_multiple_of(OLD_TICKET_EVERY));
        Some(old.unwrap_or(newest).clone())
    }

    fn remember(&mut self, ticket: Option<&Ticket>, host: usize, resumed: bool, life: Duration) {
        let Some(ticket) = ticket else {
            // A host that issued none after a full handshake has refused the one that there was.
            if !resumed {
                self.newest = None;
            }
            return;
        };
        let held = Held { ticket: ticket.clone(), issuer: host };
        let last = self.old.back();
        if ticket.version() == TlsVersion::V13
            && last.is_none_or(|last| last.ticket.age() >= life / KEEPSAKES)
        {
            self.old.push_back(held.clone());
        }
        self.newest = Some(held);
    }
}
