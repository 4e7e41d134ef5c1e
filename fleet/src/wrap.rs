//! A key as it is kept in Redis: what it is for in clear, its secrets encrypted.
//!
//! ```text
//!  0  version               1     AES-256-GCM under a key that is derived from the fleet secret;
//!  1  identity of secret    8     associated data: all that is in clear, and the ring's name.
//!  9  key name             16
//! 25  period                8     Times are nanoseconds on Redis' clock since the period began.
//! 33  turn                  4     Numbers are big-endian.
//! 37  R                     8
//! 45  made                  8
//! 53  begins                8
//! 61  retires               8
//! 69  ends                  8
//! 77  epoch                 8
//! 85  flags                 4
//! 89  nonce                12
//! 101 AES key ‖ HMAC key   64     encrypted
//! 165 tag                  16
//! ```

use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::symm::Cipher;
use tktrot::clock::nanos;
use tktrot::secret::{KeyName, KeySecrets, Secret};
use zeroize::Zeroizing;

use crate::redis::clock::RedisTime;
use crate::redis::stored::{Flaw, Grave, Revoked, Slot, Stored, Terms, Turn, start_of};

/// The version that this code writes and reads.
const VERSION: u8 = 2;
/// The one before, which had no epoch, and its size.
const FIRST: (u8, usize) = (1, 173);
/// The bytes in clear before the nonce.
const CLEAR: usize = 89;
const NONCE: usize = 12;
const TAG: usize = 16;
/// The size of a wrapped key.
pub const SIZE: usize = CLEAR + NONCE + 64 + TAG;
/// The size of a record of what was revoked.
pub const GRAVE: usize = 1 + 16 + 8 + TAG;

/// Flag: its tickets carry no associated data.
const PLAIN: u32 = 1;

/// What keys are wrapped with: derived from the fleet secrets, of which the first one wraps and all
/// unwrap.
pub struct Wrapping {
    ring: String,
    keys: Vec<Key>,
}

struct Key {
    /// Says which secret it is, and nothing about it.
    id: [u8; 8],
    wraps: Box<Secret<32>>,
    signs: PKey<openssl::pkey::Private>,
}

impl Wrapping {
    /// For a ring of that name, with one derived key or more.
    ///
    /// # Errors
    ///
    /// OpenSSL has no HMAC.
    ///
    /// # Panics
    ///
    /// There is no key.
    pub fn new(ring: &str, keys: Vec<Box<Secret<32>>>) -> Result<Self, ErrorStack> {
        assert!(!keys.is_empty(), "no fleet secret");
        let keys = keys.into_iter().map(|wraps| {
            let id = hmac(&PKey::hmac(wraps.expose())?, &[b"tktrot redis identity 1"])?;
            let signs = hmac(&PKey::hmac(wraps.expose())?, &[b"tktrot redis revoke 2"])?;
            let id = *id.first_chunk().expect("an HMAC has 32 bytes");
            Ok(Key { id, wraps, signs: PKey::hmac(&*signs)? })
        });
        Ok(Wrapping { ring: ring.into(), keys: keys.collect::<Result<_, ErrorStack>>()? })
    }

    /// The public identities of the secrets, that of the one that wraps first.
    pub fn ids(&self) -> impl Iterator<Item = [u8; 8]> {
        self.keys.iter().map(|key| key.id)
    }

    /// Wraps a key.
    ///
    /// # Errors
    ///
    /// The generator fails, or OpenSSL has no AES-256-GCM.
    pub fn wrap(
        &self,
        name: &KeyName,
        terms: &Terms,
        secrets: &KeySecrets,
    ) -> Result<Vec<u8>, ErrorStack> {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE];
        openssl::rand::rand_bytes(&mut nonce)?;
        let mut plain = Zeroizing::new([0; 64]);
        plain[..32].copy_from_slice(secrets.aes.expose());
        plain[32..].copy_from_slice(secrets.hmac.expose());

        let mut wrapped = clear(key, name, terms);
        let bound = self.bound(&wrapped);
        let mut tag = [0; TAG];
        let cipher = Cipher::aes_256_gcm();
        let sealed = openssl::symm::encrypt_aead(
            cipher,
            key.wraps.expose(),
            Some(&nonce),
            &bound,
            &*plain,
            &mut tag,
        )?;
        wrapped.extend_from_slice(&nonce);
        wrapped.extend_from_slice(&sealed);
        wrapped.extend_from_slice(&tag);
        Ok(wrapped)
    }

    /// Unwraps what was found in a slot.
    ///
    /// # Errors
    ///
    /// It is not used, and why.
    pub fn unwrap(&self, slot: Slot, bytes: &[u8]) -> Result<Stored<Box<KeySecrets>>, Flaw> {
        match bytes.first() {
            None => return Err(Flaw::NoKey),
            Some(&VERSION) => {}
            Some(version) if bytes.len() == SIZE || (*version, bytes.len()) == FIRST => {
                return Err(Flaw::Version(*version));
            }
            Some(_) => return Err(Flaw::NoKey),
        }
        let bytes: &[u8; SIZE] = bytes.try_into().map_err(|_| Flaw::NoKey)?;
        let (id, name, terms) = read(bytes).ok_or(Flaw::NoKey)?;
        let key = self.keys.iter().find(|key| key.id == id).ok_or(Flaw::Secret(id))?;
        let secrets = self.open(key, bytes).ok_or(Flaw::Damaged)?;
        let is_there = match slot {
            Slot::At(turn) => turn == terms.turn,
            Slot::Kept(kept) => kept == name,
        };
        if !is_there {
            return Err(Flaw::Misplaced);
        }
        if !terms.are_ordered() || name.is_constant() || secrets.is_weak() {
            return Err(Flaw::NoKey);
        }
        Ok(Stored { name, terms, secrets })
    }

    fn open(&self, key: &Key, bytes: &[u8; SIZE]) -> Option<Box<KeySecrets>> {
        let bound = self.bound(&bytes[..CLEAR]);
        let (nonce, rest) = bytes[CLEAR..].split_at(NONCE);
        let (sealed, tag) = rest.split_at(64);
        let cipher = Cipher::aes_256_gcm();
        let key = key.wraps.expose();
        let opened = openssl::symm::decrypt_aead(cipher, key, Some(nonce), &bound, sealed, tag);
        let opened = Zeroizing::new(opened.ok()?);
        let (aes, hmac) = opened.split_at_checked(32)?;
        let mut secrets = Box::new(KeySecrets::zeroed());
        secrets.aes.expose_mut().copy_from_slice(aes);
        secrets.hmac.expose_mut().copy_from_slice(hmac);
        Some(secrets)
    }

    /// What the encrypted part is bound to. The ring's name has its length before it, so that no
    /// other name and bytes give the same.
    fn bound(&self, clear: &[u8]) -> Vec<u8> {
        let length = (self.ring.len() as u64).to_be_bytes();
        [&length, self.ring.as_bytes(), clear].concat()
    }

    /// A record of what was revoked, which only who has the fleet secret can write.
    ///
    /// # Errors
    ///
    /// OpenSSL has no HMAC.
    pub fn record(&self, grave: &Grave) -> Result<[u8; GRAVE], ErrorStack> {
        let mut record = [0; GRAVE];
        let (kind, number) = match grave.what {
            Revoked::Key(name) => (1, name.0),
            Revoked::All(epoch) => (2, u128::from(epoch).to_be_bytes()),
        };
        record[0] = kind;
        record[1..17].copy_from_slice(&number);
        record[17..25].copy_from_slice(&grave.ends.0.to_be_bytes());
        let tag = self.tag(&self.keys[0], &record[..25])?;
        record[25..].copy_from_slice(&tag);
        Ok(record)
    }

    /// What a record says, if somebody wrote it who has the fleet secret.
    pub fn recorded(&self, record: &[u8]) -> Option<Grave> {
        let record: &[u8; GRAVE] = record.try_into().ok()?;
        let number = *record[1..].first_chunk()?;
        let what = match record[0] {
            1 => Revoked::Key(KeyName(number)),
            2 => Revoked::All(u64::try_from(u128::from_be_bytes(number)).ok()?),
            _ => return None,
        };
        let ends = RedisTime(u64::from_be_bytes(*record[17..].first_chunk()?));
        let is_tag =
            |key| self.tag(key, &record[..25]).is_ok_and(|tag| memcmp::eq(&tag, &record[25..]));
        self.keys.iter().any(is_tag).then_some(Grave { what, ends })
    }

    fn tag(&self, key: &Key, record: &[u8]) -> Result<[u8; TAG], ErrorStack> {
        let tag = hmac(&key.signs, &[&self.bound(record)])?;
        Ok(*tag.first_chunk().expect("an HMAC has 32 bytes"))
    }
}

fn hmac(
    key: &PKey<openssl::pkey::Private>,
    parts: &[&[u8]],
) -> Result<Zeroizing<[u8; 32]>, ErrorStack> {
    let mut signer = Signer::new(MessageDigest::sha256(), key)?;
    parts.iter().try_for_each(|part| signer.update(part))?;
    let mut tag = Zeroizing::new([0; 32]);
    signer.sign(&mut *tag)?;
    Ok(tag)
}

fn clear(key: &Key, name: &KeyName, terms: &Terms) -> Vec<u8> {
    let start = start_of(terms.turn.period, terms.rotate_every);
    // Wrapping, and so without loss: reading adds it again.
    let since = |at: RedisTime| at.0.wrapping_sub(start.0).to_be_bytes();
    let flags = if terms.plain { PLAIN } else { 0 };
    let clear = [
        &[VERSION],
        &key.id[..],
        &name.0,
        &terms.turn.period.to_be_bytes(),
        &terms.turn.number.to_be_bytes(),
        &nanos(terms.rotate_every).to_be_bytes(),
        &since(terms.made),
        &since(terms.begins),
        &since(terms.retires),
        &since(terms.ends),
        &terms.epoch.to_be_bytes(),
        &flags.to_be_bytes(),
    ];
    let clear = clear.concat();
    debug_assert_eq!(clear.len(), CLEAR);
    clear
}

/// What is in clear: the secret's identity, the name, the terms.
fn read(bytes: &[u8; SIZE]) -> Option<([u8; 8], KeyName, Terms)> {
    let number = |at: usize| Some(u64::from_be_bytes(*bytes[at..].first_chunk()?));
    let short = |at: usize| Some(u32::from_be_bytes(*bytes[at..].first_chunk()?));
    let rotate_every = Duration::from_nanos(number(37)?);
    let turn = Turn { period: number(25)?, number: short(33)? };
    let start = start_of(turn.period, rotate_every);
    let at = |at: usize| Some(RedisTime(start.0.wrapping_add(number(at)?)));
    let flags = short(85)?;
    if flags & !PLAIN != 0 {
        return None;
    }
    let terms = Terms {
        turn,
        rotate_every,
        made: at(45)?,
        begins: at(53)?,
        retires: at(61)?,
        ends: at(69)?,
        epoch: number(77)?,
        plain: flags & PLAIN != 0,
    };
    Some((*bytes[1..].first_chunk()?, KeyName(*bytes[9..].first_chunk()?), terms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Duration = Duration::from_secs(3600);

    fn secret(number: u8) -> Box<Secret<32>> {
        let mut secret = Box::new(Secret::zeroed());
        let bytes = secret.expose_mut();
        bytes.iter_mut().enumerate().for_each(|(index, byte)| *byte = number ^ index as u8);
        secret
    }

    fn wrapping(ring: &str, secrets: &[u8]) -> Wrapping {
        Wrapping::new(ring, secrets.iter().map(|number| secret(*number)).collect()).unwrap()
    }

    fn name() -> KeyName {
        KeyName(std::array::from_fn(|index| 200 - index as u8))
    }

    fn secrets() -> KeySecrets {
        let mut secrets = KeySecrets::zeroed();
        secrets.aes.expose_mut().iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8);
        secrets.hmac.expose_mut().iter_mut().enumerate().for_each(|(i, byte)| *byte = 99 - i as u8);
        secrets
    }

    fn terms() -> Terms {
        let turn = Turn { period: 480_000, number: 3 };
        let start = start_of(turn.period, R);
        Terms {
            turn,
            rotate_every: R,
            // Before the period: a key is made ahead.
            made: RedisTime(start.0 - 5),
            begins: start,
            retires: start.after(R),
            ends: start.after(3 * R),
            epoch: 5,
            plain: true,
        }
    }

    const SLOT: Slot = Slot::At(Turn { period: 480_000, number: 3 });

    fn flaw(wrapping: &Wrapping, slot: Slot, bytes: &[u8]) -> Flaw {
        wrapping.unwrap(slot, bytes).map(|stored| stored.name).unwrap_err()
    }

    #[test]
    fn what_is_wrapped_comes_out_again() {
        let wrapping = wrapping("web", &[1]);
        let bytes = wrapping.wrap(&name(), &terms(), &secrets()).unwrap();
        assert_eq!(bytes.len(), SIZE);
        for slot in [SLOT, Slot::Kept(name())] {
            let stored = wrapping.unwrap(slot, &bytes).map_err(|flaw| flaw.to_string()).unwrap();
            assert_eq!((stored.name, stored.terms), (name(), terms()));
            assert!(stored.secrets.aes.same_as(&secrets().aes));
            assert!(stored.secrets.hmac.same_as(&secrets().hmac));
        }
        let again = wrapping.wrap(&name(), &terms(), &secrets()).unwrap();
        assert_ne!(bytes[CLEAR..], again[CLEAR..], "the nonce is fresh");
        assert!(!bytes.windows(16).any(|window| secrets().aes.expose().starts_with(window)));
    }

    #[test]
    fn every_secret_unwraps_and_the_first_one_wraps() {
        let (old, both, new) =
            (wrapping("web", &[1]), wrapping("web", &[2, 1]), wrapping("web", &[2]));
        let by_old = old.wrap(&name(), &terms(), &secrets()).unwrap();
        let by_both = both.wrap(&name(), &terms(), &secrets()).unwrap();
        assert!(both.unwrap(SLOT, &by_old).is_ok());
        assert!(new.unwrap(SLOT, &by_both).is_ok());
        assert_eq!(flaw(&old, SLOT, &by_both), Flaw::Secret(new.keys[0].id));
        assert_eq!(flaw(&new, SLOT, &by_old), Flaw::Secret(old.keys[0].id));
    }

    #[test]
    fn no_changed_bit_is_overlooked() {
        let wrapping = wrapping("web", &[1]);
        let bytes = wrapping.wrap(&name(), &terms(), &secrets()).unwrap();
        for index in 0..SIZE {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(wrapping.unwrap(SLOT, &changed).is_err(), "byte {index}");
        }
        for length in 0..SIZE {
            assert_eq!(flaw(&wrapping, SLOT, &bytes[..length]), Flaw::NoKey);
        }
        assert_eq!(flaw(&wrapping, SLOT, &[&bytes[..], &[0]].concat()), Flaw::NoKey);
    }

    #[test]
    fn a_key_counts_only_where_it_belongs() {
        let web = wrapping("web", &[1]);
        let bytes = web.wrap(&name(), &terms(), &secrets()).unwrap();
        assert_eq!(flaw(&wrapping("mail", &[1]), SLOT, &bytes), Flaw::Damaged);
        let elsewhere = Slot::At(Turn { period: 480_001, number: 3 });
        assert_eq!(flaw(&web, elsewhere, &bytes), Flaw::Misplaced);
        assert_eq!(flaw(&web, Slot::Kept(KeyName([9; 16])), &bytes), Flaw::Misplaced);
        let mut newer = bytes;
        newer[0] = 3;
        assert_eq!(flaw(&web, SLOT, &newer), Flaw::Version(3));
        let mut older = vec![0; FIRST.1];
        older[0] = FIRST.0;
        assert_eq!(flaw(&web, SLOT, &older), Flaw::Version(1));
    }

    #[test]
    fn only_who_has_the_secret_revokes() {
        let (web, both) = (wrapping("web", &[1]), wrapping("web", &[2, 1]));
        for what in [Revoked::Key(name()), Revoked::All(7)] {
            let grave = Grave { what, ends: RedisTime(12345) };
            let record = web.record(&grave).unwrap();
            assert_eq!(web.recorded(&record), Some(grave));
            assert_eq!(both.recorded(&record), Some(grave));
            assert_eq!(wrapping("mail", &[1]).recorded(&record), None);
            assert_eq!(wrapping("web", &[2]).recorded(&record), None);
            for index in 0..GRAVE {
                let mut changed = record;
                changed[index] ^= 1;
                assert_eq!(web.recorded(&changed), None, "byte {index}");
            }
            assert_eq!(web.recorded(&record[1..]), None);
        }
    }
}
