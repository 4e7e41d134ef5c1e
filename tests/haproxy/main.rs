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

use testbed::haproxy::{Builder, Haproxy, Mode};
use testbed::process::needs_root;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

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
