//! Two servers that share a ring resume each other's tickets: stock nginx under the shim, and the
//! C server that links the library.

use testbed::RingDir;
use testbed::artifacts;
use testbed::certificate;
use testbed::client::{Client, TlsVersion};
use testbed::example::Example;
use testbed::nginx::Nginx;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Starts both, with the same certificate, and offers each server's tickets to the other one.
/// Returns whether they resumed; it must be the same for all.
fn resume_each_other(nginx_ring: &str, server_ring: &str) -> Result<bool> {
    let dir = RingDir::new()?;
    let certificate = certificate::create(dir.path())?;
    let ring = RingDir::new()?;
    let nginx = Nginx::builder()
        .preload(artifacts::shim()?)
        .certificate(&certificate)
        .ring(&ring)
        .env("TKTROT_RING", nginx_ring)
        .start()?;
    let server = Example::builder()?
        .certificate(&certificate)
        .ring(&ring)
        .env("TKTROT_RING", server_ring)
        .start()?;
    let mut results = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        for (from, to) in [(nginx.addr(), server.addr()), (server.addr(), nginx.addr())] {
            let full = client.connect(from, Some("localhost"), None)?;
            let ticket = full.tickets.last().ok_or("no ticket")?;
            assert!(client.connect(from, Some("localhost"), Some(ticket))?.resumed);
            results.push(client.connect(to, Some("localhost"), Some(ticket))?.resumed);
        }
    }
    assert!(results.iter().all(|resumed| *resumed == results[0]), "{results:?}");
    Ok(results[0])
}

#[test]
fn one_ring_makes_two_servers_one_and_two_rings_keep_them_apart() -> Result<()> {
    // The first half shows that nothing but the ring is in the way in the second: OpenSSL also
    // refuses tickets of another session id context, so examples/server computes nginx'.
    assert!(resume_each_other("shared", "shared")?);
    assert!(!resume_each_other("one", "other")?);
    Ok(())
}
