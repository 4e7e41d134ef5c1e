//! The memory of a ring: mapped shared, locked, and out of core dumps ([`Mapping`]), and
//! its parts, where the layout says ([`Memory`]).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

#[cfg(not(loom))]
use super::layout::{
    BLOCKS, BLOCKS_AT, BUCKETS_AT, Block, Capacity, GRAVES_AT, Header, MAX_GRAVES, MEMBERS,
    MEMBERS_AT, Member, SIZE, SLOTS_AT,
};
use super::layout::{BUCKETS, Grave, MAX_CAPACITY, Slot};
#[cfg(not(any(loom, miri)))]
use super::layout::{GATES, GATES_AT, Gate};
#[cfg(not(loom))]
use crate::atomics::AtomicU16;
use crate::atomics::Ordering;
use crate::secret::KeyName;

// loom's atomics cannot lie in a mapping.
#[cfg(loom)]
#[path = "modelled/memory.rs"]
mod modelled;
#[cfg(loom)]
pub use modelled::Memory;

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

    /// True if the file that is mapped has no name any more, where the kernel has one range
    /// of addresses up to byte `len`. False where /proc does not tell, as in a server that has
    /// changed its root directory. Without a descriptor: the server may be about to open a file
    /// that is to have a certain number.
    pub fn lost_its_file(&self, len: usize) -> bool {
        /// What the kernel appends to the name of a file that has none any more.
        const DELETED: &[u8] = b" (deleted)";
        self.name(len).is_some_and(|name| name.ends_with(DELETED))
    }

    /// What the kernel calls the mapped file (proc(5), /proc/PID/map_files).
    fn name(&self, len: usize) -> Option<Vec<u8>> {
        let (first, end) = self.range(len);
        let link = CString::new(format!("/proc/self/map_files/{first:x}-{end:x}")).ok()?;
        let mut name = vec![0u8; libc::PATH_MAX as usize];
        // SAFETY: a NUL-terminated name and a valid buffer.
        let length = unsafe { libc::readlink(link.as_ptr(), name.as_mut_ptr().cast(), name.len()) };
        name.truncate(usize::try_from(length).ok()?);
        Some(name)
    }

    /// The addresses of its first page, and after that of byte `len`.
    fn range(&self, len: usize) -> (usize, usize) {
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

/// The parts of a ring, in a mapping. All access to it is through the atomics
/// of [`super::layout`], whose references this type hands out.
#[cfg(not(loom))]
pub struct Memory {
    mapping: Mapping,
}

#[cfg(not(loom))]
impl Memory {
    /// Zeroed memory that only this process and its children share.
    pub fn anonymous(_: Capacity) -> io::Result<Self> {
        Ok(Memory::new(Mapping::anonymous(SIZE)?))
    }

    /// Takes a mapping of at least [`SIZE`] bytes as a ring's memory.
    pub fn new(mapping: Mapping) -> Self {
        assert!(mapping.size() >= SIZE, "a mapping shorter than a ring");
        Memory { mapping }
    }

    /// See [`Mapping::hide`].
    pub fn hide(&self) -> io::Result<()> {
        self.mapping.hide()
    }

    /// See [`Mapping::lost_its_file`].
    pub fn lost_its_file(&self, len: usize) -> bool {
        self.mapping.lost_its_file(len)
    }

    /// See [`Mapping::lock`].
    pub fn lock(&self, len: usize) -> io::Result<()> {
        self.mapping.lock(len)
    }

    /// The fixed head of the ring.
    #[inline]
    pub fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least `SIZE` long
        // (checked by `new`) and lives as long as `self`; a Header is made of
        // atomics, for which any bytes are valid and which other processes may
        // change at any time.
        unsafe { self.mapping.base().cast::<Header>().as_ref() }
    }

    /// What processes count.
    #[inline]
    pub fn blocks(&self) -> &[Block] {
        self.part(BLOCKS_AT, BLOCKS)
    }

    /// The heads of the lookup chains.
    #[inline]
    pub fn buckets(&self) -> &[AtomicU16] {
        self.part(BUCKETS_AT, BUCKETS)
    }

    /// Room for keys. Only what has memory may be touched: [`Memory::slots`].
    #[inline]
    pub fn all_slots(&self) -> &[Slot] {
        self.part(SLOTS_AT, MAX_CAPACITY as usize)
    }

    /// Room for graves. Only what has memory may be touched: [`Memory::graves`].
    #[inline]
    pub fn all_graves(&self) -> &[Grave] {
        self.part(GRAVES_AT, MAX_GRAVES as usize)
    }

    /// What processes tell of themselves.
    #[inline]
    pub fn members(&self) -> &[Member] {
        self.part(MEMBERS_AT, MEMBERS)
    }

    /// The gates to the writer lock.
    #[cfg(not(any(loom, miri)))]
    #[inline]
    pub fn gates(&self) -> &[Gate] {
        self.part(GATES_AT, GATES)
    }

    /// `count` consecutive `T`s at `offset`, where the layout has them.
    #[inline]
    fn part<T>(&self, offset: usize, count: usize) -> &[T] {
        debug_assert!(offset + count * size_of::<T>() <= self.mapping.size());
        debug_assert_eq!(offset % align_of::<T>(), 0);
        // SAFETY: only called with the offset, count and type of one part of
        // the layout, which lies inside the mapping and is aligned; contents
        // as in `header`.
        unsafe {
            let first = self.mapping.base().add(offset).cast::<T>();
            std::slice::from_raw_parts(first.as_ptr(), count)
        }
    }
}

impl Memory {
    /// How many slots have memory.
    #[inline]
    pub fn slots_with_memory(&self) -> u32 {
        // Who has found a link (Acquire) to a slot finds it counted here.
        self.header().slots.load(Ordering::Relaxed).min(MAX_CAPACITY)
    }

    /// The slots that have memory.
    #[inline]
    pub fn slots(&self) -> &[Slot] {
        let slots = self.all_slots();
        &slots[..slots.len().min(self.slots_with_memory() as usize)]
    }

    /// The graves that have been in use.
    pub fn graves(&self) -> &[Grave] {
        // Acquire pairs with the Release of who counts one more, and has taken memory for it.
        let used = self.header().graves.load(Ordering::Acquire) as usize;
        let graves = self.all_graves();
        &graves[..graves.len().min(used)]
    }

    /// The head of the lookup chain that a name belongs to. Names are random,
    /// so their first bytes are the hash.
    pub fn bucket(&self, name: &KeyName) -> usize {
        let head = u32::from_le_bytes([name.0[0], name.0[1], name.0[2], name.0[3]]);
        head as usize & (BUCKETS - 1)
    }

    /// The slot that a chain or line word (slot + 1) refers to; `None` at the end.
    pub fn slot(&self, link: u32) -> Option<&Slot> {
        self.slots().get((link as usize).checked_sub(1)?)
    }
}
