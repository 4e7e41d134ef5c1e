//! A TLS session as a server gave it to us: what a later connection offers.

use std::ffi::{c_uchar, c_ulong};
use std::ptr;
use std::time::{Duration, Instant};

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslSession, SslSessionRef};
use openssl_sys::SSL_SESSION;

// Public functions of libssl that openssl-sys does not declare (SSL_SESSION_get0_ticket(3)).
unsafe extern "C" {
    fn SSL_SESSION_get0_ticket(
        session: *const SSL_SESSION,
        data: *mut *const c_uchar,
        len: *mut usize,
    );
    fn SSL_SESSION_get_ticket_lifetime_hint(session: *const SSL_SESSION) -> c_ulong;
}

/// A ticket that is no longer than a session id can hold no session: the server looks it up.
const MAX_SESSION_ID: usize = 32;

/// It has no `Debug`: nobody is to print a ticket or a master secret.
#[derive(Clone)]
pub struct Session {
    /// The session, serialized: a connection that dies spoils the session that it used.
    der: Vec<u8>,
    /// Empty if the server gave a session id and no ticket.
    ticket: Vec<u8>,
    hint: Duration,
    received: Instant,
}

impl Session {
    pub fn from_ref(session: &SslSessionRef) -> Result<Session, ErrorStack> {
        // SAFETY: the reference keeps the session alive; the function only reads a field.
        let hint = unsafe { SSL_SESSION_get_ticket_lifetime_hint(session.as_ptr()) };
        Ok(Session {
            der: session.to_der()?,
            ticket: ticket_of(session).to_vec(),
            hint: Duration::from_secs(hint),
            received: Instant::now(),
        })
    }

    /// A copy for one connection.
    pub fn to_offer(&self) -> Result<SslSession, ErrorStack> {
        SslSession::from_der(&self.der)
    }

    /// The ticket, if the session is in it.
    pub fn ticket(&self) -> Option<&[u8]> {
        (self.ticket.len() > MAX_SESSION_ID).then_some(&self.ticket)
    }

    /// How long the server says that it will do; None if it does not say.
    pub fn lifetime(&self) -> Option<Duration> {
        (!self.ticket.is_empty()).then_some(self.hint)
    }

    /// Whether the server said that it would do no longer than this.
    pub fn is_over(&self) -> bool {
        !self.hint.is_zero() && self.received.elapsed() >= self.hint
    }
}

fn ticket_of(session: &SslSessionRef) -> &[u8] {
    let mut data: *const c_uchar = ptr::null();
    let mut len = 0;
    // SAFETY: the reference keeps the session alive, the out-pointers are valid locals; the
    // function stores the session's own ticket pointer (or NULL) and its length.
    unsafe { SSL_SESSION_get0_ticket(session.as_ptr(), &mut data, &mut len) };
    if data.is_null() {
        return &[];
    }
    // SAFETY: libssl says that `len` bytes are at `data`; they belong to the session, which the
    // returned reference borrows, and nothing changes a session's ticket once it was received.
    unsafe { std::slice::from_raw_parts(data, len) }
}
