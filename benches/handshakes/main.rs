//! What a handshake costs the server, by whose ticket keys it uses; and what it costs to find a key.
//!
//!     make bench
//!     make bench BENCH="--rounds 100 --handshakes 20"
//!
//! Everything is measured in alternation in one run, and compared round by round, so that a change
//! of the machine's speed hits all alike.

mod clock;
mod connection;
mod look_up;
mod options;
mod plain;
mod ratios;
mod report;
mod variant;

use std::io::{self, Write};

use openssl::ssl::SslContext;
use testbed::client::TlsVersion;
use testbed::{RingDir, certificate};

use options::Options;
use ratios::Series;
use variant::Variant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A kind of handshake, and what it costs each variant.
struct Case {
    version: TlsVersion,
    resumed: bool,
    /// Microseconds of a handshake by variant, one value per round.
    micros: [Series; Variant::ALL.len()],
    /// How often a handshake reads the clock.
    steps: u32,
}

fn main() -> Result<()> {
    let options = Options::from_args(std::env::args().skip(1))?;
    let handshakes = measure_handshakes(&options)?;
    let look_ups = look_up::measure(options.rounds)?;
    let report = report::Report { options: &options, handshakes: &handshakes, look_ups: &look_ups };
    report.write()?;
    // A reader that has seen enough is no failure.
    let _ = io::stdout().write_all(report.text().as_bytes());
    Ok(())
}

fn measure_handshakes(options: &Options) -> Result<Vec<Case>> {
    let files = tempfile::tempdir()?;
    let certificate = certificate::create(files.path())?;
    let ring = RingDir::new()?;
    let mut servers = Vec::new();
    for variant in Variant::ALL {
        servers.push(variant.server(&certificate, &ring)?);
    }

    let mut cases = Vec::new();
    for version in TlsVersion::ALL {
        for resumed in [false, true] {
            cases.push(Case { version, resumed, micros: Default::default(), steps: 0 });
        }
    }
    let clients = [variant::client(TlsVersion::V12)?, variant::client(TlsVersion::V13)?];
    let client = |version| &clients[usize::from(version == TlsVersion::V13)];

    // The first round warms up and is not counted.
    for round in 0..=options.rounds {
        for case in &mut cases {
            let client = client(case.version);
            let count = servers.len();
            for turn in 0..count {
                // Forth and back, from another one each time: nobody always comes first, or after
                // the same neighbour.
                let turn = if round % 2 == 0 { turn } else { count - 1 - turn };
                let place = (turn + round / 2) % count;
                let nanos = block(case, Variant::ALL[place], &servers[place], client, options)?;
                if round > 0 {
                    case.micros[place].0.push(nanos.median() / 1000.0);
                }
            }
        }
    }
    Ok(cases)
}

/// Nanoseconds of so many handshakes in a row with one server, as a server meets them: what it
/// needs is in the processor's caches as far as it stays there.
fn block(
    case: &mut Case,
    variant: Variant,
    server: &SslContext,
    client: &SslContext,
    options: &Options,
) -> Result<Series> {
    let ticket = connection::connect(server, client, None)?.session;
    let mut nanos = Series::default();
    for _ in 0..options.handshakes {
        let offered = case.resumed.then_some(ticket.as_slice());
        let outcome = connection::connect(server, client, offered)?;
        if outcome.resumed != case.resumed {
            return Err(format!("{}: not the handshake that was meant", variant.name()).into());
        }
        case.steps = outcome.steps;
        nanos.0.push(outcome.server_nanos as f64);
    }
    Ok(nanos)
}
