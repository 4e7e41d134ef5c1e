//! What is known of one ring file, whatever is in it.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;
use tktrot::ring::file::Place;
use tktrot::ring::layout::MAJOR;

use crate::orphans::Target;
use crate::rings;
use crate::settings::Settings;
use crate::severity::Severity;
use crate::status::observer::Observer;
use crate::status::processes::{FileId, Presence, Processes, printable};
use crate::status::reading::{Reading, User};

/// One ring file, and who has it.
pub struct Facts {
    /// The ring's name.
    pub name: String,
    pub path: String,
    /// True if its file has no name any more.
    pub removed: bool,
    /// `None` if that is not known: the file may not be opened, or is not a ring.
    pub version: Option<u32>,
    /// `None` if it cannot be reached at all.
    pub file: Option<Metadata>,
    /// What is in it, or why that cannot be read.
    pub reading: Result<Reading, String>,
    /// Those that have it, as far as they are seen.
    pub users: Vec<User>,
    /// Processes of which this user may not see whether they map it.
    pub hidden_processes: usize,
}

/// Whether a ring can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    Readable,
    /// It is of another format version: for the servers of another release.
    OtherVersion,
    Unreadable,
}

impl Facts {
    /// Looks at a ring; `None` if there is nothing.
    pub fn of(target: &Target, settings: &Settings) -> Option<Facts> {
        let path = target.path();
        let (file, facts) = match target {
            Target::At(place) => {
                (open(place, false), Some(fs::symlink_metadata(place.path()).ok()?))
            }
            Target::Removed(orphan) => {
                let file = orphan.file(false);
                let facts = file.as_ref().ok().and_then(|file| file.metadata().ok());
                (file, facts)
            }
        };
        let claim =
            file.as_ref().ok().and_then(|file| tktrot::ring::versions::version_of(file).ok());
        let reading = read(target, settings).map_err(|error| format!("{error:#}"));
        let (users, hidden_processes) = match (&reading, &facts) {
            (Ok(reading), _) => (living(&reading.users), reading.hidden_processes),
            (Err(_), Some(facts)) => mapping(FileId::of_facts(facts)).unwrap_or_default(),
            (Err(_), None) => Default::default(),
        };
        Some(Facts {
            name: rings::title(&path),
            path: printable(&path.to_string_lossy()),
            removed: target.is_removed(),
            version: claim.and_then(|claim| claim.version),
            file: facts,
            reading,
            users,
            hidden_processes,
        })
    }

    /// Whether it can be read, and by whom.
    pub fn condition(&self) -> Condition {
        match (&self.reading, self.version) {
            (Ok(_), _) => Condition::Readable,
            (Err(_), Some(version)) if version != MAJOR => Condition::OtherVersion,
            (Err(_), _) => Condition::Unreadable,
        }
    }

    /// A ring of another version serves others; what nobody can use deserves a look.
    pub fn severity(&self) -> Severity {
        match self.condition() {
            Condition::Readable | Condition::OtherVersion if !self.removed => Severity::Fine,
            _ => Severity::Doubtful,
        }
    }

    /// Why it cannot be read, without the path in front of it.
    pub fn reason(&self) -> Option<&str> {
        let reason = self.reading.as_ref().err()?;
        let rest = reason.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix(": "));
        Some(rest.unwrap_or(reason))
    }

    /// Whose it is.
    pub fn owner(&self) -> Option<u32> {
        self.file.as_ref().map(MetadataExt::uid)
    }

    /// The memory that it takes: holes take none.
    pub fn memory(&self) -> Option<u64> {
        /// stat(2): the unit of `st_blocks`, whatever the file system's block size is.
        const BLOCK: u64 = 512;
        self.file.as_ref().map(|file| file.blocks() * BLOCK)
    }

    /// When the file was made; `None` where the kernel does not tell.
    pub fn made(&self) -> Option<SystemTime> {
        // Old kernels have no birth for tmpfs, and some say that it was in 1970.
        self.file.as_ref()?.created().ok().filter(|made| *made > UNIX_EPOCH)
    }

    /// How many processes use it; those that only look do not.
    pub fn count_users(&self) -> usize {
        self.users.iter().filter(|user| user.writes).count()
    }
}

/// What is in a ring.
pub fn read(target: &Target, settings: &Settings) -> Result<Reading> {
    match target {
        Target::At(place) => Observer::new(place.clone(), settings).read(),
        Target::Removed(orphan) => {
            Observer::of_removed(orphan.path.clone(), orphan.look()?, settings).read()
        }
    }
}

/// Those that have a ring now.
pub fn living(users: &[User]) -> Vec<User> {
    users.iter().filter(|user| user.presence != Presence::Gone).cloned().collect()
}

/// Those that map a file which tells nothing itself, and how many cannot be looked at.
pub fn mapping(file: FileId) -> Result<(Vec<User>, usize)> {
    let processes = Processes::mapping(file)?;
    let users = processes.iter().map(|(pid, mapped)| User {
        pid,
        program: mapped.program.clone(),
        presence: Presence::Maps,
        counts: false,
        writes: mapped.writes,
        locked: mapped.locked,
        binds: None,
    });
    Ok((users.collect(), processes.hidden()))
}

/// The file itself, whatever is in it: no symbolic link is followed, and no FIFO waited for.
pub fn open(place: &Place, to_write: bool) -> Result<File> {
    let path = place.path();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options()
        .read(true)
        .write(to_write)
        .custom_flags(flags)
        .open(&path)
        .with_context(|| format!("{}: it cannot be opened", path.display()))
}
