//! One ring file, whatever is in it: what is known of it, and who has it.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;
use tktrot::ring::file::Place;
use tktrot::ring::layout::MAJOR;

use crate::output::printable;
use crate::processes::{FileId, Presence, Processes};
use crate::rings::{self, NamedRing};
use crate::settings::Settings;
use crate::severity::Severity;
use crate::status::observer::Observer;
use crate::status::ring::{RingStatus, RingUser};

/// One ring file, and who has it.
pub struct RingFile {
    /// The ring's name.
    pub name: String,
    pub path: String,
    /// True if the file no longer has a name.
    pub removed: bool,
    /// The version of its format; `None` if that is unknown: the file may not be opened, or is not a
    /// ring.
    pub version: Option<u32>,
    /// `None` if the file cannot be reached at all.
    pub metadata: Option<Metadata>,
    /// What is in it, or why that cannot be read.
    pub status: Result<RingStatus, String>,
    /// The visible processes that have it.
    pub users: Vec<RingUser>,
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

impl RingFile {
    /// Looks at a ring; `None` if there is nothing.
    pub fn of(ring: &NamedRing, settings: &Settings) -> Option<RingFile> {
        let path = ring.path();
        let (file, metadata) = match ring {
            NamedRing::At(place) => {
                (open(place, false), Some(fs::symlink_metadata(place.path()).ok()?))
            }
            NamedRing::Removed(orphan) => {
                let file = orphan.file(false);
                let metadata = file.as_ref().ok().and_then(|file| file.metadata().ok());
                (file, metadata)
            }
        };
        let claim =
            file.as_ref().ok().and_then(|file| tktrot::ring::versions::version_of(file).ok());
        let status = status_of(ring, settings).map_err(|error| format!("{error:#}"));
        let (users, hidden_processes) = match (&status, &metadata) {
            (Ok(status), _) => (living(&status.users), status.hidden_processes),
            (Err(_), Some(metadata)) => mapping(FileId::of_metadata(metadata)).unwrap_or_default(),
            (Err(_), None) => Default::default(),
        };
        Some(RingFile {
            name: rings::title(&path),
            path: printable(&path.to_string_lossy()),
            removed: ring.is_removed(),
            version: claim.and_then(|claim| claim.version),
            metadata,
            status,
            users,
            hidden_processes,
        })
    }

    pub fn condition(&self) -> Condition {
        match (&self.status, self.version) {
            (Ok(_), _) => Condition::Readable,
            (Err(_), Some(version)) if version != MAJOR => Condition::OtherVersion,
            (Err(_), _) => Condition::Unreadable,
        }
    }

    /// A ring of another version serves other servers; one that nobody can use deserves a look.
    pub fn severity(&self) -> Severity {
        match self.condition() {
            Condition::Readable | Condition::OtherVersion if !self.removed => Severity::Ok,
            _ => Severity::Warning,
        }
    }

    /// Why it cannot be read, without the path in front of it.
    pub fn reason(&self) -> Option<&str> {
        let reason = self.status.as_ref().err()?;
        let rest = reason.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix(": "));
        Some(rest.unwrap_or(reason))
    }

    /// The user whose file it is.
    pub fn owner(&self) -> Option<u32> {
        self.metadata.as_ref().map(MetadataExt::uid)
    }

    /// The memory that it takes, which holes do not.
    pub fn memory(&self) -> Option<u64> {
        /// stat(2): the unit of `st_blocks`, whatever the file system's block size is.
        const BLOCK: u64 = 512;
        self.metadata.as_ref().map(|file| file.blocks() * BLOCK)
    }

    /// When the file was made; `None` where the kernel does not say.
    pub fn made(&self) -> Option<SystemTime> {
        // Old kernels have no birth time for tmpfs, and some say 1970.
        self.metadata.as_ref()?.created().ok().filter(|made| *made > UNIX_EPOCH)
    }

    /// The number of processes that use it; those that only read it do not count.
    pub fn count_users(&self) -> usize {
        self.users.iter().filter(|user| user.writes).count()
    }
}

/// What is in a ring.
pub fn status_of(ring: &NamedRing, settings: &Settings) -> Result<RingStatus> {
    match ring {
        NamedRing::At(place) => Observer::new(place.clone(), settings).read(),
        NamedRing::Removed(orphan) => {
            Observer::of_removed(orphan.path.clone(), ring.look()?, settings).read()
        }
    }
}

/// The users that have the ring now.
pub fn living(users: &[RingUser]) -> Vec<RingUser> {
    users.iter().filter(|user| user.presence != Presence::Gone).cloned().collect()
}

/// The processes that map a file, when the file cannot say who uses it, and the number of those that
/// cannot be looked at.
pub fn mapping(file: FileId) -> Result<(Vec<RingUser>, usize)> {
    let processes = Processes::mapping(file)?;
    let users = processes.iter().map(|(pid, mapped)| RingUser {
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
        .with_context(|| format!("{}: cannot be opened", path.display()))
}

/// The rings of the same name in other versions of the format, on which no command of this version
/// acts: a line for each that somebody uses, or may use. `undone` says what was not done to it.
pub fn not_reached(place: &Place, undone: &str) -> Vec<String> {
    place.others_of_that_name().iter().filter_map(|place| not_done(place, undone)).collect()
}

fn not_done(place: &Place, undone: &str) -> Option<String> {
    let file = open(place, false).ok()?;
    let version = tktrot::ring::versions::version_of(&file).ok()?.version?;
    let (users, hidden) = mapping(FileId::of(&file).ok()?).ok()?;
    // Servers of this version only read it, for its keys.
    let users = users.iter().filter(|user| user.writes);
    let names: Vec<_> = users.map(|user| format!("{} ({})", user.pid, user.program)).collect();
    let who = match (names.is_empty(), hidden) {
        (false, _) => format!("is used by {}", names.join(", ")),
        (true, 0) => return None,
        (true, _) => "may be used by processes that this user cannot look at".into(),
    };
    Some(format!(
        "{}: {undone}: this ring of the same name is of format version {version} and {who}; use the \
         tktrot of that release, or this one with the path, or restart those servers",
        place.path().display()
    ))
}
