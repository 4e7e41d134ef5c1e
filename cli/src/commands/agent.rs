//! `tktrot agent [RING]`.

use std::path::Path;

use anyhow::Result;

use crate::agent;
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;

#[derive(clap::Args)]
#[command(after_long_help = "\
The settings file says with whom keys are shared: its sections [agent], [mesh], [redis] and [[export]]. \
Without them the agent only rotates. It tells a service manager when it is ready (sd_notify), and ends \
at SIGTERM: servers rotate themselves again then. They do so, too, if it dies.")]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    agent::run(&settings, &arguments.ring)?;
    Ok(Severity::Fine)
}
