//! Visitors with a certificate or without, and what they are answered.

use std::fmt;
use std::iter::Sum;
use std::net::SocketAddr;
use std::ops::Add;

use testbed::certificate::Certificate;
use testbed::client::{Client, Error, Handshake, Ticket, TlsVersion};
use testbed::visitors::{self, With};

use crate::Result;
use crate::kind::{Asks, Kind};

/// What clients saw, to compare with what the server's ring has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub tickets: u64,
    pub resumed: u64,
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        let Tally { tickets, resumed } = other;
        Tally { tickets: self.tickets + tickets, resumed: self.resumed + resumed }
    }
}

/// Of the visits with a session, those that were resumed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    pub resumed: u64,
    pub of: u64,
}

impl Sum for Rate {
    fn sum<I: Iterator<Item = Rate>>(all: I) -> Rate {
        all.fold(Rate::default(), |sum, one| Rate {
            resumed: sum.resumed + one.resumed,
            of: sum.of + one.of,
        })
    }
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
    visitor: visitors::Visitor,
    /// What the server answered to the full handshake.
    answer: String,
    /// Whether it was ever answered something else when it came back.
    pub slipped: bool,
}

/// How far a client got: what it was answered, or why it was not.
pub enum Reached {
    Answer(String),
    Failure(Error),
}

/// A client that is turned away may see the alert, or that the connection ended meanwhile, so that
/// all failures are equal.
impl PartialEq for Reached {
    fn eq(&self, other: &Reached) -> bool {
        match (self, other) {
            (Reached::Answer(one), Reached::Answer(another)) => one == another,
            (Reached::Failure(_), Reached::Failure(_)) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reached::Answer(answer) => write!(f, "{answer:?}"),
            Reached::Failure(error) => write!(f, "failure: {error}"),
        }
    }
}

impl From<std::result::Result<Handshake, Error>> for Reached {
    fn from(visit: std::result::Result<Handshake, Error>) -> Reached {
        match visit {
            Ok(visit) => Reached::Answer(constant(&visit.body)),
            Err(error) => Reached::Failure(error),
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
        let visitor = visitors::Visitor::new((kind.client)(client));
        Ok(Visitor { who, visitor, answer: String::new(), slipped: false })
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
        let full = self.visit(addr, With::Nothing, tally)?;
        assert!(!full.resumed);
        self.answer = full.body;
        Ok(full.tickets)
    }

    /// Comes back with this. Whether that was resumed; `None` if it has nothing.
    pub fn returns(
        &mut self,
        addr: SocketAddr,
        with: With,
        tally: &mut Tally,
    ) -> Result<Option<bool>> {
        if !self.visitor.holds() {
            return Ok(None);
        }
        let again = self.visit(addr, with, tally)?;
        if constant(&again.body) != constant(&self.answer) {
            println!("{:?}: {:?}, but {:?} at first", self.who, again.body, self.answer);
            self.slipped = true;
        }
        Ok(Some(again.resumed))
    }

    /// The same, saying something else.
    pub fn saying(self, words: &str) -> Visitor {
        Visitor { visitor: self.visitor.speaking(|client| client.saying(words)), ..self }
    }

    /// Whether it has got anything.
    pub fn holds(&self) -> bool {
        self.visitor.holds()
    }

    /// How far it gets with this.
    pub fn tries(&self, addr: SocketAddr, with: With) -> Reached {
        Reached::from(self.visitor.try_with(addr, with))
    }

    fn visit(&mut self, addr: SocketAddr, with: With, tally: &mut Tally) -> Result<Handshake> {
        let visit = self.visitor.visit(addr, with);
        let visit = visit.map_err(|error| format!("{:?}: {error}", self.who))?;
        tally.tickets += visit.tickets.len() as u64;
        tally.resumed += u64::from(visit.resumed);
        Ok(visit)
    }
}
