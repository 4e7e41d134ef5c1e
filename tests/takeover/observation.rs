//! What clients of an nginx see, recorded, so that the same can be done with and without the shim
//! and the two compared.

use std::net::SocketAddr;
use std::time::Duration;

use testbed::client::{Client, Handshake, Session, TlsVersion};
use testbed::nginx::Nginx;
use testbed::{RingDir, artifacts};

use crate::Result;
use crate::key_files::{KeyFiles, Sealer};

/// What an nginx runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shim {
    None,
    /// `TKTROT_TAKEOVER=no`.
    NoTakeover,
    /// As it is by default.
    Takeover,
}

impl Shim {
    pub const ALL: [Shim; 3] = [Shim::None, Shim::NoTakeover, Shim::Takeover];

    pub fn nginx(self, ring: &RingDir) -> Result<testbed::nginx::Builder> {
        let builder = Nginx::builder();
        Ok(match self {
            Shim::None => builder,
            Shim::NoTakeover => {
                builder.preload(artifacts::shim()?).ring(ring).env("TKTROT_TAKEOVER", "no")
            }
            Shim::Takeover => builder.preload(artifacts::shim()?).ring(ring),
        })
    }
}

/// One connection, as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub step: String,
    pub version: TlsVersion,
    pub resumed: bool,
    /// Who sealed the new tickets, and how long they are said to do.
    pub tickets: Vec<(Sealer, Duration)>,
    /// New sessions without ticket.
    pub cached: usize,
    /// A renewed TLS 1.2 ticket makes OpenSSL's client drop the session.
    pub withdrawn: bool,
}

impl Observation {
    /// The same, had nobody looked at the names of keys.
    pub fn without_names(&self) -> Observation {
        let mut nameless = self.clone();
        nameless.tickets.iter_mut().for_each(|(sealer, _)| *sealer = Sealer::NoFile);
        nameless
    }

    pub fn sealers(&self) -> impl Iterator<Item = Sealer> {
        self.tickets.iter().map(|&(sealer, _)| sealer)
    }
}

/// Everything that the clients of one nginx saw.
pub struct Record<'a> {
    key_files: &'a KeyFiles,
    pub seen: Vec<Observation>,
}

impl<'a> Record<'a> {
    pub fn new(key_files: &'a KeyFiles) -> Record<'a> {
        Record { key_files, seen: Vec::new() }
    }

    /// One connection with what is offered, if anything is.
    pub fn visit(
        &mut self,
        step: &str,
        client: &Client,
        addr: SocketAddr,
        offered: Option<&Session>,
    ) -> Result<Handshake> {
        let sni = Some("localhost");
        let handshake = client
            .offer(addr, sni, offered)
            .map_err(|error| format!("{step}, {}: {error}", client.version()))?;
        assert_eq!(handshake.body, "ok", "{step}");
        let tickets = handshake.tickets.iter();
        self.seen.push(Observation {
            step: step.to_owned(),
            version: client.version(),
            resumed: handshake.resumed,
            tickets: tickets
                .map(|ticket| (self.key_files.sealer(ticket), ticket.lifetime_hint()))
                .collect(),
            cached: handshake.cached.len(),
            withdrawn: offered.is_some_and(Session::is_withdrawn),
        });
        Ok(handshake)
    }

    /// What was seen in this step, for both versions.
    pub fn of(&self, step: &str) -> impl Iterator<Item = &Observation> {
        let found: Vec<_> = self.seen.iter().filter(|seen| seen.step == step).collect();
        assert!(!found.is_empty(), "there is no step {step:?}");
        found.into_iter()
    }
}

/// What a handshake leaves to come back with.
pub fn newest(handshake: &Handshake) -> Option<Session> {
    let ticket = handshake.tickets.last().map(|ticket| ticket.held().clone());
    ticket.or_else(|| handshake.cached.last().cloned())
}
