//! The main job, end to end: Debian's stock nginx under the shim, OpenSSL clients over TLS 1.2 and
//! 1.3, and all that makes servers lose tickets.

use std::thread;
use std::time::{Duration, Instant};

use testbed::RingDir;
use testbed::artifacts;
use testbed::client::{Client, TlsVersion};
use testbed::load::{Load, Progress, Promise, Report};
use testbed::nginx::{Builder, Nginx};
use testbed::wait;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For one stretch of load. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(90);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// An nginx under the shim with this rotation and lifetime.
fn rotating(ring: &RingDir, rotate: Duration, lifetime: Duration) -> Result<Builder> {
    Ok(Nginx::builder()
        .workers(2)
        .preload(artifacts::shim()?)
        .ring(ring)
        .env("TKTROT_ROTATE", &format!("{}s", rotate.as_secs()))
        .env("TKTROT_LIFETIME", &format!("{}s", lifetime.as_secs())))
}

#[test]
fn every_ticket_resumes_across_rotations_a_reload_a_restart_and_an_upgrade() -> Result<()> {
    let (rotate, lifetime) = (secs(2), secs(8));
    let ring = RingDir::new()?;
    // A new binary gets nothing of the old one's environment but what `env` directives name.
    let mut nginx = rotating(&ring, rotate, lifetime)?.keep_environment().start()?;
    let mut load = Load::new(nginx.addr(), 4, Promise::rotating(rotate, lifetime))?;
    let mut seen = Report::default();
    let enough = |progress: Progress| progress.handshakes >= 100 && progress.new_keys >= 2;

    seen.add(&load.run(LIMIT, enough));
    let early = load.tickets();

    let (report, reloaded) = load.during(LIMIT, || nginx.reload());
    reloaded?;
    assert!(report.total().resumed > 0, "{report}");
    seen.add(&report);
    seen.add(&load.run(LIMIT, enough));

    seen.add(&load.fresh_round());
    nginx.stop()?;
    nginx.start()?;
    let report = load.round();
    assert!(report.total().carried > 0, "after the restart: {report}\n{}", nginx.log_tail());
    seen.add(&report);
    seen.add(&load.run(LIMIT, enough));

    let (report, upgraded) = load.during(LIMIT, || nginx.upgrade_usr2());
    upgraded?;
    assert!(report.total().resumed > 0, "{report}");
    seen.add(&report);
    seen.add(&load.run(LIMIT, enough));

    let total = seen.total();
    assert!(total.handshakes >= 400, "{seen}");
    assert_eq!(total.unexpected_full, 0, "{seen}\n{}", nginx.log_tail());
    assert_eq!(total.failed(), 0, "{seen}\n{}", nginx.log_tail());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{seen}");
    // Five rotations are six keys.
    assert!(load.keys().len() >= 6, "{} keys\n{seen}", load.keys().len());
    for version in TlsVersion::ALL {
        assert!(
            seen.of(version).across_keys > 0,
            "{version}: no ticket crossed a rotation\n{seen}"
        );
    }

    // Old enough that no key can be left that opens them.
    let end = rotate + lifetime + secs(1);
    wait::until(LIMIT, "the end of the first tickets' keys", || {
        early.iter().all(|ticket| ticket.age() > end).then_some(())
    })?;
    let late = load.offer(&early)?.total();
    assert_eq!(late.handshakes, early.len() as u64, "{late}");
    assert_eq!((late.resumed, late.failed()), (0, 0), "{late}");
    Ok(())
}

#[test]
fn killed_workers_cost_their_connections_and_nothing_else() -> Result<()> {
    let (rotate, lifetime) = (secs(1), secs(8));
    let ring = RingDir::new()?;
    let nginx = rotating(&ring, rotate, lifetime)?.start()?;
    let mut load = Load::new(nginx.addr(), 4, Promise::rotating(rotate, lifetime))?;

    let (report, killed) = load.during(LIMIT, || kill_workers(&nginx, secs(20)));
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

/// Kills a worker every 100 ms, turn by turn, and returns how many.
fn kill_workers(nginx: &Nginx, time: Duration) -> Result<usize> {
    let began = Instant::now();
    let mut killed = 0;
    while began.elapsed() < time {
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
fn one_saved_tls_12_session_resumes_ten_times_across_two_rotations() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = rotating(&ring, secs(2), secs(60))?.start()?;
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
fn without_the_shim_a_restart_loses_every_ticket() -> Result<()> {
    let mut nginx = Nginx::builder().workers(2).start()?;
    let mut load = Load::new(nginx.addr(), 4, Promise::constant(secs(300)))?;
    load.round();
    let before = load.round().total();
    assert_eq!((before.resumed, before.unexpected_full), (8, 0), "{before}");
    nginx.stop()?;
    nginx.start()?;
    let after = load.round().total();
    assert_eq!((after.resumed, after.unexpected_full, after.failed()), (0, 8, 0), "{after}");
    Ok(())
}
