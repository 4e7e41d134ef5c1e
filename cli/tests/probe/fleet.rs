//! Servers that share keys, or should; keys that change.

use std::fs;

use testbed::certificate;
use testbed::nginx::{Builder, Nginx};
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, artifacts};

use crate::Result;
use crate::program::{DOUBTFUL, FINE, count, report, start};

const VERSIONS: [&str; 2] = ["1.2", "1.3"];

fn with_shim(ring: &RingDir) -> Result<Builder> {
    Ok(Nginx::builder().preload(artifacts::shim()?).ring(ring))
}

#[test]
fn two_stock_nginxes_do_not_share_and_two_with_one_ring_do() -> Result<()> {
    let (dir, ring) = (tempfile::tempdir()?, RingDir::new()?);
    let certificate = certificate::create(dir.path())?;
    for (shares, status) in [(false, DOUBTFUL), (true, FINE)] {
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
    assert_eq!(report.status, FINE, "{:#}", report.value);
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
    assert_eq!(report.status, DOUBTFUL, "{:#}", report.value);
    let message = report.finding("tickets-lost")["message"].as_str().ok_or("no message")?;
    assert!(message.starts_with("the key changed once in"), "{message}");
    for tls in VERSIONS {
        let watch = &report.seen(nginx.addr(), tls)[0]["watch"];
        let (offered, resumed) = count(watch, "first_ticket");
        assert!(resumed > 0 && resumed < offered, "{watch:#}");
    }
    Ok(())
}
