//! A key, as it comes out of a ring and goes into one.

use std::ops::{Deref, DerefMut};

use super::layout::IMPORTED;
use crate::clock::Time;
use crate::schedule::KeyTimes;
use crate::secret::{KeyName, KeySecrets};

/// All of a key but its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its name, which is in every ticket in the clear.
    pub name: KeyName,
    /// When it is announced, encrypts, decrypts and ends.
    pub times: KeyTimes,
    /// The node that made it; [`IMPORTED`] if it came out of a file.
    pub node: u64,
    /// True if servers that do not run libtktrot may have it, too.
    pub plain: bool,
    /// True if its secrets are 16 bytes and then zeroes: AES-128-CBC, and HMAC with a key that is
    /// the same without those zeroes (RFC 2104 §2 pads with them). Such a key only decrypts.
    pub aes_128: bool,
}

/// A copy of one key, wiped when dropped. Make it where it is used, and pass it by
/// reference: a move leaves a copy behind that nobody wipes.
pub struct Key {
    /// All but its secrets.
    pub facts: KeyFacts,
    /// Its secrets.
    pub secrets: KeySecrets,
}

impl KeyFacts {
    /// A key of zeroes, to be filled in.
    pub const fn blank() -> Self {
        let never = Time(0);
        KeyFacts {
            name: KeyName([0; 16]),
            times: KeyTimes { encrypt_from: never, encrypt_until: never, decrypt_until: never },
            node: 0,
            plain: false,
            aes_128: false,
        }
    }

    /// True if it came out of a file: nothing bound its tickets when they were
    /// issued, so every context opens them, whatever it binds its own to.
    #[inline]
    pub fn imported(&self) -> bool {
        self.node == IMPORTED && self.plain
    }
}

impl Key {
    /// A key of nothing, to read one into.
    pub const fn blank() -> Self {
        Key { facts: KeyFacts::blank(), secrets: KeySecrets::zeroed() }
    }

    /// True if its secrets are none that a sound generator made.
    pub fn is_weak(&self) -> bool {
        if self.aes_128 { self.secrets.are_weak_halves() } else { self.secrets.is_weak() }
    }
}

impl Deref for Key {
    type Target = KeyFacts;

    #[inline]
    fn deref(&self) -> &KeyFacts {
        &self.facts
    }
}

impl DerefMut for Key {
    #[inline]
    fn deref_mut(&mut self) -> &mut KeyFacts {
        &mut self.facts
    }
}
