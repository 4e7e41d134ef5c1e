//! Certificates that are replaced over the admin socket. HAProxy makes new SSL_CTXs for them at run
//! time, on whichever thread it is; connections begin in a context without any certificate.

use testbed::client::{Client, TlsVersion};
use testbed::journey::LIMIT;
use testbed::load::{Load, Promise};
use testbed::visitors::Visitors;
use testbed::{RingDir, certificate};

use crate::ticket_keys::Keys;
use crate::{Result, as_in_production, secs};

#[test]
fn a_replaced_certificate_is_served_and_tickets_from_before_resume() -> Result<()> {
    let ring = RingDir::new()?;
    let builder = as_in_production()?;
    let (old, loaded) = builder.certificate("old")?;
    let (new, replacement) = builder.certificate("new")?;
    let builder = builder.rotating(&ring, secs(60), secs(300))?;
    let haproxy = builder.frontend(&format!("crt {}", loaded.display())).start()?;
    let addr = haproxy.addr(0);
    let serves = |certificate: &certificate::Certificate| -> Result<bool> {
        let expected = std::fs::read(&certificate.cert)?;
        for version in TlsVersion::ALL {
            let served = Client::new(version)?.connect(addr, None, None)?.certificate;
            if served.ok_or("no certificate")?.to_pem()? != expected {
                return Ok(false);
            }
        }
        Ok(true)
    };
    assert!(serves(&old)?);
    let before = Visitors::of(addr)?;
    before.resume(addr, "before")?;

    haproxy.update_certificate(&loaded, &replacement)?;
    assert!(serves(&new)?);
    // The scope has the certificate of the context that a connection begins in: none, before and
    // after. As without the shim, a new certificate ends no session.
    before.resume(addr, "before")?;
    let after = Visitors::of(addr)?;
    after.resume(addr, "after")?;

    // The file still holds the old one. Tickets of both times outlive that, too.
    haproxy.reload()?;
    assert!(serves(&old)?);
    before.resume(addr, "before")?;
    after.resume(addr, "after")?;
    Ok(())
}

#[test]
fn certificates_replaced_in_a_row_under_load_fail_nobody() -> Result<()> {
    let (rotate, lifetime) = (secs(1), secs(60));
    let ring = RingDir::new()?;
    let builder = as_in_production()?;
    let (_, loaded) = builder.certificate("first")?;
    let others = [builder.certificate("second")?.1, builder.certificate("third")?.1];
    let keys = Keys::new()?;
    // With keys of its own each new context is given HAProxy's callback, too.
    let bind = format!("crt {} tls-ticket-keys {}", loaded.display(), keys.path().display());
    let haproxy = builder.rotating(&ring, rotate, lifetime)?.frontend(&bind).start()?;
    let promise = Promise::rotating(rotate, lifetime);
    let mut load = Load::new(haproxy.addr(0), 8, promise)?.pace(secs(0));
    load.fresh_round();
    let (report, updated) = load.during(LIMIT, || -> Result<()> {
        for number in 0..50 {
            haproxy.update_certificate(&loaded, &others[number % 2])?;
        }
        Ok(())
    });
    updated?;
    let total = report.total();
    assert_eq!(total.failed(), 0, "{report}\n{}", haproxy.stderr());
    assert_eq!(total.resumed, total.handshakes, "{report}\n{}", haproxy.stderr());
    assert!(total.handshakes >= 50, "{report}");
    Ok(())
}
