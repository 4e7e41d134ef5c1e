//! Processes in namespaces of their own, as in containers: each is the first process of
//! its PID namespace, so all have the same number.

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Words that all processes of a test share.
pub fn shared() -> &'static [AtomicU64] {
    const WORDS: usize = 512;
    // SAFETY: a new anonymous mapping, zeroed, page-aligned, never unmapped, made of atomics.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let base = libc::mmap(std::ptr::null_mut(), WORDS * 8, access, flags, -1, 0);
        assert_ne!(base, libc::MAP_FAILED);
        std::slice::from_raw_parts(base.cast::<AtomicU64>(), WORDS)
    }
}

/// Waits for another process to do something.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what} does not happen");
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// A process in a PID namespace of its own, and who started it; both are killed when dropped.
pub struct Contained(libc::pid_t);

impl Contained {
    /// Starts `work`, which no thread of this process is there for, in a PID namespace of
    /// its own and, if `ahead` is given, in a time namespace that is that much ahead.
    pub fn start(ahead: Option<i64>, work: impl FnOnce()) -> Contained {
        // SAFETY: the child makes its child, waits for it, and ends without returning.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork failed");
        if pid != 0 {
            return Contained(pid);
        }
        let failed = catch_unwind(AssertUnwindSafe(|| contain(ahead, work)));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(failed.unwrap_or(99)) }
    }

    /// Waits for its end; true if the work was done without a panic.
    pub fn ends_well(self) -> bool {
        let mut status = 0;
        // SAFETY: waits for our own child.
        let waited = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert_eq!(waited, self.0);
        std::mem::forget(self);
        status == 0
    }

    /// The number by which this test knows the process that works.
    pub fn pid(&self) -> libc::pid_t {
        let list = format!("/proc/{0}/task/{0}/children", self.0);
        let mut found = None;
        until("the contained process", || {
            let text = fs::read_to_string(&list).unwrap_or_default();
            found = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
            found.is_some()
        });
        found.unwrap()
    }

    /// Sends the process that works a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: a child of our child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        // SAFETY: ends our own child, and with it its child, and waits for it.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Returns the exit status of the process that works.
fn contain(ahead: Option<i64>, work: impl FnOnce()) -> libc::c_int {
    let time = if ahead.is_some() { libc::CLONE_NEWTIME } else { 0 };
    // SAFETY: this process has one thread, and no children yet.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID | time) }, 0, "unshare (as root?)");
    if let Some(seconds) = ahead {
        let mut offsets =
            fs::File::options().write(true).open("/proc/self/timens_offsets").unwrap();
        offsets.write_all(format!("boottime {seconds} 0\n").as_bytes()).unwrap();
    }
    // SAFETY: the child works, and ends without returning.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: dies with who started it, and so with the test.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let done = catch_unwind(AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    status
}

/// Lets so many go on at the same moment: each calls with the number of the round.
pub fn together(ready: &AtomicU64, count: u64) {
    ready.fetch_add(1, Ordering::SeqCst);
    let end = Instant::now() + PATIENCE;
    while ready.load(Ordering::SeqCst) < count {
        assert!(Instant::now() < end, "not all have come");
        std::hint::spin_loop();
    }
}
