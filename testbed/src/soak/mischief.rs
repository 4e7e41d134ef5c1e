//! What happens to the servers, drawn from the seed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Soak;
use super::servers::Which;
use crate::process::Process;

/// Each server reads its configuration anew so often.
const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// Something else happens to a server after this, on average.
const DEED_AFTER: Duration = Duration::from_millis(700);
/// The longest time that a worker is stopped: less than clients wait.
const LONGEST_STOP: Duration = Duration::from_millis(400);
/// For so long others take the processors.
const STARVED_FOR: Duration = Duration::from_millis(1500);
/// After a reload old workers finish what they have; what they do not is cut off.
const LAST_CONNECTIONS: Duration = Duration::from_millis(200);

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deeds {
    /// Configurations read anew.
    pub reloads: u64,
    /// Reloads left out because a master was still busy with the last.
    pub skipped: u64,
    /// Starts of HAProxy after its worker was killed.
    pub restarts: u64,
    /// Workers that were killed.
    pub kills: u64,
    /// Workers that were stopped for a while.
    pub stops: u64,
    /// Times in which others took the processors.
    pub starvations: u64,
}

impl Deeds {
    fn add(&mut self, other: &Deeds) {
        self.reloads += other.reloads;
        self.skipped += other.skipped;
        self.restarts += other.restarts;
        self.kills += other.kills;
        self.stops += other.stops;
        self.starvations += other.starvations;
    }
}

/// Goes on until the soak is over. An error ends the soak.
pub(super) fn make(soak: &Soak<'_>) -> Result<Deeds> {
    let mut all = Deeds::default();
    let results = thread::scope(|scope| {
        let threads = Which::ALL.map(|which| scope.spawn(move || torment(soak, which)));
        let starving = scope.spawn(|| starve(soak));
        all.starvations = starving.join().expect("it does not panic");
        threads.map(|thread| thread.join().expect("it does not panic"))
    });
    for result in results {
        all.add(&result?);
    }
    Ok(all)
}

/// All that happens to one server, one after the other: its master is never asked for two things
/// at once, which not every master survives.
fn torment(soak: &Soak<'_>, which: Which) -> Result<Deeds> {
    let mut random = fastrand::Rng::with_seed(soak.plan.seed ^ 0x5eed ^ which as u64);
    let mut deeds = Deeds::default();
    let mut next_reload = Instant::now() + RELOAD_EVERY;
    while soak.goes_on() {
        soak.pause(DEED_AFTER.mul_f64(random.f64() * 2.0));
        let done = if Instant::now() >= next_reload {
            next_reload += RELOAD_EVERY;
            reload(soak, which, &mut deeds)
        } else if random.u8(..3) == 0 {
            kill(soak, which, &mut random, &mut deeds)
        } else {
            stop(soak, which, &mut random, &mut deeds);
            Ok(())
        };
        if done.is_err() {
            soak.over.store(true, std::sync::atomic::Ordering::Relaxed);
            return done.map(|()| deeds);
        }
    }
    Ok(deeds)
}

fn reload(soak: &Soak<'_>, which: Which, deeds: &mut Deeds) -> Result<()> {
    soak.servers.master(which)?;
    if !soak.servers.hears_signals(which) {
        deeds.skipped += 1;
        return Ok(());
    }
    let old = soak.servers.workers(which);
    let lasting = soak.disruptions.begin(which);
    if !soak.servers.send_reload(which)? {
        anyhow::bail!("the master of {} is gone", which.name());
    }
    deeds.reloads += 1;
    // Until there are new workers, and the old ones have no connections left.
    let deadline = Instant::now() + RELOAD_EVERY;
    let is_new = |worker: &Process| !old.contains(worker);
    while Instant::now() < deadline && !soak.servers.workers(which).iter().any(is_new) {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(LAST_CONNECTIONS);
    drop(lasting);
    Ok(())
}

fn kill(
    soak: &Soak<'_>,
    which: Which,
    random: &mut fastrand::Rng,
    deeds: &mut Deeds,
) -> Result<()> {
    let workers = soak.servers.workers(which);
    if workers.is_empty() || (which == Which::Haproxy && !soak.servers.hears_signals(which)) {
        return Ok(());
    }
    if which == Which::Haproxy && workers.len() > 1 {
        // The end of one that is on its way out is no failure to the master: it would not end.
        return Ok(());
    }
    let worker = workers[random.usize(..workers.len())];
    let lasting = soak.disruptions.begin(which);
    deeds.kills += u64::from(worker.signal(libc::SIGKILL));
    let _ = worker.wait_gone(Duration::from_secs(5));
    if which == Which::Haproxy {
        soak.servers.restart_haproxy()?;
        deeds.restarts += 1;
    }
    soak.servers.wait_until_it_serves(which)?;
    drop(lasting);
    Ok(())
}

/// Stops a worker for a while: whatever it was at, others find it there. No connection breaks.
fn stop(soak: &Soak<'_>, which: Which, random: &mut fastrand::Rng, deeds: &mut Deeds) {
    let workers = soak.servers.workers(which);
    if workers.is_empty() {
        return;
    }
    let worker = workers[random.usize(..workers.len())];
    if worker.signal(libc::SIGSTOP) {
        deeds.stops += 1;
        thread::sleep(LONGEST_STOP.mul_f64(random.f64()));
        worker.signal(libc::SIGCONT);
    }
}

/// Now and then a thread per processor computes for a while.
fn starve(soak: &Soak<'_>) -> u64 {
    let mut random = fastrand::Rng::with_seed(soak.plan.seed ^ 0x57a2);
    let processors = thread::available_parallelism().map_or(2, usize::from);
    let mut times = 0;
    while soak.goes_on() {
        soak.pause(Duration::from_secs(1 + random.u64(..6)));
        if !soak.goes_on() {
            break;
        }
        times += 1;
        let until = Instant::now() + STARVED_FOR;
        thread::scope(|scope| {
            for _ in 0..processors * 2 {
                scope.spawn(|| {
                    while Instant::now() < until {
                        std::hint::spin_loop();
                    }
                });
            }
        });
    }
    times
}
