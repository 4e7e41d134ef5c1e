//! What each setting accepts. Every function takes the text of a value; its
//! `Err` is the words for what would have been accepted.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{Bind, MAX_ROTATE_EVERY, Renew, Upkeep};
use crate::log::Destination;
use crate::ring::layout::{MAX_CAPACITY, MIN_CAPACITY};
use crate::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY};

/// `30s`, `10m`, `1h`, `2d`, or seconds without a unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// A duration as a setting has it, in the largest unit that divides it: `24h`, `90m`, `45s`, `7d`.
pub struct Written(pub Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let is_multiple_of = |unit: u64| seconds > 0 && seconds.is_multiple_of(unit);
        if self.0.subsec_nanos() != 0 {
            return write!(f, "{}s", self.0.as_secs_f64());
        }
        match seconds {
            days if is_multiple_of(24 * 3600) && days > 24 * 3600 => {
                write!(f, "{}d", days / (24 * 3600))
            }
            hours if is_multiple_of(3600) => write!(f, "{}h", hours / 3600),
            minutes if is_multiple_of(60) => write!(f, "{}m", minutes / 60),
            _ => write!(f, "{seconds}s"),
        }
    }
}

/// How long a key encrypts (R).
pub fn rotate_every(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|every| (MIN_ROTATE_EVERY..=MAX_ROTATE_EVERY).contains(every))
        .ok_or("1s to 24h, such as 30s, 10m or 1h")
}

/// How long a ticket lives (L).
pub fn lifetime(text: &str) -> Result<Duration, &'static str> {
    duration(text)
        .filter(|lifetime| (Duration::from_secs(1)..=MAX_LIFETIME).contains(lifetime))
        .ok_or("1s to 7d, such as 30s, 10m or 1h")
}

/// True if this is longer than any ticket may live.
pub fn is_longer_than_any_lifetime(text: &str) -> bool {
    duration(text).is_some_and(|lifetime| lifetime > MAX_LIFETIME)
}

/// The most keys that may be in the ring.
pub fn capacity(text: &str) -> Result<u32, &'static str> {
    let capacity = text.parse().ok();
    capacity.filter(|count| (MIN_CAPACITY..=MAX_CAPACITY).contains(count)).ok_or(CAPACITY_RANGE)
}

/// The words for a capacity out of range.
pub const CAPACITY_RANGE: &str = "8 to 16384 keys";
const _: () = assert!(MIN_CAPACITY == 8 && MAX_CAPACITY == 16384);

/// The name or path of a ring.
pub fn ring(value: &OsStr) -> Result<OsString, &'static str> {
    const ACCEPTED: &str =
        "a name of letters, digits, '.', '_', '-', '@' or ':' (at most 200), or an absolute path";
    let bytes = value.as_bytes();
    let is_path = bytes.starts_with(b"/") && !bytes.ends_with(b"/") && bytes.len() < 4096;
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-@:".contains(byte);
    let is_name = bytes.iter().all(letter) && (1..=200).contains(&bytes.len()) && bytes[0] != b'.';
    let ends_well = !bytes.ends_with(b"/.") && !bytes.ends_with(b"/..") && value.to_str().is_some();
    if (is_path && ends_well) || is_name { Ok(value.into()) } else { Err(ACCEPTED) }
}

/// The directory of rings.
pub fn dir(value: &OsStr) -> Result<PathBuf, &'static str> {
    let absolute = value.as_bytes().starts_with(b"/") && value.len() < 3800;
    if absolute { Ok(value.into()) } else { Err("an absolute path of a directory on tmpfs") }
}

/// The label of a service.
pub fn label(value: &[u8]) -> Result<&[u8], &'static str> {
    if value.len() <= 255 { Ok(value) } else { Err("at most 255 bytes") }
}

/// What tickets are bound to.
pub fn bind(text: &str) -> Result<Bind, &'static str> {
    if text == "none" {
        return Ok(Bind::NONE);
    }
    text.split(',').try_fold(Bind::NONE, |bind, part| match part.trim() {
        "cert" => Ok(Bind { cert: true, ..bind }),
        "verify" => Ok(Bind { verify: true, ..bind }),
        "sni" => Ok(Bind { sni: true, ..bind }),
        _ => Err("none, or some of cert,verify,sni"),
    })
}

/// Executables that the shim serves.
pub fn only(value: &OsStr) -> Result<Vec<OsString>, &'static str> {
    let names = value.as_bytes().split(|byte| *byte == b',');
    let names: Vec<_> = names.map(|name| OsStr::from_bytes(name.trim_ascii()).into()).collect();
    let usable = |name: &OsString| !name.is_empty() && !name.as_bytes().contains(&b'/');
    if names.iter().all(usable) {
        Ok(names)
    } else {
        Err("base names of executables, separated by commas")
    }
}

/// Where log lines go.
pub fn log(value: &OsStr) -> Result<Destination, &'static str> {
    match value.as_bytes() {
        b"stderr" => Ok(Destination::Stderr),
        b"syslog" => Ok(Destination::Syslog),
        b"none" => Ok(Destination::Nothing),
        path if path.starts_with(b"/") => Ok(Destination::File(value.into())),
        _ => Err("stderr, syslog, none or an absolute path"),
    }
}

/// A setting with two values, in any of the usual words.
pub fn switch(text: &str) -> Result<bool, &'static str> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match (is_one_of(["1", "yes", "true", "on"]), is_one_of(["0", "no", "false", "off"])) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err("1 or 0, yes or no, true or false, on or off"),
    }
}

/// When tickets are renewed.
pub fn renew(text: &str) -> Result<Renew, &'static str> {
    match text {
        "auto" => Ok(Renew::Auto),
        "always" => Ok(Renew::Always),
        "never" => Ok(Renew::Never),
        _ => Err("auto, always or never"),
    }
}

/// Who does the upkeep.
pub fn upkeep(text: &str) -> Result<Upkeep, &'static str> {
    match text {
        "thread" => Ok(Upkeep::Thread),
        "callback" => Ok(Upkeep::Callback),
        _ => Err("thread or callback"),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        duration(text).map(|span| span.as_secs())
    }

    #[test]
    fn durations_are_written_as_they_can_be_read() {
        for text in ["1s", "59s", "1m", "90m", "61s", "1h", "24h", "25h", "2d", "7d"] {
            let read = duration(text).expect(text);
            assert_eq!(Written(read).to_string(), text);
        }
        assert_eq!(Written(Duration::ZERO).to_string(), "0s");
        assert_eq!(Written(Duration::from_millis(500)).to_string(), "0.5s");
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("10m"), Some(600));
        assert_eq!(seconds("1h"), Some(3600));
        assert_eq!(seconds("2d"), Some(172_800));
        assert_eq!(seconds("45"), Some(45));
        for bad in
            ["", "s", "1.5h", "-1s", "+1s", "1 h", "1hs", "1x", "h1", "99999999999999999999s"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(seconds(&format!("{}d", u64::MAX)), None);
    }

    #[test]
    fn rotation_is_from_a_second_to_a_day_and_lifetime_to_a_week() {
        assert!(rotate_every("1s").is_ok() && rotate_every("24h").is_ok());
        assert!(rotate_every("0s").is_err() && rotate_every("25h").is_err());
        assert_eq!(lifetime("7d"), Ok(MAX_LIFETIME));
        assert!(lifetime("0").is_err() && lifetime("604801").is_err());
        assert!(is_longer_than_any_lifetime("604801"));
        assert!(!["7d", "0", "long"].iter().any(|text| is_longer_than_any_lifetime(text)));
    }

    #[test]
    fn a_ring_is_a_plain_name_or_an_absolute_path() {
        for good in ["web", "web-1.2_x@host:443", "/dev/shm/a.ring", "/run/x/y"] {
            assert!(ring(OsStr::new(good)).is_ok(), "{good}");
        }
        let long = "x".repeat(201);
        for bad in ["a/b", "..", ".hidden", "a b", "/run/", "/run/..", "naïve", "", &long] {
            assert!(ring(OsStr::new(bad)).is_err(), "{bad}");
        }
        assert!(ring(OsStr::from_bytes(b"/run/\xff")).is_err());
    }

    #[test]
    fn lists_and_words() {
        assert_eq!(bind("none"), Ok(Bind::NONE));
        assert_eq!(bind("cert,verify,sni"), Ok(Bind::ALL));
        assert_eq!(bind("sni"), Ok(Bind { sni: true, ..Bind::NONE }));
        assert!(bind("").is_err() && bind("none,sni").is_err() && bind("label").is_err());
        assert_eq!(only(OsStr::new("nginx, haproxy")), Ok(vec!["nginx".into(), "haproxy".into()]));
        assert!(
            only(OsStr::new("nginx,")).is_err() && only(OsStr::new("/usr/sbin/nginx")).is_err()
        );
        assert_eq!(log(OsStr::new("none")), Ok(Destination::Nothing));
        assert_eq!(log(OsStr::new("/var/log/t")), Ok(Destination::File("/var/log/t".into())));
        assert!(log(OsStr::new("file")).is_err());
        for (on, off) in [("1", "0"), ("yes", "no"), ("true", "false"), ("On", "OFF")] {
            assert_eq!((switch(on), switch(off)), (Ok(true), Ok(false)));
        }
        for neither in ["", "2", "01", "yess", "y", "enabled", " 1"] {
            assert!(switch(neither).is_err(), "{neither}");
        }
    }
}
