//! `tktrot ring list | show | remove`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail, ensure};

use crate::output::{errln, out, outln, width};
use crate::ringfile::file::RingFile;
use crate::ringfile::report::{self, InFull, List, Ring, Show};
use crate::ringfile::{removal, search};
use crate::rings::{self, NamedRing, RingArgument};
use crate::settings::{self, Settings};
use crate::severity::Severity;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Lists the rings of this machine: their files, and how many processes use them
    List(ListArguments),
    /// Shows one ring file, and who has it
    Show(ShowArguments),
    /// Removes the file of a ring that nobody uses any more
    Remove(RemoveArguments),
}

#[derive(clap::Args)]
#[command(after_long_help = "\
Searches the directories in which servers make rings: /run/tktrot, /dev/shm/tktrot, those of all users, \
and dir in the settings (TKTROT_DIR); and lists the rings that processes have elsewhere. Users other than \
root see only their own. A ring whose file was removed is listed as long as a process has it.

Exit status: 0 if every ring can be read or is for servers of another version; 1 if one cannot be read, its \
file was removed, or a directory cannot be read; 2 if a directory named with --dir cannot be read.")]
struct ListArguments {
    /// Searches these directories, too.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    dir: Vec<PathBuf>,

    /// Prints JSON (docs/schemas/ring-list.schema.json)
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_long_help = "\
`tktrot status` shows what is in the ring.

Exit status: as for `tktrot ring list`; 2 if there is no such ring.")]
struct ShowArguments {
    #[command(flatten)]
    ring: RingArgument,

    /// Prints JSON (docs/schemas/ring-show.schema.json)
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_long_help = "\
Refuses while the ring is in use: by a process that maps it, by a live process in another container that \
has registered in it, or by an agent that governs it. A server that starts at the same moment makes a new \
ring. The keys are erased before the file is removed. If servers of another version made the file, or it is \
not a ring, no lock can keep them out: then it is removed only if no process maps it.

Exit status: 0 if it was removed, 2 if not.")]
struct RemoveArguments {
    /// Name or path of the ring.
    #[arg(value_name = "RING", value_parser = rings::checked)]
    ring: OsString,

    /// Removes it although some processes cannot be inspected and may use it. A ring that is seen to
    /// be in use is never removed.
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    match &arguments.action {
        Action::List(arguments) => list(arguments, &settings),
        Action::Show(arguments) => show(arguments, &settings),
        Action::Remove(arguments) => remove(arguments, &settings),
    }
}

fn list(arguments: &ListArguments, settings: &Settings) -> Result<Severity> {
    let found = search::find(&arguments.dir, settings);
    // A ring that was removed meanwhile is left out.
    let facts = found.rings.iter().filter_map(|target| RingFile::of(target, settings));
    let rings: Vec<_> = facts.collect();
    let of_dirs = found.unsearched.iter().map(|dir| match dir.was_named {
        true => Severity::Critical,
        false => Severity::Warning,
    });
    let severity =
        rings.iter().map(RingFile::severity).chain(of_dirs).max().unwrap_or(Severity::Ok);
    for dir in &found.unsearched {
        errln!("tktrot: {}", dir.error);
    }
    if arguments.json {
        let rings = rings.iter().map(Ring::of).collect();
        let list = List { version: 1, severity, rings, unsearched: found.unsearched };
        outln!("{}", serde_json::to_string_pretty(&list)?);
    } else {
        out!("{}", report::table(&rings, &found.searched));
    }
    Ok(severity)
}

fn show(arguments: &ShowArguments, settings: &Settings) -> Result<Severity> {
    let places = arguments.ring.files(settings)?;
    let targets = NamedRing::all(&places);
    let rings: Vec<_> =
        targets.iter().filter_map(|target| RingFile::of(target, settings)).collect();
    if rings.is_empty() {
        // Fails with what is there instead, or with who owns the directory.
        rings::look_at(&places[0])?;
        bail!("{}: it was removed meanwhile", places[0].path().display());
    }
    let severity = rings.iter().map(RingFile::severity).max().unwrap_or(Severity::Ok);
    if arguments.json {
        let rings = rings.iter().map(InFull::of).collect();
        outln!("{}", serde_json::to_string_pretty(&Show { version: 1, severity, rings })?);
        return Ok(severity);
    }
    let now = SystemTime::now();
    let told: Vec<_> = rings.iter().map(|facts| report::full(facts, now, width())).collect();
    out!("{}", told.join("\n"));
    Ok(severity)
}

fn remove(arguments: &RemoveArguments, settings: &Settings) -> Result<Severity> {
    // Of several versions, this one's; the others are removed by their paths.
    let argument = RingArgument { ring: Some(arguments.ring.clone()) };
    let place = argument.files(settings)?.remove(0);
    let targets = NamedRing::all(std::slice::from_ref(&place));
    let removed: Vec<_> = targets.iter().filter(|target| target.is_removed()).collect();
    let names: Vec<_> = removed.iter().map(|target| target.name()).collect();
    ensure!(
        removed.len() < targets.len(),
        "{}: there is no file to remove; its keys end with those processes, or now with `tktrot revoke \
         {} --all`",
        names.join("; "),
        place.path().display()
    );
    let done = removal::remove(&place, settings, arguments.force)?;
    outln!("{}", done.said);
    Ok(match done.left_alone {
        None => Severity::Ok,
        Some(left) => {
            errln!("tktrot: {left}");
            Severity::Critical
        }
    })
}
