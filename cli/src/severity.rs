//! How bad it is: what a command's exit status says, and how its lines are marked.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// From good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be. Exit status 0.
    Fine,
    /// It works, but deserves a look. Exit status 1.
    Doubtful,
    /// It does not work, or is not safe; or the command failed. Exit status 2.
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
