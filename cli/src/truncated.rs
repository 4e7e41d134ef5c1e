//! Survives a ring that its owner truncates while it is read. An access to a page that is gone raises
//! SIGBUS (mmap(2)), and root reads rings of users that it does not trust: so that no command ends by
//! it, the page reads as zeroes, and the command says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{mem, ptr};

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// Handles SIGBUS from now on. Not for the agent, which should end if it has lost its ring.
pub fn survive() {
    // SAFETY: the handler only makes system calls and stores to an atomic.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = missing as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
    }
}

/// True if a page was missing, so that zeroes were read in place of the ring.
pub fn happened() -> bool {
    HAPPENED.load(Ordering::Relaxed)
}

extern "C" fn missing(_: libc::c_int, facts: *mut libc::siginfo_t, _: *mut libc::c_void) {
    HAPPENED.store(true, Ordering::Relaxed);
    // SAFETY: the kernel gives valid facts; the page at that address is one that cannot be
    // read, in a mapping of a file, and nobody has a use for it any more. Where no other can be
    // had in its place, the access is made again without this handler, and ends the process.
    unsafe {
        let size = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let page = (*facts).si_addr() as usize / size * size;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let place = ptr::with_exposed_provenance_mut(page);
        if libc::mmap(place, size, access, flags, -1, 0) == libc::MAP_FAILED {
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}
