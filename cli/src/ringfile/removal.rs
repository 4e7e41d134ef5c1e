//! Removes a ring file that nobody uses any more.
//!
//! A ring that can be read is removed under its writer lock ([`Place::remove`]), so that a server that
//! starts meanwhile makes a new one. Any other file has no lock to take: before and after the removal,
//! it is only checked that no process maps it.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::unistd::{Whence, geteuid, lseek};
use tktrot::ring::Ring;
use tktrot::ring::file::{Place, on_memory};
use tktrot::ring::removal::{self, NotRemoved};
use tktrot::ring::versions::ring_name;

use super::file::{self, mapping};
use super::report::hidden;
use crate::output::{bytes, printable};
use crate::processes::{FileId, LockHolder, Presence};
use crate::rings::{self, NamedRing};
use crate::settings::Settings;
use crate::status::ring::{LockState, RingStatus, RingUser};

/// What was removed, and what to say about it.
#[derive(Debug)]
pub struct Removed {
    pub said: String,
    /// Processes that opened the ring during its removal and now share it with nobody.
    pub left_alone: Option<String>,
}

/// Removes the file of a ring that nobody uses. `force`: although some processes cannot be inspected.
///
/// # Errors
///
/// The ring is in use, and by whom; or it cannot be removed. Nothing was done, unless the error says so.
pub fn remove(place: &Place, settings: &Settings, force: bool) -> Result<Removed> {
    let path = place.path();
    // What is missing or inaccessible is reported as by any other command.
    let Ok(metadata) = fs::symlink_metadata(&path) else {
        rings::look_at(place)?;
        bail!("{}: it was removed meanwhile", path.display());
    };
    let target = NamedRing::At(place.clone());
    match file::status_of(&target, settings) {
        Ok(status) => {
            refuse_if_used(&path, &Seen::of_ring(&status), force)?;
            refuse_if_anothers(&path, &metadata)?;
            match place.open_present().map_err(|refused| rings::explained(place, &refused)) {
                Ok(Some(ring)) => remove_ring(place, &ring, settings, force),
                Ok(None) => bail!("{}: it was removed meanwhile", path.display()),
                // It can be read, but not used: its content is broken.
                Err(error) => remove_file(place, &metadata, &error, force),
            }
        }
        Err(error) => remove_file(place, &metadata, &error, force),
    }
}

/// Who uses a file.
struct Seen {
    users: Vec<RingUser>,
    /// The holder of its writer lock, which is alive, whether it is seen or not.
    writer: Option<LockHolder>,
    governed: bool,
    /// The number of processes that cannot be inspected.
    hidden: usize,
}

impl Seen {
    fn of_ring(status: &RingStatus) -> Seen {
        Seen {
            users: file::living(&status.users),
            writer: match &status.writer_lock {
                LockState::Held(owner) => Some(owner.clone()),
                LockState::Free | LockState::Dead => None,
            },
            governed: status.is_governed(),
            hidden: status.hidden_processes,
        }
    }

    /// The users of a file that does not know them itself.
    fn of_file(metadata: &Metadata) -> Result<Seen> {
        let (users, hidden) = mapping(FileId::of_metadata(metadata))?;
        Ok(Seen { users, writer: None, governed: false, hidden })
    }

    /// The users, in words; `None` if there are none.
    fn in_words(&self) -> Option<String> {
        let name = |user: &RingUser| {
            let name = format!("process {} ({}", user.pid, user.program);
            let rest = match (user.presence, user.writes) {
                (Presence::Elsewhere, _) => {
                    ", in another container, or gone for less than a minute)"
                }
                (Presence::Hidden, _) => ", which is not visible)",
                (_, false) => ", which only reads it)",
                (_, true) => ")",
            };
            name + rest
        };
        let mut words: Vec<_> = self.users.iter().map(name).collect();
        let writer = self.writer.as_ref().map(LockHolder::name);
        words.extend(writer.map(|name| format!("{name}, which holds its writer lock")));
        words.extend(self.governed.then(|| "an agent, which governs it".into()));
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// A reservation, if some processes could not be inspected.
    fn but(&self) -> String {
        match self.hidden {
            0 => String::new(),
            number => format!(" ({})", hidden(number)),
        }
    }
}

/// True in the initial PID namespace (namespaces(7)), which has this number in every kernel.
fn sees_the_whole_machine() -> bool {
    const INITIAL: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|metadata| metadata.ino() == INITIAL)
}

fn refuse_if_used(path: &Path, seen: &Seen, force: bool) -> Result<()> {
    if let Some(users) = seen.in_words() {
        bail!("{}: not removed, because it is in use: {users}; stop what uses it", path.display());
    }
    ensure!(
        force || sees_the_whole_machine(),
        "{}: not removed: processes in other containers may use it and cannot be seen from this one; \
         run this on the host, or give --force",
        path.display()
    );
    ensure!(
        seen.hidden == 0 || force,
        "{}: not removed: nobody is seen to use it, but {}; run this as root (with \
         CAP_SYS_PTRACE), or with --force if you know that it is not in use",
        path.display(),
        hidden(seen.hidden)
    );
    Ok(())
}

/// Root takes no lock in memory that another user can write to.
fn refuse_if_anothers(path: &Path, metadata: &Metadata) -> Result<()> {
    let (user, owner) = (geteuid(), metadata.uid());
    // A file of any other user could not be opened by this one.
    ensure!(
        !user.is_root() || owner == 0,
        "{}: not removed: it belongs to user {owner}, and root does not write to other users' rings; \
         nobody uses it, so run `sudo -u '#{owner}' tktrot ring remove --force {}`",
        path.display(),
        path.display()
    );
    Ok(())
}

fn remove_ring(place: &Place, ring: &Ring, settings: &Settings, force: bool) -> Result<Removed> {
    let path = place.path();
    ring.hide().with_context(|| {
        format!("{}: not removed: cannot keep its keys out of core dumps", path.display())
    })?;
    let opened = ring.times_opened();
    // Look again: from here on, opening the ring is counted.
    let look = || file::status_of(&NamedRing::At(place.clone()), settings);
    let seen = Seen::of_ring(&look()?);
    refuse_if_used(&path, &seen, force)?;
    let keys = match removal::remove(place, ring, opened) {
        Ok(1) => "1 key".into(),
        Ok(keys) => format!("{keys} keys"),
        Err(not) => {
            if matches!(not, NotRemoved::Opened) {
                // Says who opened it, if that process is still there.
                refuse_if_used(&path, &Seen::of_ring(&look()?), force)?;
            }
            bail!("{}: not removed: {not}", path.display());
        }
    };
    let but = seen.but();
    let said = format!("removed {}: {keys} erased, nobody used it{but}", path.display());
    Ok(Removed { said, left_alone: None })
}

/// Removes a file that has no lock this version could take; `unreadable` says why.
fn remove_file(
    place: &Place,
    metadata: &Metadata,
    unreadable: &anyhow::Error,
    force: bool,
) -> Result<Removed> {
    let path = place.path();
    let by_hand = |why: &str| {
        format!("{}: not removed: {why}; if it is not needed, remove it by hand", path.display())
    };
    ensure!(metadata.is_file(), by_hand("it is not a regular file"));
    ensure!(metadata.nlink() == 1, by_hand("it has several names (hard links)"));
    // First, because it takes fewer rights.
    refuse_if_used(&path, &Seen::of_file(metadata)?, force)?;
    refuse_if_anothers(&path, metadata)?;
    let file = file::open(place, true).with_context(|| format!("{unreadable:#}"))?;
    let here = file.metadata().with_context(|| path.display().to_string())?;
    ensure!(same(&here, metadata), "{}: another file was put there meanwhile", path.display());
    let claim =
        tktrot::ring::versions::version_of(&file).with_context(|| path.display().to_string())?;
    let is_named_as_one = ring_name(&path).is_some();
    ensure!(
        claim.version.is_some() || (is_named_as_one && on_memory(&file)),
        by_hand("it is not a ring")
    );

    let erased = erase(&file).with_context(|| {
        format!("{}: cannot be overwritten, and was not removed", path.display())
    })?;
    let is_there = fs::symlink_metadata(&path).is_ok_and(|there| same(&there, metadata));
    ensure!(is_there, "{}: its bytes were erased; there is another file now", path.display());
    fs::remove_file(&path).with_context(|| {
        format!("{}: its bytes were erased, but it cannot be removed", path.display())
    })?;
    // Its inode number is still its own, because it is open here.
    let after = Seen::of_file(&here)?;
    let left_alone = after.in_words().map(|users| {
        format!(
            "{}: opened at that very moment by {users}: restart it, because it shares its ring with nobody",
            path.display()
        )
    });
    let said = format!(
        "removed {}: {} erased, nobody had it mapped{}; no lock could be taken, because this version \
         does not use it ({})",
        path.display(),
        bytes(erased),
        after.but(),
        reason(unreadable, &path)
    );
    Ok(Removed { said, left_alone })
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    FileId::of_metadata(one) == FileId::of_metadata(other)
}

fn reason(error: &anyhow::Error, path: &Path) -> String {
    let text = format!("{error:#}");
    let rest = text.strip_prefix(&format!("{}: ", path.display()));
    printable(rest.unwrap_or(&text))
}

/// Overwrites with zeroes what takes memory. Holes contain nothing, and filling them would take memory.
fn erase(file: &File) -> io::Result<u64> {
    static ZEROES: [u8; 1 << 16] = [0; 1 << 16];
    let size = file.metadata()?.len();
    let find =
        |from: u64, what: Whence| match lseek(file, from.try_into().unwrap_or(i64::MAX), what) {
            Ok(found) => Ok(u64::try_from(found).unwrap_or(size).min(size)),
            Err(Errno::ENXIO) => Ok(size),
            Err(error) => Err(io::Error::from(error)),
        };
    let (mut at, mut erased) = (0, 0);
    while at < size {
        at = find(at, Whence::SeekData)?;
        let end = find(at, Whence::SeekHole)?;
        while at < end {
            let length = (end - at).min(ZEROES.len() as u64);
            file.write_all_at(&ZEROES[..length as usize], at)?;
            at += length;
            erased += length;
        }
    }
    Ok(erased)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_memory_is_overwritten_and_holes_stay_holes() {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        assert_eq!(erase(&file).unwrap(), 0);
        file.write_all_at(&[7; 5000], 0).unwrap();
        file.write_all_at(&[7; 100], 1 << 30).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        let erased = erase(&file).unwrap();
        assert!((5100..1 << 20).contains(&erased), "{erased}");
        assert_eq!(file.metadata().unwrap().blocks(), blocks);
        for (at, length) in [(0, 5000), (1 << 30, 100)] {
            let mut bytes = vec![1; length];
            file.read_exact_at(&mut bytes, at).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0), "at {at}");
        }
    }
}
