//! The main job, end to end: Debian's stock nginx under the shim, OpenSSL clients over TLS 1.2 and
//! 1.3, and all that makes servers lose tickets.

use std::thread;
use std::time::{Duration, Instant};

use testbed::RingDir;
use testbed::client::{Client, TlsVersion};
use testbed::journey::{Event, Journey, LIMIT, loses_every_ticket};
use testbed::nginx::Nginx;
use testbed::wait;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn every_ticket_resumes_across_rotations_a_reload_an_upgrade_and_a_restart() -> Result {
    let journey = Journey { to_the_end: true, ..Journey::new(secs(2), secs(8)) };
    let ring = RingDir::new()?;
    let nginx = Nginx::builder().rotating(&ring, journey.rotate, journey.lifetime)?;
    // A new binary gets nothing of the old one's environment but what `env` directives name.
    let mut nginx = nginx.keep_environment().start()?;
    journey.run(&mut nginx, vec![Event::reload(), Event::new(Nginx::upgrade_usr2)])?;
    Ok(())
}

#[test]
fn killed_workers_cost_their_connections_and_nothing_else() -> Result {
    let journey = Journey::new(secs(1), secs(8));
    let ring = RingDir::new()?;
    let nginx = Nginx::builder().rotating(&ring, journey.rotate, journey.lifetime)?.start()?;
    let mut load = journey.load(&nginx)?;

    let (report, killed) = load.during(LIMIT, || kill_workers(&nginx, secs(20), 20));
    let killed = killed?;
    let total = report.total();
    assert!(killed >= 20, "only {killed} workers were killed");
    assert_eq!(total.failed_alive(), 0, "{report}\n{}", nginx.log_tail());
    assert_eq!(total.unexpected_full, 0, "{report}\n{}", nginx.log_tail());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{report}");
    assert!(total.across_keys > 0, "{report}");
    assert!(load.keys().len() >= 5, "the ring rotated {} times\n{report}", load.keys().len());

    // A visitor whose connection was killed comes back with the same ticket. And the ring still
    // rotates, whoever held its lock when he died.
    let after = load.run(LIMIT, |progress| progress.new_keys >= 2);
    let total = after.total();
    assert_eq!((total.unexpected_full, total.failed()), (0, 0), "{after}\n{}", nginx.log_tail());
    assert!(total.carried > 0, "{after}");
    Ok(())
}

/// Kills a worker every 100 ms, turn by turn, for so long and until there were so many, if that is
/// possible in time; returns how many.
fn kill_workers(nginx: &Nginx, time: Duration, least: usize) -> Result<usize> {
    let began = Instant::now();
    let mut killed = 0;
    while began.elapsed() < time || (killed < least && began.elapsed() < LIMIT) {
        let workers = nginx.worker_pids()?;
        if let Some(&victim) = workers.get(killed % workers.len().max(1))
            && nginx.kill_worker(victim)?
        {
            killed += 1;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(killed)
}

#[test]
fn one_saved_tls_12_session_resumes_ten_times_across_two_rotations() -> Result {
    let ring = RingDir::new()?;
    let nginx = Nginx::builder().rotating(&ring, secs(2), secs(60))?.start()?;
    let client = Client::new(TlsVersion::V12)?;
    let sealing = || client.connect(nginx.addr(), None, None).ok()?.tickets.pop();

    let saved = sealing().ok_or("no ticket")?;
    let mut keys = vec![saved.key_name()];
    for number in 1..=10 {
        if number == 4 || number == 8 {
            let key = wait::until(LIMIT, "a rotation", || {
                let key = sealing()?.key_name();
                (!keys.contains(&key)).then_some(key)
            })?;
            keys.push(key);
        }
        let again = client.connect(nginx.addr(), None, Some(&saved))?;
        assert!(again.resumed, "resumption {number}, {} keys later", keys.len() - 1);
        assert!(!saved.is_withdrawn(), "resumption {number} renewed the ticket");
    }
    assert_eq!(keys.len(), 3);
    Ok(())
}

#[test]
fn without_the_shim_a_restart_loses_every_ticket() -> Result {
    loses_every_ticket(&mut Nginx::builder().start()?, |nginx| {
        nginx.stop()?;
        nginx.start()
    })?;
    Ok(())
}
