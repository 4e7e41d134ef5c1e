//! Files that are no ring of ours before one looks inside.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use testbed::RingDir;
use tktrot::ring::file;

use crate::contents::sound_ring;
use crate::{Result, is_refused};

/// Somebody else.
const STRANGER: u32 = 12345;

/// A sound ring, which one thing will make unfit.
fn ring_in(dir: &RingDir) -> Result<PathBuf> {
    let path = dir.path().join("web.ring");
    write_ring(&path, sound_ring()?, 0o600)?;
    Ok(path)
}

pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// A file of a ring that claims to have been made there.
pub fn write_ring(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write(path, bytes, mode)?;
    Ok(file::adopt(&fs::OpenOptions::new().write(true).open(path)?)?)
}

#[test]
fn a_symbolic_link() -> Result<()> {
    let dir = RingDir::new()?;
    let (ring, link) = (ring_in(&dir)?, dir.path().join("link.ring"));
    symlink(&ring, &link)?;
    is_refused(&link, "it is a symbolic link")?;
    // One that leads to where a file would be made.
    let dangling = dir.path().join("dangling.ring");
    symlink(dir.path().join("victim"), &dangling)?;
    is_refused(&dangling, "it is a symbolic link")?;
    assert!(!dir.path().join("victim").exists());
    Ok(())
}

#[test]
fn a_hard_link() -> Result<()> {
    let dir = RingDir::new()?;
    let ring = ring_in(&dir)?;
    fs::hard_link(&ring, dir.path().join("other.ring"))?;
    is_refused(&ring, "it has 2 hard links")
}

#[test]
fn a_file_of_another_user() -> Result<()> {
    let dir = RingDir::new()?;
    let ring = ring_in(&dir)?;
    chown(&ring, Some(STRANGER), None).map_err(|error| format!("needs root: {error}"))?;
    is_refused(&ring, "it belongs to user 12345")
}

#[test]
fn a_file_that_others_may_read_or_write() -> Result<()> {
    for mode in [0o620, 0o640, 0o604, 0o602, 0o666] {
        let dir = RingDir::new()?;
        let ring = ring_in(&dir)?;
        fs::set_permissions(&ring, fs::Permissions::from_mode(mode))?;
        is_refused(&ring, &format!("others have rights to it (mode {mode:04o})"))?;
    }
    Ok(())
}

#[test]
fn a_directory() -> Result<()> {
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    fs::create_dir(&path)?;
    is_refused(&path, "it is a directory")
}

#[test]
fn a_fifo_holds_nobody_up() -> Result<()> {
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    is_refused(&path, "it is a FIFO")
}

#[test]
fn a_socket() -> Result<()> {
    let dir = RingDir::new()?;
    let path = dir.path().join("web.ring");
    let _listener = std::os::unix::net::UnixListener::bind(&path)?;
    is_refused(&path, "it cannot be opened")
}

#[test]
fn a_file_of_the_wrong_size() -> Result<()> {
    let sound = sound_ring()?;
    let lengths = [0, 1, 1023, 1024, sound.len() - 4096, sound.len() - 1];
    for length in lengths {
        let dir = RingDir::new()?;
        let path = dir.path().join("web.ring");
        write(&path, &sound[..length], 0o600)?;
        is_refused(&path, &format!("it has the wrong size ({length} bytes"))?;
    }
    let dir = RingDir::new()?;
    let (path, longer) = (ring_in(&dir)?, sound.len() + 1);
    File::options().write(true).open(&path)?.set_len(longer as u64)?;
    is_refused(&path, &format!("it has the wrong size ({longer} bytes"))
}
