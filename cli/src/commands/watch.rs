//! `tktrot watch [RING]`.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::commands::status::interval;
use crate::rings::RingArgument;
use crate::settings;
use crate::severity::Severity;
use crate::status::observer::Observer;
use crate::watch::rounds::{self, Rounds};

#[derive(clap::Args)]
#[command(after_long_help = "\
On a terminal it draws, until q, Ctrl-C or a signal; of several rings one, and Tab the next; ? shows what else can be typed, and a larger terminal \
shows more. Otherwise it prints a line with the time in UTC at each interval, until its reader goes.

Exit status: 0 after drawing; otherwise that of the worst alarm in the last line: 0 ok, 1 warning, 2 critical.")]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", value_parser = interval, default_value = "1")]
    interval: Duration,

    /// Ends after this many looks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let all = Rounds { interval: arguments.interval, count: arguments.count };
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        let places = arguments.ring.places(&settings)?.into_iter();
        let observers: Vec<_> = places.map(|place| Observer::new(place, &settings)).collect();
        if let [only] = &*observers {
            only.look()?;
        }
        return rounds::draw(observers, &all);
    }
    let observer = Observer::new(arguments.ring.place(&settings)?, &settings);
    // A ring that is not there at the start is an error at once.
    observer.look()?;
    rounds::print(observer, &all)
}
