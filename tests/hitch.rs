//! Debian's stock hitch under the shim: certificates that are touched and changed, reloads by signal.

use std::time::Duration;

use testbed::RingDir;
use testbed::artifacts;
use testbed::client::{Client, ErrorKind, TlsVersion};
use testbed::hitch::{Builder, Hitch};
use testbed::load::{Counts, Load, Progress, Promise, Report};
use testbed::process::{Process, Thread, needs_root};
use testbed::wait;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For one stretch of load. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(90);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A hitch under the shim with this rotation and lifetime.
fn rotating(ring: &RingDir, rotate: Duration, lifetime: Duration) -> Result<Builder> {
    needs_root("hitch starts as root, changes its workers' root and user");
    Ok(Hitch::builder()?
        .workers(2)
        .preload(artifacts::shim()?)
        .ring(ring)
        .env("TKTROT_ROTATE", &format!("{}s", rotate.as_secs()))
        .env("TKTROT_LIFETIME", &format!("{}s", lifetime.as_secs())))
}

/// Failures that are not hitch's own: each of its workers has a listening socket of its own, which
/// is closed at a reload with the connections that wait at it, maybe before the new ones are open.
fn failed_otherwise(counts: &Counts) -> u64 {
    counts.failed_alive() - counts.failures.get(&ErrorKind::Refused).copied().unwrap_or(0)
}

#[test]
fn every_ticket_resumes_across_rotations_a_touched_certificate_and_a_restart() -> Result<()> {
    let (rotate, lifetime) = (secs(2), secs(8));
    let ring = RingDir::new()?;
    let hitch = rotating(&ring, rotate, lifetime)?.start()?;
    let mut load = Load::new(hitch.addr(), 4, Promise::rotating(rotate, lifetime))?;
    let mut seen = Report::default();
    let enough = |progress: Progress| progress.handshakes >= 100 && progress.new_keys >= 2;

    seen.add(&load.run(LIMIT, enough));
    let early = load.tickets();

    hitch.touch_certificate()?;
    let (reload, reloaded) = load.during(LIMIT, || hitch.reload());
    reloaded?;
    let total = reload.total();
    assert!(total.resumed > 0, "{reload}");
    assert_eq!((total.unexpected_full, failed_otherwise(&total)), (0, 0), "{reload}");
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{reload}");
    seen.add(&load.run(LIMIT, enough));

    seen.add(&load.fresh_round());
    hitch.stop()?;
    hitch.start()?;
    let report = load.round();
    assert!(report.total().carried > 0, "after the restart: {report}\n{}", hitch.log_tail());
    seen.add(&report);
    seen.add(&load.run(LIMIT, enough));

    let total = seen.total();
    assert!(total.handshakes >= 300, "{seen}");
    assert_eq!(total.unexpected_full, 0, "{seen}\n{}", hitch.log_tail());
    assert_eq!(total.failed(), 0, "{seen}\n{}", hitch.log_tail());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{seen}");
    // Five rotations are six keys.
    assert!(load.keys().len() >= 6, "{} keys\n{seen}", load.keys().len());
    for version in TlsVersion::ALL {
        assert!(
            seen.of(version).across_keys > 0,
            "{version}: no ticket crossed a rotation\n{seen}"
        );
    }
    println!("{} keys; beside the reload:\n{seen}during it:\n{reload}", load.keys().len());

    // Old enough that no key can be left that opens them.
    let end = rotate + lifetime + secs(1);
    wait::until(LIMIT, "the end of the first tickets' keys", || {
        early.iter().all(|ticket| ticket.age() > end).then_some(())
    })?;
    let late = load.offer(&early)?.total();
    assert_eq!(late.handshakes, early.len() as u64, "{late}");
    assert_eq!((late.resumed, late.failed()), (0, 0), "{late}");
    assert_eq!(hitch.our_log(), "");
    Ok(())
}

#[test]
fn a_changed_certificate_costs_each_ticket_a_full_handshake_and_no_errors() -> Result<()> {
    let ring = RingDir::new()?;
    let hitch = rotating(&ring, secs(600), secs(600))?.start()?;
    let promise = Promise::rotating(secs(600), secs(600));
    let mut load = Load::new(hitch.addr(), 4, promise)?;
    load.round();
    let before = load.round().total();
    assert_eq!((before.resumed, before.failed()), (8, 0), "{before}");
    let old = load.tickets();

    hitch.change_certificate()?;
    let (report, reloaded) = load.during(LIMIT, || hitch.reload());
    reloaded?;
    let during = report.total();
    assert_eq!(failed_otherwise(&during), 0, "{report}\n{}", hitch.log_tail());
    let late = load.offer(&old)?.total();
    assert_eq!((late.unexpected_full, late.resumed, late.failed()), (8, 0, 0), "{late}");
    // Under the new certificate all is as before.
    let mut load = Load::new(hitch.addr(), 4, promise)?;
    load.round();
    let after = load.round().total();
    assert_eq!((after.resumed, after.failed()), (8, 0), "{after}\n{}", hitch.log_tail());
    Ok(())
}

/// The threads of some kind that these processes have together.
fn threads(processes: &[Process], of: impl Fn(&Process) -> Vec<Thread>) -> Vec<Thread> {
    processes.iter().flat_map(of).collect()
}

/// An upkeep thread must neither take a signal that is meant for its process nor keep it from
/// ending. The master has none, and nor has a worker before its first ticket.
#[test]
fn two_hundred_reloads_are_acted_on_and_leave_no_process_behind() -> Result<()> {
    const RELOADS: usize = 200;
    let ring = RingDir::new()?;
    let hitch = rotating(&ring, secs(1), secs(60))?.start()?;
    let master = hitch.master()?;
    let client = Client::new(TlsVersion::V13)?;
    let mut ticket = client.connect(hitch.addr(), None, None)?.tickets.pop();
    for number in 1..=RELOADS {
        let workers = hitch.worker_processes()?;
        // One of the two dealt in tickets, and its upkeep thread is about to name itself.
        let upkeep = wait::until(LIMIT, "an upkeep thread", || {
            let named = threads(&workers, Process::upkeep_threads);
            (!named.is_empty()).then_some(named)
        })?;
        assert_eq!(upkeep.len(), 1, "before reload {number}: {upkeep:?}");
        assert!(upkeep[0].leaves_signals_alone(), "signals reach the upkeep thread");
        assert_eq!(threads(&workers, Process::threads).len(), 3, "before reload {number}");

        hitch.touch_certificate()?;
        hitch.reload()?;
        let again = client
            .connect(hitch.addr(), None, ticket.as_ref())
            .map_err(|error| format!("after reload {number}: {error}\n{}", hitch.log_tail()))?;
        assert!(again.resumed, "after reload {number}\n{}", hitch.log_tail());
        ticket = again.tickets.last().cloned();
    }
    println!("{RELOADS} reloads, each of a worker with an upkeep thread and one without");

    assert_eq!(hitch.master()?, master);
    assert_eq!(master.threads().len(), 1, "the master deals in no tickets");
    // hitch overlooks a death, as any signal, just before its pause(), until the next signal.
    master.signal(libc::SIGCHLD);
    wait::until(LIMIT, "the last dead to be waited for", || {
        master.zombies().is_empty().then_some(())
    })?;
    let workers = hitch.worker_processes()?;
    assert_eq!(workers.len(), 2);
    for process in master.children().iter().filter(|process| !workers.contains(process)) {
        assert_eq!(process.threads().len(), 1, "the OCSP process deals in no tickets");
    }
    assert_eq!(hitch.our_log(), "");
    Ok(())
}
