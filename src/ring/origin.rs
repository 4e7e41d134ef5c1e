//! The file that a ring was made as. Its times are of this machine's present run
//! only if it still lies in that file: tmpfs does not survive a reboot, and a copy,
//! a restored backup or another's file is another inode.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering;

use super::layout::Header;

/// What tells a file on tmpfs from any other that is, or was, on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    inode: u64,
    /// Nanoseconds since the epoch, by the clock of then (statx(2)); 0 where the kernel
    /// does not tell. Inode numbers alone begin anew with each boot.
    born: u64,
}

impl Origin {
    /// That of an open file.
    pub(super) fn of(file: &File) -> io::Result<Origin> {
        Ok(Origin { inode: file.metadata()?.ino(), born: born(file) })
    }

    /// False if the two are of different files, as far as both tell.
    pub(super) fn may_be(self, other: Origin) -> bool {
        let same_birth = self.born == other.born || self.born == 0 || other.born == 0;
        self.inode == other.inode && same_birth
    }
}

impl Header {
    /// Notes the file that the ring is made as; none for a private ring.
    pub(super) fn set_origin(&self, origin: Origin) {
        self.inode.store(origin.inode, Ordering::Relaxed);
        self.born.store(origin.born, Ordering::Relaxed);
    }

    /// The file that the ring was made as.
    pub(super) fn origin(&self) -> Origin {
        let (inode, born) = (self.inode.load(Ordering::Relaxed), self.born.load(Ordering::Relaxed));
        Origin { inode, born }
    }
}

/// Makes a ring's bytes in another file pass for a ring that was made there, for
/// tests of what is not a copy's fault.
#[doc(hidden)]
pub fn adopt(file: &File) -> io::Result<()> {
    let origin = Origin::of(file)?;
    let words = [origin.inode, origin.born].map(u64::to_ne_bytes);
    file.write_all_at(&words.concat(), offset_of!(Header, inode) as u64)
}

fn born(file: &File) -> u64 {
    // SAFETY: zero is a valid statx, and the call fills it.
    let mut facts: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a descriptor of ours, an empty name and a valid buffer.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BTIME,
            &raw mut facts,
        )
    };
    if rc != 0 || facts.stx_mask & libc::STATX_BTIME == 0 {
        return 0;
    }
    (facts.stx_btime.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(facts.stx_btime.tv_nsec.into())
}
