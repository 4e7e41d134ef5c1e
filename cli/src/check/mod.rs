//! Whether libtktrot will work here. Each module checks one thing and says what it found.
//!
//! - [`binary`]: an executable file
//! - [`glibc`]: the C library that it is started with, and what the shim needs of one
//! - [`tls`]: the TLS library that it has
//! - [`running`]: a process
//! - [`configuration`]: its configuration, for what switches tickets off
//! - [`host`]: where rings can lie, limits, the kernel

pub mod binary;
pub mod configuration;
pub mod glibc;
pub mod host;
pub mod running;
pub mod tls;

use serde::Serialize;

use crate::severity::Severity;

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How good or bad it is.
    pub severity: Severity,
    /// What was checked, in a word or two.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub advice: String,
}

impl Finding {
    pub fn ok(subject: &'static str, found: impl Into<String>) -> Finding {
        Finding { severity: Severity::Ok, subject, found: found.into(), advice: String::new() }
    }

    pub fn warning(subject: &'static str, found: impl Into<String>, advice: &str) -> Finding {
        let (found, advice) = (found.into(), advice.into());
        Finding { severity: Severity::Warning, subject, found, advice }
    }

    pub fn critical(subject: &'static str, found: impl Into<String>, advice: &str) -> Finding {
        let (found, advice) = (found.into(), advice.into());
        Finding { severity: Severity::Critical, subject, found, advice }
    }
}
