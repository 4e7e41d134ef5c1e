//! Whole handshakes in memory, the server's side.

use testbed::client::TlsVersion;

use crate::connection::Link;
use crate::options::Options;
use crate::ratios::Series;
use crate::section::{Goal, Group, Section, Wanted};
use crate::servers::{self, Keys, Workshop};
use crate::{Result, alternation, clock};

/// A kind of handshake.
#[derive(Clone, Copy)]
pub struct Kind {
    pub version: TlsVersion,
    pub resumed: bool,
}

impl Kind {
    /// All.
    pub const ALL: [Kind; 4] = [
        Kind { version: TlsVersion::V12, resumed: false },
        Kind { version: TlsVersion::V12, resumed: true },
        Kind { version: TlsVersion::V13, resumed: false },
        Kind { version: TlsVersion::V13, resumed: true },
    ];

    /// What the tables call it.
    pub fn name(self) -> String {
        format!("{} {}", self.version, if self.resumed { "resumed" } else { "full" })
    }
}

pub fn measure(options: &Options) -> Result<Section> {
    let workshop = Workshop::new()?;
    let mut servers = Vec::new();
    for keys in Keys::ALL {
        servers.push((keys, workshop.server(keys)?));
    }
    let (mut groups, mut goals, mut steps) = (Vec::new(), Vec::new(), 0);
    for kind in Kind::ALL {
        let client = servers::client(kind.version)?;
        let values = alternation::measure(options.rounds, &mut servers, |(_, server)| {
            let link = Link { server, client: &client };
            let (micros, clock_reads) = block(link, kind, options.handshakes)?;
            steps = steps.max(clock_reads);
            Ok(micros)
        })?;
        let names = Keys::ALL.map(Keys::name);
        let group = Group::compared(kind.name(), "µs", names, values);
        let ours = group.things.last().and_then(|thing| thing.ratios.clone());
        goals.push(goal(kind, ours.unwrap_or_default()));
        groups.push(group);
    }
    let about = format!(
        "Processor time of one handshake on the server, in memory, ECDSA P-256, one thread, SNI\n\
         present; {} of each kind and server in a row, whose median counts. Differences as large as\n\
         those of \"built-in keys, again\" are noise. The clock, which is read {steps} times, is in\n\
         all numbers with {:.0} ns each time, which brings ratios nearer to 1.",
        options.handshakes,
        clock::own_cost(),
    );
    Ok(Section { name: "handshakes", about, groups, goals, curves: Vec::new() })
}

fn goal(kind: Kind, measured: Series) -> Goal {
    let (what, bound) = match (kind.version, kind.resumed) {
        (TlsVersion::V12, false) => ("TLS 1.2 full, to built-in keys", 0.99),
        (TlsVersion::V12, true) => ("TLS 1.2 resumed, to built-in keys", 0.96),
        (TlsVersion::V13, false) => ("TLS 1.3 full, to built-in keys", 0.99),
        (TlsVersion::V13, true) => ("TLS 1.3 resumed with renewal, to built-in keys", 0.99),
    };
    Goal { what, wanted: Wanted::AtMost(bound), measured, unit: "" }
}

/// Microseconds of a handshake, the median of so many in a row with one server: as a server meets
/// them, what it needs is in the processor's caches as far as it stays there. And how often the
/// clock was read for one.
fn block(link: Link<'_>, kind: Kind, handshakes: usize) -> Result<(f64, u32)> {
    let ticket = link.connect(None)?.session;
    let (mut nanos, mut steps) = (Series::default(), 0);
    for _ in 0..handshakes {
        let outcome = link.expect(kind.resumed.then_some(ticket.as_slice()))?;
        steps = outcome.steps;
        nanos.0.push(outcome.server_nanos as f64);
    }
    Ok((nanos.median() / 1000.0, steps))
}
