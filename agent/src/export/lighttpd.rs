//! When lighttpd gets a key, and from when on it encrypts with it.
//!
//! Its file has room for one key, with the times from which on and up to which it is good. Every
//! 64 seconds, when the clock is at a multiple of that, lighttpd reads the file if it has been
//! written since; it keeps the last three keys, and encrypts with the newest whose time has come
//! (`mod_openssl_session_ticket_key_check` in src/mod_openssl.c). So:
//!
//! - The next key is written [`AHEAD`] of its time: then it is read before anybody encrypts with it.
//!   Not sooner, because a lighttpd that starts meanwhile has no other key, and issues no tickets.
//! - A key that encrypts already, after a rotation that was not announced, gets a later time in the
//!   file, if the key before it is still good.
//! - Two keys are not written between two of its looks: it would never see the first.
//! - Nothing is written around the second of a look: files are dated a second ahead (see
//!   [`tktrot_keyfile::lighttpd`]), and one of the next second would be read twice, which costs
//!   lighttpd a former key.

use std::time::Duration;

use tokio::time::Instant;

/// How often lighttpd looks, in seconds.
const EVERY: u64 = 64;
/// How many keys it keeps.
pub const KEPT: usize = 3;
/// From when on it has surely read a file: its clock is of whole seconds.
pub const SETTLING: Duration = Duration::from_secs(EVERY + 2);
/// How long before it encrypts a key is written.
pub const AHEAD: Duration = Duration::from_secs(5 * EVERY / 2);
/// The shortest rotation with which it keeps up.
pub const SHORTEST: Duration = Duration::from_secs(5 * EVERY);

/// Whether to write now. A file that it cannot use any more is replaced whenever it was written.
pub fn may_write(wall: u64, written: Option<Instant>, is_good: bool, now: Instant) -> bool {
    let has_seen = written.is_none_or(|written| now.duration_since(written) >= SETTLING);
    let looks_now = (wall + 1) % EVERY <= 2;
    !looks_now && (has_seen || !is_good)
}

/// The time from which on it may encrypt with a key that is written now, if it has a good one.
pub fn not_before(wall: u64, has_good_one: bool) -> u64 {
    if has_good_one { wall + 2 * SETTLING.as_secs() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_when_it_looks_or_before_it_has_looked() {
        let now = Instant::now();
        for wall in 0..200 {
            let looks = [63, 0, 1].contains(&(wall % 64));
            assert_eq!(may_write(wall, None, true, now), !looks, "{wall}");
        }
        assert!(!may_write(10, Some(now), true, now + Duration::from_secs(65)));
        assert!(may_write(10, Some(now), true, now + SETTLING));
        assert!(may_write(10, Some(now), false, now));
    }

    #[test]
    fn a_key_is_seen_before_its_time() {
        assert!(AHEAD >= 2 * SETTLING);
        assert!(not_before(1000, true) > 1000 + SETTLING.as_secs());
        assert_eq!(not_before(1000, false), 0);
    }
}
