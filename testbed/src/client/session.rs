use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslSession, SslSessionRef};
use openssl_sys::SSL_SESSION;

use super::TlsVersion;

// A public function of libssl that openssl-sys does not declare (SSL_SESSION_is_resumable(3)).
unsafe extern "C" {
    fn SSL_SESSION_is_resumable(session: *const SSL_SESSION) -> c_int;
}

/// A session that can be offered again.
///
/// It is held as it was received, serialized, and each connection gets a copy of its own: OpenSSL
/// marks a session as not resumable when its connection dies, and a test that retries after a
/// killed connection would then blame the server for a ticket that the client threw away.
#[derive(Clone)]
pub struct Session {
    version: TlsVersion,
    serialized: Arc<[u8]>,
    requested: Instant,
    received: Instant,
    withdrawn: Arc<AtomicBool>,
}

impl Session {
    pub(super) fn new(
        version: TlsVersion,
        session: &SslSessionRef,
        requested: Instant,
        received: Instant,
    ) -> Result<Session, ErrorStack> {
        let (serialized, withdrawn) = (session.to_der()?.into(), Arc::default());
        Ok(Session { version, serialized, requested, received, withdrawn })
    }

    /// The protocol version.
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// When the handshake began that brought the session.
    pub fn requested(&self) -> Instant {
        self.requested
    }

    /// When that connection had ended.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Whether OpenSSL would still offer the session. TLS 1.2 only: when a server renews the ticket
    /// of a resumed session, OpenSSL's client drops the session and never hands out the new one.
    /// TLS 1.3 sessions are withdrawn after every use by design, new tickets take their place; here
    /// they stay usable, so that tests can offer old tickets.
    pub fn is_withdrawn(&self) -> bool {
        // Relaxed: a flag on its own, nothing is published with it.
        self.withdrawn.load(Ordering::Relaxed)
    }

    /// The same, as it was received: offered whatever became of this one.
    pub fn anew(&self) -> Session {
        Session { withdrawn: Arc::default(), ..self.clone() }
    }

    /// A copy for one connection.
    pub(super) fn copy(&self) -> Result<SslSession, ErrorStack> {
        SslSession::from_der(&self.serialized)
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

impl std::fmt::Debug for Session {
    /// No session secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {:?} old)", self.version, self.received.elapsed())
    }
}
