//! Keys that other servers made, out of files: their tickets go on until they
//! would have ended anyway. Such keys are plain and only decrypt.

use std::fmt;
use std::time::Duration;

use crate::clock::{Clock, Time};
use crate::ring::key::Key;
use crate::ring::layout::IMPORTED;
use crate::ring::lock::PATIENCE;
use crate::ring::writer::{NotPublished, Writer};
use crate::rotate::{Failure, Keyring};
use crate::schedule::{KeyTimes, MAX_LIFETIME};
use crate::secret::wipe_stack;

/// Why keys were not imported. None of them is in the ring then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotImported {
    /// One of them cannot be a key here.
    Unfit {
        /// Its place among those given, from 0.
        position: usize,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The ring cannot take them.
    Failed(Failure),
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Every byte of its name is the same.
    ConstantName,
    /// A secret of it is constant, or both are the same.
    Weak,
    /// It has the name or a secret of one given before it: which, from 0.
    Repeats(usize),
    /// It has the name or a secret of a key that the ring has.
    InRing,
    /// It was revoked here.
    Revoked,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::ConstantName => f.write_str("all bytes of its name are the same"),
            Flaw::Weak => f.write_str(
                "its secrets are not random: all bytes of one are the same, or the two are equal",
            ),
            Flaw::Repeats(_) => f.write_str("it has the name or a secret of another key given"),
            Flaw::InRing => f.write_str("its name or a secret is in the ring already"),
            Flaw::Revoked => f.write_str("it was revoked, and a copy of it may still live"),
        }
    }
}

/// Puts keys into the ring that decrypt for `lifetime` from now on, at most
/// [`MAX_LIFETIME`], and encrypt nothing: all of them, or none. Each may
/// say by its `times.decrypt_until` that it ends earlier.
///
/// Boxed, because a key that is moved leaves a copy behind.
pub fn import<C: Clock>(
    keyring: &Keyring<C>,
    keys: &mut [Box<Key>],
    lifetime: Duration,
) -> Result<(), NotImported> {
    let imported = import_below(keyring, keys, lifetime);
    wipe_stack();
    imported
}

/// Not inlined, so that its frame is below [`wipe_stack`]'s caller.
#[inline(never)]
fn import_below<C: Clock>(
    keyring: &Keyring<C>,
    keys: &mut [Box<Key>],
    lifetime: Duration,
) -> Result<(), NotImported> {
    let writer = keyring
        .ring()
        .write_within(PATIENCE)
        .map_err(|busy| NotImported::Failed(Failure::Lock(busy)))?;
    for position in 0..keys.len() {
        if let Some(flaw) = flaw(&writer, &keys[..position], &keys[position]) {
            return Err(NotImported::Unfit { position, flaw });
        }
    }
    if writer.room() < keys.len() {
        return Err(NotImported::Failed(Failure::Full));
    }
    let now = keyring.now();
    let end = now + lifetime.min(MAX_LIFETIME);
    for key in keys.iter_mut() {
        let decrypt_until = end.min(key.times.decrypt_until).max(now);
        key.times = KeyTimes { encrypt_from: now, encrypt_until: now, decrypt_until };
        (key.node, key.plain) = (IMPORTED, true);
    }
    publish(&writer, keys)?;
    // Whoever tends the ring next also sees to the ends of these.
    let first_end = keys.iter().map(|key| key.times.decrypt_until).min();
    writer.set_deadline(keyring.ring().deadline().min(first_end.unwrap_or(Time::NEVER)));
    Ok(())
}

/// What is wrong with a key that comes after others.
fn flaw(writer: &Writer<'_>, before: &[Box<Key>], key: &Key) -> Option<Flaw> {
    if key.name.is_constant() {
        return Some(Flaw::ConstantName);
    }
    if key.is_weak() {
        return Some(Flaw::Weak);
    }
    let repeats = |other: &Key| {
        other.name == key.name
            || other.secrets.aes.same_as(&key.secrets.aes)
            || other.secrets.hmac.same_as(&key.secrets.hmac)
    };
    if let Some(other) = before.iter().position(|other| repeats(other)) {
        return Some(Flaw::Repeats(other));
    }
    if writer.is_buried(&key.name) {
        return Some(Flaw::Revoked);
    }
    writer.has_any_of(key).then_some(Flaw::InRing)
}

/// All or none, though what was checked before leaves nothing to fail here.
fn publish(writer: &Writer<'_>, keys: &[Box<Key>]) -> Result<(), NotImported> {
    let mut published = Vec::new();
    for (position, key) in keys.iter().enumerate() {
        match writer.publish(key) {
            Ok(index) => published.push(index),
            Err(error) => {
                published.iter().for_each(|index| writer.erase(*index));
                return Err(match error {
                    NotPublished::Full => NotImported::Failed(Failure::Full),
                    NotPublished::NoMemory => NotImported::Failed(Failure::NoMemory),
                    NotPublished::Unusable => NotImported::Unfit { position, flaw: Flaw::InRing },
                    NotPublished::Revoked => NotImported::Unfit { position, flaw: Flaw::Revoked },
                });
            }
        }
    }
    Ok(())
}
