//! `tktrot export --format FORMAT [RING] --output FILE`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use tktrot::clock::{BootClock, Clock};

use crate::output::{errln, outln};
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;
use tktrot_keyfile::files::{self, Fate, Format, Writing};
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::private::{Disk, Manner};
use tktrot_keyfile::selection::Selection;

#[derive(clap::Args)]
#[command(after_long_help = "\
Only plain keys can be exported; a ring has them if its servers run with TKTROT_BIND=none. Tickets are \
then not bound to where they were issued: a client with a ticket from one listener can resume at any \
other listener that has the key, even where a client certificate is required.

What is written:
  nginx-80   FILE.0, the key that encrypts, FILE.1, its successor, FILE.2 and so on, the former ones; \
and FILE, which names them all: nginx.conf says `include FILE;`
  haproxy    FILE, three lines, of which the second encrypts: a former key, that one, its successor
  lighttpd   FILE, the key that encrypts
  apache     FILE, a 48-byte key derived from the one that encrypts: Apache can have only one, for \
AES-128, so no other server opens its tickets, and with the next file it opens none of its earlier ones
  raw        FILE, every key, the one that encrypts first

Files outlive keys: write them again at every rotation, have the servers read them, and remove them when \
they are no longer needed. docs/moving.md says how.")]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    /// The format, named for the server that reads it.
    #[arg(long, value_enum)]
    format: Format,

    /// The file to write, on tmpfs; mode 0600. Its former content is replaced.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Allows a file on a disk, from which nothing can be erased with certainty.
    #[arg(long)]
    force_disk: bool,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let output = &arguments.output;
    ensure!(output.as_os_str() != "-", "--output: keys are never printed; name a file");
    let settings = settings::read(config)?;
    let (place, view) = arguments.ring.look(&settings)?;
    let now = Now { ring: BootClock.now(), wall: SystemTime::now() };
    let selection = Selection::of(&view, now.ring)
        .with_context(|| format!("{}: nothing was exported", place.path().display()))?;
    let disk = if arguments.force_disk { Disk::Forced } else { Disk::Refused };
    let manner = Manner { disk, mode: 0o600, group: None };
    let writing = Writing { now, manner, fate: Fate::Final, not_before: 0 };
    let lineup = selection.lineup();
    let count = files::write(arguments.format, &lineup, output, writing)?;
    outln!(
        "{}: {} of {} keys; {} encrypts",
        output.display(),
        count,
        selection.count(),
        lineup.encrypts.name
    );
    if selection.left_out > 0 {
        errln!(
            "tktrot: {} keys are left out, which servers without libtktrot cannot use: they are \
             not plain, or of 16 bytes",
            selection.left_out
        );
    }
    Ok(Severity::Ok)
}
