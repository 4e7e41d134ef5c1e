//! `tktrot config check [FILE]`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::settings;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Tells what is wrong in the file, with line and column
    Check {
        /// The file, if not the one of --config or the default.
        file: Option<PathBuf>,
    },
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let Action::Check { file } = &arguments.action;
    let file = file.as_deref().or(config).unwrap_or(Path::new(settings::DEFAULT));
    let variables = settings::read_file(file)?;
    println!("{}: {} settings, all of which can be used", file.display(), variables.len());
    for (name, value) in variables {
        println!("  {}={}", name.to_string_lossy(), value.to_string_lossy());
    }
    Ok(Severity::Fine)
}
