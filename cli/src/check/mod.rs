//! Will it work here? Each module looks at one thing and tells what it found.

pub mod binary;
pub mod configuration;
pub mod host;
pub mod running;

use serde::Serialize;

use crate::severity::Severity;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How good or bad it is.
    pub severity: Severity,
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where nothing is to be done.
    pub advice: String,
}

impl Finding {
    pub fn fine(subject: &'static str, found: impl Into<String>) -> Finding {
        Finding { severity: Severity::Fine, subject, found: found.into(), advice: String::new() }
    }

    pub fn doubtful(subject: &'static str, found: impl Into<String>, advice: &str) -> Finding {
        let (found, advice) = (found.into(), advice.into());
        Finding { severity: Severity::Doubtful, subject, found, advice }
    }

    pub fn wrong(subject: &'static str, found: impl Into<String>, advice: &str) -> Finding {
        let (found, advice) = (found.into(), advice.into());
        Finding { severity: Severity::Wrong, subject, found, advice }
    }
}
