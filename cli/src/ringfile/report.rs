//! Ring files as people and programs read them; docs/schemas/ring-list.schema.json and
//! ring-show.schema.json describe the JSON.

use std::fmt::Write;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{Table, presets};
use nix::unistd::{Uid, User};
use serde::Serialize;

use super::file::{Condition, RingFile};
use super::search::Unsearched;
use crate::output::{bytes, in_words, moment, printable, seconds, seconds_if_any, wrapped};
use crate::processes::Presence;
use crate::severity::Severity;
use crate::status::ring::RingUser;
use crate::status::text;

/// All rings, one line each.
pub fn table(rings: &[RingFile], searched: &[PathBuf]) -> String {
    if rings.is_empty() {
        let dirs: Vec<_> = searched.iter().map(|dir| printable(&dir.to_string_lossy())).collect();
        return match &*dirs {
            [] => "no rings: none of the usual directories exists\n".into(),
            dirs => format!("no rings in {}\n", dirs.join(", ")),
        };
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["RING", "VERSION", "OWNER", "MEMORY", "KEYS", "USERS", "STATE"]);
    for file in rings {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.add_row([
            file.path.clone(),
            or_none(file.version.map(|version| version.to_string())),
            or_none(file.owner().map(owner)),
            or_none(file.memory().map(bytes)),
            or_none(file.status.as_ref().ok().map(|status| status.keys.len().to_string())),
            file.count_users().to_string(),
            state(file),
        ]);
    }
    let mut text: String = table.lines().map(|line| format!("{}\n", line.trim())).collect();
    if let Some(hidden) = rings.iter().map(|file| file.hidden_processes).max().filter(|n| *n > 0) {
        let _ = writeln!(text, "{}", unseen(hidden, "a ring"));
    }
    text
}

fn state(file: &RingFile) -> String {
    let mut state = match (&file.status, file.condition()) {
        (Ok(status), _) if status.is_governed() => "governed".to_owned(),
        (_, Condition::Readable) => "ok".to_owned(),
        (_, Condition::OtherVersion) => "of another version".to_owned(),
        (_, Condition::Unreadable) => {
            format!("cannot be read: {}", printable(file.reason().unwrap_or_default()))
        }
    };
    if file.removed {
        state = format!("removed; {state}");
    }
    state
}

/// One ring, in full.
pub fn full(file: &RingFile, now: SystemTime, width: usize) -> String {
    let mut page = String::new();
    let mut line = |what: &str, text: &str| {
        let mut first = what;
        for part in wrapped(text, width.saturating_sub(INDENT)) {
            let _ = writeln!(page, "{first:INDENT$}{part}");
            first = "";
        }
    };
    line("ring", &format!("{}{}", file.path, if file.removed { " (removed)" } else { "" }));
    match file.version {
        Some(version) if file.condition() == Condition::OtherVersion => {
            line("version", &format!("{version}: for servers of another release of libtktrot"));
        }
        Some(version) => line("version", &version.to_string()),
        None => line("version", "unknown"),
    }
    if let Some(file) = &file.metadata {
        line("owner", &format!("{}, mode {}", owner(file.uid()), mode(file)));
        line("inode", &format!("{} on device {}", file.ino(), device(file)));
        let size = bytes(file.size());
        line("memory", &format!("{} (the file's size is {size})", bytes(file.blocks() * 512)));
    }
    line("made", &file.made().map_or("unknown".into(), |made| moment(made, now)));
    if let Ok(status) = &file.status {
        line("keys", &format!("{} of {}", status.keys.len(), status.capacity));
        let (r, l) = (status.exposure.rotate_every, status.exposure.lifetime);
        line("rotation", &format!("R {}, L {}", in_words(r), in_words(l)));
        line("governed", &text::governed(status));
    }
    let mut users = match file.count_users() {
        1 => "1 process".to_owned(),
        0 => "none visible".to_owned(),
        number => format!("{number} processes"),
    };
    if file.hidden_processes > 0 {
        let _ = write!(users, "; {}", unseen(file.hidden_processes, "it"));
    }
    line("users", &users);
    for user in &file.users {
        let does = match &file.status {
            Ok(_) => text::does(user),
            Err(_) if user.writes => "maps it",
            Err(_) => "only reads",
        };
        line("", &format!("{:7}  {:15}  {does}", user.pid, user.program));
    }
    match file.reason() {
        Some(reason) => line("unreadable", &printable(reason)),
        None => line("", &format!("=> keys, counters, alarms: tktrot status {}", file.path)),
    }
    page
}

/// The number of processes that cannot be inspected.
pub fn hidden(processes: usize) -> String {
    match processes {
        1 => "1 process cannot be inspected".into(),
        number => format!("{number} processes cannot be inspected"),
    }
}

fn unseen(processes: usize, what: &str) -> String {
    let (hidden, they) = (hidden(processes), if processes == 1 { "it uses" } else { "they use" });
    format!("{hidden}: only root (with CAP_SYS_PTRACE) can see whether {they} {what}")
}

/// The column after the labels.
const INDENT: usize = 12;

/// A user's name, or its number if it has none.
pub fn owner(uid: u32) -> String {
    let account = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    account.map_or_else(|| uid.to_string(), |account| printable(&account.name))
}

/// The mode, as chmod(1) takes it.
pub fn mode(file: &Metadata) -> String {
    format!("{:04o}", file.mode() & 0o7777)
}

/// The device, as in /proc/PID/maps.
pub fn device(file: &Metadata) -> String {
    format!("{:02x}:{:02x}", libc::major(file.dev()), libc::minor(file.dev()))
}

/// What `list` prints.
#[derive(Serialize)]
pub struct List {
    /// The version of this format; new members do not change it.
    pub version: u32,
    /// The worst of all rings and directories.
    pub severity: Severity,
    pub rings: Vec<Ring>,
    pub unsearched: Vec<Unsearched>,
}

/// What `show` prints.
#[derive(Serialize)]
pub struct Show {
    /// See [`List`].
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

/// A ring in full.
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
    rotate_every: Duration,
    #[serde(rename = "lifetime_seconds", serialize_with = "seconds")]
    lifetime: Duration,
    #[serde(rename = "governed_for_seconds", serialize_with = "seconds_if_any")]
    governed_for: Option<Duration>,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    program: String,
    presence: Presence,
    writes: bool,
}

impl Ring {
    pub fn of(file: &RingFile) -> Ring {
        let status = file.status.as_ref().ok();
        Ring {
            name: file.name.clone(),
            path: file.path.clone(),
            severity: file.severity(),
            condition: file.condition(),
            removed: file.removed,
            format_version: file.version,
            owner: file.owner(),
            memory_bytes: file.memory(),
            keys: status.map(|status| status.keys.len()),
            users: file.count_users(),
            hidden_processes: file.hidden_processes,
            governed: status.map(|status| status.is_governed()),
            error: file.status.as_ref().err().cloned(),
        }
    }
}

impl InFull {
    pub fn of(ring: &RingFile) -> InFull {
        let (status, file) = (ring.status.as_ref().ok(), ring.metadata.as_ref());
        let process = |user: &RingUser| Process {
            pid: user.pid,
            program: user.program.clone(),
            presence: user.presence,
            writes: user.writes,
        };
        let made = ring.made().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
        InFull {
            ring: Ring::of(ring),
            mode: file.map(mode),
            device: file.map(device),
            inode: file.map(MetadataExt::ino),
            size_bytes: file.map(MetadataExt::size),
            made: made.map(|made| made.as_secs()),
            capacity: status.map(|status| status.capacity),
            rotation: status.map(|status| Rotation {
                rotate_every: status.exposure.rotate_every,
                lifetime: status.exposure.lifetime,
                governed_for: status.governed_for,
            }),
            processes: ring.users.iter().map(process).collect(),
        }
    }
}
