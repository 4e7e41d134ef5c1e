//! The filters that administrators put around these servers: the kernel kills who makes a system
//! call that is not in them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testbed::haproxy::{self, Haproxy};
use testbed::nginx::Nginx;
use testbed::process::needs_root;
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, log, wait};

use crate::Result;

/// For some rotations of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Systemd's sets of system calls by name (systemd.exec(5), SystemCallFilter=).
struct Sets(String);

impl Sets {
    fn of_systemd() -> Result<Sets> {
        let output = Command::new("systemd-analyze")
            .args(["--no-pager", "syscall-filter"])
            .env("LC_ALL", "C")
            .output()
            .map_err(|error| format!("systemd-analyze, which `make deps` installs: {error}"))?;
        Ok(Sets(String::from_utf8(output.stdout)?))
    }

    /// The calls in a set, those of sets in it included.
    fn calls(&self, set: &str) -> BTreeSet<&str> {
        let members = self.0.lines().skip_while(|line| *line != set).skip(1);
        let members = members.take_while(|line| line.starts_with(' ')).map(str::trim);
        let mut calls = BTreeSet::new();
        for member in members.filter(|member| !member.starts_with('#') && !member.is_empty()) {
            match member.starts_with('@') {
                true => calls.extend(self.calls(member)),
                false => _ = calls.insert(member),
            }
        }
        assert!(!calls.is_empty(), "systemd has no calls in {set}");
        calls
    }
}

/// A file of calls, and the words that confine a server to them.
struct Filter {
    _dir: tempfile::TempDir,
    words: [String; 2],
}

impl Filter {
    fn of(calls: &BTreeSet<&str>) -> Result<Filter> {
        let dir = tempfile::tempdir()?;
        let file: PathBuf = dir.path().join("calls");
        fs::write(&file, calls.iter().map(|call| format!("{call}\n")).collect::<String>())?;
        let allow = artifacts::program("confined/allow")?;
        let word = |path: &Path| path.display().to_string();
        Ok(Filter { words: [word(&allow), word(&file)], _dir: dir })
    }

    fn words(&self) -> [&str; 2] {
        [&self.words[0], &self.words[1]]
    }
}

/// Tickets resume, and keys change while the server runs: the upkeep thread is at work, too.
fn is_served(addr: SocketAddr) -> Result<()> {
    let first = Visitors::of(addr)?;
    first.resume(addr, "at once")?;
    wait::until(PATIENCE, "tickets of a later key", || {
        let later = Visitors::of(addr).ok()?;
        (later.key_names() != first.key_names()).then_some(())
    })?;
    Ok(())
}

#[test]
fn nginx_needs_no_more_than_what_systemd_calls_a_system_service() -> Result<()> {
    needs_root("workers change their user");
    let (ring, sets) = (RingDir::new()?, Sets::of_systemd()?);
    let filter = Filter::of(&sets.calls("@system-service"))?;
    let mut nginx = Nginx::builder()
        .workers(2)
        .rotating(&ring, Duration::from_secs(1), Duration::from_secs(30))?
        .launch_through(&filter.words())
        .start()?;
    is_served(nginx.addr())?;
    nginx.reload()?;
    is_served(nginx.addr())?;
    nginx.stop()?;
    let said = nginx.error_log() + &nginx.stderr();
    assert!(!said.contains("exited on signal"), "{said}");
    assert_eq!(log::ours(&said), [""; 0]);
    assert_eq!(ring.rings()?.len(), 1, "it served without the shim");
    Ok(())
}

#[test]
fn haproxy_lives_under_the_filter_that_its_unit_proposes() -> Result<()> {
    needs_root("HAProxy changes its user");
    let (ring, sets) = (RingDir::new()?, Sets::of_systemd()?);
    let mut calls = sets.calls("@known");
    // As in the unit that HAProxy's authors ship.
    let no = ["@cpu-emulation", "@keyring", "@module", "@obsolete", "@raw-io", "@reboot", "@swap"];
    for set in no.into_iter().chain(["@sync"]) {
        calls = &calls - &sets.calls(set);
    }
    let filter = Filter::of(&calls)?;
    let builder = Haproxy::builder()?.mode(haproxy::Mode::MasterWorker);
    let (_, certificate) = builder.certificate("site")?;
    let haproxy = builder
        .frontend(&format!("crt {}", certificate.display()))
        .rotating(&ring, Duration::from_secs(1), Duration::from_secs(30))?
        .launch_through(&filter.words())
        .start()?;
    is_served(haproxy.addr(0))?;
    let worker = haproxy.worker()?;
    haproxy.reload()?;
    assert_ne!(haproxy.worker()?, worker);
    is_served(haproxy.addr(0))?;
    let said = haproxy.stderr();
    assert!(!said.contains("was killed") && log::ours(&said).is_empty(), "{said}");
    assert_eq!(ring.rings()?.len(), 1, "it served without the shim");
    Ok(())
}

/// A call that only the shim makes, and does not have: so the filters above would have shown one.
#[test]
fn a_filter_without_a_call_of_the_shim_kills() -> Result<()> {
    let (ring, sets) = (RingDir::new()?, Sets::of_systemd()?);
    let mut calls = sets.calls("@system-service");
    assert!(calls.remove("mlock"));
    let filter = Filter::of(&calls)?;
    let mut plain = Nginx::builder().launch_through(&filter.words()).prepare()?;
    plain.start()?;
    let builder = Nginx::builder().preload(artifacts::shim()?).ring(&ring);
    let killed = builder.launch_through(&filter.words()).start();
    assert!(killed.is_err(), "nobody called mlock");
    Ok(())
}
