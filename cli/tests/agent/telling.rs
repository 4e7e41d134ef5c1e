//! What an agent tells: the service manager, operators, Prometheus.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use openssl::ssl::{SslConnector, SslMethod};
use prometheus_parse::{Scrape, Value};
use testbed::port;
use testbed::wait::{self, PATIENCE};
use tktrot::clock::BootClock;
use tktrot::rotate::Keyring;
use tktrot_keyfile::generator::OpenSsl;

use crate::daemon::Agent;
use crate::daemon::Result;

#[test]
fn the_service_manager_is_told_and_gets_signs_of_life() -> Result<()> {
    let mut agent = Agent::new("rotate = \"1h\"\n")?;
    agent.environment.set("WATCHDOG_USEC", "400000");
    agent.start()?;
    agent.wait_to_hear("STATUS=")?;
    for _ in 0..3 {
        agent.wait_to_hear("WATCHDOG=1")?;
    }
    assert_eq!(agent.stop()?.code(), Some(0));
    agent.wait_to_hear("STOPPING=1")
}

#[test]
fn ready_does_not_wait_for_ever_for_peers() -> Result<()> {
    // An address of which nothing ever comes back (RFC 5737).
    let mut agent = Agent::new("")?;
    let secret = agent.secret("secret")?;
    let listen = port::free()?;
    agent.set(&format!(
        "[mesh]\nlisten = \"{listen}\"\npeers = [\"192.0.2.1\"]\nsecrets = [\"{secret}\"]\n"
    ))?;
    agent.start()?;
    let peers = agent.peers()?;
    assert_eq!(peers["sharing"], "mesh");
    assert_eq!(peers["peers"][0]["state"], "down");
    let said = agent.tktrot(&["peers"])?;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stdout.contains("0 of 1 peers up"), "{said:?}");
    Ok(())
}

#[test]
fn the_log_can_be_json() -> Result<()> {
    let mut agent = Agent::started("rotate = \"1h\"\n[agent]\nlog = \"json\"\n")?;
    agent.stop()?;
    let log = agent.log();
    let mut began = 0;
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).map_err(|_| log.clone())?;
        assert!(event["message"].is_string() && event["level"].is_string(), "{line}");
        if let Some(key) = event["key"].as_str() {
            assert_eq!(key.len(), 8, "{line}");
            began += 1;
        }
    }
    assert!(began > 0, "{log}");
    Ok(())
}

/// A whole answer, with its head.
pub fn asked(address: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn prometheus_is_told_of_the_ring_and_of_the_agent() -> Result<()> {
    let address = port::free()?;
    let agent = Agent::started(&format!("rotate = \"1h\"\n[agent]\nmetrics = \"{address}\"\n"))?;
    let answer = asked(address, GET)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    let scrape = Scrape::parse(body.lines().map(|line| Ok(line.to_owned())))?;
    let value = |metric: &str, label: Option<(&str, &str)>| {
        let found = scrape.samples.iter().find(|sample| {
            sample.metric == metric
                && sample.labels.get("ring") == Some("nginx")
                && label.is_none_or(|(name, text)| sample.labels.get(name) == Some(text))
        });
        match found.map(|sample| &sample.value) {
            Some(Value::Gauge(value) | Value::Counter(value)) => *value,
            other => panic!("{metric}: {other:?}\n{body}"),
        }
    };
    assert_eq!(value("tktrot_readable", None), 1.0);
    assert_eq!(value("tktrot_rotate_seconds", None), 3600.0);
    assert_eq!(value("tktrot_keys", Some(("state", "active"))), 1.0);
    assert_eq!(value("tktrot_governed", None), 1.0);
    assert_eq!(value("tktrot_agent_keys", Some(("origin", "own"))), 2.0);
    assert_eq!(value("tktrot_agent_peers", None), 0.0);
    assert_eq!(value("tktrot_agent_synced", None), 1.0);
    assert_eq!(value("tktrot_agent_refused_total", Some(("by", "this"))), 0.0);

    let no = asked(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    assert!(no.starts_with("HTTP/1.1 404 "), "{no}");
    let no = asked(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")?;
    assert!(no.starts_with("HTTP/1.1 405 "), "{no}");
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    // The answer may be lost with what was not read of the request.
    let no = asked(address, &long).unwrap_or_default();
    assert!(!no.contains("tktrot_"), "{no}");
    assert_eq!(agent.peers()?["own_keys"], 2);
    Ok(())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn beyond_loopback_metrics_are_for_who_has_the_token() -> Result<()> {
    let mut agent = Agent::new("")?;
    let file = agent.path().join("token");
    let address = port::free()?;
    let everywhere = format!("0.0.0.0:{}", address.port());
    let file_name = file.display();
    agent.set(&format!(
        "[agent]\nmetrics = \"{everywhere}\"\nmetrics_token_file = \"{file_name}\"\n"
    ))?;
    fs::write(&file, "short\n")?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    let said = agent.tktrot(&["agent"])?;
    assert!(said.stderr.contains("it must hold 16 characters or more"), "{said:?}");
    fs::remove_file(&file)?;
    assert_eq!(agent.tktrot(&["secret", "new", &file_name.to_string()])?.status, Some(0));
    let token = fs::read_to_string(&file)?.trim().to_owned();
    agent.start()?;
    let ask = |path: &str, header: &str| {
        asked(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n"))
    };
    for header in [
        String::new(),
        "Authorization: Bearer \r\n".into(),
        format!("Authorization: Bearer {}\r\n", &token[1..]),
        format!("Authorization: Bearer {token}x\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        "Authorization: Bear\r\n".into(),
    ] {
        let no = ask("/metrics", &header)?;
        assert_eq!(status(&no), "401", "{header}: {no}");
        assert!(no.to_lowercase().contains("www-authenticate: bearer"), "{no}");
        assert!(!no.contains("tktrot_agent") && !no.contains(&token), "{no}");
    }
    let yes = ask("/metrics", &format!("Authorization: bearer {token}\r\n"))?;
    assert!(yes.contains("tktrot_agent_synced{ring=\"nginx\"} 1"), "{yes}");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(&ask(path, "")?), "200", "{path}");
    }

    // The same over TLS.
    agent.stop()?;
    let certificate = testbed::certificate::create(agent.path())?;
    let settings = fs::read_to_string(agent.settings())?;
    let (own, key) = (certificate.cert.display(), certificate.key.display());
    let tls = format!("metrics_certificate = \"{own}\"\nmetrics_key = \"{key}\"\n");
    fs::write(agent.settings(), format!("{settings}{tls}"))?;
    agent.start()?;
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    connector.set_ca_file(&certificate.cert)?;
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = connector.build().connect("localhost", stream)?;
    let bearer = format!("Host: x\r\nAuthorization: Bearer {token}\r\n");
    stream.write_all(format!("GET /metrics HTTP/1.1\r\n{bearer}\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.contains("tktrot_agent_synced{ring=\"nginx\"} 1"), "{answer}");
    let plain = ask("/metrics", &format!("Authorization: Bearer {token}\r\n"));
    assert!(!plain.unwrap_or_default().contains("tktrot_"));
    assert!(!agent.log().contains(&token));
    Ok(())
}

#[test]
fn it_is_ready_only_while_it_can_write_the_ring() -> Result<()> {
    let address = port::free()?;
    let agent = Agent::started(&format!("rotate = \"1h\"\n[agent]\nmetrics = \"{address}\"\n"))?;
    let ask = |path: &str| asked(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(status(&ask("/readyz")?), "200");

    let ring = agent.place().open_present().map_err(|refused| refused.to_string())?;
    let keyring = Keyring::new(ring.ok_or("no ring")?, BootClock, &OpenSsl);
    let held = keyring.govern().map_err(|why| why.to_string())?;
    let (no, yes) = ("503", "200");
    let waited = |for_status: &str| {
        wait::until(PATIENCE, for_status, || {
            ask("/readyz").ok().filter(|answer| status(answer) == for_status)
        })
    };
    let answer = waited(no)?;
    assert!(answer.contains("cannot be written: `tktrot status` says who"), "{answer}");
    assert_eq!(status(&ask("/healthz")?), yes);
    drop(held);
    waited(yes)?;
    Ok(())
}

#[test]
fn who_asks_and_says_nothing_holds_nobody_up_for_long() -> Result<()> {
    let address = port::free()?;
    let agent = Agent::started(&format!("rotate = \"1h\"\n[agent]\nmetrics = \"{address}\"\n"))?;
    let idle: Vec<_> =
        (0..20).map(|_| TcpStream::connect(address)).collect::<std::result::Result<_, _>>()?;
    let socket = agent.rings().join("nginx.agent");
    let silent: Vec<_> =
        (0..40).map(|_| UnixStream::connect(&socket)).collect::<std::result::Result<_, _>>()?;
    let answer = asked(address, GET)?;
    assert!(answer.contains("tktrot_agent_synced{ring=\"nginx\"} 1"), "{answer}");
    assert_eq!(agent.peers()?["synced"], true);
    drop((idle, silent));
    Ok(())
}

#[test]
fn a_question_that_is_none_is_answered_as_such() -> Result<()> {
    let agent = Agent::started("rotate = \"1h\"\n")?;
    let socket = agent.rings().join("nginx.agent");
    let ask = |question: &[u8]| -> Result<String> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // It may not read all of it.
        let _ = stream.write_all(question);
        let mut reply = String::new();
        let _ = stream.read_to_string(&mut reply);
        Ok(reply)
    };
    for bad in [&b"\n"[..], b"what?\n", b"{\"ask\":\"stop\"}\n", b"\xff\n", b"{\"ask\":"] {
        let began = Instant::now();
        let reply = ask(bad)?;
        assert!(reply.is_empty() || reply.contains("cannot read the question"), "{bad:?}: {reply}");
        assert!(began.elapsed() < PATIENCE);
    }
    let reply = ask(b"{\"ask\":\"revoke\",\"keys\":[\"12\"]}\n")?;
    assert!(reply.contains("a key's name is 32 hex digits"), "{reply}");
    let long = [b"[\"".repeat(1 << 20), b"\n".to_vec()].concat();
    let reply = ask(&long)?;
    assert!(!reply.contains("answer"), "{reply}");
    assert_eq!(agent.peers()?["synced"], true);
    Ok(())
}
