//! The command line. Each command has a module: its arguments, and what it does.

mod agent;
mod check;
mod completions;
mod config;
mod export;
mod import;
mod man;
mod manual;
mod peers;
mod probe;
mod revoke;
mod ring;
mod rotate;
mod run;
mod secret;
mod status;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{CommandFactory, Parser};

use crate::severity::Severity;

/// A command line that says nothing that can be done, for whatever reason it is found late.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Inspect and control the session ticket keys of TLS servers, and test servers from outside.
#[derive(Parser)]
#[command(name = "tktrot", version, max_term_width = 100)]
#[command(after_long_help = "Exit status: 0 ok, 1 warning (it works, and deserves a look), 2 \
    critical (it does not work, or is not safe) or the command failed, 64 the command line is wrong.")]
pub struct Cli {
    /// The settings file; by default /etc/tktrot/tktrot.toml, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(clap::Subcommand)]
pub enum Command {
    /// Starts a server under libtktrot
    Run(run::Arguments),
    /// Checks whether libtktrot will work here, and if not, why
    Check(check::Arguments),
    /// Shows rings: exposure, keys, who uses them, what is wrong
    Status(status::Arguments),
    /// Shows a ring live, until q
    Watch(watch::Arguments),
    /// Makes a new key now; the old one goes on decrypting
    Rotate(rotate::Arguments),
    /// Revokes keys now, in every process of this host
    Revoke(revoke::Arguments),
    /// Lists ring files, shows one, removes one that nobody uses
    Ring(ring::Arguments),
    /// Tests servers from outside: what they do with session tickets
    Probe(probe::Arguments),
    /// Imports ticket keys from a server's key file, so that its tickets stay valid
    Import(import::Arguments),
    /// Writes a ring's keys to a file, for servers that do not run under libtktrot
    Export(export::Arguments),
    /// Makes the secret that the hosts of a fleet share
    Secret(secret::Arguments),
    /// Checks the settings file
    Config(config::Arguments),
    /// Owns a ring and shares its keys with the other hosts of a fleet
    Agent(agent::Arguments),
    /// Shows the hosts with which the agent shares the keys of a ring
    Peers(peers::Arguments),
    /// Prints completions for a shell
    #[command(hide = true)]
    Completions(completions::Arguments),
    /// Writes the man pages
    #[command(hide = true)]
    Man(man::Arguments),
}

impl Command {
    /// True for the command that does not end by itself, and has one ring.
    pub fn stays(&self) -> bool {
        matches!(self, Command::Agent(_))
    }

    /// Runs the command; `config` is the settings file, if one was named.
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
            Command::Completions(arguments) => completions::run(arguments, Cli::command()),
            Command::Man(arguments) => man::run(arguments, Cli::command()),
        }
    }
}
