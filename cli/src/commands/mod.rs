//! One module per command: its arguments, and what it does.

mod completions;
mod config;
mod man;
mod revoke;
mod rotate;
mod status;
mod watch;

use std::path::Path;

use anyhow::Result;

use crate::severity::Severity;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Shows rings: exposure, keys, who uses them, what is wrong
    Status(status::Arguments),
    /// Shows a ring live, until q
    Watch(watch::Arguments),
    /// Makes a new key now; the old one decrypts on
    Rotate(rotate::Arguments),
    /// Ends keys now, in every process of this host
    Revoke(revoke::Arguments),
    /// Looks at the settings file
    Config(config::Arguments),
    /// Prints the completions of a shell
    #[command(hide = true)]
    Completions(completions::Arguments),
    /// Writes the man pages
    #[command(hide = true)]
    Man(man::Arguments),
}

impl Command {
    /// Does it; `config` is the settings file, if one was named.
    pub fn run(&self, config: Option<&Path>) -> Result<Severity> {
        match self {
            Command::Status(arguments) => status::run(arguments, config),
            Command::Watch(arguments) => watch::run(arguments, config),
            Command::Rotate(arguments) => rotate::run(arguments, config),
            Command::Revoke(arguments) => revoke::run(arguments, config),
            Command::Config(arguments) => config::run(arguments, config),
            Command::Completions(arguments) => completions::run(arguments),
            Command::Man(arguments) => man::run(arguments),
        }
    }
}
