//! `tktrot agent`: owns the ring of this host and shares its keys with the other hosts of its fleet.
//!
//! What is said and when is decided by [`tktrot_fleet::node::Node`], or where there is a Redis by
//! [`tktrot_fleet::shared::Shared`], which know no socket and no clock; this is the shell around
//! them, all on one thread.
//!
//! - [`start`]: what is opened while the agent still may: ring, secrets, sockets
//! - [`privileges`]: and how it then becomes somebody who may nothing
//! - [`driver`]: the agent's loop
//! - [`ring`]: the ring, as the agent changes it
//! - [`fleet`]: how keys are shared, in one of two ways:
//!   - [`nodes`]: every host's own, with [`peers`] through the [`mesh`], or with nobody
//!   - [`redis`]: the same key for all
//! - [`export`]: keeps the key files of servers current that cannot load a plugin
//! - [`secrets`]: the files that hold the fleet secret
//! - [`figures`]: what is told of the agent
//! - [`ask`], [`control`]: one question and one answer over a socket beside the ring
//! - [`metrics`]: the same for Prometheus
//! - [`notify`]: what the service manager is told
//! - [`journal`]: what the operator is told

pub mod ask;
mod control;
mod driver;
pub mod export;
pub mod figures;
mod fleet;
mod journal;
mod mesh;
mod metrics;
mod nodes;
mod notify;
mod peers;
mod privileges;
mod redis;
mod ring;
pub mod secrets;
mod start;

use anyhow::{Context, Result};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::rings::RingArgument;
use crate::settings::Settings;
use start::Started;

/// Runs until it is told to stop.
///
/// # Errors
///
/// Something is not as it must be: where, what, and what to do.
pub fn run(settings: &Settings, ring: &RingArgument) -> Result<()> {
    let began = Instant::now();
    journal::open(settings.fleet.agent.log);
    privileges::keep_memory_to_itself().context("the process cannot be kept from core dumps")?;
    let started = Started::open(settings, ring)?;
    let user = privileges::drop_to(&settings.fleet.agent.user)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be made")?;
    LocalSet::new().block_on(&runtime, driver::run(started, user, began))
}
