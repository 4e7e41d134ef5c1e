//! Rings that have grown: with keys of other nodes in them.

use std::path::Path;
use std::time::Duration;

use tktrot::clock::{BootClock, Clock};
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::layout::Capacity;
use tktrot::schedule::KeyTimes;

use crate::Result;

/// Puts so many keys, which decrypt for an hour, into the ring of that name.
pub fn fill(dir: &Path, file: &str, keys: u64) -> Result<()> {
    let place = Place { dir: dir.into(), file: file.into(), dir_mode: 0o700 };
    let ring = place.open(Capacity::MAX).map_err(|refused| refused.to_string())?;
    let writer = ring.write_within(Duration::from_secs(2)).map_err(|why| format!("{why:?}"))?;
    let now = BootClock.now();
    for number in 1..=keys {
        let mut key = Key::blank();
        key.node = number;
        openssl::rand::rand_bytes(&mut key.name.0)?;
        openssl::rand::rand_bytes(key.secrets.aes.expose_mut())?;
        openssl::rand::rand_bytes(key.secrets.hmac.expose_mut())?;
        let decrypt_until = now + Duration::from_secs(3600);
        key.times = KeyTimes { encrypt_from: now, encrypt_until: now, decrypt_until };
        writer.publish(&key).map_err(|why| format!("key {number}: {why:?}"))?;
    }
    Ok(())
}
