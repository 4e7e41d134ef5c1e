//! What the servers take, over time.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Soak;
use super::report::Counts;
use super::servers::Which;
use crate::process::Process;

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Private memory, in KiB (proc(5), smaps_rollup): what nobody shares, and a leak adds to.
    pub private_kib: u64,
    /// Its share of all its memory, in KiB.
    pub pss_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// All at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Since the soak began.
    pub at: Duration,
    /// Handshakes so far.
    pub handshakes: u64,
    /// Of those, resumed.
    pub resumed: u64,
    /// The masters, which live from the beginning to the end; as [`Which::ALL`].
    pub masters: [Footprint; 2],
    /// How many workers there are, those on their way out among them.
    pub workers: [u64; 2],
    /// The workers' descriptors and memory together.
    pub of_workers: [Footprint; 2],
}

pub(super) fn watch(soak: &Soak<'_>, counts: &Mutex<Counts>) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut said = Instant::now();
    while soak.goes_on() {
        soak.pause(soak.plan.sample_every);
        let sample = take(soak, counts);
        if soak.plan.talks && said.elapsed() >= Duration::from_secs(10) {
            said = Instant::now();
            let counts = counts.lock().unwrap();
            println!("{:>5} s: {}", sample.at.as_secs(), *counts);
        }
        samples.push(sample);
    }
    samples
}

fn take(soak: &Soak<'_>, counts: &Mutex<Counts>) -> Sample {
    let mut sample = Sample {
        at: soak.began.elapsed(),
        handshakes: soak.handshakes.load(Ordering::Relaxed),
        resumed: counts.lock().unwrap().total().resumed,
        ..Sample::default()
    };
    for (place, which) in Which::ALL.into_iter().enumerate() {
        if let Ok(master) = soak.servers.master(which) {
            sample.masters[place] = Footprint::of(&master);
        }
        let workers = soak.servers.workers(which);
        sample.workers[place] = workers.len() as u64;
        for worker in &workers {
            sample.of_workers[place].add(Footprint::of(worker));
        }
    }
    sample
}

impl Footprint {
    /// Zeroes for a process that is gone.
    fn of(process: &Process) -> Footprint {
        let rollup = format!("/proc/{}/smaps_rollup", process.pid());
        let text = fs::read_to_string(rollup).unwrap_or_default();
        let sum = |start: &str| -> u64 {
            let lines = text.lines().filter(|line| line.starts_with(start));
            lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
        };
        let descriptors = process.open_files().len() as u64;
        Footprint { private_kib: sum("Private_"), pss_kib: sum("Pss:"), descriptors }
    }

    fn add(&mut self, other: Footprint) {
        self.private_kib += other.private_kib;
        self.pss_kib += other.pss_kib;
        self.descriptors += other.descriptors;
    }
}
