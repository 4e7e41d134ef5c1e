//! nginx and HAProxy with one ring, keys that change every second, visitors who mix protocol
//! versions, full handshakes and resumptions; and all the while reloads, killed and stopped workers,
//! and a processor that others take. Every handshake is judged: `make soak`.

mod disruption;
mod footprint;
mod mischief;
mod plot;
mod report;
mod servers;
mod visitor;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

pub use report::Report;

use disruption::Disruptions;
use report::Counts;
use servers::Servers;
use visitor::Visitors;

/// R: keys change so often.
const ROTATE: Duration = Duration::from_secs(1);
/// L: tickets resume for so long.
const LIFETIME: Duration = Duration::from_secs(10);

/// What a soak is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// It ends after this time,
    pub duration: Duration,
    /// or after so many handshakes, if that is sooner.
    pub handshakes: u64,
    /// Decides what happens when, as far as the scheduler of the machine lets it.
    pub seed: u64,
    /// How many visitors come at once.
    pub threads: usize,
    /// Between two samples of memory and descriptors.
    pub sample_every: Duration,
    /// Prints a line now and then.
    pub talks: bool,
}

/// What the threads of a soak share.
struct Soak<'a> {
    plan: &'a Plan,
    began: Instant,
    servers: &'a Servers,
    disruptions: Disruptions,
    handshakes: AtomicU64,
    over: AtomicBool,
}

impl Soak<'_> {
    fn goes_on(&self) -> bool {
        // Relaxed: the numbers publish nothing but themselves.
        !self.over.load(Ordering::Relaxed)
            && self.began.elapsed() < self.plan.duration
            && self.handshakes.load(Ordering::Relaxed) < self.plan.handshakes
    }

    /// Sleeps, but not past the end.
    fn pause(&self, span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until && self.goes_on() {
            thread::sleep(span.min(Duration::from_millis(20)));
        }
    }
}

/// Runs one.
///
/// # Errors
///
/// A server could not be started, or did not come back.
pub fn run(plan: &Plan) -> Result<Report> {
    let servers = Servers::start()?;
    let soak = Soak {
        plan,
        began: Instant::now(),
        servers: &servers,
        disruptions: Disruptions::default(),
        handshakes: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let counts = Mutex::new(Counts::default());
    let (samples, deeds) = thread::scope(|scope| {
        let (soak, counts) = (&soak, &counts);
        for number in 0..plan.threads {
            scope.spawn(move || Visitors::new(soak, number).visit_all_along(counts));
        }
        let mischief = scope.spawn(|| mischief::make(soak));
        let samples = footprint::watch(soak, counts);
        // Whoever has failed has ended the others.
        soak.over.store(true, Ordering::Relaxed);
        (samples, mischief.join().expect("it does not panic"))
    });
    let took = soak.began.elapsed();
    let deeds = deeds?;
    let ring = servers.ring()?;
    Ok(Report {
        plan: plan.clone(),
        took,
        counts: counts.into_inner().unwrap(),
        deeds,
        ring,
        complaints: servers.complaints(),
        samples,
        versions: servers.versions(),
    })
}
