//! What libtktrot costs a server, beside OpenSSL's own keys, and whether that is what the project
//! wants it to be.
//!
//!     make bench
//!     make bench BENCH="--rounds 100 --only handshakes --only ticket"
//!     make bench BENCH=--quick
//!     make bench TLS=openssl-1.1.1
//!     make bench-baseline
//!
//! `docs/performance.md` tells what is measured and how. Everything that is compared is measured in
//! alternation in one run, and compared round by round, so that a change of the machine's speed hits
//! all alike.

mod alternation;
mod client_hello;
mod clock;
mod connection;
mod filled;
mod handshakes;
mod identities;
mod instructions;
mod machine;
mod many_keys;
mod nginx;
mod one_ticket;
mod options;
mod ratios;
mod report;
mod rotation;
mod section;
mod servers;
mod start;
mod threads;
mod ticket;

use std::io::{self, Write};

use options::{Options, Task};
use section::Section;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A measurement, and what `--only` calls it.
type Measurement = (&'static str, fn(&Options) -> Result<Section>);

const MEASUREMENTS: [Measurement; 9] = [
    ("handshakes", handshakes::measure),
    ("instructions", instructions::measure),
    ("ticket", one_ticket::measure),
    ("keys", many_keys::measure),
    ("threads", threads::measure),
    ("identities", identities::measure),
    ("rotation", rotation::measure),
    ("nginx", nginx::measure),
    ("start", start::measure),
];

/// Those of programs of the system, which are linked with the system's OpenSSL if with any.
const OF_THE_SYSTEM: [&str; 2] = ["nginx", "start"];

fn main() -> Result<()> {
    let options = Options::from_args(std::env::args().skip(1))?;
    match options.task {
        Task::Measure => measure(&options),
        Task::CheckBaseline => instructions::check(),
        Task::WriteBaseline => instructions::write(),
        Task::BeCounted(keys) => instructions::be_counted(keys, &options),
    }
}

fn measure(options: &Options) -> Result<()> {
    let names = MEASUREMENTS.map(|(name, _)| name);
    if let Some(name) = options.only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("nothing is called {name}; there are {}", names.join(", ")).into());
    }
    say(&report::head(options)?);
    let mut sections = Vec::new();
    for (name, measure) in MEASUREMENTS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        if options.other_library && OF_THE_SYSTEM.contains(&name) {
            say(&format!("\n== {name} ==\nLeft out: its programs do not use this OpenSSL.\n"));
            continue;
        }
        let section = measure(options).map_err(|error| format!("{name}: {error}"))?;
        report::write(&section, options)?;
        say(&report::text(&section));
        sections.push(section);
    }
    report::write_goals(&sections, options)?;
    say(&report::goals(&sections));
    say(&format!("\nEvery round's numbers, and plots, are in {}.\n", options.out.display()));
    Ok(())
}

fn say(text: &str) {
    // A reader that has seen enough is no failure.
    let _ = io::stdout().write_all(text.as_bytes());
}
