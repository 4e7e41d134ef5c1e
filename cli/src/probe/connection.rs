//! One connection, from TCP to the tickets that it brings.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslMethod, SslOptions, SslSession, SslSessionCacheMode, SslStream,
    SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use serde::Serialize;

use super::failure::{Failure, Step};
use super::session::Session;
use super::starttls::Starttls;
use super::target::Place;
use super::wire::Wire;

/// TLS 1.3 brings tickets after the handshake, some servers only with their first answer. One that
/// has not sent any until then sends none.
const TICKET_PATIENCE: Duration = Duration::from_secs(2);
/// Silence after a ticket: that was the last one.
const TICKET_SLICE: Duration = Duration::from_millis(100);
/// Servers that have only this are old, yet have tickets (openssl/ssl.h).
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
    /// For each step.
    pub timeout: Duration,
    pub starttls: Option<Starttls>,
}

/// What came of a connection that got through its handshake.
pub struct Connected {
    /// Whether the server took the session that was offered.
    pub resumed: bool,
    pub sessions: Vec<Session>,
    pub certificate: Option<X509>,
}

/// Sessions that libssl handed out during one connection.
type Received = Arc<Mutex<Vec<Session>>>;

impl Connector {
    /// Connects, with this session if there is one, and collects the sessions that come.
    pub fn connect(
        &self,
        place: &Place,
        version: Version,
        offered: Option<&Session>,
    ) -> Result<Connected, Failure> {
        let received = Received::default();
        let offered = offered.map(Session::to_offer).transpose();
        let ssl = offered.and_then(|offered| ssl(place, version, &received, offered));
        let ssl = ssl.map_err(|error| Failure::own(&error))?;

        let wire = Wire::connect(place.address, self.timeout);
        let mut wire = wire.map_err(|error| Failure::io(Step::Connect, &error))?;
        if let Some(protocol) = self.starttls {
            wire.begin(self.timeout);
            let negotiated = protocol.negotiate(&mut wire);
            negotiated.map_err(|error| Failure::io(Step::Starttls, &error))?;
        }
        wire.begin(self.timeout);
        let mut stream = SslStream::new(ssl, wire).map_err(|error| Failure::own(&error))?;
        stream.connect().map_err(|error| Failure::handshake(&error))?;
        let resumed = stream.ssl().session_reused();
        let certificate = stream.ssl().peer_certificate();
        if version == Version::V13 {
            self.await_tickets(&mut stream, place, &received);
        }
        // The peer may be gone already, which no longer matters.
        let _ = stream.shutdown();
        let sessions = std::mem::take(&mut *lock(&received));
        Ok(Connected { resumed, sessions, certificate })
    }

    /// Says something and reads until the tickets are there, or will not come. How the connection
    /// ends does not matter: servers close it in many ways.
    fn await_tickets(&self, stream: &mut SslStream<Wire>, place: &Place, received: &Received) {
        let limit = self.timeout.min(TICKET_PATIENCE);
        stream.get_mut().begin_in_slices(limit, TICKET_SLICE);
        let request = match self.starttls {
            Some(protocol) => protocol.farewell().to_vec(),
            None => request(place),
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

fn request(place: &Place) -> Vec<u8> {
    let host = place.sni.clone().unwrap_or_else(|| place.address.to_string());
    format!(
        "HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tktrot-probe\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// A client that speaks one version, takes any certificate and any cipher: it is to see what
/// there is.
fn ssl(
    place: &Place,
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
    if let Some(name) = &place.sni {
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
