use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::footprint::{Footprint, Sample};
use super::mischief::Deeds;
use super::servers::{RingFacts, Which, most_keys};
use super::{LIFETIME, Plan, ROTATE, plot};
use crate::client::TlsVersion;
use crate::load;
use crate::visit::{Promise, Visit};

/// What a master's private memory may grow by after the first quarter: what an allocator leaves
/// unused, not what a leak of some bytes a reload or a connection comes to.
const MAX_GROWTH_KIB: u64 = 512;
/// A shorter soak has no time to warm up, and says nothing of growth.
const ENOUGH_SAMPLES: usize = 40;

/// Visits by outcome.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Of each server.
    servers: [load::Report; 2],
    /// Connections that broke while a worker was killed or a server reloaded, and were tried again.
    pub cut_off: u64,
}

/// What a soak has come to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub plan: Plan,
    /// How long it took.
    pub took: Duration,
    /// Handshakes.
    pub counts: Counts,
    /// What was done to the servers.
    pub deeds: Deeds,
    /// The ring at the end.
    pub ring: RingFacts,
    /// Lines of the library in the servers' logs: there are to be none.
    pub complaints: Vec<String>,
    /// Memory and descriptors over time.
    pub samples: Vec<Sample>,
    /// Who served.
    pub versions: Vec<String>,
}

impl Counts {
    /// Adds one that was made so many seconds after the beginning.
    pub(super) fn visit(
        &mut self,
        which: Which,
        version: TlsVersion,
        visit: &Visit,
        promise: &Promise,
        at: f32,
    ) {
        let counts = self.servers[which as usize].counts(version);
        let notes = counts.notes.len();
        counts.visit(visit, promise, false, None);
        for note in &mut counts.notes[notes..] {
            *note = format!("{at:.2} s, {}, {version}: {note}", which.name());
        }
    }

    /// Handshakes that went well, of this server and version, full and resumed.
    pub fn of(&self, which: Which, version: TlsVersion) -> [u64; 2] {
        let counts = self.servers[which as usize].of(version);
        [counts.handshakes - counts.resumed, counts.resumed]
    }

    /// All of them.
    pub fn total(&self) -> load::Counts {
        let mut total = load::Counts::default();
        self.servers.iter().for_each(|report| total.add(&report.total()));
        total
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        write!(
            f,
            "{} handshakes, {} resumed, {} unexpected full, {} failed, {} cut off",
            total.handshakes,
            total.resumed,
            total.unexpected_full,
            total.failed(),
            self.cut_off
        )
    }
}

/// How something is at first, when all is warm, and at the end: medians.
#[derive(Clone, Copy, Debug)]
struct Course {
    warm: u64,
    end: u64,
}

impl Course {
    fn of(samples: &[Sample], value: impl Fn(&Sample) -> u64) -> Course {
        let quarter = samples.len() / 4;
        let median = |part: &[Sample]| {
            let mut values: Vec<u64> = part.iter().map(&value).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Course {
            warm: median(&samples[quarter..2 * quarter]),
            end: median(&samples[samples.len() - quarter..]),
        }
    }

    fn growth(&self) -> u64 {
        self.end.saturating_sub(self.warm)
    }

    fn json(&self) -> Value {
        json!({ "warm": self.warm, "end": self.end })
    }
}

impl Report {
    /// What must not be; empty when all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let counts = self.counts.total();
        if counts.failed() > 0 {
            problems.push(format!("{} connections failed", counts.failed()));
        }
        if counts.unexpected_full > 0 {
            problems.push(format!("{} tickets were lost", counts.unexpected_full));
        }
        if self.ring.present > most_keys() {
            problems.push(format!("{} keys are left in the ring", self.ring.present));
        }
        if !self.complaints.is_empty() {
            problems.push(format!("the servers' logs have lines of ours: {:?}", self.complaints));
        }
        if self.samples.len() >= ENOUGH_SAMPLES {
            problems.extend(self.growth());
        }
        problems
    }

    fn growth(&self) -> Vec<String> {
        let mut grown = Vec::new();
        for (place, which) in Which::ALL.into_iter().enumerate() {
            let name = which.name();
            let memory = self.course(|sample| sample.masters[place].private_kib);
            if memory.growth() > MAX_GROWTH_KIB {
                grown.push(format!("{name}'s master has grown by {} KiB", memory.growth()));
            }
            let descriptors = self.course(|sample| sample.masters[place].descriptors);
            if descriptors.growth() > 0 {
                grown
                    .push(format!("{name}'s master has {} descriptors more", descriptors.growth()));
            }
            let workers = self.course(|sample| sample.workers[place]);
            if workers.growth() > 1 {
                grown.push(format!("{name} has {} workers more", workers.growth()));
            }
        }
        grown
    }

    fn course(&self, value: impl Fn(&Sample) -> u64) -> Course {
        Course::of(&self.samples, value)
    }

    /// Everything, for a file.
    pub fn json(&self) -> Value {
        let versions = |which: Which| {
            let of = |version| {
                let [full, resumed] = self.counts.of(which, version);
                json!({ "full": full, "resumed": resumed })
            };
            json!({ "tls1.2": of(TlsVersion::V12), "tls1.3": of(TlsVersion::V13) })
        };
        let course = |place: usize| {
            json!({
                "master_private_kib": self.course(|it| it.masters[place].private_kib).json(),
                "master_pss_kib": self.course(|it| it.masters[place].pss_kib).json(),
                "master_descriptors": self.course(|it| it.masters[place].descriptors).json(),
                "workers": self.course(|it| it.workers[place]).json(),
                "workers_private_kib": self.course(|it| it.of_workers[place].private_kib).json(),
                "workers_descriptors": self.course(|it| it.of_workers[place].descriptors).json(),
            })
        };
        let footprint = |it: &Footprint| json!([it.private_kib, it.pss_kib, it.descriptors]);
        let sample = |it: &Sample| {
            json!({
                "at_s": it.at.as_secs_f64(),
                "handshakes": it.handshakes,
                "resumed": it.resumed,
                "workers": it.workers,
                "masters": it.masters.each_ref().map(footprint),
                "of_workers": it.of_workers.each_ref().map(footprint),
            })
        };
        let total = self.counts.total();
        json!({
            "seed": self.plan.seed,
            "threads": self.plan.threads,
            "rotate_s": ROTATE.as_secs(),
            "lifetime_s": LIFETIME.as_secs(),
            "took_s": self.took.as_secs_f64(),
            "versions": self.versions,
            "handshakes": total.handshakes,
            "resumed": total.resumed,
            "nginx": versions(Which::Nginx),
            "haproxy": versions(Which::Haproxy),
            "unexpected_full": total.unexpected_full,
            "failed": total.failed(),
            "cut_off_and_tried_again": self.counts.cut_off,
            "reloads": self.deeds.reloads,
            "reloads_left_out": self.deeds.skipped,
            "restarts_of_haproxy": self.deeds.restarts,
            "workers_killed": self.deeds.kills,
            "workers_stopped": self.deeds.stops,
            "starvations": self.deeds.starvations,
            "keys_made": self.ring.made,
            "keys_erased": self.ring.made.saturating_sub(self.ring.present),
            "course": { "nginx": course(0), "haproxy": course(1) },
            "problems": self.problems(),
            "notes": total.notes,
            "footprint_is": ["private KiB", "Pss KiB", "descriptors"],
            "samples": self.samples.iter().map(sample).collect::<Vec<_>>(),
        })
    }

    /// A plot over time, as SVG.
    ///
    /// # Errors
    ///
    /// There is no sample.
    pub fn plot(&self) -> anyhow::Result<String> {
        plot::draw(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { deeds, ring, .. } = self;
        writeln!(f, "seed {}, {:.0} s: {}", self.plan.seed, self.took.as_secs_f64(), self.counts)?;
        for which in Which::ALL {
            for version in TlsVersion::ALL {
                let [full, resumed] = self.counts.of(which, version);
                writeln!(f, "  {:<8}{version}: {full} full, {resumed} resumed", which.name())?;
            }
        }
        writeln!(
            f,
            "  {} reloads, {} workers killed, {} restarts, {} stopped, starved {} times; {} keys made, \
             {} erased",
            deeds.reloads,
            deeds.kills,
            deeds.restarts,
            deeds.stops,
            deeds.starvations,
            ring.made,
            ring.made.saturating_sub(ring.present)
        )?;
        for (place, which) in Which::ALL.into_iter().enumerate() {
            let memory = self.course(|sample| sample.masters[place].private_kib);
            let open = self.course(|sample| sample.masters[place].descriptors);
            writeln!(
                f,
                "  {}'s master, warm and at the end: {} and {} KiB of its own, {} and {} descriptors",
                which.name(),
                memory.warm,
                memory.end,
                open.warm,
                open.end
            )?;
        }
        self.counts.total().notes.iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}
