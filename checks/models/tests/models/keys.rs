//! Small rings, and keys that can be told to be whole.

use std::sync::Arc;

use models::clock::Time;
use models::ring::Ring;
use models::ring::key::Key;
use models::ring::layout::Capacity;
use models::schedule::KeyTimes;
use models::secret::{KeyName, KeySecrets};

/// A ring with room for so many keys, which all share one look-up chain.
pub fn ring(capacity: u32) -> Arc<Ring> {
    Arc::new(Ring::private(Capacity(capacity)).unwrap())
}

/// Every part of it says which one it is.
pub fn key(number: u8) -> Key {
    let mut key = Key { secrets: KeySecrets::zeroed(), ..Key::blank() };
    fill(&mut key, number);
    key
}

fn fill(key: &mut Key, number: u8) {
    key.name = name(number);
    // One word of a secret is in a model's ring.
    for (index, byte) in key.secrets.aes.expose_mut()[..8].iter_mut().enumerate() {
        *byte = number * 16 + index as u8;
    }
    for (index, byte) in key.secrets.hmac.expose_mut()[..8].iter_mut().enumerate() {
        *byte = !(number * 16 + index as u8);
    }
    key.times = times(number);
    key.node = u64::from(number);
    key.plain = number % 2 == 1;
}

pub fn name(number: u8) -> KeyName {
    // One word of a name, too.
    let mut name = KeyName([0; 16]);
    name.0[..8].fill(number);
    name
}

fn times(number: u8) -> KeyTimes {
    let from = Time(u64::from(number) * 1000);
    KeyTimes {
        encrypt_from: from,
        encrypt_until: Time(from.0 + 100),
        decrypt_until: Time(from.0 + 200),
    }
}

/// Asserts that all of it is of the key of that number.
pub fn assert_whole(found: &Key, number: u8) {
    let wanted = key(number);
    assert!(found.name == wanted.name, "another key");
    let secrets = (found.secrets.aes.expose(), found.secrets.hmac.expose());
    assert!(secrets == (wanted.secrets.aes.expose(), wanted.secrets.hmac.expose()), "a torn key");
    assert_eq!((found.node, found.plain), (wanted.node, wanted.plain), "a torn key");
    assert_eq!(found.times, wanted.times, "torn times");
}

/// Whether a reader finds the key of that number, which then is whole.
pub fn found(ring: &Ring, number: u8) -> bool {
    let mut read = Key::blank();
    let found = ring.find(&name(number), &mut read);
    if found {
        assert_whole(&read, number);
    }
    found
}
