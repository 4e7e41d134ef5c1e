//! A value that cannot be used: one clear line, and the server runs with the default; in strict
//! mode the line is its last.

use std::sync::Mutex;
use std::thread;

use testbed::client::TlsVersion;
use testbed::solo::Builder;
use testbed::{RingDir, log};

use crate::{Result, resumption, server, text};

/// `EX_CONFIG` of sysexits.h.
const CONFIGURATION_ERROR: i32 = 78;

const NAMES: &str = "a variable named TKTROT_ and RING, DIR, CAPACITY, ROTATE, LIFETIME, LABEL";
const RING: &str = "a name of letters, digits, '.', '_', '-', '@' or ':' (at most 200), \
                    or an absolute path";
const DIR: &str = "an absolute path of a directory on tmpfs";
const CAPACITY: &str = "8 to 16384 keys";
const ROTATE: &str = "1s to 24h, such as 30s, 10m or 1h";
const LIFETIME: &str = "1s to 7d, such as 30s, 10m or 1h";
const BIND: &str = "none, or some of cert,verify,sni";
const RENEW: &str = "auto, always or never";
const ONLY: &str = "base names of executables, separated by commas";
const DEFAULT: &str = "the default applies";
const LOG: &str = "stderr, syslog, none or an absolute path";

/// Variable, value, what is accepted.
const CASES: &[(&str, &str, &str)] = &[
    ("TKTROT_RING", "a/b", RING),
    ("TKTROT_RING", "../../etc/passwd", RING),
    ("TKTROT_RING", ".hidden", RING),
    ("TKTROT_RING", "/dev/shm/", RING),
    ("TKTROT_RING", "/dev/shm/..", RING),
    ("TKTROT_RING", "two words", RING),
    ("TKTROT_DIR", "relative/dir", DIR),
    ("TKTROT_CAPACITY", "7", CAPACITY),
    ("TKTROT_CAPACITY", "16385", CAPACITY),
    ("TKTROT_CAPACITY", "-64", CAPACITY),
    ("TKTROT_CAPACITY", "64 keys", CAPACITY),
    ("TKTROT_CAPACITY", "99999999999999999999", CAPACITY),
    ("TKTROT_ROTATE", "0", ROTATE),
    ("TKTROT_ROTATE", "25h", ROTATE),
    ("TKTROT_ROTATE", "1w", ROTATE),
    ("TKTROT_ROTATE", "1.5h", ROTATE),
    ("TKTROT_ROTATE", "1h30m", ROTATE),
    ("TKTROT_ROTATE", "-1s", ROTATE),
    ("TKTROT_ROTATE", " 1h", ROTATE),
    ("TKTROT_ROTATE", "h", ROTATE),
    ("TKTROT_ROTATE", "99999999999999999999s", ROTATE),
    ("TKTROT_ROTATE", "18446744073709551615d", ROTATE),
    ("TKTROT_ROTATE", "1h\nTKTROT_STRICT=0", ROTATE),
    ("TKTROT_LIFETIME", "0s", LIFETIME),
    ("TKTROT_LIFETIME", "never", LIFETIME),
    ("TKTROT_BIND", "cert,host", BIND),
    ("TKTROT_BIND", "none,sni", BIND),
    ("TKTROT_BIND", "CERT", BIND),
    ("TKTROT_RENEW", "yes", RENEW),
    ("TKTROT_TAKEOVER", "maybe", "yes or no"),
    ("TKTROT_ONLY", "/usr/bin/openssl", ONLY),
    ("TKTROT_ONLY", "openssl,,nginx", ONLY),
    ("TKTROT_UPKEEP", "both", "thread or callback"),
    ("TKTROT_LOG", "server.log", LOG),
    ("TKTROT_LOG", "STDERR", LOG),
    ("TKTROT_STRICT", "yess", "1 or 0"),
    ("TKTROT_DISABLE", "2", "1 or 0"),
    // Misspelt, so that the setting would be lost.
    ("TKTROT_ROTATION", "1h", NAMES),
    ("TKTROT_ring", "web", NAMES),
    ("TKTROT_", "1", NAMES),
];

/// A server on a ring of its own, whichever variables a case needs for itself.
fn server_of_case(ring: &RingDir, variable: &str) -> Result<Builder> {
    let builder = server(ring)?;
    if variable == "TKTROT_RING" {
        return Ok(builder);
    }
    let path = ring.path().join("case.ring");
    Ok(builder.env("TKTROT_RING", text(&path)))
}

/// The server runs on its default, or what else `applies`, having said why in one line; a strict
/// one says it and ends.
fn check(
    builder: &Builder,
    variable: &str,
    value: &str,
    accepted: &str,
    applies: &str,
) -> Result<()> {
    // However long it is, the rest of the line is to be seen.
    let shown: String = value.chars().take(100).collect();
    let named = format!("{variable}={shown:?}");
    let solo = builder.clone().start()?;
    for version in TlsVersion::ALL {
        assert!(resumption(version, &solo)?.1.resumed, "{named}, {version}");
    }
    let stderr = solo.stderr();
    let lines = log::ours(&stderr);
    assert_eq!(lines.len(), 1, "{named}: {lines:#?}");
    for part in ["warning", &named, accepted, applies] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    drop(solo);

    if variable == "TKTROT_STRICT" {
        return Ok(());
    }
    let mut strict = builder.clone().env("TKTROT_STRICT", "1").prepare()?;
    let status = strict.start_and_end()?;
    let stderr = strict.stderr();
    assert_eq!(status.code(), Some(CONFIGURATION_ERROR), "{named}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{named}: {stderr}");
    for part in ["tktrot[", "fatal", &named, accepted, "TKTROT_STRICT=1"] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
    Ok(())
}

#[test]
fn each_bad_value_is_told_and_the_server_runs_unless_it_is_strict() -> Result<()> {
    let long_label = "x".repeat(256);
    let long_name = "x".repeat(201);
    let long = [
        ("TKTROT_LABEL", long_label.as_str(), "at most 255 bytes"),
        ("TKTROT_RING", long_name.as_str(), RING),
    ];
    let cases = Mutex::new(CASES.iter().copied().chain(long));
    let next = || cases.lock().unwrap().next();
    let work = || -> std::result::Result<(), String> {
        while let Some((variable, value, accepted)) = next() {
            let run = || -> Result<()> {
                let ring = RingDir::new()?;
                let builder = server_of_case(&ring, variable)?.env(variable, value);
                check(&builder, variable, value, accepted, DEFAULT)
            };
            run().map_err(|error| format!("{variable}={value:?}: {error}"))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others = scope.spawn(work);
        let result = work();
        others.join().expect("the other half of the cases panicked").and(result)
    })?;
    Ok(())
}

#[test]
fn settings_that_contradict_one_another_are_told() -> Result<()> {
    let cases = [
        ("TKTROT_CAPACITY", "8", "at least", "1h"),
        ("TKTROT_LIFETIME", "604800s", "at most 16380s", "1h"),
    ];
    for (variable, value, accepted, lifetime) in cases {
        let ring = RingDir::new()?;
        let builder = server_of_case(&ring, variable)?
            .env("TKTROT_ROTATE", "1s")
            .env("TKTROT_LIFETIME", lifetime)
            .env(variable, value);
        check(&builder, variable, value, accepted, DEFAULT)?;
    }
    Ok(())
}

/// No ticket lives longer (RFC 8446, 4.6.1).
#[test]
fn of_a_lifetime_over_a_week_a_week_applies_and_that_is_told() -> Result<()> {
    for value in ["8d", "604801"] {
        let ring = RingDir::new()?;
        let builder = server_of_case(&ring, "TKTROT_LIFETIME")?.env("TKTROT_LIFETIME", value);
        check(&builder, "TKTROT_LIFETIME", value, LIFETIME, "; 7d applies")?;
    }
    Ok(())
}

#[test]
fn a_log_file_that_cannot_be_opened_is_named_on_stderr() -> Result<()> {
    let ring = RingDir::new()?;
    let path = ring.path().join("missing/server.log");
    let builder = server(&ring)?.env("TKTROT_LOG", text(&path));
    let solo = builder.clone().start()?;
    assert!(resumption(TlsVersion::V13, &solo)?.1.resumed);
    let stderr = solo.stderr();
    let lines = log::ours(&stderr);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for part in ["warning", "TKTROT_LOG", text(&path), "stderr is used"] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }

    let mut strict = builder.env("TKTROT_STRICT", "1").prepare()?;
    assert_eq!(strict.start_and_end()?.code(), Some(CONFIGURATION_ERROR));
    assert_eq!(strict.stderr().lines().count(), 1, "{}", strict.stderr());
    assert!(strict.stderr().contains(text(&path)), "{}", strict.stderr());
    Ok(())
}

#[test]
fn a_strict_server_tells_why_it_stops_where_nothing_is_logged() -> Result<()> {
    let ring = RingDir::new()?;
    let builder = server(&ring)?.env("TKTROT_LOG", "none").env("TKTROT_ROTATE", "soon");
    let mut strict = builder.env("TKTROT_STRICT", "1").prepare()?;
    assert_eq!(strict.start_and_end()?.code(), Some(CONFIGURATION_ERROR));
    assert!(strict.stderr().contains("TKTROT_ROTATE=\"soon\""), "{}", strict.stderr());
    assert!(ring.entries()?.is_empty(), "a ring was made");
    Ok(())
}

#[test]
fn a_strict_server_with_good_values_runs() -> Result<()> {
    let ring = RingDir::new()?;
    let solo = server(&ring)?.env("TKTROT_STRICT", "1").env("TKTROT_ROTATE", "10m").start()?;
    assert!(resumption(TlsVersion::V13, &solo)?.1.resumed);
    assert_eq!(log::ours(&solo.stderr()), [""; 0]);
    Ok(())
}
