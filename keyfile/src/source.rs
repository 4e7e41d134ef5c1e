//! Reading a file of keys: only one that nobody else could have read or written.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};

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
