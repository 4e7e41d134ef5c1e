//! Ring files as JSON: docs/schemas/ring-list.schema.json and ring-show.schema.json say how.

use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::facts::{Condition, Facts};
use super::places::Unsearched;
use crate::severity::Severity;
use crate::status::processes::Presence;
use crate::status::reading::User;
use crate::status::span::{seconds, seconds_if_any};

/// What `list` prints.
#[derive(Serialize)]
pub struct List {
    /// The version of this form; members may be added without a new one.
    pub version: u32,
    /// The worst of all rings, or of where they were looked for.
    pub severity: Severity,
    pub rings: Vec<Ring>,
    pub unsearched: Vec<Unsearched>,
}

/// What `show` prints.
#[derive(Serialize)]
pub struct Show {
    /// As in [`List`].
    pub version: u32,
    pub severity: Severity,
    pub rings: Vec<InFull>,
}

/// A ring in a list.
#[derive(Serialize)]
pub struct Ring {
    name: String,
    path: String,
    severity: Severity,
    condition: Condition,
    removed: bool,
    format_version: Option<u32>,
    owner: Option<u32>,
    memory_bytes: Option<u64>,
    keys: Option<usize>,
    users: usize,
    hidden_processes: usize,
    governed: Option<bool>,
    error: Option<String>,
}

/// A ring alone.
#[derive(Serialize)]
pub struct InFull {
    #[serde(flatten)]
    ring: Ring,
    mode: Option<String>,
    device: Option<String>,
    inode: Option<u64>,
    size_bytes: Option<u64>,
    /// In seconds since 1970.
    made: Option<u64>,
    capacity: Option<u32>,
    rotation: Option<Rotation>,
    processes: Vec<Process>,
}

#[derive(Serialize)]
struct Rotation {
    #[serde(rename = "rotate_seconds", serialize_with = "seconds")]
    rotate_every: std::time::Duration,
    #[serde(rename = "lifetime_seconds", serialize_with = "seconds")]
    lifetime: std::time::Duration,
    #[serde(rename = "governed_for_seconds", serialize_with = "seconds_if_any")]
    governed_for: Option<std::time::Duration>,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    program: String,
    presence: Presence,
    writes: bool,
}

impl Ring {
    /// The short form.
    pub fn of(facts: &Facts) -> Ring {
        let reading = facts.reading.as_ref().ok();
        Ring {
            name: facts.name.clone(),
            path: facts.path.clone(),
            severity: facts.severity(),
            condition: facts.condition(),
            removed: facts.removed,
            format_version: facts.version,
            owner: facts.owner(),
            memory_bytes: facts.memory(),
            keys: reading.map(|reading| reading.keys.len()),
            users: facts.count_users(),
            hidden_processes: facts.hidden_processes,
            governed: reading.map(|reading| reading.is_governed()),
            error: facts.reading.as_ref().err().cloned(),
        }
    }
}

impl InFull {
    /// The long form.
    pub fn of(facts: &Facts) -> InFull {
        let (reading, file) = (facts.reading.as_ref().ok(), facts.file.as_ref());
        let process = |user: &User| Process {
            pid: user.pid,
            program: user.program.clone(),
            presence: user.presence,
            writes: user.writes,
        };
        let made = facts.made().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        InFull {
            ring: Ring::of(facts),
            mode: file.map(super::text::mode),
            device: file.map(super::text::device),
            inode: file.map(MetadataExt::ino),
            size_bytes: file.map(MetadataExt::size),
            made: made.map(|made| made.as_secs()),
            capacity: reading.map(|reading| reading.capacity),
            rotation: reading.map(|reading| Rotation {
                rotate_every: reading.exposure.rotate_every,
                lifetime: reading.exposure.lifetime,
                governed_for: reading.governed_for,
            }),
            processes: facts.users.iter().map(process).collect(),
        }
    }
}
