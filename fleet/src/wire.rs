//! What is said, as bytes: frames, in which only what this version knows has a meaning.
//!
//! ```text
//! length  u32, big endian: of all that follows, at most MAX
//! major   u8: of the protocol; another one is not understood and not guessed at
//! type    u16, big endian: unknown ones are skipped
//! sent    u64, big endian: CLOCK_BOOTTIME of the sender in ns, when it decided to say it
//! body    postcard; bodies of a type never change, new ones are new types
//! ```
//!
//! Buffers are made as long as they may get and are wiped: one that grows leaves a copy behind.
//! Secrets go from the key to the frame and from the frame to the key, with nothing in between.

mod body;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::secret::KeySecrets;
use zeroize::Zeroizing;

use crate::message::{Message, NodeId};

/// The version of the protocol.
pub const MAJOR: u8 = 1;

/// The length of no frame is greater.
pub const MAX: usize = 1024 * 1024;

/// The length before a frame.
pub const PREFIX: usize = 4;

/// What comes before a body, [`PREFIX`] left out.
const HEADER: usize = 1 + 2 + 8;

/// A frame, its length included. It is wiped.
pub type Bytes = Zeroizing<Vec<u8>>;

/// Who is at an end of a connection: the first thing that is said on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The node.
    pub node: NodeId,
    /// Random in every start of its agent.
    pub instance: u64,
    /// The name of its ring: not empty, at most [`Hello::MAX_RING`] bytes, without control
    /// characters.
    pub ring: String,
}

impl Hello {
    /// The longest name of a ring, in bytes.
    pub const MAX_RING: usize = 255;

    fn is_sound(&self) -> bool {
        let length = self.ring.len();
        (1..=Self::MAX_RING).contains(&length) && !self.ring.chars().any(char::is_control)
    }
}

/// What a node tells of its host, for whoever looks after the fleet: how it differs from the others. It is
/// believed by nobody but who reads it, and no key depends on it. Said at first, and once in a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The release of tktrot: not empty, at most [`About::MAX_RELEASE`] bytes of ASCII.
    pub release: String,
    /// R of the keys that it makes.
    pub rotate_every: Duration,
    /// L of these.
    pub lifetime: Duration,
    /// Whether they are plain.
    pub plain: bool,
    /// Its wall clock when it said so: nanoseconds since 1970.
    pub wall: u64,
    /// Its addresses, at most [`About::MAX_ADDRESSES`]: some of them may be of no use to peers.
    pub addresses: Vec<IpAddr>,
}

impl About {
    /// The longest name of a release, in bytes.
    pub const MAX_RELEASE: usize = 64;
    /// A host has no more addresses that matter.
    pub const MAX_ADDRESSES: usize = 64;

    fn is_sound(&self) -> bool {
        let length = self.release.len();
        (1..=Self::MAX_RELEASE).contains(&length)
            && self.release.chars().all(|char| char.is_ascii_graphic())
            && self.addresses.len() <= Self::MAX_ADDRESSES
    }
}

/// A frame that was understood.
pub struct Frame {
    /// When it was said, on the sender's clock.
    pub sent: Time,
    /// What was said.
    pub said: Said,
}

/// What a frame says.
pub enum Said {
    /// See [`Hello`].
    Hello(Hello),
    /// To be answered with [`Said::Pong`] of the same number.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// See [`About`].
    About(About),
    /// For the node.
    Message(Message<Box<KeySecrets>>),
    /// Of a type that a later version has: to be skipped.
    Unknown(u16),
}

/// Why bytes are no frame. Whoever sent them is not to be listened to any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Longer than [`MAX`], or than it may be here.
    TooLong(usize),
    /// Too short for what every frame has.
    TooShort(usize),
    /// Another version of the protocol.
    Major(u8),
    /// Its body is not what its type says.
    Malformed(u16),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::TooLong(length) => write!(f, "a message of {length} bytes, which is too long"),
            Flaw::TooShort(length) => write!(f, "a message of {length} bytes, which is too short"),
            Flaw::Major(major) => write!(
                f,
                "it speaks version {major} of the protocol and this one version {MAJOR}: install \
                 the same release of tktrot on all hosts"
            ),
            Flaw::Malformed(kind) => write!(f, "a malformed message of type {kind}"),
        }
    }
}

impl std::error::Error for Flaw {}

/// The number of bytes that follow these, if no more than `most` are allowed.
///
/// # Errors
///
/// More are announced, or fewer than every frame has.
pub fn length(prefix: [u8; PREFIX], most: usize) -> Result<usize, Flaw> {
    let length = u32::from_be_bytes(prefix) as usize;
    match length {
        _ if length > most.min(MAX) => Err(Flaw::TooLong(length)),
        _ if length < HEADER => Err(Flaw::TooShort(length)),
        _ => Ok(length),
    }
}

/// Understands a frame, [`PREFIX`] left out.
///
/// # Errors
///
/// It is none.
pub fn decode(frame: &[u8]) -> Result<Frame, Flaw> {
    if frame.len() > MAX {
        return Err(Flaw::TooLong(frame.len()));
    }
    let (header, body) = frame.split_first_chunk().ok_or(Flaw::TooShort(frame.len()))?;
    let &[major, kind_0, kind_1, ref sent @ ..]: &[u8; HEADER] = header;
    if major != MAJOR {
        return Err(Flaw::Major(major));
    }
    let kind = u16::from_be_bytes([kind_0, kind_1]);
    let said = body::decode(kind, body).ok_or(Flaw::Malformed(kind))?;
    Ok(Frame { sent: Time(u64::from_be_bytes(*sent)), said })
}

/// The frame of a [`Hello`].
pub fn hello(hello: &Hello, sent: Time) -> Bytes {
    debug_assert!(hello.is_sound(), "the name of a ring: {:?}", hello.ring);
    body::hello(hello, sent)
}

/// The frame of an [`About`].
pub fn about(about: &About, sent: Time) -> Bytes {
    debug_assert!(about.is_sound(), "{about:?}");
    body::about(about, sent)
}

/// The frame of a [`Said::Ping`].
pub fn ping(number: u64, sent: Time) -> Bytes {
    body::number(body::PING, number, sent)
}

/// The frame of a [`Said::Pong`].
pub fn pong(number: u64, sent: Time) -> Bytes {
    body::number(body::PONG, number, sent)
}

/// The frames of a message: more than one if it is too long for one. Each is a message of its own
/// to who receives it.
pub fn message<S: Borrow<KeySecrets>>(message: &Message<S>, sent: Time) -> Vec<Bytes> {
    body::message(message, sent)
}
