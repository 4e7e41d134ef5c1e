//! The error queue of the TLS library, which is the application's: whoever
//! calls `SSL_get_error` after a callback of ours that left an entry sees a
//! connection fail that did not fail (SSL_get_error(3)).

use std::ffi::{c_char, c_int, c_ulong};

use super::api::TlsApi;

/// While it lives, what is put on the calling thread's error queue is ours,
/// and goes when it is dropped (ERR_set_mark(3)).
///
/// Not one inside another: OpenSSL 1.1.1, BoringSSL and AWS-LC have one mark
/// for an entry, however often it was set.
pub struct Mark<'a> {
    api: &'a TlsApi,
    /// The application had a mark where we set ours, in this state: it is set again. Else null.
    marked: *mut State,
}

/// `ERR_STATE` of OpenSSL 1.1.1 (err.h), the last version that has it so. A mark
/// is a flag of the newest entry there, and goes with ours.
#[repr(C)]
struct State {
    flags: [c_int; ENTRIES],
    codes: [c_ulong; ENTRIES],
    data: [*mut c_char; ENTRIES],
    data_flags: [c_int; ENTRIES],
    files: [*const c_char; ENTRIES],
    lines: [c_int; ENTRIES],
    top: c_int,
    bottom: c_int,
}

/// `ERR_NUM_ERRORS`.
const ENTRIES: usize = 16;
/// `ERR_FLAG_MARK`.
const MARKED: c_int = 1;

impl<'a> Mark<'a> {
    /// Marks the newest error; what comes after it goes when this is dropped.
    #[inline]
    pub fn set(api: &'a TlsApi) -> Self {
        // SAFETY: takes nothing; 1.1.1 gives the calling thread's state, or null.
        let state = api.err_get_state.and_then(|get| unsafe { get().cast::<State>().as_mut() });
        let marked = state.and_then(|state| {
            let is_marked = state.newest().is_some_and(|flags| *flags & MARKED != 0);
            is_marked.then(|| std::ptr::from_mut(state))
        });
        let marked = marked.unwrap_or(std::ptr::null_mut());
        if let Some(set) = api.err_set_mark {
            // SAFETY: takes nothing. An empty queue cannot be marked, and is
            // emptied again below.
            unsafe { set() };
        }
        Mark { api, marked }
    }
}

impl Drop for Mark<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(pop) = self.api.err_pop_to_mark {
            // SAFETY: takes nothing; our mark, or the bottom of the queue, is there.
            unsafe { pop() };
        }
        // SAFETY: null, or the calling thread's, which keeps it until it ends.
        let state = unsafe { self.marked.as_mut() };
        if let Some(flags) = state.and_then(State::newest) {
            *flags |= MARKED;
        }
    }
}

impl State {
    /// The flags of the newest entry; `None` if the queue is empty.
    fn newest(&mut self) -> Option<&mut c_int> {
        let place = usize::try_from(self.top).ok().filter(|_| self.top != self.bottom)?;
        self.flags.get_mut(place)
    }
}
