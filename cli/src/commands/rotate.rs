//! `tktrot rotate [RING]`.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let (place, keyring) = arguments.ring.open(&settings)?;
    let path = place.path();
    keyring.rotate().map_err(|failure| anyhow!("{}: {failure}", path.display()))?;
    println!("{}: a new key encrypts; the former ones decrypt to their ends", path.display());
    Ok(Severity::Fine)
}
