//! A ring whose owner truncates it while it is looked at: the next access to a page that is
//! no longer there is a SIGBUS (mmap(2)). Root looks at rings of users that it does not
//! trust, so that must end no command: the page reads as zeroes, and it is said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{mem, ptr};

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// From now on; not for what stays: an agent that has lost its ring should end.
pub fn survive() {
    // SAFETY: a handler that makes system calls alone.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = missing as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
    }
}

/// True if a page was missing: what was read there is none of the ring's.
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
