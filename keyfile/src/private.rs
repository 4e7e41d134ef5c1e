//! Private files: read only if nobody else could have read or written them; written in memory, for
//! nobody else, and whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;
use tktrot::ring::file::on_memory;

use super::{Bytes, buffer};

/// No file of keys is longer: 500 lines of HAProxy's.
const MAX_SIZE: u64 = 64 * 1024;

/// The bytes of a file.
///
/// # Errors
///
/// It cannot be read, or others have rights to it.
pub fn read(path: &Path) -> Result<Bytes> {
    read_checked(path).with_context(|| path.display().to_string())
}

fn read_checked(path: &Path) -> Result<Bytes> {
    let file = open(path)?;
    let facts = file.metadata()?;
    ensure!(facts.is_file(), "it is not a regular file");
    // SAFETY: geteuid takes nothing and cannot fail.
    let user = unsafe { libc::geteuid() };
    let owner = facts.uid();
    ensure!(owner == user || owner == 0, "it belongs to user {owner}, who could have changed it");
    let mode = facts.mode() & 0o7777;
    ensure!(
        mode & 0o077 == 0,
        "others have rights to it (mode {mode:04o}), so its keys may be known: chmod go= and, \
         better, replace them"
    );
    ensure!(facts.len() <= MAX_SIZE, "it has {} bytes: not a file of keys", facts.len());
    // One byte more: a file that grows is another size than it had.
    let mut bytes = buffer(facts.len() as usize + 1);
    read_into(file, &mut bytes)?;
    ensure!(bytes.len() as u64 == facts.len(), "it changed while it was read");
    Ok(bytes)
}

fn open(path: &Path) -> Result<File> {
    // O_NONBLOCK: opening a FIFO must not wait for its other end.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            anyhow::bail!("it is a symbolic link: name the file itself")
        }
        opened => Ok(opened?),
    }
}

/// Fills the buffer up to its capacity, or to the end of the file.
fn read_into(mut file: File, bytes: &mut Bytes) -> Result<()> {
    let capacity = bytes.capacity();
    bytes.resize(capacity, 0);
    let mut len = 0;
    while len < capacity {
        match file.read(&mut bytes[len..])? {
            0 => break,
            more => len += more,
        }
    }
    bytes.truncate(len);
    Ok(())
}

/// Whether keys may come onto a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    Never,
    /// Unless the user insists.
    Refused,
    Forced,
}

/// Where a file may lie, and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub disk: Disk,
    /// Its rights; 0600 for most.
    pub mode: u32,
    /// The group that it gets; the writer's own unless told.
    pub group: Option<u32>,
}

/// A file that is written but not yet in its place; it goes if it never gets there.
pub struct Written {
    file: NamedTempFile,
    path: PathBuf,
}

/// Writes what is to be in `path` beside it. Nobody else can read it from the first moment on.
///
/// # Errors
///
/// It cannot be written, or it would come onto a disk.
pub fn write(path: &Path, bytes: &[u8], manner: Manner) -> Result<Written> {
    write_checked(path, bytes, manner).with_context(|| path.display().to_string())
}

fn write_checked(path: &Path, bytes: &[u8], manner: Manner) -> Result<Written> {
    if let Ok(there) = fs::symlink_metadata(path) {
        ensure!(there.is_file(), "it exists and is not a regular file");
    }
    let mut file = tempfile::Builder::new()
        .prefix(".tktrot-")
        .tempfile_in(directory(path))
        .context("cannot write into its directory")?;
    if manner.disk != Disk::Forced && !on_memory(file.as_file()) {
        let or = if manner.disk == Disk::Refused { ", or give --force-disk" } else { "" };
        bail!(
            "it is not on tmpfs or ramfs, and keys must never reach a disk: choose a place such as \
             /run or /dev/shm{or}"
        );
    }
    file.write_all(bytes)?;
    if manner.group.is_some() {
        let given = fchown(file.as_file(), None, manner.group);
        given.context(
            "cannot give it to its group: whoever writes it must be root or in that group",
        )?;
    }
    file.as_file().set_permissions(fs::Permissions::from_mode(manner.mode))?;
    file.as_file().sync_all()?;
    Ok(Written { file, path: path.to_owned() })
}

impl Written {
    /// Dates it.
    ///
    /// # Errors
    ///
    /// That cannot be done.
    pub fn dated(self, time: SystemTime) -> Result<Written> {
        self.file.as_file().set_modified(time)?;
        Ok(self)
    }

    /// Moves it into its place, where it replaces what was there.
    ///
    /// # Errors
    ///
    /// That cannot be done.
    pub fn place(self) -> Result<()> {
        let path = self.path;
        let placed = self.file.persist(&path).map_err(|error| error.error);
        let synced = placed.and_then(|_| File::open(directory(&path))?.sync_all());
        synced.with_context(|| format!("{}: cannot move it into place", path.display()))
    }
}

/// Removes a file that was written before, if it is there; tells whether it was.
///
/// # Errors
///
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| {
            format!("{}: cannot remove it, and it holds an old key", path.display())
        }),
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
