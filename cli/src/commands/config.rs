//! `tktrot config check [FILE]`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::unistd::geteuid;
use tktrot_agent::Files;
use tktrot_agent::checks::{self, Findings};
use tktrot_fleet::config::Config as FleetConfig;

use crate::output::{outln, printable};
use crate::rings::RingArgument;
use crate::settings::{self, Settings};
use crate::severity::Severity;

#[derive(clap::Args)]
#[command(after_long_help = "\
Exit status: 0 if all is well; 1 if the agent would start and something would not work; 2 if it would not \
start. Names of other hosts are looked up; nobody is called. What a running agent of the ring listens on counts as free.")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Says all that is wrong in the file, with line and column, and what the agent misses on this host
    Check {
        /// The file, if not the one of --config or the default.
        file: Option<PathBuf>,
    },
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let Action::Check { file } = &arguments.action;
    let file = file.as_deref().or(config).unwrap_or(Path::new(settings::DEFAULT));
    let settings = settings::read(Some(file))?;
    let Settings { variables, fleet, doubts: told, .. } = &settings;
    let all = if told.is_empty() { ", all valid" } else { "" };
    let number = match variables.len() {
        1 => "1 setting".into(),
        number => format!("{number} settings"),
    };
    outln!("{}: {number}{all}", file.display());
    for (name, value) in variables {
        outln!("  {}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    told.iter().for_each(|doubt| outln!("{:8}  {}", Severity::Warning, printable(doubt)));
    if *fleet == FleetConfig::default() {
        return Ok(if told.is_empty() { Severity::Ok } else { Severity::Warning });
    }
    outln!("  {}", said(fleet));
    let ring = RingArgument { ring: None }.usable(&settings);
    let Findings { stops, mut doubts, at_restart } =
        checks::all(fleet, &settings.config, ring, &Files::default());
    doubts.extend(checks::unresolved(fleet));
    if !at_restart.is_empty() {
        let files: Vec<_> = at_restart.iter().map(|file| file.display().to_string()).collect();
        outln!(
            "  user {} cannot read {}: if such a file changes, restart the agent; a reload is not \
             enough",
            fleet.agent.user,
            printable(&files.join(", "))
        );
    }
    doubts.iter().for_each(|doubt| outln!("{:8}  {}", Severity::Warning, printable(doubt)));
    for stop in &stops {
        outln!("{:8}  {}", Severity::Critical, printable(&format!("{stop:#}")));
    }
    if !stops.is_empty() && !geteuid().is_root() {
        outln!("You are not root: the agent may find less that is wrong if root starts it.");
    }
    Ok(match (&*stops, &*doubts) {
        ([], []) if told.is_empty() => Severity::Ok,
        ([], _) => Severity::Warning,
        _ => Severity::Critical,
    })
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
