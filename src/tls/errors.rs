//! The error queue of the TLS library, which is the application's: whoever
//! calls `SSL_get_error` after a callback of ours that left an entry sees a
//! connection fail that did not fail (SSL_get_error(3)).

use super::api::TlsApi;

/// While it lives, what is put on the calling thread's error queue is ours,
/// and goes when it is dropped (ERR_set_mark(3)).
///
/// Not one inside another: OpenSSL 1.1.1 has one mark for an entry, however
/// often it was set. For the same reason a mark that the application has on
/// its newest entry is gone there; nothing else is.
pub struct Mark<'a>(&'a TlsApi);

impl<'a> Mark<'a> {
    /// From here on.
    #[inline]
    pub fn set(api: &'a TlsApi) -> Self {
        if let Some(set) = api.err_set_mark {
            // SAFETY: takes nothing. An empty queue cannot be marked, and is
            // emptied again below.
            unsafe { set() };
        }
        Mark(api)
    }
}

impl Drop for Mark<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(pop) = self.0.err_pop_to_mark {
            // SAFETY: takes nothing; our mark, or the bottom of the queue, is there.
            unsafe { pop() };
        }
    }
}
