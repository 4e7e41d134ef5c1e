//! nginx is run by signals. A thread that another library starts in its processes could swallow
//! them: the upkeep thread must not, and whatever comes and goes must leave nothing behind.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testbed::nginx::Nginx;
use testbed::process::Process;
use testbed::visitors::Visitors;
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, log};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const RELOADS: usize = 200;
const WORKERS: usize = 2;

fn start(ring: &RingDir) -> Result<Nginx> {
    let (rotate, lifetime) = (Duration::from_secs(2), Duration::from_secs(600));
    Ok(Nginx::builder().workers(WORKERS).rotating(ring, rotate, lifetime)?.start()?)
}

/// Waits until every worker has used tickets, by which it has its thread.
fn wake_all_workers(nginx: &Nginx, visitors: &mut Visitors) -> Result<()> {
    let master = nginx.master_process()?;
    wait::until(PATIENCE, "a ticket from every worker", || {
        visitors.come(nginx.addr()).ok()?;
        master.children().iter().all(|worker| worker.thread_names().len() > 1).then_some(())
    })?;
    Ok(())
}

/// The master and its workers are as on the first day, and every worker has one thread more.
fn assert_nothing_is_left_over(nginx: &Nginx) -> Result<()> {
    let master = nginx.master_process()?;
    wait::until(PATIENCE, "the last workers' end", || {
        (master.children().len() == WORKERS && master.zombies().is_empty()).then_some(())
    })?;
    assert_eq!(master.thread_names(), ["nginx"], "the master uses no tickets");
    for worker in master.children() {
        assert_eq!(worker.title(), "nginx: worker process");
        assert!(worker.zombies().is_empty());
        worker.wait_for_threads("nginx", 1, 1)?;
        let threads = worker.threads();
        for signal in [libc::SIGHUP, libc::SIGCHLD, libc::SIGUSR1, libc::SIGQUIT, libc::SIGALRM] {
            assert!(threads[1].blocks(signal), "signal {signal} could be lost");
            assert!(!threads[0].blocks(signal), "signal {signal} is blocked for the server");
        }
    }
    Ok(())
}

/// What a process could pile up: descriptors, and mappings of rings.
fn holdings(process: &Process) -> Result<(usize, usize)> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.pid()))?;
    // One has two parts: what has memory, and is locked, and what has none yet.
    let begins = |line: &&str| line.ends_with(".ring") && line.contains(" 00000000 ");
    let rings = maps.lines().filter(begins).count();
    Ok((process.open_files().len(), rings))
}

#[test]
fn two_hundred_reloads_are_all_acted_on_and_leave_nothing_behind() -> Result<()> {
    let ring = RingDir::new()?;
    let mut nginx = start(&ring)?;
    let master = nginx.master_process()?;
    let (first, mut visitors) = (Visitors::of(nginx.addr())?, Visitors::of(nginx.addr())?);
    wake_all_workers(&nginx, &mut visitors)?;
    assert_nothing_is_left_over(&nginx)?;
    let before = holdings(&master)?;

    for number in 1..=RELOADS {
        visitors.come(nginx.addr())?;
        nginx.reload_by_signal().map_err(|late| format!("reload {number}: {late}"))?;
    }
    wake_all_workers(&nginx, &mut visitors)?;
    assert_nothing_is_left_over(&nginx)?;
    assert_eq!(nginx.master_process()?, master);
    assert_eq!(holdings(&master)?, before, "descriptors and rings of the master");
    assert_eq!(before.1, 1, "one ring");
    let log = nginx.error_log();
    for (what, end) in [("heard", ", reconfiguring"), ("acted on", ": reconfiguring")] {
        let count = log.lines().filter(|line| line.ends_with(end)).count();
        assert_eq!(count, RELOADS, "{what}");
    }

    first.resume(nginx.addr(), "with tickets from before the reloads")?;
    let new = Visitors::of(nginx.addr())?;
    assert_ne!(new.key_names(), first.key_names(), "the ring did not rotate meanwhile");
    assert_eq!(log::ours(&nginx.stderr()), [""; 0]);
    assert_eq!(log::ours(&nginx.error_log()), [""; 0]);
    nginx.stop()?;
    Ok(())
}

#[test]
fn a_hundred_ended_workers_are_replaced() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = start(&ring)?;
    let master = nginx.master_process()?;
    let mut visitors = Visitors::of(nginx.addr())?;
    let mut ended = 0;
    while ended < 100 {
        wake_all_workers(&nginx, &mut visitors)?;
        let before = master.children();
        // One alone, by each signal that ends it; then both at once, which may be one SIGCHLD.
        let (victims, signal) = match ended % 5 {
            0 => (&before[..1], libc::SIGKILL),
            1 => (&before[1..], libc::SIGTERM),
            2 => (&before[..1], libc::SIGQUIT),
            _ => (&before[..], libc::SIGKILL),
        };
        ended += victims.iter().filter(|victim| victim.signal(signal)).count();
        wait::until(PATIENCE, "other workers", || {
            let now = master.children();
            let new = now.iter().all(|worker| !victims.contains(worker));
            (new && now.len() == WORKERS && nginx.worker_pids().ok()?.len() == WORKERS)
                .then_some(())
        })
        .map_err(|late| format!("after {ended}, signal {signal}: {late}\n{}", nginx.log_tail()))?;
    }
    wake_all_workers(&nginx, &mut visitors)?;
    assert_nothing_is_left_over(&nginx)
}

#[test]
fn rotated_logs_are_reopened_and_workers_leave_and_return() -> Result<()> {
    let ring = RingDir::new()?;
    let nginx = start(&ring)?;
    let master = nginx.master_process()?;
    let mut visitors = Visitors::of(nginx.addr())?;
    let error_log = nginx.dir().join("error.log");
    for number in 0..50 {
        wake_all_workers(&nginx, &mut visitors)?;
        let old = nginx.dir().join(format!("error.log.{number}"));
        fs::rename(&error_log, &old)?;
        assert!(master.signal(libc::SIGUSR1));
        wait::until(PATIENCE, "the log to be reopened", || {
            let mut all = master.children();
            all.push(master);
            let has_reopened =
                |files: Vec<PathBuf>| files.contains(&error_log) && !files.contains(&old);
            all.iter().map(Process::open_files).all(has_reopened).then_some(())
        })
        .map_err(|late| format!("USR1 number {number}: {late}"))?;
    }
    for number in 0..20 {
        wake_all_workers(&nginx, &mut visitors)?;
        assert!(master.signal(libc::SIGWINCH));
        wait::until(PATIENCE, "the workers' end", || master.children().is_empty().then_some(()))
            .map_err(|late| format!("WINCH number {number}: {late}"))?;
        assert!(master.signal(libc::SIGHUP));
        wait::until(PATIENCE, "workers", || {
            (nginx.worker_pids().ok()?.len() == WORKERS).then_some(())
        })
        .map_err(|late| format!("HUP number {number}: {late}"))?;
    }
    wake_all_workers(&nginx, &mut visitors)?;
    assert_nothing_is_left_over(&nginx)
}
