use std::fmt;
use std::io;

use openssl::error::ErrorStack;
use openssl::ssl::{self, ErrorCode};

/// What went wrong with a connection, as far as tests must tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// Nobody listens.
    Refused,
    /// The connection was there and ended before its time: reset or EOF. A killed worker does this.
    Killed,
    /// The server sent a TLS alert.
    Alert,
    /// Nothing came for too long.
    Timeout,
    /// Anything else: malformed messages, a failure inside the client.
    Protocol,
}

/// How far the connection had got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// TCP connection.
    Connect,
    /// TLS handshake.
    Handshake,
    /// Request and response.
    Request,
}

/// A connection that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// Where it happened.
    pub stage: Stage,
    /// The TLS library's or the system's own words.
    pub detail: String,
}

/// OpenSSL 3's reason code for EOF without close_notify (SSL_R_UNEXPECTED_EOF_WHILE_READING).
const UNEXPECTED_EOF: i32 = 294;
/// Reason codes of received alerts begin here (SSL_AD_REASON_OFFSET).
const ALERTS: std::ops::Range<i32> = 1000..1256;

impl Error {
    pub(super) fn io(stage: Stage, error: &io::Error) -> Error {
        Error { kind: kind_of_io(error), stage, detail: error.to_string() }
    }

    pub(super) fn ssl(stage: Stage, error: &ssl::Error) -> Error {
        let kind = match (error.code(), error.io_error(), error.ssl_error()) {
            (ErrorCode::WANT_READ | ErrorCode::WANT_WRITE, _, _) => ErrorKind::Timeout,
            (_, Some(io), _) => kind_of_io(io),
            (_, _, Some(stack)) => kind_of_stack(stack),
            (ErrorCode::SYSCALL | ErrorCode::ZERO_RETURN, None, None) => ErrorKind::Killed,
            _ => ErrorKind::Protocol,
        };
        Error { kind, stage, detail: error.to_string() }
    }

    pub(super) fn protocol(stage: Stage, detail: impl ToString) -> Error {
        Error { kind: ErrorKind::Protocol, stage, detail: detail.to_string() }
    }
}

fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => ErrorKind::Killed,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ErrorKind::Timeout,
        _ => ErrorKind::Protocol,
    }
}

fn kind_of_stack(stack: &ErrorStack) -> ErrorKind {
    match stack.errors().first().map(|error| error.reason_code()) {
        Some(UNEXPECTED_EOF) => ErrorKind::Killed,
        Some(reason) if ALERTS.contains(&reason) => ErrorKind::Alert,
        _ => ErrorKind::Protocol,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} during {:?}: {}", self.kind, self.stage, self.detail)
    }
}

impl std::error::Error for Error {}
