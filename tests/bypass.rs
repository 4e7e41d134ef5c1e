//! One raw key that serves two places lets a ticket of the open one in where a client certificate
//! is asked for. Stock servers do that; the scope of a ticket keeps them from it.

use std::fs;

use testbed::client::{Client, Handshake, Ticket, TlsVersion};
use testbed::haproxy::{Builder, Haproxy};
use testbed::nginx::Nginx;
use testbed::{RingDir, artifacts, certificate};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Two frontends with one certificate and one session id context; the second requires a client
/// certificate.
fn open_and_closed(builder: Builder, more: &str) -> Result<Haproxy> {
    let (certificate, both) = builder.certificate("site")?;
    let (crt, ca) = (both.display(), certificate.cert.display());
    let open = format!("crt {crt} {more}");
    let closed = format!("crt {crt} ca-file {ca} verify required {more}");
    Ok(builder.frontend(&open).frontend(&closed).start()?)
}

fn with_the_shim(rings: &RingDir) -> Result<Builder> {
    Ok(Haproxy::builder()?.preload(artifacts::shim()?).ring(rings))
}

/// A client without certificate comes to the closed frontend with a ticket of the open one.
fn attack(
    haproxy: &Haproxy,
    version: TlsVersion,
    sni: Option<&str>,
) -> Result<std::result::Result<Handshake, testbed::client::Error>> {
    let client = Client::new(version)?;
    let ticket = last(client.connect(haproxy.addr(0), sni, None)?)?;
    assert!(client.connect(haproxy.addr(0), sni, Some(&ticket))?.resumed, "{version} at home");
    let honest = client.connect(haproxy.addr(1), sni, None);
    assert!(honest.is_err(), "{version}: let in without ticket and certificate");
    let ticket = last(client.connect(haproxy.addr(0), sni, None)?)?;
    Ok(client.connect(haproxy.addr(1), sni, Some(&ticket)))
}

fn last(mut handshake: Handshake) -> Result<Ticket> {
    Ok(handshake.tickets.pop().ok_or("no ticket")?)
}

#[test]
fn haproxy_refuses_a_ticket_of_its_open_frontend_where_a_client_certificate_is_required()
-> Result<()> {
    let rings = RingDir::new()?;
    let haproxy = open_and_closed(with_the_shim(&rings)?, "")?;
    for version in TlsVersion::ALL {
        for sni in [None, Some("localhost")] {
            let outcome = attack(&haproxy, version, sni)?;
            assert!(outcome.is_err(), "{version}, {sni:?}: {outcome:?}");
        }
    }
    Ok(())
}

/// The policy is that of one certificate in a list here, and HAProxy switches to its context in
/// the client_hello callback: the one that a connection begins with asks for nothing.
#[test]
fn haproxy_refuses_it_also_where_one_certificate_of_a_list_has_the_policy() -> Result<()> {
    let rings = RingDir::new()?;
    let builder = Haproxy::builder()?.preload(artifacts::shim()?).ring(&rings);
    let (certificate, both) = builder.certificate("site")?;
    let (crt, ca) = (both.display(), certificate.cert.display());
    let open = builder.file("open.list", format!("{crt} a.test\n").as_bytes())?;
    let closed = format!("{crt} [ca-file {ca} verify required] a.test\n");
    let closed = builder.file("closed.list", closed.as_bytes())?;
    let haproxy = builder
        .frontend(&format!("crt {crt} crt-list {}", open.display()))
        .frontend(&format!("crt {crt} crt-list {}", closed.display()))
        .start()?;
    for version in TlsVersion::ALL {
        let outcome = attack(&haproxy, version, Some("a.test"))?;
        assert!(outcome.is_err(), "{version}: {outcome:?}");
        // Who may come in there comes back with a ticket.
        let client = Client::with_certificate(version, &certificate)?;
        let ticket = last(client.connect(haproxy.addr(1), Some("a.test"), None)?)?;
        let again = client.connect(haproxy.addr(1), Some("a.test"), Some(&ticket))?;
        assert!(again.resumed, "{version}");
    }
    Ok(())
}

/// A session without a client certificate is not taken there, whatever its ticket is bound to.
#[test]
fn not_bound_to_the_policy_it_is_refused_all_the_same() -> Result<()> {
    for bind in ["cert,sni", "none"] {
        let rings = RingDir::new()?;
        let haproxy = open_and_closed(with_the_shim(&rings)?.env("TKTROT_BIND", bind), "")?;
        for version in TlsVersion::ALL {
            for sni in [None, Some("localhost")] {
                let outcome = attack(&haproxy, version, sni)?;
                assert!(outcome.is_err(), "{bind}, {version}, {sni:?}: {outcome:?}");
            }
        }
    }
    Ok(())
}

/// With keys of its own that both frontends have the attack succeeds: the tests above can see it.
#[test]
fn a_stock_haproxy_lets_the_ticket_in() -> Result<()> {
    let memory = RingDir::new()?;
    let keys = memory.path().join("ticket.keys");
    fs::write(&keys, (0..3).map(|_| random_key()).collect::<Result<String>>()?)?;
    let own = format!("tls-ticket-keys {}", keys.display());
    let haproxy = open_and_closed(Haproxy::builder()?, &own)?;
    for version in TlsVersion::ALL {
        for sni in [None, Some("localhost")] {
            let handshake = attack(&haproxy, version, sni)??;
            assert!(handshake.resumed, "{version}, {sni:?}");
            assert_eq!(handshake.body, "1", "{version}, {sni:?}");
        }
    }
    Ok(())
}

/// A line of HAProxy's file: 48 bytes in base64.
fn random_key() -> Result<String> {
    let mut bytes = [0; 48];
    openssl::rand::rand_bytes(&mut bytes)?;
    Ok(openssl::base64::encode_block(&bytes) + "\n")
}

#[test]
fn virtual_hosts_of_one_nginx_listener_resume_their_own_tickets_and_no_others() -> Result<()> {
    const HOSTS: [&str; 2] = ["a.test", "b.test"];
    let (rings, dir) = (RingDir::new()?, tempfile::tempdir()?);
    let mut builder = Nginx::builder()
        .preload(artifacts::shim()?)
        .ring(&rings)
        .http("ssl_protocols TLSv1.2 TLSv1.3;");
    let addr = builder.addr()?;
    for host in HOSTS {
        let own = dir.path().join(host);
        fs::create_dir(&own)?;
        let certificate = certificate::create(&own)?;
        builder = builder.http(&format!(
            "server {{ listen {addr} ssl; server_name {host}; ssl_certificate {}; \
             ssl_certificate_key {}; location / {{ return 200 {host}; }} }}",
            certificate.cert.display(),
            certificate.key.display()
        ));
    }
    let nginx = builder.start()?;
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        for round in 0..10 {
            for (own, other) in [(HOSTS[0], HOSTS[1]), (HOSTS[1], HOSTS[0])] {
                let full = client.connect(addr, Some(own), None)?;
                assert_eq!((full.resumed, full.body.as_str()), (false, own));
                let ticket = last(full)?;
                let stranger = client.connect(addr, Some(other), Some(&ticket))?;
                assert!(!stranger.resumed, "{version}, round {round}: {own} at {other}");
                assert_eq!(stranger.body, other);
                let nobody = client.connect(addr, None, Some(&ticket))?;
                assert!(!nobody.resumed, "{version}, round {round}: {own} without a name");
                let again = client.connect(addr, Some(own), Some(&ticket))?;
                assert!(again.resumed, "{version}, round {round}: {own}\n{}", nginx.log_tail());
                assert_eq!(again.body, own);
            }
        }
    }
    Ok(())
}
