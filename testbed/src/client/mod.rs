//! A real TLS client: OpenSSL's, with its own session handling.

mod error;
mod session;
mod ticket;

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    self, ErrorCode, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions,
    SslSession, SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;

use crate::certificate::Certificate;
use crate::wait::PATIENCE;

pub use error::{Error, ErrorKind, Stage};
pub use session::Session;
pub use ticket::{Ticket, hex8};

/// A response that is longer than this is not one of ours.
const MAX_RESPONSE: usize = 64 * 1024;

/// The protocol versions that have tickets worth testing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2: one session, offered again and again.
    V12,
    /// TLS 1.3: every connection brings new tickets.
    V13,
}

impl TlsVersion {
    /// Both.
    pub const ALL: [TlsVersion; 2] = [TlsVersion::V12, TlsVersion::V13];

    /// Settings of a client that speaks this version and nothing else, and verifies nothing.
    pub fn client_context(self) -> Result<SslContextBuilder, ErrorStack> {
        let protocol = match self {
            TlsVersion::V12 => SslVersion::TLS1_2,
            TlsVersion::V13 => SslVersion::TLS1_3,
        };
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_min_proto_version(Some(protocol))?;
        context.set_max_proto_version(Some(protocol))?;
        context.set_verify(SslVerifyMode::NONE);
        Ok(context)
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsVersion::V12 => "TLS 1.2",
            TlsVersion::V13 => "TLS 1.3",
        })
    }
}

/// A client for one protocol version. Cheap to share between threads.
#[derive(Clone)]
pub struct Client {
    version: TlsVersion,
    context: SslContext,
    /// What it says instead of an HTTP request.
    words: Option<Arc<[u8]>>,
    preface: Option<Preface>,
    content_with_eof: bool,
}

/// What is said before TLS begins, as by who asks a mail server for `STARTTLS`.
pub type Preface = fn(&mut TcpStream) -> io::Result<()>;

/// A connection that went well from TCP to the last byte of the response.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Whether the server took the ticket that was offered.
    pub resumed: bool,
    /// New tickets, in the order in which they came.
    pub tickets: Vec<Ticket>,
    /// The certificate that the server showed; after a resumption that of the full handshake.
    pub certificate: Option<X509>,
    /// New sessions without a ticket, which the server has in a cache (TLS 1.2).
    pub cached: Vec<Session>,
    /// The body of the HTTP response; all that the server said if it was not asked in HTTP.
    pub body: String,
}

/// Sessions that libssl handed out during one connection.
type Received = Arc<Mutex<Vec<SslSession>>>;

impl Client {
    /// A client that speaks `version` and nothing else. It does not verify certificates.
    pub fn new(version: TlsVersion) -> Result<Client, ErrorStack> {
        Client::with_options(version, SslOptions::empty(), None)
    }

    /// A client that shows a certificate where it is asked for one.
    pub fn with_certificate(
        version: TlsVersion,
        certificate: &Certificate,
    ) -> Result<Client, ErrorStack> {
        Client::with_options(version, SslOptions::empty(), Some(certificate))
    }

    /// A client that does not ask for tickets, so TLS 1.2 resumes by session id.
    pub fn without_tickets(version: TlsVersion) -> Result<Client, ErrorStack> {
        Client::with_options(version, SslOptions::NO_TICKET, None)
    }

    fn with_options(
        version: TlsVersion,
        options: SslOptions,
        certificate: Option<&Certificate>,
    ) -> Result<Client, ErrorStack> {
        let mut context = version.client_context()?;
        context.set_options(options);
        if let Some(Certificate { cert, key }) = certificate {
            context.set_certificate_file(cert, SslFiletype::PEM)?;
            context.set_private_key_file(key, SslFiletype::PEM)?;
        }
        context.set_session_cache_mode(
            SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL_STORE,
        );
        let index = received_index()?;
        context.set_new_session_callback(move |ssl, session| {
            if let Some(received) = ssl.ex_data(index) {
                received.lock().unwrap().push(session);
            }
        });
        Ok(Client {
            version,
            context: context.build(),
            words: None,
            preface: None,
            content_with_eof: false,
        })
    }

    /// Lets the client say this instead of an HTTP request. The server must end the connection
    /// upon it, as mail servers do upon `QUIT`.
    pub fn saying(mut self, words: impl AsRef<[u8]>) -> Client {
        self.words = Some(words.as_ref().into());
        self
    }

    /// Lets the client say this before TLS begins.
    pub fn after(mut self, preface: Preface) -> Client {
        self.preface = Some(preface);
        self
    }

    /// Lets the client take an end without a close_notify for an end, as the server's protocol says
    /// itself when all was said.
    pub fn content_with_eof(mut self) -> Client {
        self.content_with_eof = true;
        self
    }

    /// The protocol version.
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// Connects, sends one request and reads the response to its end, which is when all the
    /// tickets are in. Offers `ticket` unless OpenSSL would not (see [`Ticket::is_withdrawn`]).
    ///
    /// # Panics
    ///
    /// If the ticket is one of the other protocol version.
    pub fn connect(
        &self,
        addr: SocketAddr,
        sni: Option<&str>,
        ticket: Option<&Ticket>,
    ) -> Result<Handshake, Error> {
        self.offer(addr, sni, ticket.map(Ticket::held))
    }

    /// As [`Client::connect`], but offers any session, so also one that the server has in a cache.
    pub fn offer(
        &self,
        addr: SocketAddr,
        sni: Option<&str>,
        held: Option<&Session>,
    ) -> Result<Handshake, Error> {
        let requested = Instant::now();
        let setup = |error: ErrorStack| Error::protocol(Stage::Connect, error);
        let received = Received::default();
        let mut ssl = Ssl::new(&self.context).map_err(setup)?;
        ssl.set_ex_data(received_index().map_err(setup)?, received.clone());
        if let Some(name) = sni {
            ssl.set_hostname(name).map_err(setup)?;
        }
        let offered = held.filter(|held| !held.is_withdrawn());
        let session = offered.map(Session::copy).transpose().map_err(setup)?;
        if let Some((held, session)) = offered.zip(session.as_ref()) {
            assert_eq!(held.version(), self.version, "a ticket of another protocol version");
            // SAFETY: the session was decoded a moment ago for this connection alone, so it
            // belongs to no other context.
            unsafe { ssl.set_session(session) }.map_err(setup)?;
        }

        let mut tcp = open(addr).map_err(|error| Error::io(Stage::Connect, &error))?;
        if let Some(preface) = self.preface {
            preface(&mut tcp).map_err(|error| Error::io(Stage::Connect, &error))?;
        }
        let mut stream = SslStream::new(ssl, tcp).map_err(setup)?;
        stream.connect().map_err(|error| Error::ssl(Stage::Handshake, &error))?;
        let resumed = stream.ssl().session_reused();
        let certificate = stream.ssl().peer_certificate();

        let request = match &self.words {
            Some(words) => words.to_vec(),
            None => request(sni.unwrap_or("localhost")).into_bytes(),
        };
        let failed = |error: ssl::Error| Error::ssl(Stage::Request, &error);
        stream.ssl_write(&request).map_err(failed)?;
        let (response, ended_cleanly) = read_response(&mut stream, self.content_with_eof)?;
        // Without our own close_notify libssl would drop the session when the connection is freed.
        // The peer may be gone already, which no longer matters.
        let _ = stream.shutdown();
        let _ = stream.get_ref().shutdown(Shutdown::Both);
        if let (Some(held), Some(session), true) = (offered, &session, ended_cleanly) {
            held.note_use(session);
        }

        let now = Instant::now();
        let (mut tickets, mut cached) = (Vec::new(), Vec::new());
        for session in received.lock().unwrap().iter() {
            let held = Session::new(self.version, session, requested, now);
            let held = held.map_err(|error| Error::protocol(Stage::Request, error))?;
            match Ticket::from_session(&held, session) {
                Some(ticket) => tickets.push(ticket),
                None => cached.push(held),
            }
        }
        let body = match &self.words {
            Some(_) => String::from_utf8_lossy(&response).into_owned(),
            None => body_of(&response)?,
        };
        Ok(Handshake { resumed, tickets, cached, certificate, body })
    }
}

/// Where a connection keeps its [`Received`].
fn received_index() -> Result<Index<Ssl, Received>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Received>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    // Two threads may both have made one; all must use the one that stays.
    Ok(*INDEX.get_or_init(|| index))
}

fn open(addr: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn request(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Reads up to the server's close_notify. A server that closes without one is tolerated when the
/// response is complete, or the client is content with that; the flag says whether there was one.
fn read_response(
    stream: &mut SslStream<TcpStream>,
    content_with_eof: bool,
) -> Result<(Vec<u8>, bool), Error> {
    let mut response = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.ssl_read(&mut chunk) {
            Ok(len) => response.extend_from_slice(&chunk[..len]),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => return Ok((response, true)),
            Err(error) => {
                let error = Error::ssl(Stage::Request, &error);
                let at_end =
                    error.kind == ErrorKind::Killed && (content_with_eof || is_complete(&response));
                return if at_end { Ok((response, false)) } else { Err(error) };
            }
        }
        if response.len() > MAX_RESPONSE {
            return Err(Error::protocol(Stage::Request, "the response is too long"));
        }
    }
}

/// Whether all the bytes are there that Content-Length announces.
fn is_complete(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let announced = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    announced.is_some_and(|len| body.len() >= len)
}

fn body_of(response: &[u8]) -> Result<String, Error> {
    let text = String::from_utf8_lossy(response);
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.") => Ok(body.to_owned()),
        _ => Err(Error::protocol(Stage::Request, "no HTTP response")),
    }
}
