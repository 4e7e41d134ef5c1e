//! One of the two servers, and what it lives through.

use std::fmt;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Result, ensure};
use testbed::load::{Load, Progress, Promise, Report, Souvenir};
use testbed::nginx::Nginx;

use crate::interrupt;

/// R of the server under the shim.
pub const ROTATE: Duration = Duration::from_secs(2);
/// L of the server under the shim.
pub const LIFETIME: Duration = Duration::from_secs(8);

const ROTATIONS: usize = 6;
/// The number of rows for each protocol version.
pub const PHASES: usize = 1 + ROTATIONS + 1 + 2;

/// Visitors for each protocol version.
const VISITORS: usize = 8;
/// The pause of each thread between connections, so that the table has hundreds of them, not tens of
/// thousands.
const PACE: Duration = Duration::from_millis(50);
/// For one phase, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(20);

/// What a row of the table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first visits.
    Start,
    /// Visits around this rotation.
    Rotation(usize),
    /// Tickets of the first phase, when their key has to be gone.
    Expired,
    /// First visits, a reload, and everybody comes back.
    Reload,
    /// First visits, a restart, and everybody comes back.
    Restart,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Start => f.pad("start"),
            Phase::Rotation(number) => f.pad(&format!("rotation {number}")),
            Phase::Expired => f.pad("expired"),
            Phase::Reload => f.pad("reload"),
            Phase::Restart => f.pad("restart"),
        }
    }
}

/// An nginx, its visitors, and what they have seen.
pub struct Side {
    nginx: Nginx,
    load: Load,
    rotates: bool,
    reports: Vec<(Phase, Report)>,
}

impl Side {
    /// For an nginx that was not started yet.
    pub fn new(nginx: Nginx, promise: Promise) -> Result<Side> {
        let load = Load::new(nginx.addr(), VISITORS, promise)?.pace(PACE);
        Ok(Side { nginx, load, rotates: promise.rotate.is_some(), reports: Vec::new() })
    }

    /// Goes through all phases and sends what each of them brought.
    pub fn run(&mut self, rows: Sender<(Phase, Report)>) -> Result<()> {
        let report = |side: &mut Side, phase, report: Report| {
            side.reports.push((phase, report.clone()));
            // Nobody listens any more when the other side has failed.
            let _ = rows.send((phase, report));
            ensure!(!interrupt::requested(), "interrupted");
            Ok(())
        };
        self.nginx.start()?;
        let mut start = self.load.fresh_round();
        start.add(&self.load.run(LIMIT, |progress| progress.elapsed >= ROTATE / 2));
        let souvenirs = self.load.tickets();
        report(self, Phase::Start, start)?;
        for number in 1..=ROTATIONS {
            let seen = self.visits_around_a_rotation();
            report(self, Phase::Rotation(number), seen)?;
        }
        let expired = self.offer_expired(&souvenirs)?;
        report(self, Phase::Expired, expired)?;
        let mut reload = self.load.fresh_round();
        self.nginx.reload()?;
        reload.add(&self.load.round());
        report(self, Phase::Reload, reload)?;
        let mut restart = self.load.fresh_round();
        self.nginx.stop()?;
        self.nginx.start()?;
        restart.add(&self.load.round());
        report(self, Phase::Restart, restart)
    }

    /// Everything that was seen, phase by phase.
    pub fn reports(&self) -> &[(Phase, Report)] {
        &self.reports
    }

    /// Everything that was seen, in one.
    pub fn report(&self) -> Report {
        let mut sum = Report::default();
        self.reports.iter().for_each(|(_, report)| sum.add(report));
        sum
    }

    /// How many keys have made tickets.
    pub fn keys(&self) -> usize {
        self.load.keys().len()
    }

    /// Keeps the log files, and says where they are and what they hold last.
    pub fn keep_logs(&mut self, problems: &mut Vec<String>) {
        self.nginx.keep_files();
        problems.push(format!("the logs of nginx:\n{}", self.nginx.log_tail()));
    }

    fn visits_around_a_rotation(&mut self) -> Report {
        let rotates = self.rotates;
        self.load.run(LIMIT, |progress: Progress| {
            let rotated = !rotates || progress.new_keys > 0;
            interrupt::requested() || (progress.elapsed >= ROTATE && rotated)
        })
    }

    fn offer_expired(&mut self, souvenirs: &[Souvenir]) -> Result<Report> {
        let end = ROTATE + LIFETIME + Duration::from_secs(1);
        // They are that old already, unless the phases were shorter than planned.
        while !souvenirs.iter().all(|ticket| ticket.age() > end) {
            ensure!(!interrupt::requested(), "interrupted");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(self.load.offer(souvenirs))
    }
}
