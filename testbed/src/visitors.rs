//! Clients of both versions that come back with a ticket, here or elsewhere.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::client::{Client, Handshake, Ticket, TlsVersion};

/// One client of each version, and a ticket that it got.
pub struct Visitors(Vec<(Client, Ticket)>);

impl Visitors {
    /// They come for the first time. Panics if a handshake is none that makes new keys.
    pub fn of(addr: SocketAddr) -> Result<Visitors> {
        let mut visitors = Vec::new();
        for version in TlsVersion::ALL {
            let client = Client::new(version)?;
            let mut full = client.connect(addr, None, None)?;
            assert!(!full.resumed);
            visitors.push((client, full.tickets.pop().context("no ticket")?));
        }
        Ok(Visitors(visitors))
    }

    /// Each comes back with its ticket, if its OpenSSL would still offer it.
    pub fn again(&self, addr: SocketAddr) -> Result<Vec<Handshake>> {
        self.come(addr, Ticket::clone)
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
        let visits = self.come(addr, Ticket::anew)?;
        Ok([visits[0].resumed, visits[1].resumed])
    }

    /// The names of the keys of their tickets.
    pub fn key_names(&self) -> Vec<[u8; 16]> {
        self.0.iter().map(|(_, ticket)| ticket.key_name()).collect()
    }

    fn come(&self, addr: SocketAddr, with: impl Fn(&Ticket) -> Ticket) -> Result<Vec<Handshake>> {
        let visits = self.0.iter();
        visits.map(|(client, held)| Ok(client.connect(addr, None, Some(&with(held)))?)).collect()
    }
}
