//! Servers of other shapes than a master with workers: threads that replace their contexts, a TLS
//! library that comes and goes with a module, a script. The same is asked of each.

mod module;
mod python;
mod threaded;

use std::time::Duration;

use testbed::client::TlsVersion;
use testbed::load::{Load, Progress, Promise, Report};
use testbed::process::Process;
use testbed::solo::{Builder, Solo};
use testbed::{RingDir, artifacts, log, wait};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For one stretch of load. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(90);
const ROTATE: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_secs(8);

/// The server under the shim, with a rotation that a test can wait for.
fn rotating(server: Builder, ring: &RingDir) -> Result<Builder> {
    Ok(server
        .preload(artifacts::shim()?)
        .ring(ring)
        .env("TKTROT_ROTATE", &format!("{}s", ROTATE.as_secs()))
        .env("TKTROT_LIFETIME", &format!("{}s", LIFETIME.as_secs())))
}

/// The promise, from the side of clients who do what browsers do: through rotations, whatever the
/// server does at run time, and a restart. Returns the load, which has seen it all.
fn every_ticket_resumes(
    server: &mut Solo,
    threads: usize,
    at_run_time: impl FnOnce(&Solo) -> Result,
) -> Result<Load> {
    let promise = Promise::rotating(ROTATE, LIFETIME);
    let mut load = Load::with_threads(server.addr(), 2 * threads, promise, threads)?;
    let mut seen = Report::default();
    let enough = |progress: Progress| progress.handshakes >= 100 && progress.new_keys >= 2;

    seen.add(&load.run(LIMIT, enough));
    has_one_upkeep_thread(server)?;
    let (report, done) = load.during(LIMIT, || at_run_time(server));
    done?;
    assert!(report.total().resumed > 0, "{report}");
    seen.add(&report);
    seen.add(&load.run(LIMIT, enough));

    seen.add(&load.fresh_round());
    server.stop()?;
    server.start()?;
    let report = load.round();
    assert!(report.total().carried > 0, "after the restart: {report}\n{}", server.stderr());
    seen.add(&report);
    seen.add(&load.run(LIMIT, enough));
    has_one_upkeep_thread(server)?;

    let total = seen.total();
    assert!(total.handshakes >= 250, "{seen}");
    assert_eq!(total.unexpected_full, 0, "{seen}\n{}", server.stderr());
    assert_eq!(total.failed(), 0, "{seen}\n{}", server.stderr());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{seen}");
    assert!(load.keys().len() >= 5, "{} keys\n{seen}", load.keys().len());
    for version in TlsVersion::ALL {
        let across = seen.of(version).across_keys;
        assert!(across > 0, "{version}: no ticket crossed a rotation\n{seen}");
    }
    assert_eq!(log::ours(&server.stderr()), [""; 0]);
    Ok(load)
}

/// It has its name a moment after it was made.
fn has_one_upkeep_thread(server: &Solo) -> Result {
    let process = Process::find(server.pid()?).ok_or("the server is gone")?;
    let ours = || process.upkeep_threads().len();
    wait::until(LIMIT, "the upkeep thread", || (ours() == 1).then_some(()))
        .map_err(|late| format!("{late}: {:?}", process.thread_names()))?;
    Ok(())
}
