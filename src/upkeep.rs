//! The upkeep thread: rotates and erases on time when no handshake happens.
//!
//! Each process that deals in tickets has one. One of them has the lead, a robust
//! lock in the ring, and sees to the ring; all see to what their own process
//! keeps of its keys. The thread runs with all
//! signals blocked, so that none is delivered to it instead of to the server.

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use once_cell::race::OnceBox;

use crate::clock::Time;
use crate::log::OnceOnly;
use crate::process::{SignalsBlocked, Working};
use crate::rotate::Keyring;
use crate::{error, warning};

/// The longest sleep: another process may have moved the deadline, and after
/// a suspension of the machine a sleep ends late.
const NAP: Duration = Duration::from_secs(1);
const STACK: usize = 256 * 1024;

/// What else a process has to see to: does it, and returns when it wants to be
/// called next, at the latest.
pub type Chore = fn(Time) -> Time;

static CHORE: OnceBox<Chore> = OnceBox::new();

/// Starts the thread of this process for a keyring; `chore` is the same at each
/// call. A process that may not have a thread (RLIMIT_NPROC) goes on without:
/// the callback rotates as well, and does the chore.
pub fn start(keyring: &'static Keyring, chore: Chore) {
    CHORE.get_or_init(|| Box::new(chore));
    let _inherited_by_the_thread = SignalsBlocked::new();
    let argument = ptr::from_ref(keyring).cast_mut().cast::<c_void>();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialised before and destroyed after their
    // use; the argument lives for ever and is what `run` expects.
    let errno = unsafe {
        let attr = attributes.as_mut_ptr();
        match libc::pthread_attr_init(attr) {
            0 => {
                libc::pthread_attr_setstacksize(attr, STACK);
                libc::pthread_attr_setdetachstate(attr, libc::PTHREAD_CREATE_DETACHED);
                let errno = libc::pthread_create(thread.as_mut_ptr(), attr, run, argument);
                libc::pthread_attr_destroy(attr);
                errno
            }
            errno => errno,
        }
    };
    static SAID: OnceOnly = OnceOnly::new();
    if errno != 0 && SAID.first() {
        warning!(
            "no thread can be started (RLIMIT_NPROC?): {}; handshakes rotate, and keys that are \
             over stay until one comes; TKTROT_UPKEEP=callback if that is meant",
            io::Error::from_raw_os_error(errno)
        );
    }
}

extern "C" fn run(keyring: *mut c_void) -> *mut c_void {
    // It names itself: to name another thread glibc opens a file under /proc,
    // which is not there in a chroot.
    // SAFETY: the calling thread, and a name of less than 16 bytes.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), c"tktrot".as_ptr()) };
    // SAFETY: `start` passes a `&'static Keyring`.
    let keyring = unsafe { &*keyring.cast::<Keyring>() };
    if catch_unwind(AssertUnwindSafe(|| attend(keyring))).is_err() {
        error!("a defect of libtktrot in the upkeep thread; rotation goes on with handshakes");
    }
    ptr::null_mut()
}

fn attend(keyring: &Keyring) {
    let mut leads = false;
    loop {
        let permit = Working::begin();
        leads = keyring.ring().header().leads(leads);
        // Neither waits for a lock: a fork may wait for the permit.
        if leads {
            keyring.tick(keyring.now());
        }
        let next = CHORE.get().map_or(Time::NEVER, |chore| chore(keyring.now()));
        drop(permit);
        if let Err(why) = sleep_until(keyring.ring().deadline().min(next), keyring.now()) {
            error!(
                "the upkeep thread cannot sleep, and ends: {why}; handshakes rotate, and keys \
                 that are over stay until one comes"
            );
            return;
        }
    }
}

/// Sleeps until the deadline, but no longer than [`NAP`].
fn sleep_until(deadline: Time, now: Time) -> io::Result<()> {
    if now == Time::NEVER {
        // The clock fails: what it is asked to sleep by is none.
        return sleep_for(NAP);
    }
    // A deadline that has passed is one that the generator or another writer
    // kept from being met: not a reason to spin.
    let until = deadline.min(now + NAP).max(now + Duration::from_millis(10));
    let until = libc::timespec {
        tv_sec: (until.0 / 1_000_000_000) as libc::time_t,
        tv_nsec: (until.0 % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: a valid absolute time; a failure only means a shorter sleep.
    let rc = unsafe {
        libc::clock_nanosleep(libc::CLOCK_BOOTTIME, libc::TIMER_ABSTIME, &until, ptr::null_mut())
    };
    if rc == 0 { Ok(()) } else { sleep_for(Duration::from_millis(100)) }
}

/// By a call that every server makes itself: not all kernels and filters of
/// system calls know the other one. (The standard library's sleep panics.)
fn sleep_for(span: Duration) -> io::Result<()> {
    // SAFETY: no descriptors, so nothing but the time is looked at.
    match unsafe { libc::poll(ptr::null_mut(), 0, span.as_millis() as libc::c_int) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
