//! The report: for programs as JSON (docs/schemas/probe.schema.json), for people as text.

use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use super::findings::{Finding, Location, worst};
use super::observation::Observation;
use super::table;
use super::target::Resolved;
use crate::severity::Severity;

/// Changes when a field goes away or means something else; new fields do not change it.
const SCHEMA: u32 = 1;
/// More places than this are counted instead of named.
const NAMED_PLACES: usize = 4;

#[derive(Serialize)]
pub struct Report {
    schema: u32,
    severity: Severity,
    targets: Vec<Resolved>,
    observations: Vec<Observation>,
    findings: Vec<Finding>,
}

impl Report {
    pub fn new(
        targets: Vec<Resolved>,
        observations: Vec<Observation>,
        findings: Vec<Finding>,
    ) -> Report {
        let severity = worst(&findings);
        Report { schema: SCHEMA, severity, targets, observations, findings }
    }

    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Prints it on stdout.
    pub fn print(&self, json: bool) -> Result<()> {
        let text = if json { serde_json::to_string_pretty(self)? + "\n" } else { self.text() };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.observations.is_empty() {
            text = format!("{}\n\n", table::of(&self.observations));
        }
        for finding in &self.findings {
            let Finding { severity, message, advice, .. } = finding;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{severity:<5}  {}: {message}", locations(&finding.at));
            if !advice.is_empty() {
                let _ = writeln!(text, "       -> {advice}");
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
        // Both: it is a matter of the server, not of a version.
        0 | 2 => location.place.clone(),
        _ => format!("{} {}", location.place, versions.join(", ")),
    }
}
