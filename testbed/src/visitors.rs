//! Clients that come back with the sessions that they were given, to the same server or another.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::client::{Client, Error, Handshake, Session, Ticket, TlsVersion};

/// One client, and the sessions that it was given.
#[derive(Clone)]
pub struct Visitor {
    client: Client,
    first: Option<Held>,
    newest: Option<Held>,
}

/// A session, and the name of the key of its ticket if it has one.
#[derive(Clone)]
struct Held(Session, Option<[u8; 16]>);

/// What a visitor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Nothing. The session that it is given becomes its first.
    Nothing,
    /// The first session that it was given.
    First,
    /// The newest session that it was given.
    Newest,
}

impl Visitor {
    /// A visitor that has no session yet.
    pub fn new(client: Client) -> Visitor {
        Visitor { client, first: None, newest: None }
    }

    /// The same visitor, speaking another protocol.
    pub fn speaking(self, speak: impl FnOnce(Client) -> Client) -> Visitor {
        Visitor { client: speak(self.client), ..self }
    }

    /// Whether it has a session.
    pub fn holds(&self) -> bool {
        self.newest.is_some()
    }

    /// Connects and keeps the session that it is given. A session is offered as it was received,
    /// whatever earlier connections did to it.
    pub fn visit(&mut self, addr: SocketAddr, with: With) -> Result<Handshake, Error> {
        let visit = self.try_with(addr, with)?;
        let ticket = visit.tickets.last();
        let held = ticket.map(|ticket| Held(ticket.held().clone(), Some(ticket.key_name())));
        let cached = || visit.cached.last().map(|session| Held(session.clone(), None));
        self.newest = held.or_else(cached).or(self.newest.take());
        if with == With::Nothing {
            self.first = self.newest.clone();
        }
        Ok(visit)
    }

    /// As [`Visitor::visit`], but does not keep the new session.
    pub fn try_with(&self, addr: SocketAddr, with: With) -> Result<Handshake, Error> {
        let held = match with {
            With::Nothing => None,
            With::First => self.first.as_ref(),
            With::Newest => self.newest.as_ref(),
        };
        self.client.offer(addr, None, held.map(|held| held.0.anew()).as_ref())
    }
}

/// One of each version.
pub struct Visitors(Vec<Visitor>);

impl Visitors {
    /// They come for the first time. Panics if a handshake is none that makes new keys.
    pub fn of(addr: SocketAddr) -> Result<Visitors> {
        let mut visitors = Vec::new();
        for version in TlsVersion::ALL {
            let mut visitor = Visitor::new(Client::new(version)?);
            let full = visitor.visit(addr, With::Nothing)?;
            assert!(!full.resumed);
            ensure!(!full.tickets.is_empty(), "{version}: no ticket");
            visitors.push(visitor);
        }
        Ok(Visitors(visitors))
    }

    /// Each comes with the newest that it has, which is taken, or this panics.
    pub fn come(&mut self, addr: SocketAddr) -> Result<()> {
        for visitor in &mut self.0 {
            let visit = visitor.visit(addr, With::Newest)?;
            assert!(visit.resumed, "{}", visitor.client.version());
        }
        Ok(())
    }

    /// Each comes back with its first ticket, if its OpenSSL would still offer it.
    pub fn again(&self, addr: SocketAddr) -> Result<Vec<Handshake>> {
        let first = |visitor: &Visitor| visitor.first.as_ref().map(|held| held.0.clone());
        let visits = self.0.iter();
        visits
            .map(|visitor| Ok(visitor.client.offer(addr, None, first(visitor).as_ref())?))
            .collect()
    }

    /// Each comes back, and its ticket is taken, or this panics. Names of the keys of new tickets.
    pub fn resume(&self, addr: SocketAddr, when: &str) -> Result<Vec<[u8; 16]>> {
        let visits = self.again(addr)?;
        let resumed: Vec<bool> = visits.iter().map(|visit| visit.resumed).collect();
        assert_eq!(resumed, [true; 2], "{when}: TLS 1.2 and 1.3");
        Ok(visits.iter().flat_map(|visit| &visit.tickets).map(Ticket::key_name).collect())
    }

    /// Whether each resumes that offers its ticket whatever became of it: nginx renews tickets of
    /// former keys, after which a client of TLS 1.2 would not offer the one that it had.
    pub fn resumed(&self, addr: SocketAddr) -> Result<[bool; 2]> {
        let [v12, v13] = [0, 1].map(|place| self.0[place].try_with(addr, With::First));
        Ok([v12?.resumed, v13?.resumed])
    }

    /// The names of the keys of their first tickets.
    pub fn key_names(&self) -> Vec<[u8; 16]> {
        self.0.iter().filter_map(|visitor| visitor.first.as_ref()?.1).collect()
    }
}
