//! The end of a ring file that nobody has any more.
//!
//! A ring that can be read is removed under its writer lock ([`Place::remove`]), so that a server that
//! starts meanwhile makes a new one. In any other file there is no lock that could be taken: it is only
//! looked for who maps it, before and after.

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

/// What was removed, and what is to be said of it.
#[derive(Debug)]
pub struct Removed {
    pub said: String,
    /// Processes that came while it was removed, and now have a ring that nobody else will.
    pub left_alone: Option<String>,
}

/// Removes the file of a ring that nobody has. `force`: although there are processes that cannot be
/// looked at.
///
/// # Errors
///
/// Somebody has it, and who; or it cannot be removed. Nothing was done then, unless the error says so.
pub fn remove(place: &Place, settings: &Settings, force: bool) -> Result<Removed> {
    let path = place.path();
    // Whatever it is, what is not there or may not be asked for is told as by any other command.
    let Ok(facts) = fs::symlink_metadata(&path) else {
        rings::look_at(place)?;
        bail!("{}: it went away meanwhile", path.display());
    };
    let target = NamedRing::At(place.clone());
    match file::status_of(&target, settings) {
        Ok(status) => {
            refuse_if_used(&path, &Seen::of_ring(&status), force)?;
            refuse_if_anothers(&path, &facts)?;
            match place.open_present().map_err(|refused| rings::explained(place, &refused)) {
                Ok(Some(ring)) => remove_ring(place, &ring, settings, force),
                Ok(None) => bail!("{}: it went away meanwhile", path.display()),
                // Looked at it can be, but not used: what is in it is broken.
                Err(error) => remove_file(place, &facts, &error, force),
            }
        }
        Err(error) => remove_file(place, &facts, &error, force),
    }
}

/// Who has a file.
struct Seen {
    users: Vec<RingUser>,
    /// Who has its writer lock: he lives, whether he is seen or not.
    writer: Option<LockHolder>,
    governed: bool,
    /// Processes that cannot be looked at.
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

    /// Of a file that tells nothing itself.
    fn of_file(facts: &Metadata) -> Result<Seen> {
        let (users, hidden) = mapping(FileId::of_metadata(facts))?;
        Ok(Seen { users, writer: None, governed: false, hidden })
    }

    /// Those that use it, in words; `None` if nobody does.
    fn in_words(&self) -> Option<String> {
        let name = |user: &RingUser| {
            let name = format!("process {} ({}", user.pid, user.program);
            let rest = match (user.presence, user.writes) {
                (Presence::Elsewhere, _) => {
                    ", in another container, or gone for less than a minute)"
                }
                (Presence::Hidden, _) => ", which is not visible)",
                (_, false) => ", which only looks)",
                (_, true) => ")",
            };
            name + rest
        };
        let mut words: Vec<_> = self.users.iter().map(name).collect();
        let writer = self.writer.as_ref().map(LockHolder::name);
        words.extend(writer.map(|name| format!("{name}, which has its writer lock")));
        words.extend(self.governed.then(|| "an agent, which governs it".into()));
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// What was not seen.
    fn but(&self) -> String {
        match self.hidden {
            0 => String::new(),
            number => format!(" ({})", hidden(number)),
        }
    }
}

/// True in the PID namespace of the machine (namespaces(7)), which has this number in every kernel.
fn sees_the_whole_machine() -> bool {
    const INITIAL: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|facts| facts.ino() == INITIAL)
}

fn refuse_if_used(path: &Path, seen: &Seen, force: bool) -> Result<()> {
    if let Some(users) = seen.in_words() {
        bail!("{}: not removed, because it is in use: {users}; stop what uses it", path.display());
    }
    ensure!(
        force || sees_the_whole_machine(),
        "{}: not removed: processes of other containers, which may use it, are not seen from this one; \
         run this on the host, or give --force",
        path.display()
    );
    ensure!(
        seen.hidden == 0 || force,
        "{}: not removed: nobody is seen to use it, but {}; run this as root (with \
         CAP_SYS_PTRACE), or with --force if you know that none of them uses it",
        path.display(),
        hidden(seen.hidden)
    );
    Ok(())
}

/// Root takes no lock in memory that another user can write, and asks nobody to trust that he
/// needs none.
fn refuse_if_anothers(path: &Path, facts: &Metadata) -> Result<()> {
    let (user, owner) = (geteuid(), facts.uid());
    // What is not root's, and not this user's either, could not be opened.
    ensure!(
        !user.is_root() || owner == 0,
        "{}: not removed: it belongs to user {owner}, and root writes to nobody else's rings; nobody \
         uses it, so run `sudo -u '#{owner}' tktrot ring remove --force {}`",
        path.display(),
        path.display()
    );
    Ok(())
}

fn remove_ring(place: &Place, ring: &Ring, settings: &Settings, force: bool) -> Result<Removed> {
    let path = place.path();
    ring.hide().with_context(|| path.display().to_string())?;
    let opened = ring.times_opened();
    // Anew: from here on whoever opens it is counted.
    let look = || file::status_of(&NamedRing::At(place.clone()), settings);
    let seen = Seen::of_ring(&look()?);
    refuse_if_used(&path, &seen, force)?;
    let keys = match removal::remove(place, ring, opened) {
        Ok(1) => "1 key".into(),
        Ok(keys) => format!("{keys} keys"),
        Err(not) => {
            if matches!(not, NotRemoved::Opened) {
                // Says who, if he is still there.
                refuse_if_used(&path, &Seen::of_ring(&look()?), force)?;
            }
            bail!("{}: not removed: {not}", path.display());
        }
    };
    let but = seen.but();
    let said = format!("removed {}: {keys} erased, nobody used it{but}", path.display());
    Ok(Removed { said, left_alone: None })
}

/// A file in which there is no lock that this version could take: `unreadable` says why.
fn remove_file(
    place: &Place,
    facts: &Metadata,
    unreadable: &anyhow::Error,
    force: bool,
) -> Result<Removed> {
    let path = place.path();
    let by_hand = |why: &str| {
        format!("{}: not removed: {why}; if it is not needed, remove it by hand", path.display())
    };
    ensure!(facts.is_file(), by_hand("it is not a regular file"));
    ensure!(facts.nlink() == 1, by_hand("it has several names (hard links)"));
    // To be seen first, which takes fewer rights.
    refuse_if_used(&path, &Seen::of_file(facts)?, force)?;
    refuse_if_anothers(&path, facts)?;
    let file = file::open(place, true).with_context(|| format!("{unreadable:#}"))?;
    let here = file.metadata().with_context(|| path.display().to_string())?;
    ensure!(same(&here, facts), "{}: another file was put there meanwhile", path.display());
    let claim =
        tktrot::ring::versions::version_of(&file).with_context(|| path.display().to_string())?;
    let is_named_as_one = ring_name(&path).is_some();
    ensure!(
        claim.version.is_some() || (is_named_as_one && on_memory(&file)),
        by_hand("it is not a ring")
    );

    let erased = erase(&file).with_context(|| {
        format!("{}: it cannot be overwritten, and was not removed", path.display())
    })?;
    let is_there = fs::symlink_metadata(&path).is_ok_and(|there| same(&there, facts));
    ensure!(is_there, "{}: its bytes were erased; another file is there now", path.display());
    fs::remove_file(&path).with_context(|| {
        format!("{}: its bytes were erased, but it cannot be removed", path.display())
    })?;
    // Its number is not another file's yet: it is open here.
    let after = Seen::of_file(&here)?;
    let left_alone = after.in_words().map(|users| {
        format!(
            "{}: {users} came at that very moment, and shares its ring with nobody: restart it",
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

/// Overwrites with zeroes what takes memory: in holes there is nothing, and filling them takes room.
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
