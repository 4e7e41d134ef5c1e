//! What an agent tells: the service manager, operators, Prometheus.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use prometheus_parse::{Scrape, Value};
use testbed::port;
use testbed::wait::PATIENCE;

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
    let secret = agent.path().join("secret");
    let said = agent.tktrot(&["secret", "new", &secret.display().to_string()])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    let listen = port::free()?;
    agent.set(&format!(
        "[mesh]\nlisten = \"{listen}\"\npeers = [\"192.0.2.1\"]\nsecrets = [\"{}\"]\n",
        secret.display()
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
fn asked(address: SocketAddr, request: &str) -> Result<String> {
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
