//! One module per command: its arguments, and what it does.

mod agent;
mod check;
mod completions;
mod config;
mod export;
mod import;
mod man;
mod peers;
mod probe;
mod revoke;
mod ring;
mod rotate;
mod run;
mod secret;
mod status;
mod watch;

use std::path::Path;

use anyhow::Result;

use crate::severity::Severity;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Starts a server under libtktrot
    Run(run::Arguments),
    /// Tells whether it will work here, and if not, why
    Check(check::Arguments),
    /// Shows rings: exposure, keys, who uses them, what is wrong
    Status(status::Arguments),
    /// Shows a ring live, until q
    Watch(watch::Arguments),
    /// Makes a new key now; the old one decrypts on
    Rotate(rotate::Arguments),
    /// Ends keys now, in every process of this host
    Revoke(revoke::Arguments),
    /// Lists ring files, shows one, removes one that nobody uses
    Ring(ring::Arguments),
    /// Tests servers from outside: what they do with session tickets
    Probe(probe::Arguments),
    /// Puts the ticket keys of another server's file into a ring, so that its tickets go on
    Import(import::Arguments),
    /// Writes a ring's keys to a file, for servers that do not run under libtktrot
    Export(export::Arguments),
    /// Makes the secret that the hosts of a fleet have in common
    Secret(secret::Arguments),
    /// Looks at the settings file
    Config(config::Arguments),
    /// Owns a ring and shares its keys with the other hosts of a fleet
    Agent(agent::Arguments),
    /// Shows the hosts with which the agent of a ring shares keys
    Peers(peers::Arguments),
    /// Prints the completions of a shell
    #[command(hide = true)]
    Completions(completions::Arguments),
    /// Writes the man pages
    #[command(hide = true)]
    Man(man::Arguments),
}

impl Command {
    /// True if it goes on for long, and with one ring.
    pub fn stays(&self) -> bool {
        matches!(self, Command::Agent(_))
    }

    /// Does it; `config` is the settings file, if one was named.
    pub fn run(&self, config: Option<&Path>) -> Result<Severity> {
        match self {
            Command::Run(arguments) => run::run(arguments, config),
            Command::Check(arguments) => check::run(arguments, config),
            Command::Status(arguments) => status::run(arguments, config),
            Command::Watch(arguments) => watch::run(arguments, config),
            Command::Rotate(arguments) => rotate::run(arguments, config),
            Command::Revoke(arguments) => revoke::run(arguments, config),
            Command::Ring(arguments) => ring::run(arguments, config),
            Command::Probe(arguments) => probe::run(arguments),
            Command::Import(arguments) => import::run(arguments, config),
            Command::Export(arguments) => export::run(arguments, config),
            Command::Secret(arguments) => secret::run(arguments),
            Command::Config(arguments) => config::run(arguments, config),
            Command::Agent(arguments) => agent::run(arguments, config),
            Command::Peers(arguments) => peers::run(arguments, config),
            Command::Completions(arguments) => completions::run(arguments),
            Command::Man(arguments) => man::run(arguments),
        }
    }
}
