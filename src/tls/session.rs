//! A session that a ticket held, as libssl shows it before it takes it
//! (SSL_CTX_set_session_ticket_cb(3)): what becomes of a ticket that was opened
//! is known here, and what no ticket may bring about is stopped, whatever it
//! was bound to.

use std::ffi::{c_int, c_void};
use std::ptr;

use openssl_sys::{SSL, SSL_SESSION};

use super::attachment::Attachment;
use super::connection::{self, Opened};
use super::late::Late;
use super::verification::VerifyPolicy;
use crate::ring::stats::Counter;

/// What libssl says of a ticket (`SSL_TICKET_STATUS`): its MAC does not hold, or
/// its key is unknown; it was opened; and is to be renewed.
const NO_DECRYPT: c_int = 4;
const SUCCESS: c_int = 5;
const SUCCESS_RENEW: c_int = 6;

/// What it is told to do then (`SSL_TICKET_RETURN`): a full handshake, with a new
/// ticket; resume; resume, with a new ticket.
const IGNORE_RENEW: c_int = 2;
const USE: c_int = 3;
const USE_RENEW: c_int = 4;

/// What a ticket turned out to hold, as far as it may be taken.
#[derive(Clone, Copy)]
pub struct Found {
    /// The session; null if there is none that may be taken.
    pub session: *mut SSL_SESSION,
    /// What libssl says of it, or would say.
    pub status: c_int,
    withheld: bool,
}

impl Found {
    /// What libssl says, as it is.
    pub fn as_told(session: *mut SSL_SESSION, status: c_int) -> Self {
        Found { session, status, withheld: false }
    }

    /// What libssl says, but for a session that may not be taken.
    ///
    /// # Safety
    ///
    /// The arguments are what libssl gave to the callback that runs, of a
    /// connection that was made of a context of that attachment, which has that `late`.
    pub unsafe fn new(
        (attachment, late): (&Attachment, &Late),
        ssl: *mut SSL,
        session: *mut SSL_SESSION,
        status: c_int,
    ) -> Self {
        let told = Found::as_told(session, status);
        // SAFETY: passed on from the caller.
        let may_not = || unsafe {
            late.refuses(attachment, ssl, session)
                || lacks_what_is_asked_for(attachment, ssl, session)
        };
        match told.is_opened() && may_not() {
            true => Found { session: ptr::null_mut(), status: NO_DECRYPT, withheld: true },
            false => told,
        }
    }

    fn is_opened(&self) -> bool {
        matches!(self.status, SUCCESS | SUCCESS_RENEW) && !self.session.is_null()
    }

    /// What libssl does without anybody's callback.
    pub fn answer(&self) -> c_int {
        match self.status {
            SUCCESS => USE,
            SUCCESS_RENEW => USE_RENEW,
            _ => IGNORE_RENEW,
        }
    }

    /// What the server's own callback says, but never to take what was withheld from it.
    pub fn allow(&self, answer: c_int) -> c_int {
        let takes = matches!(answer, USE | USE_RENEW);
        if takes && self.withheld { IGNORE_RENEW } else { answer }
    }

    /// Counts what became of the ticket, once.
    ///
    /// # Safety
    ///
    /// As for [`Found::new`].
    pub unsafe fn count(&self, attachment: &Attachment, ssl: *mut SSL, answer: c_int) {
        // SAFETY: passed on from the caller.
        let handshake = unsafe { connection::handshake_so_far(attachment.library, ssl) };
        let Some(handshake) = handshake else { return };
        let Opened::Handed(as_what) = handshake.opened else { return };
        handshake.opened = Opened::No;
        if !self.is_opened() {
            return attachment.count(Counter::WrongScope);
        }
        attachment.count(as_what);
        match answer {
            USE | USE_RENEW => handshake.opened = Opened::Counted,
            _ => attachment.count(Counter::Refused),
        }
    }
}

/// True for a session without a client certificate where one is required now,
/// and for one without a session id context where one is asked for: libssl ends
/// the handshake that comes with that.
///
/// # Safety
///
/// As for [`Found::new`], and there is a session.
unsafe fn lacks_what_is_asked_for(
    attachment: &Attachment,
    ssl: *const SSL,
    session: *const SSL_SESSION,
) -> bool {
    let library = attachment.library;
    // SAFETY: the connection and the session of the callback that runs.
    unsafe {
        let policy = VerifyPolicy::of_connection(&library.api, ssl);
        if !policy.asks() {
            return false;
        }
        let originals = &library.originals;
        type Get = unsafe extern "C" fn(*const SSL_SESSION) -> *mut c_void;
        let is_none = |get: Get| get(session).is_null();
        let has_no_certificate = originals.ssl_session_get0_peer.is_some_and(is_none);
        let has_no_raw_key = originals.ssl_session_get0_peer_rpk.is_none_or(is_none);
        let has_no_id_context = !library.api.session_has_id_context(session);
        has_no_id_context || policy.requires() && has_no_certificate && has_no_raw_key
    }
}
