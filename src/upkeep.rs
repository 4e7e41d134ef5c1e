//! The upkeep thread: rotates and erases on time when no handshake happens.
//!
//! Each process that deals in tickets has one; all but one wait for the lead,
//! a robust lock in the ring, until its holder dies. The thread runs with all
//! signals blocked, so that none is delivered to it instead of to the server.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use crate::clock::Time;
use crate::error;
use crate::process::{SignalsBlocked, Working};
use crate::ring::lock::Attempt;
use crate::rotate::Keyring;

/// The longest sleep: another process may have moved the deadline, and after
/// a suspension of the machine a sleep ends late.
const NAP: Duration = Duration::from_secs(1);
const STACK: usize = 256 * 1024;

/// Starts the thread of this process for a keyring. A process that may not
/// have one (RLIMIT_NPROC) goes on without: the callback rotates as well.
pub fn start(keyring: &'static Keyring) {
    let _inherited_by_the_thread = SignalsBlocked::new();
    let argument = ptr::from_ref(keyring).cast_mut().cast::<c_void>();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: the attributes are initialised before and destroyed after their
    // use; the argument lives for ever and is what `run` expects.
    unsafe {
        let attr = attributes.as_mut_ptr();
        if libc::pthread_attr_init(attr) != 0 {
            return;
        }
        libc::pthread_attr_setstacksize(attr, STACK);
        libc::pthread_attr_setdetachstate(attr, libc::PTHREAD_CREATE_DETACHED);
        if libc::pthread_create(thread.as_mut_ptr(), attr, run, argument) == 0 {
            libc::pthread_setname_np(thread.assume_init(), c"tktrot".as_ptr());
        }
        libc::pthread_attr_destroy(attr);
    }
}

extern "C" fn run(keyring: *mut c_void) -> *mut c_void {
    // `start` has named it, but for that glibc needs /proc, which a chroot may
    // not have.
    // SAFETY: a thread of this process, a C string of fewer than 16 bytes.
    unsafe { libc::pthread_setname_np(libc::pthread_self(), c"tktrot".as_ptr()) };
    // SAFETY: `start` passes a `&'static Keyring`.
    let keyring = unsafe { &*keyring.cast::<Keyring>() };
    if catch_unwind(AssertUnwindSafe(|| attend(keyring))).is_err() {
        error!("a defect of libtktrot in the upkeep thread; rotation goes on with handshakes");
    }
    ptr::null_mut()
}

fn attend(keyring: &Keyring) {
    let leader = &keyring.ring().header().leader;
    match leader.lock() {
        Attempt::Owned | Attempt::Inherited => {}
        Attempt::Busy | Attempt::Broken(_) => return,
    }
    // The lead, too, is held until the process is gone.
    loop {
        let permit = Working::begin();
        // Does not wait for the ring's lock: a fork may wait for the permit.
        keyring.tick(keyring.now());
        drop(permit);
        sleep_until(keyring.ring().deadline(), keyring.now());
    }
}

/// Sleeps until the deadline, but no longer than [`NAP`].
fn sleep_until(deadline: Time, now: Time) {
    // A deadline that has passed is one that the generator or another writer
    // kept from being met: not a reason to spin.
    let until = deadline.min(now + NAP).max(now + Duration::from_millis(10));
    let until = libc::timespec {
        tv_sec: (until.0 / 1_000_000_000) as i64,
        tv_nsec: (until.0 % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: a valid absolute time; a failure only means a shorter sleep.
    let rc = unsafe {
        libc::clock_nanosleep(libc::CLOCK_BOOTTIME, libc::TIMER_ABSTIME, &until, ptr::null_mut())
    };
    if rc != 0 {
        std::thread::sleep(Duration::from_millis(100));
    }
}
