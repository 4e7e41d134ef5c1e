//! `tktrot export --format FORMAT [RING] --output FILE`.

mod selection;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tktrot::clock::{BootClock, Clock};

use crate::keyfile::lighttpd::Now;
use crate::keyfile::target::{self, Disk, Written};
use crate::keyfile::{haproxy, lighttpd, nginx, raw};
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;
use selection::Selection;

#[derive(clap::Args)]
#[command(after_long_help = "\
Only plain keys can be exported, which a ring has where its servers run with TKTROT_BIND=none. Then \
no ticket is bound to where it was issued: whoever has one of a listener can resume it at any other \
one that has the key, also where a client certificate is required.

What is written:
  nginx-80   FILE.0, the key that encrypts, FILE.1, its successor, FILE.2 and so on, the former ones; \
and FILE, which names them all: nginx.conf says `include FILE;`
  haproxy    FILE, three lines, of which the second encrypts: a former key, that one, its successor
  lighttpd   FILE, the key that encrypts
  raw        FILE, every key, the one that encrypts first

Files live longer than keys: write them anew in every rotation, let the servers read them, and remove \
them when nobody needs them any more. docs/moving.md says how.")]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    /// For whom it is.
    #[arg(long, value_enum)]
    format: Format,

    /// The file to write, on tmpfs; mode 0600. What was in it is replaced.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    /// Writes to a disk, too, from which nothing is ever erased for certain.
    #[arg(long)]
    force_disk: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// ssl_session_ticket_key, 80 bytes for each key
    #[value(name = "nginx-80")]
    Nginx80,
    /// tls-ticket-keys
    Haproxy,
    /// ssl.stek-file
    Lighttpd,
    /// 80 bytes for each key: name (16), AES-256 (32), HMAC (32)
    Raw,
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
    let count = write(arguments.format, &selection, now, output, disk)?;
    println!(
        "{}: {} of {} keys; {} encrypts",
        output.display(),
        count,
        selection.len(),
        selection.active.name
    );
    if selection.left_out > 0 {
        eprintln!(
            "tktrot: {} keys are left out, which servers without libtktrot cannot use: they are \
             not plain, or of 16 bytes",
            selection.left_out
        );
    }
    Ok(Severity::Fine)
}

/// Writes the files; returns how many keys are in them.
fn write(format: Format, keys: &Selection, now: Now, output: &Path, disk: Disk) -> Result<usize> {
    let (bytes, count) = match format {
        Format::Nginx80 => return write_nginx(keys, output, disk),
        Format::Haproxy => {
            let lines = keys.for_haproxy()?;
            (haproxy::format(lines.each_ref().map(|key| &**key)), haproxy::LINES)
        }
        Format::Lighttpd => (lighttpd::format(&keys.active, now), 1),
        Format::Raw => (raw::format(&keys.all()), keys.len()),
    };
    target::write(output, &bytes, disk)?.place()?;
    Ok(count.min(keys.len()))
}

/// A file for each key, and one that names them.
fn write_nginx(keys: &Selection, output: &Path, disk: Disk) -> Result<usize> {
    let base = std::path::absolute(output)?;
    let numbered = |number: usize| {
        let mut path = OsString::from(&base);
        path.push(format!(".{number}"));
        PathBuf::from(path)
    };
    let all = keys.all();
    let paths: Vec<PathBuf> = (0..all.len()).map(numbered).collect();
    let list = nginx::directives(paths.iter().map(PathBuf::as_path));
    let write = |(path, key): (&PathBuf, _)| target::write(path, &nginx::format(key), disk);
    let files: Result<Vec<Written>> = paths.iter().zip(all.iter().copied()).map(write).collect();
    let list = target::write(&base, list.as_bytes(), disk)?;
    // All are written before the first is in its place; the one that names them comes last.
    files?.into_iter().chain([list]).try_for_each(Written::place)?;
    // What an earlier export with more keys has left.
    let mut stale = (all.len()..).map(numbered);
    while target::remove(&stale.next().context("a number")?)? {}
    Ok(all.len())
}
