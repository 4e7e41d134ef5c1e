//! The upkeep thread in servers that interrupt all their threads, or confine themselves: it lives,
//! and has no more rights than the server.

mod confined;
mod interrupted;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testbed::client::{Client, TlsVersion};
use testbed::process::Process;
use testbed::solo::{Builder, Solo};
use testbed::{RingDir, wait};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(60);

/// The server under the shim; a key lives for some seconds.
fn under_shim(server: Builder, ring: &RingDir) -> Result<Builder> {
    Ok(server.rotating(ring, Duration::from_secs(1), Duration::from_secs(1))?)
}

fn process(server: &Solo) -> Result<Process> {
    Ok(Process::find(server.pid()?).ok_or_else(|| format!("it is gone: {}", server.stderr()))?)
}

/// A visit: the name of the key that sealed the ticket, and what the server answered.
fn visit(server: &Solo) -> Result<([u8; 16], String)> {
    let full = Client::new(TlsVersion::V13)?.connect(server.addr(), None, None)?;
    let ticket = full.tickets.last().ok_or("no ticket")?;
    Ok((ticket.key_name(), full.body))
}

/// A key's name is in the ring as long as the key is, and is no secret. Nobody connects meanwhile.
fn wait_until_erased(name: [u8; 16], ring: &RingDir) -> Result {
    let file: PathBuf = ring.rings()?.pop().ok_or("no ring")?;
    let is_there = || fs::read(&file).map(|bytes| bytes.windows(16).any(|bytes| bytes == name));
    wait::until(LIMIT, "the end of a key", || is_there().is_ok_and(|there| !there).then_some(()))?;
    Ok(())
}
