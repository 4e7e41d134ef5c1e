//! The tickets themselves: none, weak ones, those of a server with an expired certificate.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use openssl::base64;
use testbed::certificate;
use testbed::haproxy::Haproxy;
use testbed::solo::Solo;

use crate::Result;
use crate::program::{DOUBTFUL, FINE, WRONG, count, report};

/// A HAProxy whose ticket keys are these, three times over: it wants three.
fn haproxy(keys: [&[u8]; 2]) -> Result<Haproxy> {
    let mut builder = Haproxy::builder()?;
    let (_, certificate) = builder.certificate("served")?;
    for (number, key) in keys.into_iter().enumerate() {
        let mut lines = String::new();
        for _ in 0..3 {
            writeln!(lines, "{}", base64::encode_block(key))?;
        }
        let keys = builder.file(&format!("keys{number}"), lines.as_bytes())?;
        let bind = format!("crt {} tls-ticket-keys {}", certificate.display(), keys.display());
        builder = builder.frontend(&bind);
    }
    Ok(builder.start()?)
}

#[test]
fn zeroed_keys_are_told_from_random_ones_whatever_their_size() -> Result<()> {
    for len in [48, 80] {
        let mut random = vec![0; len];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let haproxy = haproxy([&vec![0; len], &random])?;
        let weak = report(&[&haproxy.addr(0).to_string()])?;
        assert_eq!(weak.status, WRONG, "{:#}", weak.value);
        let finding = weak.finding("weak-key");
        assert_eq!(finding["at"][0]["tls"], serde_json::json!(["1.2", "1.3"]));
        for tls in ["1.2", "1.3"] {
            let seen = weak.seen(haproxy.addr(0), tls)[0];
            assert_eq!(seen["weak_key"]["key"], "all-zero bytes");
            assert_eq!(seen["weak_key"]["proof"], "HMAC-SHA256");
            assert_eq!(seen["key_names"], serde_json::json!(["00000000"]));
        }

        let strong = report(&[&haproxy.addr(1).to_string()])?;
        assert_eq!(strong.status, FINE, "{:#}", strong.value);
        for tls in ["1.2", "1.3"] {
            assert!(strong.seen(haproxy.addr(1), tls)[0]["weak_key"].is_null());
        }
    }
    Ok(())
}

#[test]
fn no_ticket_is_reported() -> Result<()> {
    let by_id = Solo::openssl().argument("-no_ticket").start()?;
    let report_by_id = report(&[&by_id.addr().to_string()])?;
    report_by_id.finding("session-id");
    for tls in ["1.2", "1.3"] {
        let seen = report_by_id.seen(by_id.addr(), tls)[0];
        assert_eq!(seen["ticket"], "session-id");
        assert_eq!(count(seen, "resumed_here"), (3, 3));
        assert!(seen["weak_key"].is_null());
    }

    let arguments = ["-no_ticket", "-no_cache", "-num_tickets", "0"];
    let builder = arguments.into_iter().fold(Solo::openssl(), |all, next| all.argument(next));
    let none = builder.start()?;
    let report_none = report(&[&none.addr().to_string()])?;
    assert_eq!(report_none.status, DOUBTFUL);
    assert_eq!(report_none.codes(), ["no-ticket"]);
    for tls in ["1.2", "1.3"] {
        let seen = report_none.seen(none.addr(), tls)[0];
        assert_eq!(seen["ticket"], "none");
        assert_eq!(count(seen, "resumed_here"), (0, 0));
    }
    Ok(())
}

#[test]
fn one_version_is_enough() -> Result<()> {
    let server = Solo::openssl().argument("-tls1_3").start()?;
    let report = report(&[&server.addr().to_string()])?;
    assert_eq!(report.status, FINE, "{:#}", report.value);
    assert_eq!(report.seen(server.addr(), "1.2")[0]["failure"]["kind"], "version");
    assert_eq!(count(report.seen(server.addr(), "1.3")[0], "resumed_here"), (3, 3));
    Ok(())
}

#[test]
fn an_expired_certificate_is_reported_and_the_rest_measured() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let expired = certificate::create_expired(dir.path())?;
    let server = Solo::openssl().certificate(&expired).start()?;
    let report = report(&[&server.addr().to_string()])?;
    assert_eq!(report.status, WRONG, "{:#}", report.value);
    report.finding("certificate-expired");
    for tls in ["1.2", "1.3"] {
        let seen = report.seen(server.addr(), tls)[0];
        assert_eq!(seen["certificate"]["validity"], "expired");
        assert!(seen["certificate"]["days_left"].as_i64() < Some(0));
        assert_eq!(count(seen, "resumed_here"), (3, 3));
    }
    Ok(())
}
