//! How a connection fails.

use std::fmt;
use std::io;

use openssl::error::ErrorStack;
use openssl::ssl;
use serde::Serialize;

/// The kind of a failure, as far as it makes a difference to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Nobody listens.
    Refused,
    /// There is no route to the address.
    Unreachable,
    /// No answer within the time limit of a step.
    Timeout,
    /// The server closed or reset the connection.
    Closed,
    /// The answer is not TLS.
    NotTls,
    /// The server does not speak this version of TLS.
    Version,
    /// The server refused to start TLS.
    Starttls,
    /// Any other failure of a TLS handshake.
    Handshake,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Connect,
    Starttls,
    Handshake,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Connect => "connecting",
            Stage::Starttls => "STARTTLS",
            Stage::Handshake => "TLS handshake",
        })
    }
}

/// A connection that failed, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub step: Stage,
    pub kind: FailureKind,
    /// The failure in words.
    pub detail: String,
}

// Reason codes of libssl that openssl-sys does not name (openssl/sslerr.h).
const UNSUPPORTED_PROTOCOL: i32 = 258;
const UNEXPECTED_EOF: i32 = 294;
const ALERT_PROTOCOL_VERSION: i32 = 1070;
/// A record that is too long, of unknown type, of an impossible version, or broken.
const NO_RECORD: [i32; 4] = [198, 443, 267, 313];

impl Failure {
    pub fn new(step: Stage, kind: FailureKind, detail: impl fmt::Display) -> Failure {
        Failure { step, kind, detail: format!("{step}: {detail}") }
    }

    /// A failure of the socket.
    pub fn io(step: Stage, error: &io::Error) -> Failure {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => FailureKind::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => FailureKind::Timeout,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => FailureKind::Closed,
            io::ErrorKind::InvalidData if step == Stage::Starttls => FailureKind::Starttls,
            _ if step == Stage::Connect => FailureKind::Unreachable,
            _ => FailureKind::Handshake,
        };
        match kind {
            FailureKind::Timeout => Failure::new(step, kind, "no answer in time"),
            FailureKind::Closed => Failure::new(step, kind, "the server closed the connection"),
            _ => Failure::new(step, kind, error),
        }
    }

    /// A failure of the TLS handshake.
    pub fn handshake(error: &ssl::Error) -> Failure {
        if let Some(error) = error.io_error() {
            return Failure::io(Stage::Handshake, error);
        }
        let reasons = error.ssl_error().map_or(&[][..], ErrorStack::errors);
        let Some(first) = reasons.first() else {
            // libssl says nothing when the peer closes without a word.
            return Failure::io(Stage::Handshake, &io::ErrorKind::UnexpectedEof.into());
        };
        let kind = match first.reason_code() {
            UNEXPECTED_EOF => FailureKind::Closed,
            UNSUPPORTED_PROTOCOL | ALERT_PROTOCOL_VERSION => FailureKind::Version,
            reason if NO_RECORD.contains(&reason) => FailureKind::NotTls,
            _ => FailureKind::Handshake,
        };
        Failure::new(Stage::Handshake, kind, first.reason().unwrap_or("failed"))
    }

    /// A failure on this side.
    pub fn own(error: &ErrorStack) -> Failure {
        Failure::new(Stage::Connect, FailureKind::Handshake, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}
