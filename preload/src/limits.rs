//! The functions that stand in front of those by which servers confine
//! themselves, for the sake of the upkeep thread.
//!
//! Some take the right to make threads from themselves (`RLIMIT_NPROC` 0;
//! HAProxy's workers do, right before they serve). Our thread would come with the
//! first ticket, too late; so it comes now, with less rights than anybody here
//! ([`tktrot::confine`]), or keys would outlive their end wherever nobody
//! connects. Others, or the same ones later, set up a filter of system calls
//! (prctl(2), or seccomp_load(3) of libseccomp): a thread of ours that is there by
//! then would not be under it, or keep it from all threads, so it ends. Some give
//! up capabilities of one thread (capset(2)), which ours would keep: it goes, and
//! the next ticket starts another.
//!
//! Those originals that are system calls are made as such: looking them up would
//! take locks that a forked child may find taken. In a process without a ring of
//! ours, nothing else happens.

use std::ffi::{c_int, c_ulong, c_void};
use std::ptr;

use libc::{PR_SET_SECCOMP, RLIMIT_NPROC, pid_t, rlimit};
use tktrot::tls::resolve;
use tktrot::{go_on_with_caller, upkeep};

use crate::guest::{self, shielded};

/// A process that may have no thread more, whoever else its user is.
const ALONE: libc::rlim_t = 0;

/// # Safety
///
/// As for prlimit(2).
unsafe fn limit(pid: pid_t, resource: c_int, new: *const rlimit, old: *mut rlimit) -> c_int {
    // SAFETY: the server vouches for `new`; the other only asks for a number.
    let (forbids, of_us) = unsafe {
        let forbids = |it: &rlimit| resource == RLIMIT_NPROC as c_int && it.rlim_cur == ALONE;
        (new.as_ref().is_some_and(forbids), || pid == 0 || pid == libc::getpid())
    };
    if forbids && of_us() {
        shielded((), guest::last_chance_for_threads);
    }
    // SAFETY: the server's own call, as the C library makes it.
    unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new, old) as c_int }
}

/// `setrlimit(2)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setrlimit(resource: c_int, new: *const rlimit) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { limit(0, resource, new, ptr::null_mut()) }
}

/// `setrlimit(2)`, as programs call it that are built for large files.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setrlimit64(resource: c_int, new: *const rlimit) -> c_int {
    // SAFETY: passed on from the caller; on 64-bit machines it is the same struct.
    unsafe { limit(0, resource, new, ptr::null_mut()) }
}

/// `prlimit(2)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prlimit(
    pid: pid_t,
    resource: c_int,
    new: *const rlimit,
    old: *mut rlimit,
) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { limit(pid, resource, new, old) }
}

/// `prlimit(2)`, as programs call it that are built for large files.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prlimit64(
    pid: pid_t,
    resource: c_int,
    new: *const rlimit,
    old: *mut rlimit,
) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { limit(pid, resource, new, old) }
}

/// `prctl(2)`, which has as many arguments as the option says: all of them are
/// passed on, as the C library does.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn prctl(
    option: c_int,
    second: c_ulong,
    third: c_ulong,
    fourth: c_ulong,
    fifth: c_ulong,
) -> c_int {
    // Without a filter, it only asks whether there could be one.
    let is_strict = second == c_ulong::from(libc::SECCOMP_MODE_STRICT);
    let confines = option == PR_SET_SECCOMP && (third != 0 || is_strict);
    if confines {
        shielded((), guest::last_chance_for_calls);
    }
    // SAFETY: the server's own call, as the C library makes it.
    let result =
        unsafe { libc::syscall(libc::SYS_prctl, option, second, third, fourth, fifth) as c_int };
    if confines && result != 0 {
        shielded((), upkeep::stay);
    }
    result
}

/// `capset(2)`, which is for the calling thread alone; libcap and libcap-ng call it.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn capset(header: *mut c_void, data: *const c_void) -> c_int {
    let stepped_aside = shielded(false, upkeep::step_aside);
    // SAFETY: the server's own call, as the C library makes it.
    let result = unsafe { libc::syscall(libc::SYS_capset, header, data) as c_int };
    if stepped_aside {
        shielded((), upkeep::stay);
    }
    result
}

/// `seccomp_load(3)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn seccomp_load(filter: *mut c_void) -> c_int {
    go_on_with_caller!(1, load_filter)
}

unsafe extern "C" fn load_filter(filter: *mut c_void, caller: *const c_void) -> c_int {
    shielded((), guest::last_chance_for_calls);
    let original = shielded(None, || resolve::function_for(caller, c"seccomp_load"));
    type SeccompLoad = unsafe extern "C" fn(*mut c_void) -> c_int;
    // SAFETY: null becomes None; else the function of that documented name, and the server's own call.
    let result = unsafe {
        let original = original.unwrap_or(ptr::null());
        std::mem::transmute::<*const c_void, Option<SeccompLoad>>(original)
            .map_or(-libc::EFAULT, |original| original(filter))
    };
    if result != 0 {
        shielded((), upkeep::stay);
    }
    result
}
