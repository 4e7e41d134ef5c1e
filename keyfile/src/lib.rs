//! Ticket key files of servers that do not use libtktrot. Which format a file has is stated, never
//! guessed: most are nothing but random bytes.
//!
//! - [`record`]: a key as bytes: its name, then two secrets
//! - [`nginx`], [`haproxy`], [`lighttpd`], [`apache`], [`raw`]: one format each
//! - [`selection`]: which keys of a ring others can use, and in which order
//! - [`files`]: which files a format has, and what comes into them
//! - [`private`]: reading such a file, and writing one, if nobody else can
//! - [`generator`]: OpenSSL's, from which new keys come
//!
//! Bytes of keys are in buffers that are wiped, and in boxes: what is moved leaves a copy behind.

pub mod apache;
pub mod files;
pub mod generator;
pub mod haproxy;
pub mod lighttpd;
pub mod nginx;
pub mod private;
pub mod raw;
mod record;
pub mod selection;

use tktrot::ring::key::Key;
use zeroize::Zeroizing;

/// Keys in the order of a file.
pub type Keys = Vec<Box<Key>>;

/// Bytes that are wiped.
pub type Bytes = Zeroizing<Vec<u8>>;

/// A buffer for so many bytes. It must not grow: that leaves a copy behind.
fn buffer(capacity: usize) -> Bytes {
    Zeroizing::new(Vec::with_capacity(capacity))
}

/// Whether keys of 48 bytes are taken: AES-128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    Allowed,
    Refused,
}

impl Short {
    /// An error unless they are.
    fn check(self) -> Result<(), String> {
        match self {
            Short::Allowed => Ok(()),
            Short::Refused => Err("keys of 48 bytes are AES-128, and tickets should be encrypted \
                                   at least as strongly as connections (RFC 9325, 3.4), which may \
                                   use AES-256; --allow-48 accepts them all the same"
                .into()),
        }
    }
}
