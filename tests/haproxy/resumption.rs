//! No ticket is lost, whatever makes HAProxy lose them.

use testbed::RingDir;
use testbed::haproxy::{Builder, Haproxy, Mode};
use testbed::journey::{Event, Journey, LIMIT, loses_every_ticket};
use testbed::load::{Load, Promise};

use crate::{Result, as_in_production, secs, with_frontend};

fn no_ticket_is_lost(builder: Builder) -> Result<()> {
    let journey = Journey::new(secs(2), secs(8));
    let ring = RingDir::new()?;
    let builder = with_frontend(builder, "")?;
    let mut haproxy = builder.rotating(&ring, journey.rotate, journey.lifetime)?.start()?;
    journey.run(&mut haproxy, vec![Event::reload()])?;
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
    let builder = with_frontend(as_in_production()?, "")?;
    let haproxy = builder.rotating(&ring, rotate, lifetime)?.start()?;
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
    let mut haproxy = with_frontend(as_in_production()?, "")?.start()?;
    Ok(loses_every_ticket(&mut haproxy, |haproxy| haproxy.reload())?)
}
