//! What the observations mean: how bad it is, and what to do.

mod resumption;
mod server;
mod tickets;

use serde::Serialize;

use super::connection::Version;
use super::observation::Observation;
use super::target::Resolved;
use crate::severity::Severity;

/// One thing to know, and where it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// For programs; these words stay as they are.
    pub code: &'static str,
    /// What it is, in a sentence.
    pub message: String,
    /// What to do, in a sentence; empty if nothing.
    pub advice: &'static str,
    pub at: Vec<Location>,
}

/// Where something holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// A target, or an address with the name that was said to it.
    pub place: String,
    /// The versions of TLS; empty if it has nothing to do with them.
    pub tls: Vec<Version>,
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine)
}

/// Judges everything, the worst first. There is always at least one finding.
pub fn findings(
    targets: &[Resolved],
    observations: &[Observation],
    left_out: usize,
) -> Vec<Finding> {
    let mut found = Found::default();
    for target in targets {
        if let Some(error) = &target.error {
            found.add(&target.target, None, Finding::no_address(error));
        }
    }
    if left_out > 0 {
        found.add("the command line", None, Finding::left_out(left_out));
    }
    for observation in observations {
        let place = observation.place.to_string();
        let others = observations.iter().filter(|other| other.place == observation.place);
        let speaks_another = others.clone().any(|other| other.failure.is_none());
        let all = server::findings(observation, speaks_another)
            .into_iter()
            .chain(tickets::findings(observation))
            .chain(resumption::findings(observation));
        for finding in all {
            found.add(&place, Some(observation.tls), finding);
        }
    }
    let Found(mut findings) = found;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Findings, in which what is said of several places is said once.
#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, place: &str, tls: Option<Version>, finding: Finding) {
        let same =
            |other: &&mut Finding| (other.code, &other.message) == (finding.code, &finding.message);
        let finding = match self.0.iter_mut().find(same) {
            Some(known) => known,
            None => {
                self.0.push(finding);
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        let location = match finding.at.iter_mut().find(|location| location.place == place) {
            Some(known) => known,
            None => {
                finding.at.push(Location { place: place.to_owned(), tls: Vec::new() });
                let last = finding.at.len() - 1;
                &mut finding.at[last]
            }
        };
        location.tls.extend(tls.filter(|version| !location.tls.contains(version)));
    }
}

impl Finding {
    fn new(
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        advice: &'static str,
    ) -> Finding {
        Finding { severity, code, message: message.into(), advice, at: Vec::new() }
    }

    fn no_address(error: &str) -> Finding {
        let message = format!("no address: {error}");
        let advice = "Look at the spelling, and at what your resolver says.";
        Finding::new(Severity::Wrong, "no-address", message, advice)
    }

    fn left_out(places: usize) -> Finding {
        let message = format!("{places} addresses were left out, there are too many");
        let advice = "Name fewer hosts or names at a time.";
        Finding::new(Severity::Doubtful, "left-out", message, advice)
    }
}

#[cfg(test)]
#[path = "findings/tests.rs"]
mod tests;
