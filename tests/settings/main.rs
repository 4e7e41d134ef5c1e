//! Every `TKTROT_*` variable, from outside: what a bad value says and does, and that a good one
//! takes effect.

mod bad_values;
mod effects;
mod others;

use std::path::Path;

use testbed::client::{Client, Handshake, Ticket, TlsVersion};
use testbed::solo::{Builder, Solo};
use testbed::{RingDir, artifacts};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A server under the shim, not yet started.
fn server(ring: &RingDir) -> Result<Builder> {
    Ok(Solo::openssl().preload(artifacts::shim()?).ring(ring))
}

/// A new ticket.
fn ticket(client: &Client, server: &Solo) -> Result<Ticket> {
    let full = client.connect(server.addr(), None, None)?;
    Ok(full.tickets.last().ok_or("no ticket")?.clone())
}

/// A new ticket, and what offering it came to.
fn resumption(version: TlsVersion, server: &Solo) -> Result<(Ticket, Handshake)> {
    let client = Client::new(version)?;
    let ticket = ticket(&client, server)?;
    let again = client.connect(server.addr(), None, Some(&ticket))?;
    Ok((ticket, again))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the testbed's paths are UTF-8")
}
