//! Ring files and directories prepared by an attacker, or by an accident. nginx refuses them with
//! file and reason, serves on a private ring that its workers share, and leaves them as they were.
//! A strict one does not start.

mod contents;
mod directories;
mod files;
mod tmpfs;
mod witness;

use std::path::Path;

use testbed::client::{Client, TlsVersion};
use testbed::nginx::{Builder, Nginx};
use testbed::{artifacts, log, wait};

use witness::Witness;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `EX_CONFIG` of sysexits.h.
const CONFIGURATION_ERROR: i32 = 78;

/// An nginx under the shim whose ring is to be this file.
fn nginx(ring: &Path) -> Result<Builder> {
    Ok(Nginx::builder()
        .workers(2)
        .preload(artifacts::shim()?)
        .env("TKTROT_RING", &ring.display().to_string())
        .body("$pid"))
}

/// What is prepared at `ring` is refused for `reason`, and outlives that unchanged.
fn is_refused(ring: &Path, reason: &str) -> Result<()> {
    let before = Witness::of(ring)?;
    let builder = nginx(ring)?;
    let server = builder.clone().start()?;
    let stderr = server.stderr();
    let lines = log::ours(&stderr);
    assert_eq!(lines.len(), 1, "{reason}: {lines:#?}");
    for part in ["warning", &ring.display().to_string(), reason, "a private ring serves instead"] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    serves_and_resumes_across_workers(&server)?;
    drop(server);
    before.assert_unchanged(reason)?;

    let mut strict = builder.env("TKTROT_STRICT", "1").prepare()?;
    let status = strict.start_and_end()?;
    let stderr = strict.stderr();
    let lines = log::ours(&stderr);
    assert_eq!(status.code(), Some(CONFIGURATION_ERROR), "{reason}: {stderr}");
    let fatal: Vec<_> = lines.iter().filter(|line| line.contains("fatal")).collect();
    assert_eq!(fatal.len(), 1, "{reason}: {lines:#?}");
    for part in [&ring.display().to_string(), reason, "TKTROT_STRICT=1"] {
        assert!(fatal[0].contains(part), "{part} is not in {}", fatal[0]);
    }
    assert_eq!(lines.len(), 1, "one clear line: {lines:#?}");
    before.assert_unchanged(reason)
}

/// A ticket resumes at another worker than the one that issued it, which is dead.
fn serves_and_resumes_across_workers(server: &Nginx) -> Result<()> {
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let full = client.connect(server.addr(), None, None)?;
        let ticket = full.tickets.last().ok_or("no ticket")?;
        let issuer: i32 = full.body.parse()?;
        assert!(server.kill_worker(issuer)?, "worker {issuer} is gone");
        wait::until(wait::PATIENCE, "the issuer's end", || {
            (!server.worker_pids().ok()?.contains(&issuer)).then_some(())
        })?;
        let again = client.connect(server.addr(), None, Some(ticket))?;
        assert!(again.resumed, "{version}\n{}", server.log_tail());
        assert_ne!(again.body.parse(), Ok(issuer));
    }
    Ok(())
}
