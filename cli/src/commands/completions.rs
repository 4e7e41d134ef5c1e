//! `tktrot completions SHELL`.

use anyhow::Result;
use clap_complete::Shell;

use crate::output::out;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: &Arguments, mut program: clap::Command) -> Result<Severity> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "tktrot", &mut script);
    out!("{}", String::from_utf8(script)?);
    Ok(Severity::Ok)
}
