//! Directories that no ring may lie in, or cannot.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::Command;

use testbed::RingDir;
use tktrot::ring::file;

use crate::contents::sound_ring;
use crate::files::write;
use crate::tmpfs::Tmpfs;
use crate::{Result, is_refused};

#[test]
fn one_that_others_can_write() -> Result<()> {
    for mode in [0o720, 0o702, 0o777] {
        let dir = RingDir::new()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode))?;
        is_refused(&dir.path().join("web.ring"), "its directory can be written by others")?;
        assert!(dir.entries()?.is_empty());
    }
    Ok(())
}

#[test]
fn one_of_another_user() -> Result<()> {
    let dir = RingDir::new()?;
    chown(dir.path(), Some(12345), None).map_err(|error| format!("needs root: {error}"))?;
    is_refused(&dir.path().join("web.ring"), "its directory belongs to user 12345")?;
    assert!(dir.entries()?.is_empty());
    Ok(())
}

#[test]
fn one_behind_a_symbolic_link() -> Result<()> {
    let (dir, target) = (RingDir::new()?, RingDir::new()?);
    let link = dir.path().join("link");
    symlink(target.path(), &link)?;
    is_refused(&link.join("web.ring"), "its directory cannot be opened")?;
    assert!(target.entries()?.is_empty());
    Ok(())
}

#[test]
fn one_that_is_a_file_or_cannot_be_made() -> Result<()> {
    let dir = RingDir::new()?;
    let file = dir.path().join("file");
    write(&file, b"", 0o600)?;
    is_refused(&file.join("web.ring"), "its directory cannot be opened")?;
    is_refused(&dir.path().join("no/such/web.ring"), "its directory cannot be made")?;
    assert_eq!(dir.entries()?, [file]);
    Ok(())
}

/// Whether a path is on a file system in memory, as stat(1) says.
fn on_memory(path: &PathBuf) -> Result<bool> {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(path).output()?;
    Ok(["tmpfs", "ramfs"].contains(&String::from_utf8(output.stdout)?.trim()))
}

#[test]
fn one_that_is_not_in_memory() -> Result<()> {
    // Where the disk is, is this machine's choice; sysfs is a last resort, and no disk either.
    let places = [env!("CARGO_TARGET_TMPDIR"), "/var/tmp", "/sys/kernel"].map(PathBuf::from);
    for place in places {
        if on_memory(&place)? {
            continue;
        }
        if place.starts_with("/sys") {
            return is_refused(&place.join("web.ring"), "its directory is not on tmpfs or ramfs");
        }
        let dir = place.join(format!("tktrot-test-{}", std::process::id()));
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let refused = is_refused(&dir.join("web.ring"), "its directory is not on tmpfs or ramfs");
        let made = is_refused(&dir.join("new/web.ring"), "its directory is not on tmpfs or ramfs");
        // Fails if anything was left there.
        fs::remove_dir(&dir)?;
        return refused.and(made);
    }
    Ok(())
}

/// Leaves no room in it.
fn fill_up(tmpfs: &Tmpfs) -> Result<()> {
    let filler = File::create(tmpfs.path().join("filler"))?;
    let pages = (0..1 << 20).take_while(|_| (&filler).write_all(&[1; 4096]).is_ok()).count();
    assert!(pages < 1 << 20, "it is never full");
    Ok(())
}

#[test]
fn one_that_is_full() -> Result<()> {
    let full = Tmpfs::mount("size=256k,mode=0700")?;
    fill_up(&full)?;
    is_refused(&full.path().join("web.ring"), "no room for it")?;
    let left: Vec<_> = fs::read_dir(full.path())?.collect();
    assert_eq!(left.len(), 1, "an unfinished ring stayed: {left:?}");
    Ok(())
}

#[test]
fn one_that_is_full_and_holds_a_ring_with_holes() -> Result<()> {
    // The first page, which tells that it is a ring, is there or not; the others are not.
    for present in [0, 4096] {
        let full = Tmpfs::mount("size=256k,mode=0700")?;
        let (path, sound) = (full.path().join("web.ring"), sound_ring()?);
        write(&path, &sound[..present], 0o600)?;
        let file = File::options().write(true).open(&path)?;
        file.set_len(sound.len() as u64)?;
        if present != 0 {
            file::adopt(&file)?;
        }
        fill_up(&full)?;
        is_refused(&path, "no room for it")?;
    }
    Ok(())
}

#[test]
fn one_that_is_read_only() -> Result<()> {
    let tmpfs = Tmpfs::mount("size=4m,mode=0700")?;
    let path = tmpfs.path().join("web.ring");
    write(&path, sound_ring()?, 0o600)?;
    tmpfs.make_read_only()?;
    is_refused(&path, "Read-only file system")?;
    is_refused(&tmpfs.path().join("new.ring"), "Read-only file system")
}
