//! A server with the life of stud under the shim: contexts made by root, switched by name, everything
//! given up before the first fork, replacements forked inside a SIGCHLD handler.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testbed::RingDir;
use testbed::artifacts;
use testbed::client::{Client, TlsVersion};
use testbed::load::{Load, Progress, Promise, Report};
use testbed::process::needs_root;
use testbed::stud::{Builder, Stud};
use testbed::wait;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For one stretch of load. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(90);

const HOSTS: [&str; 2] = ["a.test", "b.test"];

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A stud with two hosts under the shim, with this rotation and lifetime.
fn rotating(ring: &RingDir, rotate: Duration, lifetime: Duration) -> Result<Builder> {
    needs_root("stud starts as root, then changes its root and user");
    let builder = HOSTS.iter().fold(Stud::builder()?, |builder, host| builder.host(host));
    Ok(builder
        .preload(artifacts::shim()?)
        .ring(ring)
        .env("TKTROT_ROTATE", &format!("{}s", rotate.as_secs()))
        .env("TKTROT_LIFETIME", &format!("{}s", lifetime.as_secs())))
}

/// Visitors of each host, and of none.
fn visitors(stud: &Stud, promise: Promise) -> Result<Vec<Load>> {
    let load = || Load::with_threads(stud.addr(), 2, promise, 1);
    let mut loads = vec![load()?];
    for host in HOSTS {
        loads.push(load()?.sni(host));
    }
    Ok(loads)
}

/// Lets all of them come at the same time; returns what they saw together.
fn all(loads: &mut [Load], visit: impl Fn(&mut Load) -> Report + Sync) -> Report {
    let mut seen = Report::default();
    thread::scope(|scope| {
        let visit = &visit;
        let visits: Vec<_> = loads.iter_mut().map(|load| scope.spawn(|| visit(load))).collect();
        for visit in visits {
            seen.add(&visit.join().expect("no load panics"));
        }
    });
    seen
}

#[test]
fn every_hosts_tickets_resume_across_rotations_killed_workers_and_a_restart() -> Result<()> {
    let (rotate, lifetime) = (secs(2), secs(8));
    let ring = RingDir::new()?;
    let stud = rotating(&ring, rotate, lifetime)?.start()?;
    let mut loads = visitors(&stud, Promise::rotating(rotate, lifetime))?;
    let mut seen = Report::default();
    let enough = |progress: Progress| progress.handshakes >= 50 && progress.new_keys >= 2;

    seen.add(&all(&mut loads, |load| load.run(LIMIT, enough)));
    let early: Vec<_> = loads.iter().map(Load::tickets).collect();

    let killed = AtomicBool::new(false);
    let (report, result) = thread::scope(|scope| {
        let killing = scope.spawn(|| {
            // Long enough that keys rotate meanwhile.
            let result = kill_workers(&stud, 60, Duration::from_millis(60));
            // Relaxed: the flag publishes nothing but itself.
            killed.store(true, Ordering::Relaxed);
            result.map_err(|error| error.to_string())
        });
        let done = |progress: Progress| {
            killed.load(Ordering::Relaxed) && progress.handshakes >= 20 && progress.new_keys >= 1
        };
        let report = all(&mut loads, |load| load.run(LIMIT, done));
        (report, killing.join().expect("no assertion there"))
    });
    result?;
    let total = report.total();
    assert_eq!(total.failed_alive(), 0, "{report}\n{}", stud.log());
    assert_eq!(total.unexpected_full, 0, "{report}\n{}", stud.log());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{report}");
    seen.add(&all(&mut loads, |load| load.run(LIMIT, enough)));

    seen.add(&all(&mut loads, Load::fresh_round));
    stud.stop()?;
    stud.start()?;
    let restarted = all(&mut loads, Load::round);
    assert!(restarted.total().carried > 0, "after the restart: {restarted}\n{}", stud.log());
    seen.add(&restarted);
    seen.add(&all(&mut loads, |load| load.run(LIMIT, enough)));

    let total = seen.total();
    assert!(total.handshakes >= 450, "{seen}");
    assert_eq!(total.unexpected_full, 0, "{seen}\n{}", stud.log());
    assert_eq!(total.failed(), 0, "{seen}\n{}", stud.log());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{seen}");
    for version in TlsVersion::ALL {
        assert!(seen.of(version).across_keys > 0, "{version}: none crossed a rotation\n{seen}");
    }
    println!("beside the kills:\n{seen}during 60 of them:\n{report}");

    // Old enough that no key can be left that opens them.
    let end = rotate + lifetime + secs(1);
    wait::until(LIMIT, "the end of the first tickets' keys", || {
        early.iter().flatten().all(|ticket| ticket.age() > end).then_some(())
    })?;
    for (load, early) in loads.iter_mut().zip(&early) {
        // Five rotations are six keys.
        assert!(load.keys().len() >= 6, "{} keys\n{seen}", load.keys().len());
        let late = load.offer(early)?.total();
        assert_eq!((late.handshakes, late.resumed, late.failed()), (4, 0, 0), "{late}");
    }
    assert_eq!(stud.log(), "");
    Ok(())
}

#[test]
fn a_ticket_resumes_at_its_own_host_and_is_a_full_handshake_at_the_other() -> Result<()> {
    let ring = RingDir::new()?;
    let stud = rotating(&ring, secs(600), secs(600))?.start()?;
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        for (own, other) in [(HOSTS[0], HOSTS[1]), (HOSTS[1], HOSTS[0])] {
            let full = client.connect(stud.addr(), Some(own), None)?;
            assert_eq!((full.resumed, full.body.as_str()), (false, own));
            let ticket = full.tickets.last().ok_or("no ticket")?;
            let stranger = client.connect(stud.addr(), Some(other), Some(ticket))?;
            assert_eq!((stranger.resumed, stranger.body.as_str()), (false, other), "{version}");
            let again = client.connect(stud.addr(), Some(own), Some(ticket))?;
            assert_eq!((again.resumed, again.body.as_str()), (true, own), "{version}");
        }
    }
    Ok(())
}

/// The master forks whenever it gets SIGCHLD: were there an upkeep thread to take the signal, that
/// would fork, and the worker would serve on it.
#[test]
fn a_hundred_killed_workers_are_all_replaced_by_the_masters_only_thread() -> Result<()> {
    const KILLS: usize = 100;
    let ring = RingDir::new()?;
    let stud = rotating(&ring, secs(1), secs(60))?.start()?;
    let master = stud.master()?;
    let client = Client::new(TlsVersion::V13)?;
    let mut ticket = client.connect(stud.addr(), None, None)?.tickets.pop();
    for number in 1..=KILLS {
        // The one that dealt in the last ticket, so that each victim has an upkeep thread.
        let victim = wait::until(LIMIT, "a worker with an upkeep thread", || {
            stud.workers().ok()?.into_iter().find(|worker| worker.upkeep_threads().len() == 1)
        })
        .map_err(|late| format!("{late}, before kill {number}\n{}", stud.log()))?;
        assert_eq!(victim.threads().len(), 2, "a worker has one thread, and one for the upkeep");
        let upkeep = victim.upkeep_threads().pop().ok_or("no upkeep thread")?;
        assert!(upkeep.leaves_signals_alone(), "signals reach the upkeep thread");
        stud.kill_worker(victim)?;
        let again = client.connect(stud.addr(), None, ticket.as_ref())?;
        assert!(again.resumed, "after kill {number}\n{}", stud.log());
        ticket = again.tickets.last().cloned();
        assert_eq!(master.threads().len(), 1, "the master deals in no tickets");
    }
    println!("{KILLS} workers with an upkeep thread killed and replaced");

    assert_eq!(stud.master()?, master);
    assert_eq!(stud.workers()?.len(), 2);
    wait::until(LIMIT, "the last dead to be waited for", || {
        master.zombies().is_empty().then_some(())
    })?;
    assert_eq!(stud.log(), "");
    Ok(())
}

/// Kills so many workers, turn by turn, and waits for each one's replacement.
fn kill_workers(stud: &Stud, count: usize, pause: Duration) -> Result<()> {
    for number in 0..count {
        let workers = stud.workers()?;
        let victim = workers.get(number % workers.len().max(1)).ok_or("no workers")?;
        stud.kill_worker(*victim)?;
        thread::sleep(pause);
    }
    Ok(())
}
