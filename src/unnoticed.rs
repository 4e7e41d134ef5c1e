//! Nothing of ours stays on a server's thread. Around each callback, hook and
//! `tkt_*` call its errno is kept, and cancellation is put off: what we do has
//! cancellation points (open(2), write(2), getrandom(2)) that the server's own
//! call had not, and a cancelled thread would be unwound through our frames. A
//! cancellation that is pending stays so, and is acted on where the server
//! would have met it.
//!
//! What the TLS library keeps for the thread, its error queue, has its guard
//! beside the library's table: [`crate::tls::error_queue`].
//!
//! A thread of asynchronous cancelability may call no function of a TLS
//! library in the first place (pthread_setcanceltype(3)).

use std::ffi::c_int;
use std::marker::PhantomData;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE`, in glibc and musl.
const CANCEL_DISABLE: c_int = 1;

/// While it lives, the calling thread is not cancelled; when it is dropped,
/// the thread has the errno that it had when this began.
pub struct Unnoticed {
    errno: c_int,
    /// The cancellation state before.
    state: c_int,
    _same_thread: PhantomData<*const ()>,
}

impl Unnoticed {
    /// Keeps `errno` and forbids cancellation until this is dropped.
    #[inline]
    pub fn begin() -> Self {
        let mut state = 0;
        // SAFETY: the calling thread's own errno; the state is written to a
        // valid place, and the call cannot fail with that argument.
        let errno = unsafe {
            let errno = *libc::__errno_location();
            pthread_setcancelstate(CANCEL_DISABLE, &mut state);
            errno
        };
        Unnoticed { errno, state, _same_thread: PhantomData }
    }
}

impl Drop for Unnoticed {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: as in `begin`; a null pointer asks for nothing.
        unsafe {
            pthread_setcancelstate(self.state, std::ptr::null_mut());
            *libc::__errno_location() = self.errno;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn state() -> c_int {
        let mut state = 0;
        // SAFETY: sets what it reads right after.
        unsafe {
            pthread_setcancelstate(CANCEL_DISABLE, &mut state);
            pthread_setcancelstate(state, std::ptr::null_mut());
        }
        state
    }

    #[test]
    fn errno_and_cancellation_are_as_they_were() {
        // SAFETY: this thread's own errno.
        let errno = || unsafe { &mut *libc::__errno_location() };
        *errno() = libc::EXDEV;
        {
            let _unnoticed = Unnoticed::begin();
            assert_eq!(state(), CANCEL_DISABLE);
            {
                let _again = Unnoticed::begin();
                *errno() = libc::ENOENT;
            }
            assert_eq!((*errno(), state()), (libc::EXDEV, CANCEL_DISABLE));
            *errno() = libc::EIO;
        }
        assert_eq!((*errno(), state()), (libc::EXDEV, 0));
    }
}
