//! The crates that carry the source of a TLS library: cargo fetches them, and checks them
//! against Cargo.lock.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// An unpacked crate.
#[derive(Debug)]
pub struct Source {
    pub directory: PathBuf,
    /// "0.47.0", or "300.5.5+3.5.5" with the version of what it carries.
    pub version: String,
}

/// Fetches the crate `package` that `feature` of tls-sources names.
pub fn fetch(feature: &str, package: &str) -> Result<Source> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", env::consts::ARCH))
        .args(["--features", &format!("tls-sources/{feature}"), "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let metadata: Value = serde_json::from_str(&crate::run(&mut cargo)?)?;
    let is_it = |found: &&Value| found["name"] == package;
    let found = metadata["packages"].as_array().and_then(|all| all.iter().find(is_it));
    let found = found.with_context(|| format!("{feature} of tls-sources is not {package}"))?;
    let manifest = found["manifest_path"].as_str().context("a crate without a path")?;
    let directory = PathBuf::from(manifest).parent().map(PathBuf::from);
    Ok(Source {
        directory: directory.context("a crate without a directory")?,
        version: found["version"].as_str().unwrap_or_default().to_owned(),
    })
}
