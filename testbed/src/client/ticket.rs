use std::ffi::{c_int, c_uchar, c_ulong};
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslSession, SslSessionRef};
use openssl_sys::SSL_SESSION;

use super::TlsVersion;

// Public functions of libssl that openssl-sys does not declare (SSL_SESSION_get0_ticket(3),
// SSL_SESSION_is_resumable(3)).
unsafe extern "C" {
    fn SSL_SESSION_get0_ticket(
        session: *const SSL_SESSION,
        data: *mut *const c_uchar,
        len: *mut usize,
    );
    fn SSL_SESSION_get_ticket_lifetime_hint(session: *const SSL_SESSION) -> c_ulong;
    fn SSL_SESSION_is_resumable(session: *const SSL_SESSION) -> c_int;
}

/// A session ticket with everything a client needs to offer it.
///
/// It holds the session as it was received, serialized, and each connection gets a copy of its own:
/// OpenSSL marks a session as not resumable when its connection dies, and a test that retries after
/// a killed connection would then blame the server for a ticket that the client threw away.
#[derive(Clone)]
pub struct Ticket {
    version: TlsVersion,
    session: Arc<[u8]>,
    key_name: [u8; 16],
    lifetime_hint: Duration,
    requested: Instant,
    received: Instant,
    withdrawn: Arc<AtomicBool>,
}

impl Ticket {
    /// Takes the ticket out of a session; None when the session has none.
    pub(super) fn from_session(
        version: TlsVersion,
        session: &SslSessionRef,
        requested: Instant,
        received: Instant,
    ) -> Result<Option<Ticket>, ErrorStack> {
        let Some(key_name) = key_name_of(session) else {
            return Ok(None);
        };
        // SAFETY: the reference keeps the session alive; the function only reads a field.
        let hint = unsafe { SSL_SESSION_get_ticket_lifetime_hint(session.as_ptr()) };
        Ok(Some(Ticket {
            version,
            session: session.to_der()?.into(),
            key_name,
            lifetime_hint: Duration::from_secs(hint),
            requested,
            received,
            withdrawn: Arc::new(AtomicBool::new(false)),
        }))
    }

    /// The protocol version of the session.
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// The key name: the first 16 bytes of a ticket in the usual format (RFC 5077, section 4).
    pub fn key_name(&self) -> [u8; 16] {
        self.key_name
    }

    /// The first 8 hex digits of the key name.
    pub fn key_hex8(&self) -> String {
        hex8(&self.key_name)
    }

    /// Time since the ticket was received.
    pub fn age(&self) -> Duration {
        self.received.elapsed()
    }

    /// When the handshake began that brought the ticket. The server made the ticket after this.
    pub fn requested(&self) -> Instant {
        self.requested
    }

    /// When that connection had ended. The server made the ticket before this.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// How long the server says that the ticket will do.
    pub fn lifetime_hint(&self) -> Duration {
        self.lifetime_hint
    }

    /// Whether OpenSSL would still offer the session. TLS 1.2 only: when a server renews the ticket
    /// of a resumed session, OpenSSL's client drops the session and never hands out the new one.
    /// TLS 1.3 sessions are withdrawn after every use by design, new tickets take their place; here
    /// they stay usable, so that tests can offer old tickets.
    pub fn is_withdrawn(&self) -> bool {
        // Relaxed: a flag on its own, nothing is published with it.
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// A copy of the session for one connection.
    pub(super) fn session(&self) -> Result<SslSession, ErrorStack> {
        SslSession::from_der(&self.session)
    }

    /// Notes what a connection that ended well has done to its copy of the session.
    pub(super) fn note_use(&self, used: &SslSessionRef) {
        // SAFETY: the reference keeps the session alive; the function only reads fields.
        let resumable = unsafe { SSL_SESSION_is_resumable(used.as_ptr()) } == 1;
        if self.version == TlsVersion::V12 && !resumable {
            self.withdrawn.store(true, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Ticket {
    /// No session secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, key {}, {:?} old)", self.version, self.key_hex8(), self.age())
    }
}

/// The first 8 hex digits of a key name.
pub fn hex8(name: &[u8; 16]) -> String {
    name[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_name_of(session: &SslSessionRef) -> Option<[u8; 16]> {
    let mut data: *const c_uchar = ptr::null();
    let mut len = 0;
    // SAFETY: the reference keeps the session alive, the out-pointers are valid locals; the function
    // stores the session's own ticket pointer (or NULL) and its length.
    unsafe { SSL_SESSION_get0_ticket(session.as_ptr(), &mut data, &mut len) };
    if data.is_null() || len < 16 {
        return None;
    }
    // SAFETY: libssl says that `len` >= 16 bytes are at `data`; they belong to the session, which
    // outlives this function, and nothing changes a session's ticket once it was received.
    let ticket = unsafe { std::slice::from_raw_parts(data, len) };
    ticket[..16].try_into().ok()
}
