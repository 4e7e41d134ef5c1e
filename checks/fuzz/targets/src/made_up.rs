//! Keys, secrets and random numbers that are the same in every run, and no secrets; and telling
//! what happens, for who looks into a failure.

use std::fmt::Debug;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tktrot::ring::key::Key;
use tktrot::rotate::{Generator, NotRandom};
use tktrot::schedule::KeyTimes;
use tktrot::secret::{KeyName, KeySecrets, Secret};

/// A name for each number.
pub fn name(number: u32) -> KeyName {
    let mut name = [7; 16];
    // The first bytes decide in which chain of a ring it is.
    name[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    name[12..].copy_from_slice(&number.to_be_bytes());
    KeyName(name)
}

/// Secrets for each number.
pub fn secrets(number: u32) -> Box<KeySecrets> {
    let mut secrets = Box::new(KeySecrets::zeroed());
    fill(secrets.aes.expose_mut(), 2 * u64::from(number));
    fill(secrets.hmac.expose_mut(), 2 * u64::from(number) + 1);
    secrets
}

/// A secret for each number, to wrap with.
pub fn wrapping(number: u32) -> Box<Secret<32>> {
    let mut secret = Box::new(Secret::zeroed());
    fill(secret.expose_mut(), u64::from(number) | 1 << 40);
    secret
}

/// A key for each number.
pub fn key(number: u32, times: KeyTimes, node: u64) -> Box<Key> {
    let mut key = Box::new(Key::blank());
    let secrets = secrets(number);
    key.name = name(number);
    key.secrets.aes.expose_mut().copy_from_slice(secrets.aes.expose());
    key.secrets.hmac.expose_mut().copy_from_slice(secrets.hmac.expose());
    (key.times, key.node) = (times, node);
    key
}

/// Bytes that look random: Steele's SplitMix64.
pub fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

/// Where a keyring of a target gets its keys from.
pub struct Counting(pub AtomicU64);

impl Generator for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        fill(bytes, self.0.fetch_add(1, Ordering::Relaxed) << 20 | 1 << 63);
        Ok(())
    }
}

/// One for all.
pub static GENERATOR: Counting = Counting(AtomicU64::new(0));

/// With `FUZZ_TELL=1` writes what happens to a state machine, or what it wants.
pub fn tell(what: &impl Debug) {
    static TELLS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("FUZZ_TELL").is_some());
    if *TELLS {
        eprintln!("{what:?}");
    }
}
