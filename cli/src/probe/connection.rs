//! One connection, from TCP to the sessions that it brings.

use std::ffi::{c_uchar, c_ulong};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslMethod, SslOptions, SslSession, SslSessionCacheMode,
    SslSessionRef, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use openssl_sys::SSL_SESSION;
use serde::Serialize;

use super::endpoint::Endpoint;
use super::failure::{Failure, Stage};
use super::starttls::Starttls;

/// TLS 1.3 servers send tickets after the handshake, some only with their first answer. If none has
/// come by then, none will.
const TICKET_PATIENCE: Duration = Duration::from_secs(2);
/// After so much silence a ticket is taken for the last one.
const TICKET_SLICE: Duration = Duration::from_millis(100);
/// Also talks to old servers without secure renegotiation, which have tickets, too (openssl/ssl.h).
const LEGACY_SERVER_CONNECT: u64 = 0x4;

/// The versions of TLS that have tickets worth testing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Version {
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

impl Version {
    pub const ALL: [Version; 2] = [Version::V12, Version::V13];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Version::V12 => "1.2",
            Version::V13 => "1.3",
        })
    }
}

/// How to connect.
#[derive(Clone, Copy)]
pub struct Connector {
    /// The limit for each step.
    pub timeout: Duration,
    pub starttls: Option<Starttls>,
}

/// The result of a connection whose handshake succeeded.
pub struct Connected {
    /// True if the server resumed the session that was offered.
    pub resumed: bool,
    pub sessions: Vec<Session>,
    pub certificate: Option<X509>,
}

/// Sessions that libssl handed out during one connection.
type Received = Arc<Mutex<Vec<Session>>>;

impl Connector {
    /// Connects, offers the session if there is one, and collects the sessions that the server sends.
    pub fn connect(
        &self,
        endpoint: &Endpoint,
        version: Version,
        offered: Option<&Session>,
    ) -> Result<Connected, Failure> {
        let received = Received::default();
        let offered = offered.map(Session::to_offer).transpose();
        let ssl = offered.and_then(|offered| ssl(endpoint, version, &received, offered));
        let ssl = ssl.map_err(|error| Failure::own(&error))?;

        let wire = Wire::connect(endpoint.address, self.timeout);
        let mut wire = wire.map_err(|error| Failure::io(Stage::Connect, &error))?;
        if let Some(protocol) = self.starttls {
            wire.begin(self.timeout);
            let negotiated = protocol.negotiate(&mut wire, &server(endpoint));
            negotiated.map_err(|error| Failure::io(Stage::Starttls, &error))?;
        }
        wire.begin(self.timeout);
        let mut stream = SslStream::new(ssl, wire).map_err(|error| Failure::own(&error))?;
        stream.connect().map_err(|error| Failure::handshake(&error))?;
        let resumed = stream.ssl().session_reused();
        let certificate = stream.ssl().peer_certificate();
        if version == Version::V13 {
            self.await_tickets(&mut stream, endpoint, &received);
        } else if let Some(protocol) = self.starttls.filter(|protocol| protocol.must_part()) {
            // What was to be seen was seen.
            let _ = stream.ssl_write(&protocol.farewell(&server(endpoint)));
        }
        // The peer may be gone already, which no longer matters.
        let _ = stream.shutdown();
        let sessions = std::mem::take(&mut *lock(&received));
        Ok(Connected { resumed, sessions, certificate })
    }

    /// Sends something and reads until the tickets have come, or will not come. How the connection
    /// ends does not matter: servers close it in many ways.
    fn await_tickets(
        &self,
        stream: &mut SslStream<Wire>,
        endpoint: &Endpoint,
        received: &Received,
    ) {
        let limit = self.timeout.min(TICKET_PATIENCE);
        stream.get_mut().begin_in_slices(limit, TICKET_SLICE);
        let request = match self.starttls {
            Some(protocol) => protocol.farewell(&server(endpoint)),
            None => request(endpoint),
        };
        if stream.ssl_write(&request).is_err() {
            return;
        }
        let mut seen = 0;
        loop {
            match stream.ssl_read(&mut [0; 1024]) {
                // Tickets come before the first byte of an answer.
                Ok(_) => return,
                Err(error) if error.code() == ErrorCode::WANT_READ => {}
                Err(_) => return,
            }
            let now = lock(received).len();
            if now > 0 && now == seen {
                return;
            }
            seen = now;
        }
    }
}

/// The name of the server, or its address, to a protocol that asks for it.
fn server(endpoint: &Endpoint) -> String {
    endpoint.sni.clone().unwrap_or_else(|| endpoint.address.ip().to_string())
}

fn request(endpoint: &Endpoint) -> Vec<u8> {
    let host = endpoint.sni.clone().unwrap_or_else(|| endpoint.address.to_string());
    format!(
        "HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tktrot-probe\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// A client that speaks one version and accepts any certificate and any cipher, to see what there
/// is.
fn ssl(
    endpoint: &Endpoint,
    version: Version,
    received: &Received,
    offered: Option<SslSession>,
) -> Result<Ssl, ErrorStack> {
    let protocol = match version {
        Version::V12 => SslVersion::TLS1_2,
        Version::V13 => SslVersion::TLS1_3,
    };
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_security_level(0);
    context.set_cipher_list("ALL:!aNULL:!eNULL")?;
    context.set_min_proto_version(Some(protocol))?;
    context.set_max_proto_version(Some(protocol))?;
    context.set_verify(SslVerifyMode::NONE);
    context.set_options(SslOptions::from_bits_retain(LEGACY_SERVER_CONNECT));
    context.set_session_cache_mode(
        SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL_STORE,
    );
    let received = Arc::clone(received);
    context.set_new_session_callback(move |_, session| {
        // A session that cannot be serialized cannot be offered either.
        lock(&received).extend(Session::from_ref(&session));
    });
    let mut ssl = Ssl::new(&context.build())?;
    if let Some(name) = &endpoint.sni {
        ssl.set_hostname(name)?;
    }
    if let Some(session) = offered {
        // SAFETY: the session was decoded for this connection alone, so it belongs to no other
        // context.
        unsafe { ssl.set_session(&session) }?;
    }
    Ok(ssl)
}

/// A callback that panicked has left the list as it was.
fn lock(received: &Received) -> std::sync::MutexGuard<'_, Vec<Session>> {
    received.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A handshake takes some KiB; a server that sends more than this is up to something else.
const MAX_RECEIVED: usize = 1024 * 1024;

/// A TCP connection that limits how long a step may take and how much may come.
struct Wire {
    tcp: TcpStream,
    deadline: Instant,
    /// How long one read waits before it lets the caller look around.
    slice: Option<Duration>,
    received: usize,
}

impl Wire {
    fn connect(address: SocketAddr, limit: Duration) -> io::Result<Wire> {
        let deadline = Instant::now() + limit;
        let tcp = TcpStream::connect_timeout(&address, limit)?;
        tcp.set_nodelay(true)?;
        Ok(Wire { tcp, deadline, slice: None, received: 0 })
    }

    /// Begins a step with this time limit.
    fn begin(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
        self.slice = None;
    }

    /// Like [`Wire::begin`], but a read returns `WouldBlock` after a slice without data.
    fn begin_in_slices(&mut self, limit: Duration, slice: Duration) {
        self.begin(limit);
        self.slice = Some(slice);
    }

    fn remaining(&self) -> io::Result<Duration> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
    }
}

/// A socket's own time limit shows as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.remaining()?;
        let wait = self.slice.map_or(remaining, |slice| slice.min(remaining));
        self.tcp.set_read_timeout(Some(wait))?;
        let read = self.tcp.read(buffer);
        let len = if wait < remaining { read? } else { read.map_err(timed_out)? };
        self.received += len;
        if self.received > MAX_RECEIVED {
            return Err(io::Error::other(format!(
                "the server sent more than {MAX_RECEIVED} bytes"
            )));
        }
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(self.remaining()?))?;
        self.tcp.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

// Public functions of libssl that openssl-sys does not declare (SSL_SESSION_get0_ticket(3)).
unsafe extern "C" {
    fn SSL_SESSION_get0_ticket(
        session: *const SSL_SESSION,
        data: *mut *const c_uchar,
        len: *mut usize,
    );
    fn SSL_SESSION_get_ticket_lifetime_hint(session: *const SSL_SESSION) -> c_ulong;
}

/// A ticket that is no longer than a session id cannot contain a session: the server looks it up.
const MAX_SESSION_ID: usize = 32;

/// A TLS session as a server sent it, for a later connection to offer. It has no `Debug`, because it
/// holds a ticket and a master secret.
#[derive(Clone)]
pub struct Session {
    /// The session, serialized: a connection that fails spoils the session that it used.
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

    /// The ticket, if it contains the session.
    pub fn ticket(&self) -> Option<&[u8]> {
        (self.ticket.len() > MAX_SESSION_ID).then_some(&self.ticket)
    }

    /// The lifetime that the server announced; `None` without a ticket.
    pub fn lifetime(&self) -> Option<Duration> {
        (!self.ticket.is_empty()).then_some(self.hint)
    }

    /// True if the announced lifetime is over.
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
