//! Debian's stock hitch under the shim: certificates that are touched and changed, reloads by signal.

use std::time::Duration;

use testbed::RingDir;
use testbed::client::{Client, ErrorKind, TlsVersion};
use testbed::hitch::Hitch;
use testbed::journey::{Event, Journey, LIMIT};
use testbed::load::Counts;
use testbed::process::{Process, Thread, needs_root};
use testbed::wait;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A hitch under the shim with this rotation and lifetime.
fn rotating(ring: &RingDir, rotate: Duration, lifetime: Duration) -> Result<Hitch> {
    needs_root("hitch starts as root, changes its workers' root and user");
    Ok(Hitch::builder()?.rotating(ring, rotate, lifetime)?.start()?)
}

/// Failures that are hitch's own: each of its workers has a listening socket of its own, which is
/// closed at a reload with the connections that wait at it, maybe before the new ones are open.
const ITS_OWN: &[ErrorKind] = &[ErrorKind::Refused, ErrorKind::Killed];

fn failed_otherwise(counts: &Counts) -> u64 {
    let others = counts.failures.iter().filter(|(kind, _)| !ITS_OWN.contains(kind));
    others.map(|(_, count)| count).sum()
}

#[test]
fn every_ticket_resumes_across_rotations_a_touched_certificate_and_a_restart() -> Result {
    let journey = Journey { to_the_end: true, ..Journey::new(secs(2), secs(8)) };
    let ring = RingDir::new()?;
    let mut hitch = rotating(&ring, journey.rotate, journey.lifetime)?;
    let touched = Event::new(|hitch: &mut Hitch| {
        hitch.touch_certificate()?;
        hitch.reload()
    });
    journey.run(&mut hitch, vec![touched.excusing(ITS_OWN)])?;
    assert_eq!(hitch.our_log(), "");
    Ok(())
}

#[test]
fn a_changed_certificate_costs_each_ticket_a_full_handshake_and_no_errors() -> Result {
    let ring = RingDir::new()?;
    let hitch = rotating(&ring, secs(600), secs(600))?;
    let journey = Journey::new(secs(600), secs(600));
    let mut load = journey.load(&hitch)?;
    load.round();
    let before = load.round().total();
    assert_eq!((before.resumed, before.failed()), (8, 0), "{before}");
    let old = load.tickets();

    hitch.change_certificate()?;
    let (report, reloaded) = load.during(LIMIT, || hitch.reload());
    reloaded?;
    let during = report.total();
    assert_eq!(failed_otherwise(&during), 0, "{report}\n{}", hitch.log_tail());
    let late = load.offer(&old).total();
    assert_eq!((late.unexpected_full, late.resumed, late.failed()), (8, 0, 0), "{late}");
    // Under the new certificate all is as before.
    let mut load = journey.load(&hitch)?;
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
fn two_hundred_reloads_are_acted_on_and_leave_no_process_behind() -> Result {
    const RELOADS: usize = 200;
    let ring = RingDir::new()?;
    let hitch = rotating(&ring, secs(1), secs(60))?;
    let master = hitch.master()?;
    let client = Client::new(TlsVersion::V13)?;
    let mut ticket = client.connect(hitch.addr(), None, None)?.tickets.pop();
    for number in 1..=RELOADS {
        let workers = hitch.worker_processes()?;
        // One of the two used tickets, and its upkeep thread is about to name itself.
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
    assert_eq!(master.threads().len(), 1, "the master uses no tickets");
    // hitch overlooks a death, as any signal, just before its pause(), until the next signal.
    master.signal(libc::SIGCHLD);
    wait::until(LIMIT, "the last dead to be waited for", || {
        master.zombies().is_empty().then_some(())
    })?;
    let workers = hitch.worker_processes()?;
    assert_eq!(workers.len(), 2);
    for process in master.children().iter().filter(|process| !workers.contains(process)) {
        assert_eq!(process.threads().len(), 1, "the OCSP process uses no tickets");
    }
    assert_eq!(hitch.our_log(), "");
    Ok(())
}
