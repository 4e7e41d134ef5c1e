//! Workers of a stock nginx die between any two stores of a publication, under load: the shim is
//! built with kill points, and each worker that comes to write dies one store later than the one
//! before it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use testbed::RingDir;
use testbed::artifacts;
use testbed::client::TlsVersion;
use testbed::load::{Load, Promise};
use testbed::nginx::Nginx;
use testbed::wait;
use tktrot::config::Config;
use tktrot::ring::Ring;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For one stretch of load. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(120);
const ROTATE: Duration = Duration::from_secs(1);
/// Short, so that writers die while they erase, too.
const LIFETIME: Duration = Duration::from_secs(6);

/// More stores than one rotation makes: the repair of what the worker before has left, an erasure,
/// a publication, the line, the deadline.
const DEATHS: usize = 60;
/// So many of the last may live on: the writer after them is not to die, and when it has the lead
/// they hardly write.
const SURVIVORS: usize = 2;

#[test]
fn writers_killed_at_every_store_cost_their_connections_and_nothing_else() -> Result<()> {
    let dir = RingDir::new()?;
    let nginx = Nginx::builder()
        .workers(3)
        .rotating(&dir, ROTATE, LIFETIME)?
        .preload(artifacts::shim_with_kill_points()?)
        .env("TKTROT_KILL_AT", &format!("1-{DEATHS}"))
        .start()?;
    let ring = open(&dir)?;
    let mut load = Load::new(nginx.addr(), 4, Promise::rotating(ROTATE, LIFETIME))?;

    // A connection that dies is one whose worker dies, or that was waiting for it. Its visitor comes
    // back with the same ticket, which must resume.
    let (report, all_died) = load.during(LIMIT, || {
        let nearly_all = || (deaths(&nginx) >= DEATHS - SURVIVORS).then_some(());
        wait::until(LIMIT, "the death of all writers", nearly_all)
    });
    let total = report.total();
    all_died.map_err(|late| format!("{late}: {} died\n{}", deaths(&nginx), nginx.log_tail()))?;
    assert_eq!(total.failed_alive(), 0, "{report}\n{}", nginx.log_tail());
    assert_eq!(total.unexpected_full, 0, "{report}\n{}", nginx.log_tail());
    assert_eq!(total.overdue, 0, "{report}");
    for version in TlsVersion::ALL {
        let counts = report.of(version);
        assert!(counts.failed() > 0, "{version}: no connection was killed\n{report}");
        assert!(counts.across_keys > 0, "{version}: no ticket crossed a rotation\n{report}");
    }
    // They died with the lock in hand, as the next writer was told. Fewer, because one that dies
    // while it repairs hands the repair on.
    let repairs = ring.header().repairs.load(Ordering::Relaxed);
    assert!(repairs as usize >= DEATHS / 2, "{repairs} repairs after {DEATHS} deaths");

    // The plan is used up, or nearly so: what is left works as if nothing had happened.
    let after = load.run(LIMIT, |progress| progress.new_keys >= 3);
    let total = after.total();
    let failed = total.failed_alive();
    assert_eq!((total.unexpected_full, failed), (0, 0), "{after}\n{}", nginx.log_tail());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{after}");
    assert!(total.carried > 0, "{after}");
    assert!(total.keys.len() >= 4, "the ring no longer rotates\n{after}");
    let deaths = deaths(&nginx);
    assert!(deaths <= DEATHS, "{deaths}\n{}", nginx.log_tail());
    assert_eq!(ends(&nginx), deaths, "a worker ended otherwise\n{}", nginx.log_tail());
    let writer = ring.write_within(LIMIT).map_err(|error| format!("{error:?}"))?;
    assert_eq!(writer.defect(), None);
    Ok(())
}

/// The ring of the nginx that was started there.
fn open(dir: &RingDir) -> Result<Ring> {
    let rings = dir.rings()?;
    assert_eq!(rings.len(), 1, "{rings:?}");
    let config = Config { ring: Some(rings[0].clone().into_os_string()), ..Config::default() };
    let opened = config.place().open(config.most_keys());
    opened.map_err(|refused| refused.to_string().into())
}

/// Workers that ended by SIGKILL, which nobody sends but they themselves.
fn deaths(nginx: &Nginx) -> usize {
    nginx.error_log().matches("exited on signal 9").count()
}

/// Workers that ended, however.
fn ends(nginx: &Nginx) -> usize {
    let log = nginx.error_log();
    log.lines().filter(|line| line.contains("worker process") && line.contains("exited")).count()
}
