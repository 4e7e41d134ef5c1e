//! `tktrot secret new FILE`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tktrot_fleet::secret::FleetSecret;

use crate::output::outln;
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Writes a new fleet secret to a new file
    New(New),
}

#[derive(clap::Args)]
#[command(after_long_help = "\
All hosts of a fleet need the same secret: make it once and copy it to the others as you copy private \
keys, because whoever has it can join the fleet. Only its owner can read the file (mode 0600), and an \
existing file is never replaced.")]
struct New {
    /// The file, for example /etc/tktrot/fleet.secret.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<Severity> {
    let Action::New(New { file }) = &arguments.action;
    create(file).with_context(|| file.display().to_string())?;
    outln!("{}: wrote a new fleet secret; every host of the fleet needs it", file.display());
    Ok(Severity::Ok)
}

fn create(path: &Path) -> Result<()> {
    let text = FleetSecret::generate().context("OpenSSL's random number generator failed")?;
    // create_new also refuses a symbolic link, wherever that leads.
    let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("the file exists, and hosts may need what is in it: name a new file")
        }
        opened => opened?,
    };
    write(file, text.as_bytes()).inspect_err(|_| {
        // Half a secret is useless. If it cannot be removed either, the first error is still the one to
        // report.
        let _ = fs::remove_file(path);
    })?;
    Ok(())
}

fn write(mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()
}
