//! Whether rotation shows in the slowest handshakes.

use std::time::{Duration, Instant};

use testbed::client::TlsVersion;

use crate::connection::Link;
use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Curve, Goal, Group, Line, Section, Wanted};
use crate::servers::tktrot::Settings;
use crate::servers::{self, Workshop};
use crate::{Result, alternation};

/// Longer than it takes until the next key.
const ROUND: Duration = Duration::from_millis(1100);
const QUANTILES: [f64; 8] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999];

pub fn measure(options: &Options) -> Result<Section> {
    let workshop = Workshop::new()?;
    let client = servers::client(TlsVersion::V13)?;
    let paces = [("no rotation", 3600), ("rotation every second", 1)];
    let mut servers = Vec::new();
    for (name, rotate_every) in paces {
        let settings = Settings { rotate_every, ..Settings::default() };
        let server = workshop.tktrot(&format!("every-{rotate_every}"), settings)?;
        servers.push((name, server, vec![Series::default(); QUANTILES.len()]));
    }
    let round = if options.quick { ROUND / 20 } else { ROUND };
    let values = alternation::measure(options.rounds, &mut servers, |(_, server, quantiles)| {
        let micros = work(Link { server, client: &client }, round)?;
        for (all, part) in quantiles.iter_mut().zip(QUANTILES) {
            all.0.push(micros.quantile(part));
        }
        Ok(micros.quantile(0.99))
    })?;
    let goals = vec![Goal {
        what: "rotation every second to none, p99",
        wanted: Wanted::AtMost(1.05),
        measured: values[1].over(&values[0]),
        unit: "",
    }];
    let lines = servers.iter().map(|(name, _, quantiles)| {
        let points = QUANTILES.map(|part| part * 100.0).into_iter().zip(quantiles.iter().cloned());
        Line { name: (*name).to_owned(), points: points.collect() }
    });
    let curves = vec![Curve {
        name: "rotation",
        title: "TLS 1.3 resumed, by how many handshakes are faster",
        x: "per cent of the handshakes",
        y: "µs",
        logarithmic_x: false,
        lines: lines.collect(),
    }];
    let names = paces.map(|(name, _)| name);
    let groups = vec![Group::compared("TLS 1.3 resumed, p99", "µs", names, values)];
    let about = format!(
        "The 99th percentile of TLS 1.3 resumptions with libtktrot, of all in {} ms; processor time of\n\
         the server, one thread. The upkeep thread makes the keys.",
        round.as_millis()
    );
    Ok(Section { name: "rotation", about, groups, goals, curves })
}

/// Microseconds of each resumption in this time.
fn work(link: Link<'_>, time: Duration) -> Result<Series> {
    let began = Instant::now();
    let mut micros = Series::default();
    let mut session = link.connect(None)?.session;
    while began.elapsed() < time {
        let outcome = link.expect(Some(&session))?;
        micros.0.push(outcome.server_nanos as f64 / 1000.0);
        session = outcome.session;
    }
    Ok(micros)
}
