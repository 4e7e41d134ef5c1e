//! Ctrl-C ends the demo in order: nginx is a daemon and would stay behind.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether somebody wants the demo to end.
pub fn requested() -> bool {
    // Relaxed: the flag publishes nothing but itself.
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Turns SIGINT, SIGTERM and SIGHUP into [`requested`]. Call it before any other thread exists:
/// threads inherit the mask. (Processes do not; std gives each child an empty one.)
pub fn watch() -> Result<()> {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set it is given, so that it is a valid sigset_t for
    // sigaddset and afterwards.
    let signals: libc::sigset_t = unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(signals.as_mut_ptr(), signal);
        }
        signals.assume_init()
    };
    // SAFETY: `signals` is an initialized set; a null pointer for the old mask is allowed.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &signals, ptr::null_mut()) };
    ensure!(blocked == 0, "cannot block signals");
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: `signals` is an initialized set and `signal` outlives the call.
        if unsafe { libc::sigwait(&signals, &mut signal) } == 0 {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}
