//! Apache: `SSLSessionTicketKeyFile FILE`, one key of 48 bytes: name, HMAC key, AES-128 key
//! (`ssl_init_ticket_key` in modules/ssl/ssl_engine_init.c; of a longer file it reads the first
//! 48). That is all that Apache can: no AES-256 key, no second key, and a new file only at a
//! restart.
//!
//! So a ring's key cannot be Apache's. What Apache gets is derived from it, name included: every
//! Apache that is fed from the same key has the same one, its file tells nothing of the ring's key,
//! and its tickets are strangers everywhere else instead of looking like forgeries. No Apache opens
//! a ticket of the key before: at each switch its clients make a full handshake.

use anyhow::{Context, Result};
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::PkeyCtx;
use tktrot::ring::key::Key;

use super::record::{LONG, Order, SHORT};
use super::{Bytes, buffer, record};

/// What else is derived from such a key some day is to be another.
const PURPOSE: &[u8] = b"tktrot apache 1";

/// The file of the key that is derived from this one: HKDF-SHA-256 (RFC 5869), salted with its name.
///
/// # Errors
///
/// OpenSSL fails.
pub fn format(key: &Key) -> Result<Bytes> {
    derived(key).context("cannot derive Apache's key")
}

fn derived(key: &Key) -> Result<Bytes> {
    let mut whole = buffer(LONG);
    record::append(key, Order::AesFirst, &mut whole);
    let (name, secrets) = whole.split_at(key.name.0.len());
    let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
    hkdf.derive_init()?;
    hkdf.set_hkdf_md(Md::sha256())?;
    hkdf.set_hkdf_salt(name)?;
    hkdf.set_hkdf_key(secrets)?;
    hkdf.add_hkdf_info(PURPOSE)?;
    let mut bytes = buffer(SHORT);
    bytes.resize(SHORT, 0);
    hkdf.derive(Some(&mut bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::distinct;
    use super::*;

    #[test]
    fn each_key_has_one_of_48_bytes_that_shares_nothing_with_it() {
        let keys =
            [1, 2].map(|salt| record::parse(&distinct(LONG, salt), Order::AesFirst).unwrap());
        let [first, second] = keys.each_ref().map(|key| format(key).unwrap());
        assert_eq!(first.len(), 48);
        assert_eq!(*first, *format(&keys[0]).unwrap());
        assert_ne!(*first, *second);
        let whole = distinct(LONG, 1);
        assert!(first.chunks(8).all(|part| whole.windows(8).all(|other| other != part)));
    }
}
