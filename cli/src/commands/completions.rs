//! `tktrot completions SHELL`.

use anyhow::Result;
use clap_complete::Shell;

use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments, mut program: clap::Command) -> Result<Severity> {
    clap_complete::generate(arguments.shell, &mut program, "tktrot", &mut std::io::stdout());
    Ok(Severity::Fine)
}
