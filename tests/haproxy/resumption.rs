//! No ticket is lost, whatever makes HAProxy lose them.

use testbed::RingDir;
use testbed::client::TlsVersion;
use testbed::haproxy::{Builder, Haproxy, Mode};
use testbed::load::{Load, Progress, Promise, Report};

use crate::{LIMIT, Result, as_in_production, rotating, secs, with_frontend};

fn no_ticket_is_lost(builder: Builder) -> Result<()> {
    let (rotate, lifetime) = (secs(2), secs(8));
    let ring = RingDir::new()?;
    let builder = rotating(with_frontend(builder, "")?, &ring, rotate, lifetime)?;
    let mut haproxy = builder.start()?;
    let mut load = Load::new(haproxy.addr(0), 4, Promise::rotating(rotate, lifetime))?;
    let mut seen = Report::default();
    let enough = |progress: Progress| progress.handshakes >= 100 && progress.new_keys >= 2;

    seen.add(&load.run(LIMIT, enough));

    let (report, reloaded) = load.during(LIMIT, || haproxy.reload());
    reloaded?;
    assert!(report.total().carried > 0, "over the reload: {report}\n{}", haproxy.stderr());
    seen.add(&report);
    seen.add(&load.run(LIMIT, enough));

    seen.add(&load.fresh_round());
    haproxy.stop()?;
    haproxy.start()?;
    let report = load.round();
    assert!(report.total().carried > 0, "after the restart: {report}\n{}", haproxy.stderr());
    seen.add(&report);
    seen.add(&load.run(LIMIT, |progress| progress.handshakes >= 100 && progress.new_keys >= 1));

    let total = seen.total();
    assert!(total.handshakes >= 300, "{seen}");
    assert_eq!(total.unexpected_full, 0, "{seen}\n{}", haproxy.stderr());
    assert_eq!(total.failed(), 0, "{seen}\n{}", haproxy.stderr());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{seen}");
    assert!(load.keys().len() >= 5, "{} keys\n{seen}", load.keys().len());
    for version in TlsVersion::ALL {
        let across = seen.of(version).across_keys;
        assert!(across > 0, "{version}: no ticket crossed a rotation\n{seen}");
    }
    Ok(())
}

#[test]
fn a_daemon_loses_none_across_rotations_a_reload_and_a_restart() -> Result<()> {
    no_ticket_is_lost(Haproxy::builder()?.mode(Mode::Daemon))
}

/// The workers could not open the ring by its path: they are in an empty root directory, and not
/// its owner.
#[test]
fn nor_do_workers_without_privileges_in_another_root_directory() -> Result<()> {
    no_ticket_is_lost(as_in_production()?)
}

/// The listening sockets are handed from process to process, and with the ring nothing is left
/// that a visitor could notice of a reload.
#[test]
fn nobody_notices_reloads_in_a_row() -> Result<()> {
    let (rotate, lifetime) = (secs(1), secs(60));
    let ring = RingDir::new()?;
    let builder = rotating(with_frontend(as_in_production()?, "")?, &ring, rotate, lifetime)?;
    let haproxy = builder.start()?;
    let promise = Promise::rotating(rotate, lifetime);
    let mut load = Load::new(haproxy.addr(0), 8, promise)?.pace(secs(0));
    load.fresh_round();
    let mut workers = vec![haproxy.worker()?.pid()];
    let (report, reloaded) = load.during(LIMIT, || -> Result<()> {
        for _ in 0..5 {
            haproxy.reload()?;
            workers.push(haproxy.worker()?.pid());
        }
        Ok(())
    });
    reloaded?;
    workers.dedup();
    assert_eq!(workers.len(), 6, "{workers:?}");
    let total = report.total();
    assert!(total.handshakes >= 100, "{report}");
    assert_eq!(total.resumed, total.handshakes, "{report}\n{}", haproxy.stderr());
    assert_eq!(total.failed(), 0, "{report}\n{}", haproxy.stderr());
    Ok(())
}

/// What the tests above would say of a HAProxy alone.
#[test]
fn without_the_shim_a_reload_loses_every_ticket() -> Result<()> {
    let haproxy = with_frontend(as_in_production()?, "")?.start()?;
    let mut load = Load::new(haproxy.addr(0), 4, Promise::constant(secs(300)))?;
    load.round();
    let before = load.round().total();
    assert_eq!((before.resumed, before.unexpected_full), (8, 0), "{before}");
    haproxy.reload()?;
    let after = load.round().total();
    assert_eq!((after.resumed, after.unexpected_full, after.failed()), (0, 8, 0), "{after}");
    Ok(())
}
