//! Keys that anybody can guess: all zero, one byte again and again, bytes that count up, the key
//! name itself. Servers have had such keys through bugs (GnuTLS, CVE-2020-13777) and through
//! deployment tools that handed out empty key files (Hebrok et al., "We Really Need to Talk About
//! Session Tickets", USENIX Security 2023).
//!
//! A key is reported only with a proof. Either the MAC at the end of the ticket is valid for all that
//! comes before it: this covers the layouts of OpenSSL and its relatives, Go, NSS and GnuTLS, which
//! differ in what comes between name and MAC. Or decrypting the ticket yields a session.

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::symm::{self, Cipher};
use serde::Serialize;

/// A key that could be guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weakness {
    /// The bytes of the key, in words.
    pub key: String,
    /// The algorithm with which the key was proved.
    pub proof: String,
}

const LENGTHS: [usize; 4] = [32, 16, 48, 64];
/// The beginning of a session in OpenSSL's encoding, after its length: the version (1).
const SESSION_VERSION: [u8; 3] = [0x02, 0x01, 0x01];

/// What a key may consist of.
enum Guess<'a> {
    Repeated(u8),
    /// Each byte is one more than the last.
    Counting(u8),
    /// 16 bytes, repeated.
    Name(&'a [u8]),
}

impl Guess<'_> {
    fn bytes(&self, len: usize) -> Vec<u8> {
        match self {
            Guess::Repeated(byte) => vec![*byte; len],
            Guess::Counting(first) => (0..len).map(|at| first.wrapping_add(at as u8)).collect(),
            Guess::Name(name) => name.iter().copied().cycle().take(len).collect(),
        }
    }

    fn words(&self) -> String {
        match self {
            Guess::Repeated(0) => "all-zero bytes".to_owned(),
            Guess::Repeated(byte) => format!("the byte 0x{byte:02x}, repeated"),
            Guess::Counting(first) => format!("bytes that count up from 0x{first:02x}"),
            Guess::Name(_) => "the key name itself".to_owned(),
        }
    }
}

/// Searches for a key that can be guessed; `None` does not prove that there is none.
pub fn weakness(ticket: &[u8]) -> Option<Weakness> {
    // Zeroes first: that is what accidents leave behind.
    let repeated = (0..=u8::MAX).map(Guess::Repeated);
    let guesses =
        repeated.chain(ticket.get(..16).map(Guess::Name)).chain((0..=u8::MAX).map(Guess::Counting));
    for guess in guesses {
        let found = |proof: &str| Weakness { key: guess.words(), proof: proof.to_owned() };
        for len in LENGTHS {
            let key = guess.bytes(len);
            let proof = mac_matches(ticket, &key)
                .or_else(|| decrypts_to_a_session(ticket, &key))
                .or_else(|| opens_as_mbedtls(ticket, &key));
            if let Some(proof) = proof {
                return Some(found(proof));
            }
        }
    }
    None
}

/// Tests whether the ticket ends with the MAC of what comes before.
fn mac_matches(ticket: &[u8], key: &[u8]) -> Option<&'static str> {
    let digests = [
        ("HMAC-SHA256", MessageDigest::sha256()),
        ("HMAC-SHA1", MessageDigest::sha1()),
        ("HMAC-SHA384", MessageDigest::sha384()),
        ("HMAC-SHA512", MessageDigest::sha512()),
    ];
    let pkey = PKey::hmac(key).ok()?;
    digests.into_iter().find_map(|(name, digest)| {
        let (signed, mac) = ticket.split_at_checked(ticket.len().checked_sub(digest.size())?)?;
        let expected = Signer::new(digest, &pkey).ok()?.sign_oneshot_to_vec(signed).ok()?;
        (!signed.is_empty() && expected == mac).then_some(name)
    })
}

/// Tests the layout of name, IV, AES-CBC and a MAC, whose key need not be known.
fn decrypts_to_a_session(ticket: &[u8], key: &[u8]) -> Option<&'static str> {
    let (name, cipher) = match key.len() {
        16 => ("AES-128-CBC", Cipher::aes_128_cbc()),
        32 => ("AES-256-CBC", Cipher::aes_256_cbc()),
        _ => return None,
    };
    let (iv, rest) = ticket.get(16..)?.split_at_checked(16)?;
    [32, 20, 48, 64].into_iter().find_map(|mac_len| {
        let encrypted = rest.get(..rest.len().checked_sub(mac_len)?)?;
        if encrypted.is_empty() || !encrypted.len().is_multiple_of(16) {
            return None;
        }
        // This fails unless the padding is right.
        let session = symm::decrypt(cipher, key, Some(iv), encrypted).ok()?;
        is_a_session(&session).then_some(name)
    })
}

/// True for a DER sequence that takes all the bytes and begins like every SSL_SESSION of OpenSSL,
/// LibreSSL, BoringSSL and AWS-LC.
fn is_a_session(bytes: &[u8]) -> bool {
    let (len, content) = match bytes {
        [0x30, len @ ..=0x7f, content @ ..] => (usize::from(*len), content),
        [0x30, 0x81, len, content @ ..] => (usize::from(*len), content),
        [0x30, 0x82, high, low, content @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), content)
        }
        _ => return false,
    };
    content.len() == len && content.starts_with(&SESSION_VERSION)
}

/// Tests the layout of Mbed TLS: name (4 bytes), nonce (12), length (2), AES-GCM, tag (16).
fn opens_as_mbedtls(ticket: &[u8], key: &[u8]) -> Option<&'static str> {
    let (name, cipher) = match key.len() {
        16 => ("AES-128-GCM", Cipher::aes_128_gcm()),
        32 => ("AES-256-GCM", Cipher::aes_256_gcm()),
        _ => return None,
    };
    let (head, rest) = ticket.split_at_checked(4 + 12 + 2)?;
    let (encrypted, tag) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    let len = u16::from_be_bytes([head[16], head[17]]);
    if usize::from(len) != encrypted.len() {
        return None;
    }
    let opened = symm::decrypt_aead(cipher, key, Some(&head[4..16]), head, encrypted, tag);
    opened.is_ok().then_some(name)
}

#[cfg(test)]
#[path = "weak/tests.rs"]
mod tests;
