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
    deed: Deed,
}

#[derive(clap::Subcommand)]
enum Deed {
    /// Writes a new fleet secret to a file that is not there yet
    New(New),
}

#[derive(clap::Args)]
#[command(after_long_help = "\
Every host of a fleet needs the same one: make it once, and bring it to the others as you bring private \
keys there, for whoever has it can join the fleet. The file is for its owner alone (mode 0600), and one \
that is there is never replaced.")]
struct New {
    /// The file, for example /etc/tktrot/fleet.secret.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<Severity> {
    let Deed::New(New { file }) = &arguments.deed;
    create(file).with_context(|| file.display().to_string())?;
    outln!("{}: a new fleet secret; every host of the fleet needs it", file.display());
    Ok(Severity::Fine)
}

fn create(path: &Path) -> Result<()> {
    let text = FleetSecret::generate().context("OpenSSL's generator gives no secret")?;
    // create_new also refuses a symbolic link, wherever that leads.
    let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("it is there already, and hosts may need what is in it: name a new file")
        }
        opened => opened?,
    };
    write(file, text.as_bytes()).inspect_err(|_| {
        // Half a secret is none. That it cannot be removed either changes nothing about the error.
        let _ = fs::remove_file(path);
    })?;
    Ok(())
}

fn write(mut file: File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()
}
