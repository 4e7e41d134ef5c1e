//! What each setting of the agent accepts. Every function takes the text of a value; its `Err` is
//! the words for what would have been accepted.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Format, Host, LogForm, PORT, Peer};
use crate::ahead::Ahead;

/// A user of the host; whether there is one is seen at the start.
pub fn user(text: &str) -> Result<String, &'static str> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_one =
        (1..=32).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(letter);
    is_one.then(|| text.into()).ok_or("the name of a user, such as nobody")
}

/// Where metrics are asked for.
pub fn metrics(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(
        |_| "an address of this host with a port: 127.0.0.1:9187, [::1]:9187, 10.0.0.1:9187",
    )
}

/// How the log looks.
pub fn log_form(text: &str) -> Result<LogForm, &'static str> {
    match text {
        "text" => Ok(LogForm::Text),
        "json" => Ok(LogForm::Json),
        _ => Err("text or json"),
    }
}

/// The address on which peers are awaited.
pub fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse().ok();
    address
        .or_else(|| Some(SocketAddr::new(ip(text)?, PORT)))
        .ok_or("an address of this host, with a port or without: 0.0.0.0:4744, [::]:4744")
}

/// A host, by address or by name, and a port.
pub fn peer(text: &str) -> Result<Peer, &'static str> {
    const ACCEPTED: &str = "an address or a DNS name, with a port or without: 10.0.0.2, [2001:db8::2]:4744, fleet:4744";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0)
            .then(|| Peer { host: Host::Address(address.ip()), port: address.port() })
            .ok_or(ACCEPTED);
    }
    if let Some(address) = ip(text) {
        return Ok(Peer { host: Host::Address(address), port: PORT });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)),
        None => (text, Some(PORT)),
    };
    let port = port.filter(|_| is_dns_name(name)).ok_or(ACCEPTED)?;
    Ok(Peer { host: Host::Name(name.to_ascii_lowercase()), port })
}

/// An address without a port; one of IPv6 with brackets or without.
fn ip(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner
        .map_or_else(|| text.parse().ok(), |inner| inner.parse().ok().map(|v6: Ipv6Addr| v6.into()))
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(letter) && !label.starts_with('-')
    };
    let labels = name.strip_suffix('.').unwrap_or(name);
    // What ends in digits only is a mistyped address, and resolvers take it for one.
    let last = labels.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
    labels.len() <= 253 && labels.split('.').all(is_label) && !is_number
}

/// A file.
pub fn path(text: &str) -> Result<PathBuf, &'static str> {
    let is_one = text.starts_with('/') && !text.ends_with('/') && !text.contains('\0');
    (is_one && text.len() < 4096).then(|| text.into()).ok_or("an absolute path")
}

/// How long a new key waits.
pub fn lead(text: &str) -> Result<Duration, &'static str> {
    const ACCEPTED: &str = "100ms to 60s, such as 500ms or 5s";
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    duration(text).filter(|lead| range.contains(lead)).ok_or(ACCEPTED)
}

/// How far ahead keys are announced.
pub fn ahead(text: &str) -> Result<Duration, &'static str> {
    const ACCEPTED: &str = "0s to 2d, such as 30m or 2h";
    duration(text).filter(|ahead| *ahead <= Ahead::LONGEST).ok_or(ACCEPTED)
}

/// How long a command of the operator's may run.
pub fn timeout(text: &str) -> Result<Duration, &'static str> {
    const ACCEPTED: &str = "100ms to 10m, such as 10s";
    let range = Duration::from_millis(100)..=Duration::from_secs(600);
    duration(text).filter(|timeout| range.contains(timeout)).ok_or(ACCEPTED)
}

/// As those of the library, and with milliseconds.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit).map(Duration::from_millis)
}

/// A Redis server. Passwords have a file of their own: this one, everybody may read.
pub fn redis_url(text: &str) -> Result<String, &'static str> {
    const ACCEPTED: &str = "redis://[user@]host[:port][/db], rediss:// for TLS, unix:///path; \
                            the password goes into password_file";
    if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        return Err(ACCEPTED);
    }
    if let Some(socket) = text.strip_prefix("unix://") {
        return if socket.starts_with('/') { Ok(text.into()) } else { Err(ACCEPTED) };
    }
    let rest = text.strip_prefix("redis://").or(text.strip_prefix("rediss://")).ok_or(ACCEPTED)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() || host.starts_with(':') || user.contains(':') {
        return Err(ACCEPTED);
    }
    Ok(text.into())
}

/// What Sentinel calls the Redis servers that it looks after.
pub fn master(text: &str) -> Result<String, &'static str> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_one = (1..=100).contains(&text.len()) && text.bytes().all(letter);
    is_one.then(|| text.into()).ok_or("the name of Sentinel's master, such as mymaster")
}

/// What the names of all that is stored in Redis begin with. Braces are the hash tag of a Redis Cluster,
/// as it finds it: from the first `{` to the first `}` after it, with something between them.
pub fn prefix(text: &str) -> Result<String, &'static str> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:{}".contains(&byte);
    let is_tag = |(_, rest): (&str, &str)| rest.find('}').is_some_and(|end| end > 0);
    let is_one = (1..=100).contains(&text.len())
        && text.bytes().all(letter)
        && text.split_once('{').is_none_or(is_tag);
    is_one.then(|| text.into()).ok_or(
        "letters, digits, '.', '_', '-', ':', at most 100, and a hash tag in braces, such as {keys}",
    )
}

/// For which server keys are exported.
pub fn format(text: &str) -> Result<Format, &'static str> {
    match text {
        "nginx-80" => Ok(Format::Nginx80),
        "haproxy" => Ok(Format::Haproxy),
        "lighttpd" => Ok(Format::Lighttpd),
        "raw" => Ok(Format::Raw),
        "apache" => Ok(Format::Apache),
        _ => Err("nginx-80, haproxy, lighttpd, raw or apache"),
    }
}

/// The rights of a file of keys.
pub fn mode(text: &str) -> Result<u32, &'static str> {
    match text {
        "0600" => Ok(0o600),
        "0640" => Ok(0o640),
        _ => Err("\"0600\", or \"0640\" for a group that may read"),
    }
}

/// A part of a command.
pub fn argument(text: &str) -> Result<String, &'static str> {
    (!text.contains('\0')).then(|| text.into()).ok_or("a string without NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_addresses_or_names_with_a_port_or_without() {
        let address = |ip: &str, port| Peer { host: Host::Address(ip.parse().unwrap()), port };
        assert_eq!(peer("10.0.0.2"), Ok(address("10.0.0.2", PORT)));
        assert_eq!(peer("10.0.0.2:99"), Ok(address("10.0.0.2", 99)));
        assert_eq!(peer("2001:db8::2"), Ok(address("2001:db8::2", PORT)));
        assert_eq!(peer("[2001:db8::2]"), Ok(address("2001:db8::2", PORT)));
        assert_eq!(peer("[2001:db8::2]:99"), Ok(address("2001:db8::2", 99)));
        let name = |name: &str, port| Peer { host: Host::Name(name.into()), port };
        assert_eq!(peer("Fleet.Example."), Ok(name("fleet.example.", PORT)));
        assert_eq!(peer("host-1:99"), Ok(name("host-1", 99)));
        for bad in [
            "",
            ":99",
            "10.0.0.256",
            "10.0.0.2:0",
            "a b",
            "a:b",
            "a:99999",
            "-a",
            "[a]",
            "a..b",
            "1",
        ] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_have_a_unit_or_are_seconds() {
        assert_eq!(lead("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(lead("5"), Ok(Duration::from_secs(5)));
        assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "0s", "1.5s", "61s", "1d", "99999999999999999999h", "-1s", "5 s"] {
            assert!(lead(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn metrics_are_asked_for_at_an_address_and_a_port() {
        assert!(metrics("127.0.0.1:9187").is_ok() && metrics("[::]:9187").is_ok());
        for bad in ["127.0.0.1", "localhost:1", ":9187", ""] {
            assert!(metrics(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_does_not_belong_into_a_url() {
        for good in
            ["redis://h", "rediss://user@h:6379/0", "redis://[::1]:6379", "unix:///run/redis.sock"]
        {
            assert!(redis_url(good).is_ok(), "{good}");
        }
        for bad in [
            "rediss://user:secret@h",
            "redis://:secret@h",
            "redis://",
            "http://h",
            "h:6379",
            "redis://@",
        ] {
            assert!(redis_url(bad).is_err(), "{bad}");
        }
    }
}
