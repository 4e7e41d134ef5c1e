//! Tickets: none, weak ones, those of a server with an expired certificate; tickets of servers that
//! share keys, or should, and of keys that change; tickets of one server name under another.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::Read;

use openssl::base64;
use testbed::certificate;
use testbed::haproxy::Haproxy;
use testbed::nginx::{Builder, Nginx};
use testbed::solo::Solo;
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, artifacts};

use crate::Result;
use crate::program::{CRITICAL, OK, Report, WARNING, count, report, start};

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
        assert_eq!(weak.status, CRITICAL, "{:#}", weak.value);
        let finding = weak.finding("weak-key");
        assert_eq!(finding["at"][0]["tls"], serde_json::json!(["1.2", "1.3"]));
        for tls in ["1.2", "1.3"] {
            let seen = weak.seen(haproxy.addr(0), tls)[0];
            assert_eq!(seen["weak_key"]["key"], "all-zero bytes");
            assert_eq!(seen["weak_key"]["proof"], "HMAC-SHA256");
            assert_eq!(seen["key_names"], serde_json::json!(["00000000"]));
        }

        let strong = report(&[&haproxy.addr(1).to_string()])?;
        assert_eq!(strong.status, OK, "{:#}", strong.value);
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
    assert_eq!(report_none.status, WARNING);
    assert_eq!(report_none.codes(), ["no-ticket"]);
    for tls in ["1.2", "1.3"] {
        let seen = report_none.seen(none.addr(), tls)[0];
        assert_eq!(seen["ticket"], "none");
        assert_eq!(count(seen, "resumed_here"), (0, 0));
    }
    Ok(())
}

/// Tickets are off: whether the sessions are kept in a cache makes the difference.
#[test]
fn tickets_that_are_off_are_told_from_a_cache_and_from_nothing() -> Result<()> {
    let off = "ssl_session_tickets off;";
    for (cache, status, code, advice) in [
        // Session ids are sent, and no session is kept.
        ("none", WARNING, "tickets-off", "nginx: ssl_session_tickets on"),
        ("off", WARNING, "no-ticket", "nginx: ssl_session_tickets on"),
        ("shared:x:1m", OK, "session-id", ""),
    ] {
        let cache = format!("ssl_session_cache {cache};");
        let nginx = Nginx::builder().server(off).server(&cache).start()?;
        let report = report(&[&nginx.addr().to_string()])?;
        assert_eq!(report.status, status, "{cache} {:#}", report.value);
        assert!(report.codes().contains(&code), "{cache} {:?}", report.codes());
        let told = report.finding(code)["advice"].as_str().ok_or("no advice")?;
        assert!(told.contains(advice) && advice.is_empty() == told.is_empty(), "{cache} {told}");
        assert!(!report.value.to_string().contains("share one key"), "{cache} {:#}", report.value);
    }

    let mut builder = Haproxy::builder()?;
    let (_, certificate) = builder.certificate("served")?;
    builder = builder.frontend(&format!("crt {} no-tls-tickets", certificate.display()));
    let haproxy = builder.start()?;
    let report = report(&[&haproxy.addr(0).to_string()])?;
    report.finding("session-id");
    assert!(report.finding("session-id")["message"].to_string().contains("cache only"));
    Ok(())
}

/// Servers that have one key, and refuse each other's tickets all the same: sharing keys is what they
/// do already.
#[test]
fn whose_key_is_the_same_is_not_told_to_share_keys() -> Result<()> {
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let [one, other] = [certificate::create(dirs[0].path())?, certificate::create(dirs[1].path())?];
    for (second, label, code) in [
        (&one, "", "shared"),
        (&one, "another", "same-key-refused-elsewhere"),
        (&other, "", "same-key-other-certificate"),
    ] {
        let ring = RingDir::new()?;
        let a = with_shim(&ring)?.certificate(&one).start()?;
        let b = with_shim(&ring)?.certificate(second).env("TKTROT_LABEL", label).start()?;
        let (a, b) = (a.addr().to_string(), b.addr().to_string());
        let report = report(&[&a, &b, "--sni", "localhost"])?;
        assert!(report.codes().contains(&code), "{:#}", report.value);
        assert!(!report.codes().contains(&"not-shared"), "{:#}", report.value);
        let refusals = &report.value["observations"][0]["refusals"];
        if code == "shared" {
            assert_eq!(refusals, &serde_json::json!([]));
            continue;
        }
        assert_eq!(report.status, WARNING);
        let expected = serde_json::json!([{
            "address": b,
            "sni": "localhost",
            "same_certificate": label == "another",
            "same_key": true,
        }]);
        assert_eq!(refusals, &expected);
        let advice = report.finding(code)["advice"].as_str().ok_or("no advice")?;
        assert!(advice.starts_with("The key is not what they lack. Give"), "{advice}");
    }
    Ok(())
}

#[test]
fn one_version_is_enough() -> Result<()> {
    let server = Solo::openssl().argument("-tls1_3").start()?;
    let report = report(&[&server.addr().to_string()])?;
    assert_eq!(report.status, OK, "{:#}", report.value);
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
    assert_eq!(report.status, CRITICAL, "{:#}", report.value);
    report.finding("certificate-expired");
    for tls in ["1.2", "1.3"] {
        let seen = report.seen(server.addr(), tls)[0];
        assert_eq!(seen["certificate"]["validity"], "expired");
        assert!(seen["certificate"]["days_left"].as_i64() < Some(0));
        assert_eq!(count(seen, "resumed_here"), (3, 3));
    }
    Ok(())
}

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

fn with_shim(ring: &RingDir) -> Result<Builder> {
    Ok(Nginx::builder().preload(artifacts::shim()?).ring(ring))
}

#[test]
fn two_stock_nginxes_do_not_share_and_two_with_one_ring_do() -> Result<()> {
    let (dir, ring) = (tempfile::tempdir()?, RingDir::new()?);
    let certificate = certificate::create(dir.path())?;
    for (shares, status) in [(false, WARNING), (true, OK)] {
        let builder = || match shares {
            true => with_shim(&ring),
            false => Ok(Nginx::builder()),
        };
        let nginxes =
            [builder()?, builder()?].map(|builder| builder.certificate(&certificate).start());
        let [a, b] = nginxes;
        let (a, b) = (a?, b?);
        let report = report(&[&a.addr().to_string(), &b.addr().to_string()])?;
        assert_eq!(report.status, status, "{:#}", report.value);
        for addr in [a.addr(), b.addr()] {
            for tls in VERSIONS {
                let seen = report.seen(addr, tls)[0];
                assert_eq!(seen["ticket"], "ticket");
                assert_eq!(seen["certificate"]["validity"], "valid");
                assert_eq!(seen["handshakes"], 3);
                assert_eq!(count(seen, "resumed_here"), (3, 3));
                assert_eq!(count(seen, "resumed_elsewhere"), (1, u64::from(shares)));
                assert_eq!(seen["key_names"].as_array().map(Vec::len), Some(1), "{seen}");
            }
        }
        let [of_a, of_b] =
            [a.addr(), b.addr()].map(|addr| &report.seen(addr, "1.2")[0]["key_names"]);
        assert_eq!(of_a == of_b, shares, "{of_a} {of_b}");
        assert_eq!(report.codes().contains(&"not-shared"), !shares);
        assert_eq!(report.codes().contains(&"shared"), shares);
    }
    Ok(())
}

#[test]
fn a_rotation_is_seen_and_the_first_ticket_outlives_it() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = with_shim(&ring)?.env("TKTROT_ROTATE", "1s").start()?;
    let report = report(&[&nginx.addr().to_string(), "--watch", "5s"])?;
    for tls in VERSIONS {
        let seen = report.seen(nginx.addr(), tls)[0];
        let watch = &seen["watch"];
        let changes = watch["key_changes"].as_array().ok_or("no watch")?;
        assert!(changes.len() >= 2, "{seen:#}");
        let (offered, resumed) = count(watch, "first_ticket");
        assert!(offered > 2 && resumed == offered, "{seen:#}");
        let last = changes.last().and_then(|change| change["after_seconds"].as_f64());
        assert!(watch["first_ticket_resumed_until"].as_f64() >= last, "{seen:#}");
    }
    assert_eq!(report.status, OK, "{:#}", report.value);
    Ok(())
}

#[test]
fn a_restart_that_loses_tickets_is_seen() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("access.log");
    let mut nginx = Nginx::builder().server(&format!("access_log {};", log.display())).start()?;
    let probe = start(&[&nginx.addr().to_string(), "--times", "1", "--watch", "8s", "--json"])?;
    // With TLS 1.3 each connection makes one request: a ticket, its return, then the watch.
    wait::until(PATIENCE, "the watch to begin", || {
        let requests = fs::read_to_string(&log).unwrap_or_default().lines().count();
        (requests > 5).then_some(())
    })?;
    nginx.stop()?;
    nginx.start()?;
    let report = probe.report()?;
    assert_eq!(report.status, WARNING, "{:#}", report.value);
    let message = report.finding("tickets-lost")["message"].as_str().ok_or("no message")?;
    assert!(message.starts_with("the key changed once in"), "{message}");
    for tls in VERSIONS {
        let watch = &report.seen(nginx.addr(), tls)[0]["watch"];
        let (offered, resumed) = count(watch, "first_ticket");
        assert!(resumed > 0 && resumed < offered, "{watch:#}");
    }
    Ok(())
}

/// An nginx with two names, `localhost` and `other`.
fn two_names(mut builder: Builder, own_certificates: bool) -> Result<Nginx> {
    let dir = tempfile::tempdir()?;
    let other_dir = tempfile::tempdir()?;
    let first = certificate::create(dir.path())?;
    let second =
        if own_certificates { certificate::create(other_dir.path())? } else { first.clone() };
    let addr = builder.addr()?;
    let server = format!(
        "server {{ listen {addr} ssl; server_name other; ssl_protocols TLSv1.2 TLSv1.3; \
         ssl_certificate {}; ssl_certificate_key {}; location / {{ return 200 other; }} }}",
        second.cert.display(),
        second.key.display()
    );
    // nginx reads the certificates at its start, then their directories may go.
    Ok(builder.certificate(&first).http(&server).start()?)
}

fn probe(nginx: &Nginx) -> Result<Report> {
    report(&[&nginx.addr().to_string(), "--sni", "localhost", "--sni", "other"])
}

#[test]
fn a_stock_nginx_resumes_under_the_other_name_and_the_shim_ends_that() -> Result<()> {
    for (own_certificates, status, code) in
        [(true, CRITICAL, "crosses-certificates"), (false, WARNING, "crosses-names")]
    {
        let nginx = two_names(Nginx::builder(), own_certificates)?;
        let stock = probe(&nginx)?;
        assert_eq!(stock.status, status, "{:#}", stock.value);
        assert!(stock.codes().contains(&code), "{:?}", stock.codes());
        for tls in ["1.2", "1.3"] {
            for seen in stock.seen(nginx.addr(), tls) {
                assert_eq!(count(seen, "resumed_as_other_name"), (1, 1), "{seen:#}");
                assert_eq!(seen["crossings"][0]["same_certificate"], !own_certificates);
            }
        }
    }

    let ring = RingDir::new()?;
    let builder = Nginx::builder().preload(artifacts::shim()?).ring(&ring);
    let nginx = two_names(builder, true)?;
    let bound = probe(&nginx)?;
    assert_eq!(bound.status, OK, "{:#}", bound.value);
    for tls in ["1.2", "1.3"] {
        for seen in bound.seen(nginx.addr(), tls) {
            assert_eq!(count(seen, "resumed_here"), (3, 3));
            assert_eq!(count(seen, "resumed_as_other_name"), (1, 0));
        }
    }
    let told = bound.finding("name-bound");
    let message = told["message"].as_str().ok_or("no message")?;
    assert!(message.contains("has the same key: they are bound to the name or cert"), "{message}");
    assert!(told["advice"].to_string().contains("TKTROT_BIND=cert,verify"), "{told}");
    Ok(())
}

#[test]
fn the_empty_name_is_no_name() -> Result<()> {
    let nginx = Nginx::builder().start()?;
    let report = report(&[&nginx.addr().to_string(), "--sni", "localhost", "--sni", ""])?;
    let names: Vec<_> = report.seen(nginx.addr(), "1.3").iter().map(|seen| &seen["sni"]).collect();
    assert_eq!(names, [&serde_json::json!("localhost"), &serde_json::Value::Null]);
    let messages = report.value["findings"].to_string();
    assert!(
        messages.contains(r#"a ticket for \"localhost\" is resumed for no name"#),
        "{messages}"
    );
    Ok(())
}
