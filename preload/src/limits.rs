//! The function that stands in front of setrlimit(2), for servers that take
//! the right to make threads from themselves. HAProxy's workers do
//! (`RLIMIT_NPROC` 0) right before they serve. Our thread would come with the
//! first ticket, too late; so it comes now, or keys would outlive their end
//! wherever nobody connects.

use std::ffi::c_int;
use std::ptr;

use libc::{RLIMIT_NPROC, rlimit};

use crate::guest;
use crate::hooks::shielded;

/// What names a limit: musl has no type of its own for it.
#[cfg(target_env = "musl")]
type Resource = c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

/// `setrlimit(2)`.
///
/// # Safety
///
/// As for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setrlimit(resource: Resource, limit: *const rlimit) -> c_int {
    // SAFETY: the server vouches for `limit`.
    if resource == RLIMIT_NPROC && unsafe { limit.as_ref() }.is_some_and(|it| it.rlim_cur == 0) {
        shielded((), guest::last_chance_for_threads);
    }
    // SAFETY: the server's own call, as the C library makes it; looking up the
    // original would take locks that a forked child may find taken.
    unsafe { libc::prlimit(0, resource, limit, ptr::null_mut()) }
}
