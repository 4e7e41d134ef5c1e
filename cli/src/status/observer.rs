//! One who looks at a ring, once or again and again.

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

/// Looks at the ring at one place; the file is opened anew each time, because servers may replace it.
pub struct Observer {
    place: Place,
    upkeep_thread_expected: bool,
    processes: Option<(Instant, FileId, Processes)>,
    last: Option<(Instant, Counters)>,
    rates: Rates,
}

impl Observer {
    /// Has not looked yet.
    pub fn new(place: Place, settings: &Settings) -> Observer {
        Observer {
            place,
            upkeep_thread_expected: settings.config.upkeep == Upkeep::Thread,
            processes: None,
            last: None,
            rates: Rates::default(),
        }
    }

    /// The ring as it is.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read: where, why, and which right is missing.
    pub fn look(&self) -> Result<View> {
        rings::look_at(&self.place)
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
        let path = self.place.path();
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
