//! One who looks at a ring, once or again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tktrot::clock::BootClock;
use tktrot::config::Upkeep;
use tktrot::ring::file::Place;
use tktrot::ring::view::View;

use super::counters::Counters;
use super::processes::{FileId, Processes};
use super::rates::Rates;
use super::reading::Reading;
use super::snapshot::Snapshot;
use crate::rings;
use crate::settings::Settings;

/// On a host with thousands of processes a look at all of them costs something.
const PROCESSES_KEPT: Duration = Duration::from_secs(5);

/// Looks at one ring.
pub struct Observer {
    source: Source,
    upkeep_thread_expected: bool,
    processes: Option<(Instant, FileId, Processes)>,
    last: Option<(Instant, Counters)>,
    rates: Rates,
}

/// Where the ring is looked at.
enum Source {
    /// At a place, where the file is opened anew each time, because servers may replace it.
    At(Place),
    /// Where it was opened before, by who no longer may.
    Open(PathBuf, Arc<View>),
}

impl Observer {
    /// Has not looked yet.
    pub fn new(place: Place, settings: &Settings) -> Observer {
        Self::of(Source::At(place), settings.config.upkeep == Upkeep::Thread)
    }

    /// One who has the ring open. An agent governs it, so no upkeep thread is missed.
    pub fn of_open(path: PathBuf, view: Arc<View>) -> Observer {
        Self::of(Source::Open(path, view), false)
    }

    /// One who has a ring open whose file was removed.
    pub fn of_removed(path: PathBuf, view: View, settings: &Settings) -> Observer {
        let expected = settings.config.upkeep == Upkeep::Thread;
        Self::of(Source::Open(path, Arc::new(view)), expected)
    }

    fn of(source: Source, upkeep_thread_expected: bool) -> Observer {
        Observer {
            source,
            upkeep_thread_expected,
            processes: None,
            last: None,
            rates: Rates::default(),
        }
    }

    /// The ring's name.
    pub fn name(&self) -> String {
        rings::title(&self.path())
    }

    fn path(&self) -> PathBuf {
        match &self.source {
            Source::At(place) => place.path(),
            Source::Open(path, _) => path.clone(),
        }
    }

    /// The ring as it is.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read: where, why, and which right is missing.
    pub fn look(&self) -> Result<Arc<View>> {
        match &self.source {
            Source::At(place) => rings::look_at(place).map(Arc::new),
            Source::Open(_, view) => Ok(Arc::clone(view)),
        }
    }

    /// All that is told of the ring now.
    ///
    /// # Errors
    ///
    /// As for [`Observer::look`]; or /proc cannot be read.
    pub fn read(&mut self) -> Result<Reading> {
        let view = self.look()?;
        self.look_at_processes(FileId::of(view.file())?)?;
        let (_, _, processes) = self.processes.as_ref().context("looked at above")?;
        let snapshot = Snapshot::take(&view, &BootClock);
        let path = self.path();
        let reading = Reading::of(&path, &view, &snapshot, processes, self.upkeep_thread_expected);
        let now = Instant::now();
        self.rates = match &self.last {
            Some((then, counters)) => {
                Rates::between(counters, &reading.counters, now.duration_since(*then))
            }
            None => Rates::default(),
        };
        self.last = Some((now, reading.counters));
        Ok(reading)
    }

    /// What happened per second between the last two readings.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    fn look_at_processes(&mut self, file: FileId) -> Result<()> {
        let fresh = self
            .processes
            .as_ref()
            .is_some_and(|(at, of, _)| at.elapsed() < PROCESSES_KEPT && *of == file);
        if !fresh {
            self.processes = Some((Instant::now(), file, Processes::mapping(file)?));
        }
        Ok(())
    }
}
