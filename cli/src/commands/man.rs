//! `tktrot man DIR`: a page for the program and one for each command.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the pages are written.
    dir: PathBuf,
}

pub fn run(arguments: &Arguments, program: clap::Command) -> Result<Severity> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(program, dir))
        .with_context(|| format!("{}: cannot write the pages", dir.display()))?;
    Ok(Severity::Ok)
}
