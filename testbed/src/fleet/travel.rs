//! Visitors who carry their tickets from host to host, and what became of each visit.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::journal::{Carried, Journal, Outcome, Visit};
use super::namespace::Namespace;
use crate::client::{Client, Ticket, TlsVersion};
use crate::visit::{self, Due, Promise};

/// A server that is visited: the number of its host, and where it listens.
pub type Stop = (usize, SocketAddr);

/// Visitors on their way, until this is dropped.
pub struct Travellers {
    journal: Arc<Mutex<Vec<Visit>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Travellers {
    /// Visitors of both protocol versions, who go round on these routes: a thread for each route,
    /// and after each visit this pause.
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
            let mut visitors = visitors(route.len())?;
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

/// For each version: one that begins at each stop, and two that never let go of what they have.
fn visitors(stops: usize) -> Result<Vec<Visitor>> {
    let mut visitors = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        // So that the next ticket is the next host's: else each visitor would have tickets of one
        // host for ever, and after some losses all of the same one. In TLS 1.2 a visit without a
        // ticket comes between.
        let times = if version == TlsVersion::V13 { stops + 1 } else { stops };
        visitors.extend((0..stops).map(|first| Visitor::new(client.clone(), first, times)));
        let stubborn = [0, stops / 2];
        visitors.extend(stubborn.map(|first| Visitor::new(client.clone(), first, usize::MAX)));
    }
    Ok(visitors)
}

/// A ticket, and the host that issued it.
#[derive(Clone)]
struct Held {
    ticket: Ticket,
    issuer: usize,
}

/// One visitor. It offers one ticket a number of times, or until its lifetime is over, and then the
/// newest that it was given; with TLS 1.2 there is none, so it comes without one.
struct Visitor {
    client: Client,
    next: usize,
    times: usize,
    offered: usize,
    held: Option<Held>,
    newest: Option<Held>,
}

impl Visitor {
    fn new(client: Client, first: usize, times: usize) -> Visitor {
        Visitor { client, next: first, times, offered: 0, held: None, newest: None }
    }

    fn visit(&mut self, route: &[Stop], lifetime: Duration) -> Visit {
        let (host, addr) = route[self.next % route.len()];
        self.next += 1;
        self.choose(lifetime);
        let offered = self.held.clone();
        let ticket = offered.as_ref().map(|held| &held.ticket);
        let visit = visit::Visit::new(&self.client, addr, None, ticket);
        let is_due = visit.due(&Promise::constant(lifetime)) == Some(Due::Resumption);
        let carried = offered.map(|Held { ticket, issuer }| Carried {
            issuer,
            key: ticket.key_name(),
            received: ticket.received(),
            is_due,
        });
        let visit::Visit { began, ended, result, .. } = visit;
        let outcome = match &result {
            Ok(handshake) if handshake.resumed => Outcome::Resumed,
            Ok(_) => Outcome::Full,
            Err(error) => Outcome::Failed(error.clone()),
        };
        let mut sealed_with = None;
        // After a failure the same ticket is offered again: it must not be lost.
        if let Ok(handshake) = result {
            let ticket = handshake.tickets.last().cloned();
            sealed_with = ticket.as_ref().map(Ticket::key_name);
            let new = ticket.map(|ticket| Held { ticket, issuer: host });
            match handshake.resumed {
                true => self.newest = new.or(self.newest.take()),
                false => (self.held, self.newest, self.offered) = (new, None, 0),
            }
        }
        Visit { version: self.client.version(), host, began, ended, carried, outcome, sealed_with }
    }

    fn choose(&mut self, lifetime: Duration) {
        // A server that answers with another ticket makes the client forget this one (TLS 1.2).
        let ends = |held: &Held| {
            held.ticket.is_withdrawn()
                || held.ticket.requested().elapsed() + 2 * visit::MARGIN >= lifetime
        };
        if self.offered >= self.times || self.held.as_ref().is_some_and(ends) {
            (self.held, self.offered) = (self.newest.take().filter(|held| !ends(held)), 0);
        }
        self.offered += usize::from(self.held.is_some());
    }
}
