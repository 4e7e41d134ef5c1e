//! Rings whose file was removed. They live on in the processes that map them and are reached through
//! those (proc(5), /proc/PID/map_files), for which the kernel wants root's capabilities.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tktrot::ring::file::Place;
use tktrot::ring::versions::ring_name;

use crate::processes::{FileId, MapsLine, pids, program};

/// A removed file that processes map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Where the file was.
    pub path: PathBuf,
    /// The processes that map it, and the addresses of their mappings.
    users: Vec<(u32, String)>,
}

/// All removed files that may be rings, by path.
pub fn all() -> Vec<Orphan> {
    let mut found: BTreeMap<FileId, Orphan> = BTreeMap::new();
    for pid in pids().into_iter().flatten() {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in maps.lines().filter_map(MapsLine::parse) {
            let Some(path) = line.path.filter(|_| line.removed && line.is_shared()) else {
                continue;
            };
            let new = || Orphan { path: path.into(), users: Vec::new() };
            found.entry(line.file).or_insert_with(new).users.push((pid, line.range.into()));
        }
    }
    let mut all: Vec<_> = found.into_values().collect();
    all.sort_by(|one, other| one.path.cmp(&other.path));
    all
}

/// The removed files whose names are those of rings.
pub fn of_rings() -> Vec<Orphan> {
    all().into_iter().filter(|orphan| ring_name(&orphan.path).is_some()).collect()
}

/// The removed rings of one directory.
pub fn in_dir(dir: &Path) -> Vec<Orphan> {
    of_rings().into_iter().filter(|orphan| orphan.path.parent() == Some(dir)).collect()
}

impl Orphan {
    /// True if its file was at that path, or beside it for another format version.
    pub fn was_at(&self, path: &Path) -> bool {
        let has_its_name = || {
            let name = ring_name(path);
            name.is_some() && name == ring_name(&self.path) && path.parent() == self.path.parent()
        };
        self.path == path || has_its_name()
    }

    /// Where its file was.
    pub fn place(&self) -> Place {
        let dir = self.path.parent().map_or_else(PathBuf::new, PathBuf::from);
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Place { dir, file, dir_mode: 0o700 }
    }

    /// The processes that map it, in words.
    pub fn owners(&self) -> String {
        let mut pids: Vec<u32> = self.users.iter().map(|(pid, _)| *pid).collect();
        pids.dedup();
        let names: Vec<_> = pids.iter().map(|pid| format!("{pid} ({})", program(*pid))).collect();
        let word = if names.len() == 1 { "process" } else { "processes" };
        format!("{word} {}", names.join(", "))
    }

    /// The subject of a line about it.
    pub fn name(&self) -> String {
        format!("{} (its file was removed; in {})", self.path.display(), self.owners())
    }

    /// The file, whatever is in it.
    pub fn file(&self, to_write: bool) -> Result<File> {
        let mut last = anyhow!("no process has it any more");
        for (pid, range) in &self.users {
            let link = format!("/proc/{pid}/map_files/{range}");
            match File::options().read(true).write(to_write).open(&link) {
                Ok(file) => return Ok(file),
                Err(error) => last = anyhow::Error::new(error).context(link),
            }
        }
        Err(last).with_context(|| {
            format!(
                "{}: cannot be reached: only root can (with CAP_SYS_ADMIN or \
                 CAP_CHECKPOINT_RESTORE); its keys live on until these processes end",
                self.name()
            )
        })
    }
}
