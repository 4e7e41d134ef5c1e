//! The TLS library's generator fails, or gives zeroes, while keys are in use, and works again.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use testbed::certificate::Certificate;
use testbed::client::{Client, Ticket, TlsVersion};
use testbed::nginx::Nginx;
use testbed::{log, wait};

use crate::Result;
use crate::control::Fault;
use crate::journey::{Host, is_drawn};

/// How long a key encrypts: see [`Host::new`].
const ROTATE_EVERY: Duration = Duration::from_secs(1);
/// Present keys are over after three of that; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Visits in a row without a ticket, after which none is expected any more.
const ENOUGH: usize = 10;

/// A client, and what it got.
struct Guest<'a> {
    client: Client,
    nginx: &'a Nginx,
    /// When a key is known to have sealed: the first and the last time.
    used: BTreeMap<[u8; 16], (Instant, Instant)>,
    ivs: BTreeSet<[u8; 16]>,
}

impl Guest<'_> {
    /// A full handshake, and its last ticket. No ticket is weak, none is made by a key that is over.
    fn visit(&mut self) -> Result<Option<Ticket>> {
        let full = self.client.connect(self.nginx.addr(), None, None)?;
        for ticket in &full.tickets {
            let name = ticket.key_name();
            assert!(is_drawn(&name) && is_drawn(&ticket.iv()), "a constant");
            assert!(self.ivs.insert(ticket.iv()), "an IV came twice");
            // It was sealed after it was asked for, and before it was here.
            let span = (ticket.received(), ticket.requested());
            let (first, last) = self.used.entry(name).or_insert(span);
            *last = span.1;
            let is_longer = last.saturating_duration_since(*first) > ROTATE_EVERY;
            assert!(!is_longer, "a key encrypts for longer than it is to");
        }
        Ok(full.tickets.last().cloned())
    }

    fn resumes(&self, ticket: &Ticket) -> Result<bool> {
        Ok(self.client.connect(self.nginx.addr(), None, Some(ticket))?.resumed)
    }

    /// Until a key seals that did not before.
    fn new_key(&mut self) -> Result<Ticket> {
        let before = self.used.len();
        let visited = wait::until(PATIENCE, "a new key", || {
            let ticket = self.visit().ok()??;
            (self.used.len() > before).then_some(ticket)
        });
        Ok(visited?)
    }

    /// What tickets there are resume.
    fn until_tickets_stop(&mut self) -> Result<()> {
        let mut without = 0;
        let begun = Instant::now();
        while without < ENOUGH {
            match self.visit()? {
                Some(ticket) => {
                    assert!(self.resumes(&ticket)?, "a ticket does not resume");
                    without = 0;
                }
                None => without += 1,
            }
            assert!(begun.elapsed() < PATIENCE, "tickets do not stop");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Present keys serve to their end, not longer; what they sealed is good for longer; then there are
/// no tickets, until the generator works.
pub fn fails_for_a_while(fault: &Fault, certificate: &Certificate) -> Result<()> {
    let host = Host::new(fault, certificate)?;
    let mut nginx = host.builder.start()?;
    let client = Client::new(TlsVersion::V13)?;
    let (used, ivs) = (BTreeMap::new(), BTreeSet::new());
    let mut guest = Guest { client, nginx: &nginx, used, ivs };
    let held = guest.new_key()?;

    host.control.arm(true)?;
    let known = guest.used.len();
    let goes_on = guest.visit()?.is_some();
    // On a machine that stood still its end may have come.
    let is_over = held.requested().elapsed() > ROTATE_EVERY;
    assert!(goes_on || is_over, "the present key does not go on");
    guest.until_tickets_stop()?;
    // The successors that were announced.
    assert!(guest.used.len() <= known + 2, "{} keys more", guest.used.len() - known);
    assert!(guest.resumes(&held)?, "a retired key opens nothing");

    host.control.arm(false)?;
    guest.new_key()?;
    guest.new_key()?;
    assert!(guest.resumes(&held)?, "a retired key opens nothing");
    assert!(host.control.failed()? > 0, "nothing was made to fail");
    nginx.stop()?;
    tells(&(nginx.stderr() + &nginx.error_log()))
}

/// Each worker says that it fails, and that it works, once.
fn tells(said: &str) -> Result<()> {
    let lines = log::ours(said);
    let (works, fails): (Vec<&str>, Vec<&str>) =
        lines.into_iter().partition(|line| line.contains("works again; rotation goes on"));
    let parts = ["number generator fails", "serve to their end", "without tickets"];
    let is_clear = fails.iter().all(|line| parts.iter().all(|part| line.contains(part)));
    assert!(is_clear && (1..=2).contains(&fails.len()), "{fails:#?}");
    assert!((1..=2).contains(&works.len()), "{works:#?}");
    Ok(())
}
