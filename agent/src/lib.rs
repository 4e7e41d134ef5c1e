//! `tktrot agent`: owns the ring of this host and shares its keys with the other hosts of its fleet.
//!
//! What is said and when is decided by [`tktrot_fleet::node::Node`], or where there is a Redis by
//! [`tktrot_fleet::redis::RedisNode`], which know no socket and no clock; this is the shell around
//! them, all on one thread.
//!
//! The program opens the ring, because its settings say which, and hands it over ([`Opened`]).
//!
//! - [`checks`]: what must be there before it starts
//! - [`start`]: what else is opened before privileges are given up: secrets, sockets
//! - [`listening`]: the addresses that it listens on
//! - [`privileges`]: how they are given up
//! - [`driver`]: the agent's loop
//! - [`ring`]: the ring, as the agent changes it
//! - [`fleet`]: how keys are shared, in one of two ways:
//!   - [`nodes`]: every host's own, with peers through the [`mesh`], or with nobody
//!   - [`redis`]: the same key for all
//!   - [`revocation`]: one that somebody waits for
//! - [`export`]: keeps the key files of servers that cannot load a plugin up to date
//! - [`reload`]: how other settings take their place
//! - [`signals`]: what asks for that, also before the agent is ready for it
//! - [`files`]: the files that settings name
//! - [`secrets`]: the files that hold the fleet secret
//! - [`figures`]: what `tktrot peers` and the metrics report
//! - [`problems`]: what is wrong between this host and its peers
//! - [`control`]: the socket beside the ring on which the program asks, both of its ends
//! - [`metrics`]: what Prometheus gets
//! - [`notify`]: what the service manager is told
//! - [`journal`]: the log

pub mod checks;
pub mod control;
mod departed;
mod driver;
mod export;
pub mod figures;
mod files;
mod fleet;
mod journal;
mod listening;
mod mesh;
mod metrics;
mod nodes;
mod notify;
mod privileges;
pub mod problems;
mod redis;
mod reload;
mod revocation;
mod ring;
mod secrets;
mod signals;
mod start;
mod waiting;

use anyhow::{Context, Result};
use tktrot::ring::file::Place;
use tokio::task::LocalSet;
use tokio::time::Instant;

pub use export::entry::ExportStatus;
pub use files::Files;
pub use reload::{Reread, Settings};
pub use signals::hold_reload;
pub use start::{Opened, RingMetrics};

use start::Started;

/// Runs until it is told to stop. `ring` looks where the ring lies, and whether it can be used, and
/// `open` opens it: both are called when errors can be logged and no core dump could hold a key, and
/// before the agent gives up its rights. `reread` is called whenever settings are to be read again.
///
/// # Errors
///
/// Something is not as it must be: where, what, and what to do.
pub fn run(
    settings: Settings,
    ring: impl FnOnce() -> Result<Place>,
    open: impl FnOnce() -> Result<Opened>,
    reread: Reread,
) -> Result<()> {
    let began = Instant::now();
    journal::open(settings.fleet.agent.log);
    privileges::keep_memory_to_itself().context("cannot disable core dumps")?;
    let files = Files::default();
    settings.tell_doubts();
    checks::all(&settings.fleet, &settings.config, ring(), &files).pass()?;
    let user = settings.fleet.agent.user.clone();
    let started = Started::open(settings, files, open()?)?;
    let user = privileges::drop_to(&user)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    LocalSet::new().block_on(&runtime, driver::run(started, reread, user, began))
}
