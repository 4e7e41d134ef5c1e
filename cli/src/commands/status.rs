//! `tktrot status [RING] [--json | --prometheus]`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::output::{out, printable, width};
use crate::rings::{self, NamedRing, RingArgument};
use crate::settings::{self, Settings};
use crate::severity::Severity;
use crate::status::alarms::{alarms, worst};
use crate::status::counters::Rates;
use crate::status::json::{Document, Ring};
use crate::status::observer::Observer;
use crate::status::ring::RingStatus;
use crate::status::{prometheus, text};

#[derive(clap::Args)]
#[command(after_long_help = "Exit status: that of the worst alarm: 0 ok (none), 1 warning, 2 \
    critical or a ring cannot be read. Remarks do not count.")]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    #[command(flatten)]
    form: Form,

    /// Looks twice, this many seconds apart, and shows what happened per second.
    #[arg(long, value_name = "SECONDS", value_parser = interval, conflicts_with = "prometheus")]
    interval: Option<Duration>,
}

#[derive(clap::Args)]
#[group(multiple = false)]
struct Form {
    /// Prints JSON (docs/schemas/status.schema.json)
    #[arg(long)]
    json: bool,

    /// Prints metrics in Prometheus' text format
    #[arg(long)]
    prometheus: bool,
}

/// For clap: seconds, with or without a fraction; or with another unit.
pub fn interval(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    let seconds = seconds.filter(|seconds| (0.1..=3600.0).contains(seconds));
    let accepted = "accepted: 0.1 to 3600 seconds, such as 1, 0.5, 500ms, 10s or 5m";
    seconds.map(Duration::from_secs_f64).ok_or(accepted.into())
}

/// A ring, what was read of it or why that failed, and what happened per second.
struct Seen {
    name: String,
    path: String,
    status: Result<RingStatus, String>,
    rates: Option<Rates>,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let places = arguments.ring.places(&settings)?;
    let targets = NamedRing::all(&places);
    // If there is only one ring and it cannot be read, the command fails, whatever the form.
    if let [target @ NamedRing::At(_)] = &*targets {
        target.look()?;
    }
    let seen = look(&targets, &settings, arguments.interval);
    let worst = seen.iter().map(Seen::severity).max().unwrap_or(Severity::Ok);
    out!("{}", told(&seen, &arguments.form)?);
    Ok(worst)
}

/// A ring to look at, or why that is impossible.
struct Candidate {
    name: String,
    path: PathBuf,
    observer: Result<Observer, String>,
}

impl Candidate {
    fn of(target: &NamedRing, settings: &Settings) -> Candidate {
        let path = target.path();
        let name = rings::title(&path);
        match target {
            NamedRing::At(place) => {
                let observer = Ok(Observer::new(place.clone(), settings));
                Candidate { name, path, observer }
            }
            NamedRing::Removed(orphan) => {
                let name = format!("{name} (removed, in {})", orphan.owners());
                let view = target.look().map_err(|error| format!("{error:#}"));
                let observer = view.map(|view| Observer::of_removed(path.clone(), view, settings));
                Candidate { name, path, observer }
            }
        }
    }

    fn read(&mut self) -> Result<RingStatus, String> {
        let observer = self.observer.as_mut().map_err(|error| error.clone())?;
        observer.read().map_err(|error| format!("{error:#}"))
    }

    fn seen(mut self, with_rates: bool) -> Seen {
        let status = self.read().map(|status| RingStatus { name: printable(&self.name), ..status });
        let rates = self.observer.as_ref().ok().filter(|_| with_rates).map(Observer::rates);
        let path = printable(&self.path.to_string_lossy());
        Seen { name: printable(&self.name), path, status, rates }
    }
}

fn look(targets: &[NamedRing], settings: &Settings, interval: Option<Duration>) -> Vec<Seen> {
    let mut candidates: Vec<_> =
        targets.iter().map(|target| Candidate::of(target, settings)).collect();
    if let Some(interval) = interval {
        candidates.iter_mut().for_each(|candidate| drop(candidate.read()));
        thread::sleep(interval);
    }
    candidates.into_iter().map(|candidate| candidate.seen(interval.is_some())).collect()
}

fn told(seen: &[Seen], form: &Form) -> Result<String> {
    if form.json {
        let rings = seen.iter().map(Seen::json).collect();
        return Ok(serde_json::to_string_pretty(&Document::of(rings))? + "\n");
    }
    if form.prometheus {
        let rings: Vec<_> =
            seen.iter().map(|seen| (seen.name.clone(), seen.status.clone().ok())).collect();
        return prometheus::text(&rings);
    }
    if let [Seen { status: Ok(status), rates, .. }] = seen {
        return Ok(text::full(status, rates.as_ref(), width()));
    }
    let rings: Vec<_> = seen.iter().map(|seen| (seen.name.clone(), seen.status.clone())).collect();
    Ok(text::summaries(&rings))
}

impl Seen {
    fn severity(&self) -> Severity {
        self.status.as_ref().map_or(Severity::Critical, |status| worst(&alarms(status)))
    }

    fn json(&self) -> Ring {
        match &self.status {
            Ok(status) => Ring::read(status, self.rates),
            Err(error) => Ring::Unreadable {
                path: self.path.clone(),
                severity: Severity::Critical,
                error: error.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_may_have_a_unit() {
        for (text, milliseconds) in [
            ("1", 1000),
            ("0.5", 500),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "s", "0", "2h", "1d", "1 s", "-1", "NaN", "inf", "1e9", "99ms"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
