//! `tktrot`: see the ticket keys of TLS servers, steer them, test them from outside.
//!
//! One file per command in [`commands`]. What they share: which ring is meant ([`rings`]), what the
//! settings file says ([`settings`]), how bad it is ([`severity`]), and what is known of a ring
//! ([`status`]), once or live ([`watch`]), and of its file ([`ringfile`]). The agent
//! (`tktrot_agent`) and the files of keys (`tktrot_keyfile`) are crates of their own.

mod check;
mod commands;
mod orphans;
mod output;
mod probe;
mod processes;
mod ringfile;
mod rings;
mod settings;
mod severity;
mod shim;
mod status;
mod truncated;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use output::errln;
use severity::Severity;

/// Session ticket keys of TLS servers: see them, steer them, test them.
#[derive(Parser)]
#[command(name = "tktrot", version, max_term_width = 100)]
#[command(
    after_long_help = "Exit status: 0 all is well, 1 something deserves a look, 2 something \
    is wrong or the command failed, 64 the command line is wrong."
)]
struct Cli {
    /// The settings file; by default /etc/tktrot/tktrot.toml, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,

    #[command(subcommand)]
    command: commands::Command,
}

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // To stdout what was asked for (--help), to stderr what is wrong. If neither can be
            // written, nobody is there to be told.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if !cli.command.stays() {
        truncated::survive();
    }
    let severity = cli.command.run(cli.config.as_deref()).unwrap_or_else(|error| {
        errln!("tktrot: {error:#}");
        Severity::Wrong
    });
    if let Some(error) = output::failure() {
        errln!("tktrot: not all could be printed: {error}");
        return Severity::Wrong.into();
    }
    if truncated::happened() {
        errln!(
            "tktrot: a ring was truncated while it was looked at: what is said of it above may be \
             wrong, and what was to be done to it was not done"
        );
        return Severity::Wrong.into();
    }
    severity.into()
}
