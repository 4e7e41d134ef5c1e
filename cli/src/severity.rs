//! How bad something is: the exit status of a command, and the mark in front of its lines.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// From good to bad; the number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Fine,
    /// It works, but deserves a look.
    Doubtful,
    /// It does not work, or is not safe; or the command failed.
    Wrong,
}

impl From<Severity> for ExitCode {
    fn from(severity: Severity) -> ExitCode {
        ExitCode::from(severity as u8)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Fine => "ok",
            Severity::Doubtful => "look",
            Severity::Wrong => "WRONG",
        })
    }
}
