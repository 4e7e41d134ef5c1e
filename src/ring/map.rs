//! The memory of a ring: mapped shared, locked, and out of core dumps.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

const READ_WRITE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

/// A shared mapping. It stays where it is until dropped.
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is only memory; whoever reads or writes it through
// `base` answers for doing that in a way that threads can share.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file.
    pub fn of_file(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Self::map(len, READ_WRITE, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// Maps the first `len` bytes of a file to read only: a store to it is a fault.
    pub fn to_read(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Self::map(len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// Maps zeroed memory that only this process and its children share.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        // Miri has no children, and no shared mappings.
        let shared = if cfg!(miri) { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
        Self::map(len, READ_WRITE, shared | libc::MAP_ANONYMOUS, -1)
    }

    fn map(
        len: usize,
        protection: libc::c_int,
        flags: libc::c_int,
        fd: libc::c_int,
    ) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, len })
    }

    /// The first byte; aligned to a page.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The addresses of its first page, and after that of byte `len`.
    pub fn range(&self, len: usize) -> (usize, usize) {
        // SAFETY: takes a number, and cannot fail.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let first = self.base.as_ptr() as usize;
        (first, first + len.next_multiple_of(page))
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.len
    }

    /// Keeps the pages out of core dumps; their children inherit that.
    pub fn hide(&self) -> io::Result<()> {
        let base = self.base.as_ptr().cast();
        // SAFETY: base and len are those of a live mapping of ours.
        match unsafe { libc::madvise(base, self.len, libc::MADV_DONTDUMP) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Keeps the pages of the first `len` bytes out of swap for this process
    /// (mlock(2)), and takes memory for those that have none; each child has to ask for
    /// itself.
    pub fn lock(&self, len: usize) -> io::Result<()> {
        // SAFETY: they are of a live mapping of ours.
        match unsafe { libc::mlock(self.base.as_ptr().cast(), len.min(self.len)) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of a live mapping of ours, and the
        // borrow checker has ended every use of it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
