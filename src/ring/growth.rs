//! A ring takes memory for keys as they come: a page of slots at a time, under the
//! writer lock, and reserved before it is touched. On a full tmpfs, or in a file that
//! somebody truncated, the key is refused; a mere store would end the server (SIGBUS).

use std::io;
use std::sync::atomic::AtomicUsize;

use super::Ring;
use super::layout::{FIRST_SLOTS, MAX_CAPACITY, MORE_SLOTS, Slot, bytes_of};
use super::writer::put32;
#[cfg(not(any(loom, miri)))]
use super::writer::put64;
#[cfg(not(any(loom, miri)))]
use crate::atomics::AtomicU64;
use crate::atomics::Ordering;
use crate::process;

/// What this process has locked of a ring, in bytes from its start.
#[derive(Default)]
pub(super) struct Locked {
    is: AtomicUsize,
    tried: AtomicUsize,
}

impl Ring {
    /// How many slots have memory.
    #[inline]
    pub fn slots_with_memory(&self) -> u32 {
        // Who has found a link (Acquire) to a slot finds it counted here.
        self.header().slots.load(Ordering::Relaxed).min(MAX_CAPACITY)
    }

    /// Takes memory for some slots more: for a writer who found every slot taken.
    ///
    /// # Errors
    ///
    /// There is none; or this process may not ask for it any more, because a filter of
    /// system calls could end it for that.
    pub(super) fn grow(&self) -> io::Result<()> {
        let present = self.slots_with_memory();
        let wanted = (present + MORE_SLOTS).min(self.memory.slots().len() as u32);
        if wanted <= present {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if process::is_confined() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let more = &self.memory.slots()[present as usize..wanted as usize];
        reserve(more)?;
        // Release: who finds a link to one of them (Acquire) finds them counted.
        put32(&self.header().slots, wanted, Ordering::Release);
        Ok(())
    }

    /// Keeps its keys out of swap for this process; each child has to ask for itself.
    ///
    /// # Errors
    ///
    /// The limit of memory that the process may lock (RLIMIT_MEMLOCK).
    pub fn lock(&self) -> io::Result<()> {
        let len = bytes_of(self.slots_with_memory());
        self.locked.tried.store(len, Ordering::Relaxed);
        self.memory.lock(len)?;
        self.locked.is.store(len, Ordering::Relaxed);
        Ok(())
    }

    /// As [`Ring::lock`], for slots that got memory since, whoever took it.
    ///
    /// # Errors
    ///
    /// As there; told once for each growth.
    pub fn lock_more(&self) -> io::Result<()> {
        let tried = self.locked.tried.load(Ordering::Relaxed);
        let is_all = tried == 0 || tried >= bytes_of(self.slots_with_memory());
        if is_all || process::is_confined() { Ok(()) } else { self.lock() }
    }

    /// The addresses of its first page, and after the last one that was locked or, if
    /// `whole`, of all: there the kernel begins another range of addresses.
    pub(super) fn range(&self, whole: bool) -> (usize, usize) {
        let locked = || self.locked.is.load(Ordering::Relaxed);
        let len = if whole { bytes_of(MAX_CAPACITY) } else { locked() };
        self.memory.range(len)
    }
}

/// Bytes of a ring that must have memory before it is used.
pub(super) fn needed(slots: u32) -> usize {
    bytes_of(slots.clamp(FIRST_SLOTS, MAX_CAPACITY))
}

/// A page has more bytes than these slots: they are on one or two of them, on that of the
/// first and that of the last.
#[cfg(not(any(loom, miri)))]
fn reserve(slots: &[Slot]) -> io::Result<()> {
    const _: () = assert!(MORE_SLOTS as usize * size_of::<Slot>() <= 4096);
    let ends = slots.first().into_iter().chain(slots.last());
    ends.map(|slot| &slot.seq).try_for_each(touch)
}

#[cfg(any(loom, miri))]
fn reserve(_: &[Slot]) -> io::Result<()> {
    Ok(())
}

/// Lets the kernel write to a word that nobody reads yet: where no memory is to be had,
/// the call fails, and no signal comes. (MADV_POPULATE_WRITE is for that, from Linux 5.14 on;
/// this is the same for all.)
#[cfg(not(any(loom, miri)))]
fn touch(word: &AtomicU64) -> io::Result<()> {
    const SIGNALS: usize = size_of::<u64>();
    // SAFETY: only asks for the signals that are blocked, which are as many bits as the
    // word has (rt_sigprocmask(2)); an address without memory is an error of the call.
    let rc = unsafe {
        let none = std::ptr::null::<u64>();
        let how = libc::SIG_BLOCK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, none, word.as_ptr(), SIGNALS)
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    put64(word, 0, Ordering::Relaxed);
    Ok(())
}
