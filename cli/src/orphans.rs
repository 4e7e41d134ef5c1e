//! Rings whose file was removed. They live in the processes that map them, and are
//! reached through those (proc(5), /proc/PID/map_files): by root, for all the kernel lets.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tktrot::ring::file::Place;
use tktrot::ring::versions::ring_name;
use tktrot::ring::view::View;
use tktrot::rotate::Keyring;

use crate::rings;
use crate::status::processes::printable;

/// What the kernel appends to the name of a file that has none any more (proc(5)).
pub const DELETED: &str = " (deleted)";

/// A ring without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Where its file was.
    pub path: PathBuf,
    /// The processes that map it, and the addresses at which they do.
    users: Vec<(u32, String)>,
}

/// All files that were removed and may be rings, by path.
fn all() -> Vec<Orphan> {
    // By device and inode, as /proc tells them.
    let mut found: BTreeMap<(String, String), Orphan> = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let maps = fs::read_to_string(process.path().join("maps")).unwrap_or_default();
        for mapped in maps.lines().filter_map(Mapped::parse) {
            let orphan = found
                .entry((mapped.device.into(), mapped.inode.into()))
                .or_insert_with(|| Orphan { path: mapped.path.into(), users: Vec::new() });
            orphan.users.push((pid, mapped.range.into()));
        }
    }
    let mut all: Vec<_> = found.into_values().collect();
    all.sort_by(|one, other| one.path.cmp(&other.path));
    all
}

/// Those that were named as rings are.
pub fn of_rings() -> Vec<Orphan> {
    all().into_iter().filter(|orphan| ring_name(&orphan.path).is_some()).collect()
}

/// Those of them that were in one directory.
pub fn in_dir(dir: &Path) -> Vec<Orphan> {
    of_rings().into_iter().filter(|orphan| orphan.path.parent() == Some(dir)).collect()
}

/// A ring that is meant by a name: at its place, or in processes alone.
#[derive(Clone, Debug)]
pub enum Target {
    At(Place),
    Removed(Orphan),
}

/// All that are meant: those that are there, or would be, then those whose file was removed.
pub fn targets(places: &[Place]) -> Vec<Target> {
    let all = all();
    let is_lost = |place: &&Place| all.iter().any(|orphan| is_of(&place.path(), orphan));
    // What is no longer there, and lives on in processes, is meant by those alone.
    let is_there = |place: &&Place| fs::symlink_metadata(place.path()).is_ok() || !is_lost(place);
    let named = places.iter().filter(is_there).cloned().map(Target::At);
    let is_meant = |orphan: &&Orphan| places.iter().any(|place| is_of(&place.path(), orphan));
    named.chain(all.iter().filter(is_meant).cloned().map(Target::Removed)).collect()
}

/// True if that is where its file was, or is beside it for another version.
fn is_of(path: &Path, orphan: &Orphan) -> bool {
    let has_its_name = || {
        let name = ring_name(path);
        name.is_some() && name == ring_name(&orphan.path) && path.parent() == orphan.path.parent()
    };
    orphan.path == path || has_its_name()
}

impl Target {
    /// What to say of it in a line of its own.
    pub fn name(&self) -> String {
        match self {
            Target::At(place) => place.path().display().to_string(),
            Target::Removed(orphan) => orphan.name(),
        }
    }

    /// Where its file is, or was.
    pub fn path(&self) -> PathBuf {
        match self {
            Target::At(place) => place.path(),
            Target::Removed(orphan) => orphan.path.clone(),
        }
    }

    /// To look at it.
    pub fn look(&self) -> Result<View> {
        match self {
            Target::At(place) => rings::look_at(place),
            Target::Removed(orphan) => orphan.look(),
        }
    }

    /// To act on it.
    pub fn open(&self) -> Result<Keyring> {
        match self {
            Target::At(place) => rings::open_at(place),
            Target::Removed(orphan) => orphan.open(),
        }
    }

    pub fn is_removed(&self) -> bool {
        matches!(self, Target::Removed(_))
    }
}

/// A line of /proc/PID/maps that maps a removed file so that processes share it.
struct Mapped<'l> {
    range: &'l str,
    device: &'l str,
    inode: &'l str,
    path: &'l str,
}

impl<'l> Mapped<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let path = line.get(line.find('/')?..)?.strip_suffix(DELETED)?;
        let mut fields = line.split_whitespace();
        let (range, permissions) = (fields.next()?, fields.next()?);
        let (device, inode) = (fields.nth(1)?, fields.next()?);
        permissions.ends_with('s').then_some(Mapped { range, device, inode, path })
    }
}

impl Orphan {
    /// The processes that have it, in words.
    pub fn owners(&self) -> String {
        let name = |pid: u32| {
            let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("{pid} ({})", printable(program.trim_end()))
        };
        let mut pids: Vec<u32> = self.users.iter().map(|(pid, _)| *pid).collect();
        pids.dedup();
        let names: Vec<_> = pids.iter().map(|pid| name(*pid)).collect();
        let word = if names.len() == 1 { "process" } else { "processes" };
        format!("{word} {}", names.join(", "))
    }

    /// What to say of it in a line of its own.
    pub fn name(&self) -> String {
        format!("{} (its file was removed; in {})", self.path.display(), self.owners())
    }

    /// To look at it.
    pub fn look(&self) -> Result<View> {
        let place = self.place();
        let file = self.file(false)?;
        place.look_into(file).map_err(|refused| rings::explained(&place, &refused))
    }

    /// To act on it.
    pub fn open(&self) -> Result<Keyring> {
        let place = self.place();
        let ring = place.open_file(self.file(true)?);
        rings::keyring(&place, ring.map_err(|refused| rings::explained(&place, &refused))?)
    }

    fn place(&self) -> Place {
        let dir = self.path.parent().map_or_else(PathBuf::new, PathBuf::from);
        let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Place { dir, file, dir_mode: 0o700 }
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
                "{}: it cannot be reached: only root can (with CAP_SYS_ADMIN or \
                 CAP_CHECKPOINT_RESTORE); its keys live on until these processes end",
                self.name()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_ring_is_known_by_its_line_in_maps() {
        let line = "7f0-7f1 rw-s 00000000 00:1a 5  /run/tktrot/a b.ring (deleted)";
        let mapped = Mapped::parse(line).unwrap();
        assert_eq!(
            (mapped.range, mapped.device, mapped.inode, mapped.path),
            ("7f0-7f1", "00:1a", "5", "/run/tktrot/a b.ring")
        );
        for other in [
            "7f0-7f1 rw-s 00000000 00:1a 5  /run/tktrot/a b.ring",
            "7f0-7f1 rw-p 00000000 00:1a 5  /run/tktrot/a.ring (deleted)",
            "7f0-7f1 rw-p 00000000 00:00 0    [heap]",
        ] {
            assert!(Mapped::parse(other).is_none(), "{other}");
        }
    }
}
