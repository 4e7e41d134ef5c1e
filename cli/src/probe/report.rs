//! The report: for programs as JSON (docs/schemas/probe.schema.json) or metrics, for people as text.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{Table, presets};
use serde::Serialize;

use super::connection::Version;
use super::endpoint::Resolved;
use super::failure::FailureKind;
use super::findings::{Finding, Location, worst};
use super::observation::{Count, Issued, Observation};
use super::prometheus;
use crate::output::out;
use crate::severity::Severity;

/// Changes when a field goes away or changes its meaning; new fields do not change it.
const SCHEMA: u32 = 1;
/// Of more places than this, the rest are counted instead of named.
const NAMED_PLACES: usize = 4;

#[derive(Serialize)]
pub struct Report {
    schema: u32,
    pub severity: Severity,
    /// How long the probe took.
    pub seconds: f64,
    pub targets: Vec<Resolved>,
    pub observations: Vec<Observation>,
    pub findings: Vec<Finding>,
}

/// How a report is printed.
#[derive(Clone, Copy)]
pub enum Form {
    Text,
    Json,
    Prometheus,
}

impl Report {
    pub fn new(
        targets: Vec<Resolved>,
        observations: Vec<Observation>,
        findings: Vec<Finding>,
        took: Duration,
    ) -> Report {
        let severity = worst(&findings);
        let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        Report { schema: SCHEMA, severity, seconds, targets, observations, findings }
    }

    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Prints the report.
    pub fn print(&self, form: Form) -> Result<()> {
        let text = match form {
            Form::Text => self.text(),
            Form::Json => serde_json::to_string_pretty(self)? + "\n",
            Form::Prometheus => prometheus::text(self)?,
        };
        out!("{text}");
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.observations.is_empty() {
            text = format!("{}\n\n", table(&self.observations));
        }
        for finding in &self.findings {
            let Finding { severity, message, advice, .. } = finding;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{severity:<8}  {}: {message}", locations(&finding.at));
            if !advice.is_empty() {
                let _ = writeln!(text, "          -> {advice}");
            }
        }
        text
    }
}

fn locations(locations: &[Location]) -> String {
    let mut words: Vec<_> = locations.iter().take(NAMED_PLACES).map(location).collect();
    if let Some(more) = locations.len().checked_sub(NAMED_PLACES).filter(|&more| more > 0) {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

fn location(location: &Location) -> String {
    let versions: Vec<_> = location.tls.iter().map(|version| format!("TLS {version}")).collect();
    match versions.len() {
        // Both versions: it is a matter of the server.
        0 | 2 => location.place.clone(),
        _ => format!("{} {}", location.place, versions.join(", ")),
    }
}

/// Of more key names than this, the rest are counted instead of named.
const NAMED_KEYS: usize = 2;
const NOTHING: &str = "-";

/// All observations at a glance: a table without rules, for terminals and mails.
fn table(observations: &[Observation]) -> String {
    let has_names = observations.iter().any(|seen| seen.endpoint.sni.is_some());
    let crosses = observations.iter().any(|seen| seen.resumed_as_other_name.offered > 0);
    let mut header = vec!["address"];
    header.extend(has_names.then_some("name"));
    header.extend(["TLS", "ticket", "here", "elsewhere"]);
    header.extend(crosses.then_some("other name"));
    header.extend(["lifetime", "key name", "weak key"]);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for seen in observations {
        let mut row = vec![seen.endpoint.address.to_string()];
        let name = seen.endpoint.sni.clone().unwrap_or_else(|| NOTHING.to_owned());
        row.extend(has_names.then_some(name));
        row.extend([seen.tls.to_string(), ticket(seen)]);
        row.extend([count(seen.resumed_here), count(seen.resumed_elsewhere)]);
        row.extend(crosses.then(|| count(seen.resumed_as_other_name)));
        row.extend([lifetime(seen), key_names(seen), weak_key(seen)]);
        table.add_row(row);
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.join("\n")
}

fn ticket(seen: &Observation) -> String {
    let word = match (&seen.failure, seen.ticket) {
        (Some(failure), _) => match failure.kind {
            FailureKind::Refused => "refused",
            FailureKind::Unreachable => "unreachable",
            FailureKind::Timeout => "timeout",
            FailureKind::Closed => "closed",
            FailureKind::NotTls => "not TLS",
            FailureKind::Version => "unsupported",
            FailureKind::Starttls => "no STARTTLS",
            FailureKind::Handshake => "failed",
        },
        (None, Issued::None) => "no",
        (None, Issued::SessionId) => "id only",
        (None, Issued::Ticket) => "yes",
    };
    word.to_owned()
}

fn count(count: Count) -> String {
    match count {
        Count { offered: 0, .. } => NOTHING.to_owned(),
        Count { offered, resumed } => format!("{resumed}/{offered}"),
    }
}

fn lifetime(seen: &Observation) -> String {
    match seen.lifetime_hint {
        None => NOTHING.to_owned(),
        // In TLS 1.2 this leaves the lifetime to the client.
        Some(0) if seen.tls == Version::V12 => "open".to_owned(),
        Some(0) => "0 s".to_owned(),
        Some(seconds) if seconds % 86400 == 0 => format!("{} d", seconds / 86400),
        Some(seconds) if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        Some(seconds) if seconds % 60 == 0 => format!("{} min", seconds / 60),
        Some(seconds) => format!("{seconds} s"),
    }
}

fn key_names(seen: &Observation) -> String {
    let names = &seen.key_names;
    match names.len() {
        0 => NOTHING.to_owned(),
        1..=NAMED_KEYS => names.join(" "),
        more => format!("{} +{}", names[..NAMED_KEYS].join(" "), more - NAMED_KEYS),
    }
}

fn weak_key(seen: &Observation) -> String {
    match (&seen.weak_key, seen.ticket) {
        (Some(_), _) => "WEAK".to_owned(),
        (None, Issued::Ticket) => "no".to_owned(),
        (None, _) => NOTHING.to_owned(),
    }
}
