//! Files of keys, as other servers have them; the first byte says in which format.

use std::time::{Duration, UNIX_EPOCH};

use openssl::base64;
use tktrot::clock::{Time, VirtualClock};
use tktrot::import::{self, NotImported};
use tktrot::log::Destination;
use tktrot::ring::Ring;
use tktrot::ring::key::Key;
use tktrot::ring::layout::{Capacity, IMPORTED, MIN_CAPACITY};
use tktrot::rotate::Keyring;
use tktrot::schedule::MAX_LIFETIME;

use crate::made_up;
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::{Keys, Short, haproxy, lighttpd, nginx, raw};

/// The formats, in the order of their numbers.
pub const FORMATS: [&str; 5] = ["nginx-80", "nginx-48", "haproxy", "lighttpd", "raw"];

/// When files are read.
const RING: Time = Time(5_000_000_000_000);
pub const WALL: u64 = 1_800_000_000;

fn now() -> Now {
    Now { ring: RING, wall: UNIX_EPOCH + Duration::from_secs(WALL) }
}

/// A number, and then the file.
pub fn key_files(bytes: &[u8]) -> bool {
    let Some((format, file)) = bytes.split_first() else { return false };
    let format = FORMATS[usize::from(*format) % FORMATS.len()];
    let parsed = match format {
        "nginx-80" => nginx::parse_80(file),
        "nginx-48" => nginx::parse_48(file, Short::Allowed),
        "haproxy" => haproxy::parse(file, Short::Allowed),
        "lighttpd" => lighttpd::parse(file, now()),
        _ => raw::parse(file),
    };
    let mut keys = match parsed {
        Ok(keys) => keys,
        Err(flaw) => {
            assert!(!flaw.is_empty());
            return false;
        }
    };
    assert!(!keys.is_empty());
    comes_back(format, &keys, file);
    is_imported(&mut keys)
}

/// What was read, written again, is the file.
fn comes_back(format: &str, keys: &Keys, file: &[u8]) {
    let all: Vec<&Key> = keys.iter().map(|key| &**key).collect();
    match format {
        "nginx-80" => assert_eq!(*nginx::format(all[0]), file),
        "raw" => assert_eq!(*raw::format(&all), file),
        "nginx-48" => {
            let Key { facts, secrets } = all[0];
            let again =
                [&facts.name.0[..], &secrets.aes.expose()[..16], &secrets.hmac.expose()[..16]];
            assert_eq!(again.concat(), file);
        }
        "lighttpd" => {
            assert!(all[0].times.decrypt_until > RING, "a key that has ended");
            assert_eq!(lighttpd::format(all[0], now(), 0)[8..], file[8..]);
        }
        "haproxy" => {
            let lines: Vec<_> = file.split(|byte| *byte == b'\n').collect();
            assert!(keys.len() >= haproxy::LINES && lines.len() >= keys.len());
            for (key, line) in keys.iter().zip(lines) {
                let half = |secret: &[u8; 32]| secret[..if key.aes_128 { 16 } else { 32 }].to_vec();
                let (aes, hmac) = (half(key.secrets.aes.expose()), half(key.secrets.hmac.expose()));
                let again = base64::encode_block(&[key.name.0.to_vec(), aes, hmac].concat());
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                assert_eq!(again.len(), line.len());
                // The last digit may have bits that stand for nothing, as HAProxy takes it, too.
                let counts = if key.aes_128 { line.len() } else { line.len() - 2 };
                assert_eq!(again.as_bytes()[..counts], line[..counts]);
            }
        }
        other => panic!("the format {other}"),
    }
}

/// A ring takes all of them or none; they only decrypt. Whether it took them.
fn is_imported(keys: &mut Keys) -> bool {
    tktrot::log::open(&Destination::Nothing).expect("no file");
    let capacity = Capacity::new(MIN_CAPACITY).expect("a capacity");
    let ring = Ring::private(capacity).expect("memory");
    let keyring = Keyring::new(ring, VirtualClock::new(RING), &made_up::GENERATOR);
    let imported = import::import(&keyring, keys, 2 * MAX_LIFETIME);
    let ring = keyring.ring();
    let writer = ring.try_write().expect("nobody else writes");
    assert_eq!(writer.defect(), None);
    let entries = writer.entries();
    if let Err(error) = imported {
        assert!(entries.is_empty(), "some were imported, though {error:?}");
        if let NotImported::Unfit { position, .. } = error {
            assert!(position < keys.len());
        }
        return false;
    }
    assert_eq!(entries.len(), keys.len());
    let mut found = Key::blank();
    for key in keys {
        assert!(ring.find(&key.name, &mut found));
        assert!(found.plain && found.node == IMPORTED && found.aes_128 == key.aes_128);
        assert!(found.secrets.aes.same_as(&key.secrets.aes) && !found.is_weak());
        assert!(found.times.are_ordered() && !found.times.will_encrypt(Time(0)));
        assert!(found.times.decrypt_until <= RING + MAX_LIFETIME);
    }
    assert!(!ring.encrypting(RING, &mut found), "an imported key encrypts");
    true
}
