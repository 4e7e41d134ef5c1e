//! What an `[[export]]` entry asks for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Group;

use crate::keyfile::files::Format;
use crate::keyfile::target::{Disk, Manner};

/// How long a command may run, and HAProxy may take to answer, unless told.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The right of the writer, and of the group to read. No one else's.
const RIGHTS: u32 = 0o640;

/// One entry: for whom files are written, where, and how the server is told.
#[derive(Clone, Debug)]
pub struct Entry {
    pub format: Format,
    /// The file; with nginx-80, the one that names the others.
    pub output: PathBuf,
    /// HAProxy's admin socket.
    pub socket: Option<PathBuf>,
    /// What is run when the files are new: a program and its arguments, no shell.
    pub command: Vec<String>,
    pub timeout: Duration,
    /// The rights of the files.
    pub mode: u32,
    /// The group of the files, by its number.
    pub group: Option<u32>,
}

impl Entry {
    /// An entry that sets nothing but what it must.
    pub fn new(format: Format, output: PathBuf) -> Entry {
        let (socket, command, group) = (None, Vec::new(), None);
        Entry { format, output, socket, command, timeout: TIMEOUT, mode: 0o600, group }
    }

    /// Whether it can work.
    ///
    /// # Errors
    ///
    /// Which setting is wrong, and what to write.
    pub fn check(&self) -> Result<()> {
        let told = self.socket.is_some() || !self.command.is_empty();
        ensure!(self.output.is_absolute(), "output: give the whole path of the file");
        ensure!(
            self.socket.is_none() || self.format == Format::Haproxy,
            "socket: only HAProxy has one that takes keys; use command"
        );
        match self.format {
            Format::Haproxy if !told => bail!(
                "HAProxy reads its file only when it starts: give socket (its `stats socket` with \
                 `level admin`) or a command that reloads it"
            ),
            Format::Nginx80 | Format::Apache if !told => {
                bail!("the server reads its files only when told: give a command that reloads it")
            }
            _ => {}
        }
        ensure!(
            self.mode & !RIGHTS == 0 && self.mode & 0o400 != 0,
            "mode: \"0600\", or \"0640\" with group; {:04o} lets too many read keys, or nobody",
            self.mode
        );
        Ok(())
    }

    pub(super) fn manner(&self) -> Manner {
        Manner { disk: Disk::Never, mode: self.mode, group: self.group }
    }
}

/// The number of a group.
///
/// # Errors
///
/// There is no such group.
pub fn group(name: &str) -> Result<u32> {
    let found = Group::from_name(name).context("the groups of this host cannot be read")?;
    Ok(found.with_context(|| format!("group: there is no group {name}"))?.gid.as_raw())
}
