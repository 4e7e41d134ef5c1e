//! nginx as a client of other TLS servers, beside being one, and as a server of other protocols.

use std::net::SocketAddr;
use std::time::Duration;

use testbed::client::{Client, TlsVersion};
use testbed::journey::{Event, Journey};
use testbed::nginx::{Builder, Nginx, STREAM_MODULE};
use testbed::{RingDir, artifacts, certificate, log};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the server behind says of the connection that the one before it made: "r" for resumed.
const CONNECTION: &str = "$ssl_protocol $ssl_session_reused";
const VISITS: usize = 4;
const ROTATE: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(60);

fn under_the_shim(builder: Builder, ring: Option<&RingDir>) -> Result<Builder> {
    Ok(match ring {
        Some(ring) => builder.preload(artifacts::shim()?).ring(ring),
        None => builder,
    })
}

/// An nginx before `behind`, and its listeners: one for each way to connect to it.
fn proxy(ring: Option<&RingDir>, behind: SocketAddr) -> Result<(Nginx, Vec<SocketAddr>)> {
    // One worker: sessions with servers behind are each worker's own.
    let mut builder = under_the_shim(Nginx::builder().workers(1), ring)?;
    let mut listeners = Vec::new();
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        for reuse in ["on", "off"] {
            let protocol = format!("proxy_ssl_protocols {protocol};");
            let reuse = format!("proxy_ssl_session_reuse {reuse};");
            // nginx keeps sessions by the server behind: with one name they would be one.
            let name = format!("behind{}", listeners.len());
            builder = builder.http(&format!("upstream {name} {{ server {behind}; }}"));
            let answer = format!("proxy_pass https://{name};");
            listeners.push(builder.another_server(&answer, &[&protocol, &reuse])?);
        }
    }
    Ok((builder.start()?, listeners))
}

/// What each listener's visitors get to read, in order; they come back with their tickets.
fn visit(listeners: &[SocketAddr]) -> Result<Vec<Vec<String>>> {
    let mut read = Vec::new();
    for &addr in listeners {
        let mut bodies = Vec::new();
        for version in TlsVersion::ALL {
            let client = Client::new(version)?;
            let mut ticket = None;
            for _ in 0..VISITS / 2 {
                let visit = client.connect(addr, None, ticket.as_ref())?;
                assert_eq!(visit.resumed, ticket.is_some());
                ticket = visit.tickets.last().or(ticket.as_ref()).cloned();
                bodies.push(visit.body);
            }
        }
        read.push(bodies);
    }
    Ok(read)
}

fn behind(ring: Option<&RingDir>) -> Result<Nginx> {
    Ok(under_the_shim(Nginx::builder().workers(1).body(CONNECTION), ring)?.start()?)
}

/// What is read before and after the server behind was restarted.
fn over_a_restart(proxys: Option<&RingDir>, behinds: Option<&RingDir>) -> Result<Read> {
    let mut behind = behind(behinds)?;
    let (proxy, listeners) = proxy(proxys, behind.addr())?;
    let before = visit(&listeners)?;
    behind.stop()?;
    behind.start()?;
    let after = visit(&listeners)?;
    for nginx in [&proxy, &behind] {
        assert_eq!(log::ours(&nginx.stderr()), [""; 0]);
        assert_eq!(log::ours(&nginx.error_log()), [""; 0]);
    }
    Ok(Read { before, after })
}

#[derive(Debug, PartialEq, Eq)]
struct Read {
    before: Vec<Vec<String>>,
    after: Vec<Vec<String>>,
}

#[test]
fn sessions_with_servers_behind_are_reused_as_without_the_shim() -> Result<()> {
    let ring = RingDir::new()?;
    let without = over_a_restart(None, None)?;
    let new_then = |protocol: &str, then: &str| -> Vec<String> {
        let first = std::iter::once(".").chain(std::iter::repeat_n(then, VISITS - 1));
        first.map(|reused| format!("{protocol} {reused}")).collect()
    };
    let fresh = vec![
        new_then("TLSv1.2", "r"),
        new_then("TLSv1.2", "."),
        new_then("TLSv1.3", "r"),
        new_then("TLSv1.3", "."),
    ];
    assert_eq!(without, Read { before: fresh.clone(), after: fresh.clone() });
    assert_eq!(over_a_restart(Some(&ring), None)?, without);

    // Where the server behind has our keys, its restart is no end of sessions, and nothing else
    // has changed. With one ring for both as well as with one for each.
    let own = RingDir::new()?;
    for (proxys, behinds) in [(None, &ring), (Some(&ring), &ring), (Some(&own), &ring)] {
        let with = over_a_restart(proxys, Some(behinds))?;
        assert_eq!(with.before, fresh);
        for ((with, fresh), reuse) in with.after.iter().zip(&fresh).zip([true, false].repeat(2)) {
            assert_eq!(with[1..], fresh[1..]);
            assert_eq!(with[0].ends_with('r'), reuse, "{with:?}");
        }
    }
    Ok(())
}

/// A stream listener, which hands what it decrypts to a TLS connection to the http listener.
fn stream(ring: &RingDir) -> Result<(Nginx, SocketAddr)> {
    let certificate = certificate::create(ring.path())?;
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    let mut builder = Nginx::builder().rotating(ring, ROTATE, LIFETIME)?;
    let (http, stream) = (builder.addr()?, testbed::port::free()?);
    let builder = builder.certificate(&certificate).body(CONNECTION);
    let builder = builder.main(&format!("load_module {STREAM_MODULE};")).main(&format!(
        "stream {{ server {{ listen {stream} ssl; ssl_certificate {cert}; \
         ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; \
         proxy_pass {http}; proxy_ssl on; proxy_ssl_protocols TLSv1.3; }} }}"
    ));
    Ok((builder.start()?, stream))
}

#[test]
fn a_stream_listener_keeps_its_tickets_and_its_own_sessions() -> Result<()> {
    let ring = RingDir::new()?;
    let (mut nginx, stream) = stream(&ring)?;
    let journey = Journey {
        visitors: 2,
        handshakes: 20,
        addr: Some(stream),
        ..Journey::new(ROTATE, LIFETIME)
    };
    journey.run(&mut nginx, vec![Event::reload()])?;

    // Some visits later each worker has made a connection of its own before.
    let client = Client::new(TlsVersion::V12)?;
    let mut bodies = Vec::new();
    for _ in 0..10 {
        bodies.push(client.connect(stream, None, None)?.body);
    }
    assert!(bodies.iter().any(|body| body == "TLSv1.3 r"), "{bodies:?}");

    // One ring and one certificate, but nginx keeps the two protocols apart.
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let full = client.connect(stream, None, None)?;
        let ticket = full.tickets.last().ok_or("no ticket")?;
        let elsewhere = client.connect(nginx.addr(), None, Some(ticket))?;
        assert!(!elsewhere.resumed && !elsewhere.tickets.is_empty(), "{version}");
        assert!(client.connect(stream, None, Some(ticket))?.resumed, "{version}");
    }
    Ok(())
}
