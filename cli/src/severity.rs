//! How bad something is: the exit status of a command, and the mark in front of its lines.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// From good to bad; the number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, but deserves a look.
    Warning,
    /// It does not work, or is not safe; or the command failed.
    Critical,
}

impl Severity {
    /// The same word in text, JSON and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl From<Severity> for ExitCode {
    fn from(severity: Severity) -> ExitCode {
        ExitCode::from(severity as u8)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
