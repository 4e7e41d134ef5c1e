//! `no-tls-tickets`, which is in Debian's own haproxy.cfg: HAProxy remembers sessions itself, and
//! the shim has no part in it, and says so.

use testbed::client::{Client, TlsVersion};
use testbed::haproxy::{Builder, Haproxy};
use testbed::{RingDir, artifacts, log};

use crate::{Result, as_in_production};

/// How many tickets came, and whether one of them resumes, before and after a reload. In TLS 1.3 a
/// ticket is the session's number then.
type Seen = (usize, [bool; 2]);

/// For each version.
fn life(builder: Builder) -> Result<(Haproxy, Vec<Seen>)> {
    let options = "ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets";
    let haproxy = crate::with_frontend(builder.global(options), "")?.start()?;
    let mut issued = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let tickets = client.connect(haproxy.addr(0), None, None)?.tickets;
        issued.push((client, tickets));
    }
    let resume = || -> Result<Vec<bool>> {
        let again = issued.iter().map(|(client, tickets)| {
            Ok(client.connect(haproxy.addr(0), None, tickets.last())?.resumed)
        });
        again.collect()
    };
    let before = resume()?;
    haproxy.reload()?;
    let after = resume()?;
    let counts = issued.iter().map(|(_, tickets)| tickets.len());
    let seen = counts.zip(before.into_iter().zip(after).map(|(before, after)| [before, after]));
    let seen = seen.collect();
    Ok((haproxy, seen))
}

#[test]
fn without_tickets_nothing_is_otherwise_under_the_shim() -> Result<()> {
    let ring = RingDir::new()?;
    let (_, alone) = life(as_in_production()?)?;
    let (haproxy, seen) = life(as_in_production()?.preload(artifacts::shim()?).ring(&ring))?;
    assert_eq!(seen, alone);
    // Once in each worker: there was one before the reload, and one after.
    let stderr = haproxy.stderr();
    let told = log::ours(&stderr);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.contains("tickets are switched off")), "{told:?}");
    let [v12, v13] = seen[..] else { panic!("{seen:?}") };
    assert_eq!(v12, (0, [false, false]));
    assert!(v13.0 > 0 && v13.1 == [true, false], "{v13:?}");
    Ok(())
}
