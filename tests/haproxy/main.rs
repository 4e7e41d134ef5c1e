//! Debian's stock HAProxy under the shim, run as in production: a master and a worker of many
//! threads, which is replaced on a reload and gives up its privileges, and an admin socket over
//! which keys and certificates change at run time.

mod certificates;
mod check;
mod no_tickets;
mod processes;
mod resumption;
mod ticket_keys;

use std::time::Duration;

use testbed::client::{Client, Handshake, Ticket, TlsVersion};
use testbed::haproxy::{Builder, Haproxy, Mode};
use testbed::process::needs_root;
use testbed::{RingDir, artifacts};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For one stretch of load. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(90);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// As Debian's unit and configuration run it, with four threads.
fn as_in_production() -> Result<Builder> {
    needs_root("HAProxy changes its root directory and its user");
    let builder = Haproxy::builder()?.mode(Mode::MasterWorker).unprivileged();
    Ok(builder.admin_socket().global("nbthread 4"))
}

/// With one frontend, and what more its `bind` line says.
fn with_frontend(builder: Builder, more: &str) -> Result<Builder> {
    let (_, crt) = builder.certificate("site")?;
    Ok(builder.frontend(&format!("crt {} {more}", crt.display())))
}

/// Under the shim, with this rotation and lifetime.
fn rotating(
    builder: Builder,
    ring: &RingDir,
    rotate: Duration,
    lifetime: Duration,
) -> Result<Builder> {
    Ok(builder
        .preload(artifacts::shim()?)
        .ring(ring)
        .env("TKTROT_ROTATE", &format!("{}s", rotate.as_secs()))
        .env("TKTROT_LIFETIME", &format!("{}s", lifetime.as_secs())))
}

/// A client of one protocol version, and a ticket that it got.
struct Visitor {
    client: Client,
    ticket: Ticket,
}

impl Visitor {
    /// One of each version, after a full handshake.
    fn of_each_version(haproxy: &Haproxy) -> Result<Vec<Visitor>> {
        let mut visitors = Vec::new();
        for version in TlsVersion::ALL {
            let client = Client::new(version)?;
            let mut full = client.connect(haproxy.addr(0), None, None)?;
            assert!(!full.resumed);
            let ticket = full.tickets.pop().ok_or("no ticket")?;
            visitors.push(Visitor { client, ticket });
        }
        Ok(visitors)
    }

    /// Comes back with that ticket.
    fn again(&self, haproxy: &Haproxy) -> Result<Handshake> {
        Ok(self.client.connect(haproxy.addr(0), None, Some(&self.ticket))?)
    }
}

/// Lets each come back with its ticket, which has to resume.
fn all_resume(haproxy: &Haproxy, visitors: &[Visitor]) -> Result<()> {
    for visitor in visitors {
        let resumed = visitor.again(haproxy)?.resumed;
        assert!(resumed, "{}\n{}", visitor.client.version(), haproxy.stderr());
    }
    Ok(())
}
