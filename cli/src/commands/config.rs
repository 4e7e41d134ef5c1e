//! `tktrot config check [FILE]`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tktrot_fleet::config::Config as FleetConfig;

use crate::output::outln;
use crate::settings::{self, Contents};
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Says what is wrong in the file, with line and column
    Check {
        /// The file, if not the one of --config or the default.
        file: Option<PathBuf>,
    },
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let Action::Check { file } = &arguments.action;
    let file = file.as_deref().or(config).unwrap_or(Path::new(settings::DEFAULT));
    let Contents { variables, fleet } = settings::read_file(file)?;
    outln!("{}: {} settings, all valid", file.display(), variables.len());
    for (name, value) in variables {
        outln!("  {}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    if fleet != FleetConfig::default() {
        outln!("  {}", said(&fleet));
    }
    Ok(Severity::Fine)
}

/// What the agent would do, in one line.
fn said(fleet: &FleetConfig) -> String {
    let shared = match (&fleet.mesh, &fleet.redis) {
        (Some(mesh), _) => match mesh.peers.len() {
            1 => "in a mesh with 1 peer".into(),
            peers => format!("in a mesh with {peers} peers"),
        },
        (None, Some(_)) => "through Redis".into(),
        (None, None) => "with nobody".into(),
    };
    let exports = match fleet.exports.len() {
        0 => "exports nothing".into(),
        1 => "keeps 1 file current".into(),
        files => format!("keeps {files} files current"),
    };
    format!("the agent shares keys {shared} and {exports}")
}
