//! lighttpd: `ssl.stek-file`, one key, 92 bytes: three numbers of 32 bits in the host's byte
//! order, version (0), begin and end in seconds since 1970; then name, HMAC key, AES-256 key.
//! lighttpd looks for a new file every 64 seconds and keeps the last three keys
//! (`mod_openssl_session_ticket_key_file` in src/mod_openssl.c).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tktrot::clock::Time;
use tktrot::ring::key::Key;

use super::record::{self, LONG, Order};
use super::{Bytes, Keys, buffer};

/// How much later than it was written a file is to be dated: lighttpd compares whole seconds, and
/// would never read what was written in the second in which it started or looked.
pub const DATED_AHEAD: Duration = Duration::from_secs(1);

const HEAD: usize = 12;
/// Bytes of a file.
const SIZE: usize = HEAD + LONG;

/// One moment, on the clock of the ring and on that of the files.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub ring: Time,
    pub wall: SystemTime,
}

impl Now {
    /// Seconds since 1970.
    pub fn seconds(&self) -> u64 {
        self.wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// The key of a file, which keeps the end that it has there.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse(bytes: &[u8], now: Now) -> Result<Keys, String> {
    if bytes.len() != SIZE {
        return Err(format!("it has {} bytes, not {SIZE}", bytes.len()));
    }
    let (head, key) = bytes.split_at(HEAD);
    let number = |place: usize| {
        let bytes = head[4 * place..].first_chunk().expect("three numbers");
        u32::from_ne_bytes(*bytes)
    };
    if number(0) != 0 {
        return Err(format!("it has version {}, not 0", number(0)));
    }
    let left = u64::from(number(2)).saturating_sub(now.seconds());
    if left == 0 {
        return Err("its key has expired: lighttpd no longer opens its tickets".into());
    }
    let mut key = record::parse(key, Order::HmacFirst).ok_or("it holds no key")?;
    key.times.decrypt_until = now.ring + Duration::from_secs(left);
    Ok(vec![key])
}

/// The file of a key, with which lighttpd encrypts from when the ring does, but not before
/// `not_before`.
pub fn format(key: &Key, now: Now, not_before: u64) -> Bytes {
    let ago = key.times.encrypt_from.until(now.ring).as_secs();
    let ahead = now.ring.until(key.times.encrypt_from).as_secs();
    let left = now.ring.until(key.times.decrypt_until).as_secs();
    let begin = (now.seconds() + ahead).saturating_sub(ago).max(not_before);
    let mut bytes = buffer(SIZE);
    for number in [0, begin, now.seconds() + left] {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    record::append(key, Order::HmacFirst, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::distinct;
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn now() -> Now {
        Now { ring: Time(5_000_000_000_000), wall: UNIX_EPOCH + Duration::from_secs(NOW) }
    }

    fn file(version: u32, begin: u64, end: u64) -> Vec<u8> {
        let numbers = [version, begin as u32, end as u32].map(u32::to_ne_bytes).concat();
        [numbers, distinct(LONG, 1)].concat()
    }

    fn flaw(bytes: &[u8]) -> String {
        parse(bytes, now()).err().expect("a flaw")
    }

    #[test]
    fn every_other_length_is_refused() {
        let whole = [file(0, NOW, NOW + 60), distinct(100, 1)].concat();
        for len in (0..whole.len()).filter(|len| *len != SIZE) {
            assert_eq!(flaw(&whole[..len]), format!("it has {len} bytes, not 92"));
        }
    }

    #[test]
    fn another_version_and_a_key_that_has_ended_are_refused() {
        assert_eq!(flaw(&file(1, NOW, NOW + 60)), "it has version 1, not 0");
        assert!(flaw(&file(0, 0, NOW)).starts_with("its key has expired"));
        assert!(flaw(&file(0, 0, 0)).starts_with("its key has expired"));
    }

    #[test]
    fn the_end_is_kept() {
        let keys = parse(&file(0, NOW - 10, NOW + 60), now()).unwrap();
        assert_eq!(keys[0].times.decrypt_until, now().ring + Duration::from_secs(60));
    }

    #[test]
    fn a_file_comes_back() {
        let bytes = file(0, NOW - 10, NOW + 60);
        let mut keys = parse(&bytes, now()).unwrap();
        keys[0].times.encrypt_from = now().ring - Duration::from_secs(10);
        assert_eq!(keys[0].secrets.hmac.expose()[..], bytes[HEAD + 16..HEAD + 48]);
        assert_eq!(*format(&keys[0], now(), 0), bytes);
        assert_eq!(format(&keys[0], now(), NOW + 7)[4..8], (NOW as u32 + 7).to_ne_bytes());
    }

    #[test]
    fn a_key_that_encrypts_later_has_a_later_begin() {
        let mut keys = parse(&file(0, NOW, NOW + 60), now()).unwrap();
        keys[0].times.encrypt_from = now().ring + Duration::from_secs(30);
        assert_eq!(*format(&keys[0], now(), 0), file(0, NOW + 30, NOW + 60));
    }
}
