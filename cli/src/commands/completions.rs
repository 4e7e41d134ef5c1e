//! `tktrot completions SHELL`.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::Cli;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<Severity> {
    clap_complete::generate(arguments.shell, &mut Cli::command(), "tktrot", &mut std::io::stdout());
    Ok(Severity::Fine)
}
