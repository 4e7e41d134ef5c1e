//! Writing files of keys: in memory, for nobody else, and whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;
use tktrot::ring::file::on_memory;

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
