//! The signal that lets the agent read its settings again (SIGHUP) would end a process that does not
//! wait for it yet. So it is held from the first moment on, and nothing of it is lost.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

/// Holds it. To be called before settings are read, while there is no other thread.
pub fn hold_reload() {
    // Only an unknown signal could be refused.
    let _ = hangup().thread_block();
}

/// Lets it come, also if it came before.
pub fn let_reload_come() -> Result<(), Errno> {
    hangup().thread_unblock()
}

fn hangup() -> SigSet {
    SigSet::from(Signal::SIGHUP)
}
