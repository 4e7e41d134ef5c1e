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
#[command(
    after_long_help = "On a terminal it draws, and q or Ctrl-C leaves. Else it prints a line \
    each interval, and the exit status is that of the last one's worst alarm."
)]
pub struct Arguments {
    #[command(flatten)]
    ring: RingArgument,

    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", value_parser = interval, default_value = "1")]
    interval: Duration,

    /// Ends after so many looks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let place = arguments.ring.place(&settings)?;
    let observer = Observer::new(place, &settings);
    // What is wrong at the start, as a ring that is not there, is told at once.
    observer.look()?;
    let all = Rounds { interval: arguments.interval, count: arguments.count };
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        rounds::draw(observer, &all)
    } else {
        rounds::print(observer, &all)
    }
}
