//! Clients that come back with what they got.

use std::fmt;
use std::net::SocketAddr;

use testbed::certificate::Certificate;
use testbed::client::{Client, Error, Handshake, Session, Ticket, TlsVersion};

use crate::Result;
use crate::kind::{Asks, Kind};

/// What clients saw, to compare with what the server's ring has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub tickets: u64,
    pub resumed: u64,
}

/// Of the visits with a session, those that were resumed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    pub resumed: u64,
    pub of: u64,
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resumed, self.of)
    }
}

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub version: TlsVersion,
    /// Whether it shows a certificate if it is asked for one.
    pub known: bool,
}

/// One client.
pub struct Visitor {
    pub who: Who,
    client: Client,
    /// What it got first, and last.
    first: Option<Session>,
    last: Option<Session>,
    /// What the server answered to the full handshake.
    answer: String,
    /// Whether it was ever answered something else when it came back.
    pub slipped: bool,
}

/// How far a client got: what it was answered, or where it failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    Answer(String),
    /// A client that is turned away may see the alert, or that the connection ended meanwhile.
    Failure,
}

impl From<std::result::Result<Handshake, Error>> for Reached {
    fn from(visit: std::result::Result<Handshake, Error>) -> Reached {
        match visit {
            Ok(visit) => Reached::Answer(constant(&visit.body)),
            Err(_) => Reached::Failure,
        }
    }
}

/// What of an answer is not to differ from visit to visit.
fn constant(answer: &str) -> String {
    // Dovecot says so, or not, once it is started.
    let lines = answer.split_inclusive('\n').filter(|line| !line.contains("Waiting for auth"));
    lines.flat_map(str::chars).map(|c| if c.is_ascii_digit() { '#' } else { c }).collect()
}

impl Visitor {
    pub fn new(kind: Kind, who: Who, certificate: &Certificate) -> Result<Visitor> {
        let client = match who.known {
            true => Client::with_certificate(who.version, certificate)?,
            false => Client::new(who.version)?,
        };
        let client = (kind.client)(client);
        Ok(Visitor { who, client, first: None, last: None, answer: String::new(), slipped: false })
    }

    /// All those that a server serves.
    pub fn served(kind: Kind, asks: Asks, certificate: &Certificate) -> Result<Vec<Visitor>> {
        let known: &[bool] = match asks {
            Asks::Nobody => &[false],
            Asks::Anybody => &[true, false],
            Asks::Everybody => &[true],
        };
        let all = TlsVersion::ALL.iter().flat_map(|&version| {
            known.iter().map(move |&known| Visitor::new(kind, Who { version, known }, certificate))
        });
        all.collect()
    }

    /// Comes for the first time, or as if. Returns the tickets that it got.
    pub fn comes(&mut self, addr: SocketAddr, tally: &mut Tally) -> Result<Vec<Ticket>> {
        let full = self.visit(addr, None, tally)?;
        assert!(!full.resumed);
        self.answer = full.body.clone();
        self.first = self.last.clone();
        Ok(full.tickets)
    }

    /// Comes back with what it got first, or last. Whether that was resumed; `None` if it has nothing.
    pub fn returns(
        &mut self,
        addr: SocketAddr,
        with_first: bool,
        tally: &mut Tally,
    ) -> Result<Option<bool>> {
        let held = if with_first { &self.first } else { &self.last };
        let Some(held) = held.as_ref().map(Session::anew) else { return Ok(None) };
        let again = self.visit(addr, Some(&held), tally)?;
        if constant(&again.body) != constant(&self.answer) {
            println!("{:?}: {:?}, but {:?} at first", self.who, again.body, self.answer);
            self.slipped = true;
        }
        Ok(Some(again.resumed))
    }

    /// The same, saying something else.
    pub fn saying(mut self, words: &str) -> Visitor {
        self.client = self.client.saying(words);
        self
    }

    /// Whether it has got anything.
    pub fn holds(&self) -> bool {
        self.first.is_some()
    }

    /// How far it gets with what it got first.
    pub fn tries(&self, addr: SocketAddr) -> Reached {
        let held = self.first.as_ref().map(Session::anew);
        Reached::from(self.client.offer(addr, None, held.as_ref()))
    }

    /// How far it gets with nothing.
    pub fn knocks(&self, addr: SocketAddr) -> Reached {
        Reached::from(self.client.offer(addr, None, None))
    }

    fn visit(
        &mut self,
        addr: SocketAddr,
        held: Option<&Session>,
        tally: &mut Tally,
    ) -> Result<Handshake> {
        let visit = self.client.offer(addr, None, held);
        let visit = visit.map_err(|error| format!("{:?}: {error}", self.who))?;
        tally.tickets += visit.tickets.len() as u64;
        tally.resumed += u64::from(visit.resumed);
        let got = visit.tickets.iter().map(Ticket::held).chain(&visit.cached);
        if let Some(session) = got.last() {
            self.last = Some(session.clone());
        }
        Ok(visit)
    }
}
