use std::ffi::{c_uchar, c_ulong};
use std::fmt;
use std::ptr;
use std::time::{Duration, Instant};

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslSessionRef;
use openssl_sys::SSL_SESSION;

use super::{Session, TlsVersion};

// Public functions of libssl that openssl-sys does not declare (SSL_SESSION_get0_ticket(3)).
unsafe extern "C" {
    fn SSL_SESSION_get0_ticket(
        session: *const SSL_SESSION,
        data: *mut *const c_uchar,
        len: *mut usize,
    );
    fn SSL_SESSION_get_ticket_lifetime_hint(session: *const SSL_SESSION) -> c_ulong;
}

/// A session ticket with everything a client needs to offer it.
#[derive(Clone)]
pub struct Ticket {
    held: Session,
    key_name: [u8; 16],
    iv: [u8; 16],
    lifetime_hint: Duration,
}

impl Ticket {
    /// The ticket of a session; None when the session has none.
    pub(super) fn from_session(held: &Session, session: &SslSessionRef) -> Option<Ticket> {
        let (key_name, iv) = key_name_and_iv_of(session)?;
        // SAFETY: the reference keeps the session alive; the function only reads a field.
        let hint = unsafe { SSL_SESSION_get_ticket_lifetime_hint(session.as_ptr()) };
        let lifetime_hint = Duration::from_secs(hint);
        Some(Ticket { held: held.clone(), key_name, iv, lifetime_hint })
    }

    /// The session that it is the ticket of.
    pub fn held(&self) -> &Session {
        &self.held
    }

    /// The protocol version of the session.
    pub fn version(&self) -> TlsVersion {
        self.held.version()
    }

    /// The key name: the first 16 bytes of a ticket in the usual format (RFC 5077, section 4).
    pub fn key_name(&self) -> [u8; 16] {
        self.key_name
    }

    /// What comes after it there: the initialization vector of the ticket's cipher.
    pub fn iv(&self) -> [u8; 16] {
        self.iv
    }

    /// The first 8 hex digits of the key name.
    pub fn key_hex8(&self) -> String {
        hex8(&self.key_name)
    }

    /// Time since the ticket was received.
    pub fn age(&self) -> Duration {
        self.received().elapsed()
    }

    /// When the handshake began that brought the ticket. The server made the ticket after this.
    pub fn requested(&self) -> Instant {
        self.held.requested()
    }

    /// When that connection had ended. The server made the ticket before this.
    pub fn received(&self) -> Instant {
        self.held.received()
    }

    /// How long the server says that the ticket will do.
    pub fn lifetime_hint(&self) -> Duration {
        self.lifetime_hint
    }

    /// The same ticket as another client may hold it, that offers it whatever became of this one.
    pub fn anew(&self) -> Ticket {
        Ticket { held: self.held.anew(), ..self.clone() }
    }

    /// Whether OpenSSL would still offer the session, see [`Session::is_withdrawn`].
    pub fn is_withdrawn(&self) -> bool {
        self.held.is_withdrawn()
    }
}

impl fmt::Debug for Ticket {
    /// No session secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, key {}, {:?} old)", self.version(), self.key_hex8(), self.age())
    }
}

/// The first 8 hex digits of a key name.
pub fn hex8(name: &[u8; 16]) -> String {
    name[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_name_and_iv_of(session: &SslSessionRef) -> Option<([u8; 16], [u8; 16])> {
    let mut data: *const c_uchar = ptr::null();
    let mut len = 0;
    // SAFETY: the reference keeps the session alive, the out-pointers are valid locals; the function
    // stores the session's own ticket pointer (or NULL) and its length.
    unsafe { SSL_SESSION_get0_ticket(session.as_ptr(), &mut data, &mut len) };
    if data.is_null() || len < 32 {
        return None;
    }
    // SAFETY: libssl says that `len` >= 32 bytes are at `data`; they belong to the session, which
    // outlives this function, and nothing changes a session's ticket once it was received.
    let ticket = unsafe { std::slice::from_raw_parts(data, len) };
    Some((ticket[..16].try_into().ok()?, ticket[16..32].try_into().ok()?))
}
