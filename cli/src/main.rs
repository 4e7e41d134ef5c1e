//! `tktrot`: inspect and control the ticket keys of TLS servers, and test servers from outside.
//!
//! - [`commands`]: one file for each command
//! - [`check`], [`probe`], [`status`], [`watch`], [`ringfile`]: what larger commands do
//! - [`rings`]: which ring a command means, and how it is opened; [`orphans`]: rings without a file
//! - [`processes`]: what /proc says of the processes that have a ring
//! - [`settings`], [`output`], [`severity`]: what all commands share
//! - [`shim`]: where the LD_PRELOAD shim is
//! - [`truncated`]: survives a ring that is truncated while it is read
//!
//! The agent (`tktrot_agent`) and the key files of servers (`tktrot_keyfile`) are crates of their own.

mod check;
mod commands;
mod metrics;
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

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use commands::{Cli, Usage};
use output::errln;
use severity::Severity;

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // To stdout what was asked for (--help), to stderr what is wrong.
            let printed = error.print();
            if error.use_stderr() {
                return ExitCode::from(USAGE);
            }
            output::note(printed.and_then(|()| std::io::stdout().flush()));
            return ended(Severity::Ok);
        }
    };
    if !cli.command.stays() {
        truncated::survive();
    }
    match cli.command.run(cli.config.as_deref()) {
        Ok(severity) => ended(severity),
        Err(error) => {
            errln!("tktrot: {error:#}");
            match error.is::<Usage>() {
                true => ExitCode::from(USAGE),
                false => ended(Severity::Critical),
            }
        }
    }
}

/// The exit status of a command that ended like this, once nothing more is printed.
fn ended(severity: Severity) -> ExitCode {
    if let Some(error) = output::failure() {
        errln!("tktrot: some output could not be written: {error}");
        return Severity::Critical.into();
    }
    if truncated::happened() {
        errln!(
            "tktrot: a ring was truncated while it was read: what is printed about it may be wrong, \
             and what was to be done to it was not done"
        );
        return Severity::Critical.into();
    }
    severity.into()
}
