//! A server with the life of stud under the shim: contexts made by root, switched by name, everything
//! given up before the first fork, replacements forked inside a SIGCHLD handler.

use std::thread;
use std::time::Duration;

use testbed::RingDir;
use testbed::client::{Client, ErrorKind, TlsVersion};
use testbed::journey::{Event, Journey, LIMIT};
use testbed::process::needs_root;
use testbed::stud::Stud;
use testbed::wait;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const HOSTS: [&str; 2] = ["a.test", "b.test"];

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A stud with two hosts under the shim, with this rotation and lifetime.
fn rotating(ring: &RingDir, rotate: Duration, lifetime: Duration) -> Result<Stud> {
    needs_root("stud starts as root, then changes its root and user");
    let builder = HOSTS.iter().fold(Stud::builder()?, |builder, host| builder.host(host));
    Ok(builder.rotating(ring, rotate, lifetime)?.start()?)
}

/// Visitors of each host, and of none.
#[test]
fn every_hosts_tickets_resume_across_rotations_killed_workers_and_a_restart() -> Result {
    let journey = Journey {
        hosts: vec![None, Some(HOSTS[0]), Some(HOSTS[1])],
        visitors: 2,
        threads: 3,
        handshakes: 150,
        to_the_end: true,
        ..Journey::new(secs(2), secs(8))
    };
    let ring = RingDir::new()?;
    let mut stud = rotating(&ring, journey.rotate, journey.lifetime)?;
    // Long enough that keys rotate meanwhile.
    let kills = Event::new(|stud| kill_workers(stud, 60, Duration::from_millis(60)));
    journey.run(&mut stud, vec![kills.excusing(&[ErrorKind::Killed])])?;
    assert_eq!(stud.log(), "");
    Ok(())
}

#[test]
fn a_ticket_resumes_at_its_own_host_and_is_a_full_handshake_at_the_other() -> Result {
    let ring = RingDir::new()?;
    let stud = rotating(&ring, secs(600), secs(600))?;
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
fn a_hundred_killed_workers_are_all_replaced_by_the_masters_only_thread() -> Result {
    const KILLS: usize = 100;
    let ring = RingDir::new()?;
    let stud = rotating(&ring, secs(1), secs(60))?;
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
        assert_eq!(master.threads().len(), 1, "the master uses no tickets");
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
fn kill_workers(stud: &Stud, count: usize, pause: Duration) -> Result {
    for number in 0..count {
        let workers = stud.workers()?;
        let victim = workers.get(number % workers.len().max(1)).ok_or("no workers")?;
        stud.kill_worker(*victim)?;
        thread::sleep(pause);
    }
    Ok(())
}
