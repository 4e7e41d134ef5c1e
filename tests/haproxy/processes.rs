//! What the shim adds to HAProxy's processes.

use std::fs;
use std::path::PathBuf;

use testbed::haproxy::{Builder, Haproxy, Mode};
use testbed::process::Process;
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, wait};

use testbed::journey::LIMIT;

use crate::{Result, as_in_production, secs, with_frontend};

fn has_threads(process: &Process, own: usize, upkeep: usize) -> Result<()> {
    Ok(process.wait_for_threads("haproxy", own, upkeep)?)
}

fn ring_file(ring: &RingDir) -> Result<PathBuf> {
    Ok(ring.rings()?.pop().ok_or("no ring")?)
}

fn worker_has_one_more_thread(builder: Builder) -> Result<Haproxy> {
    let ring = RingDir::new()?;
    let builder = with_frontend(builder.global("nbthread 3"), "")?;
    let haproxy = builder.preload(artifacts::shim()?).ring(&ring).start()?;
    for _ in 0..2 {
        Visitors::of(haproxy.addr(0))?;
        has_threads(&haproxy.worker()?, 3, 1)?;
        has_threads(&haproxy.main_process()?, 1, 0)?;
        let file = ring_file(&ring)?;
        assert!(haproxy.worker()?.maps(&file));
        assert!(!haproxy.main_process()?.maps(&file), "the master has the keys");
        haproxy.reload()?;
    }
    Ok(haproxy)
}

#[test]
fn a_worker_has_a_thread_more_and_the_master_neither_that_nor_the_ring() -> Result<()> {
    worker_has_one_more_thread(Haproxy::builder()?.mode(Mode::Daemon)).map(drop)
}

/// HAProxy takes the right to make threads from its workers (`RLIMIT_NPROC` 0), which binds whoever
/// is not root.
#[test]
fn so_has_a_worker_that_may_make_no_threads() -> Result<()> {
    let haproxy = Haproxy::builder()?.mode(Mode::MasterWorker);
    let haproxy = worker_has_one_more_thread(haproxy.unprivileged())?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", haproxy.worker()?.pid()))?;
    let limit = limits.lines().find(|line| line.starts_with("Max processes")).unwrap_or_default();
    let words: Vec<&str> = limit.split_whitespace().collect();
    assert_eq!(words, ["Max", "processes", "0", "0", "processes"]);
    Ok(())
}

#[test]
fn a_single_process_has_a_thread_more() -> Result<()> {
    let ring = RingDir::new()?;
    let alone = with_frontend(Haproxy::builder()?.global("nbthread 2"), "")?.start()?;
    has_threads(&alone.main_process()?, 2, 0)?;
    let builder = with_frontend(Haproxy::builder()?.global("nbthread 2"), "")?;
    let haproxy = builder.preload(artifacts::shim()?).ring(&ring).start()?;
    Visitors::of(haproxy.addr(0))?;
    has_threads(&haproxy.main_process()?, 2, 1)
}

#[test]
fn the_ring_tells_what_a_worker_is_that_sees_no_proc() -> Result<()> {
    let ring = RingDir::new()?;
    let builder = with_frontend(as_in_production()?, "")?;
    let haproxy = builder.preload(artifacts::shim()?).ring(&ring).start()?;
    Visitors::of(haproxy.addr(0))?;
    let bytes = fs::read(ring_file(&ring)?)?;
    assert!(bytes.windows(8).any(|bytes| bytes == b"haproxy\0"));
    Ok(())
}

/// A key's name is in the ring as long as the key is, and is no secret.
#[test]
fn keys_are_erased_on_time_when_nobody_connects() -> Result<()> {
    let ring = RingDir::new()?;
    let builder = with_frontend(as_in_production()?, "")?;
    let haproxy = builder.rotating(&ring, secs(1), secs(1))?.start()?;
    let file = ring_file(&ring)?;
    let holds = |name: &[u8; 16]| -> Result<bool> {
        Ok(fs::read(&file)?.windows(16).any(|bytes| bytes == name))
    };
    let issued = Visitors::of(haproxy.addr(0))?;
    let name = issued.key_names()[1];
    assert!(holds(&name)?);
    wait::until(LIMIT, "the end of a key", || holds(&name).is_ok_and(|held| !held).then_some(()))?;
    assert_eq!(issued.resumed(haproxy.addr(0))?, [false; 2]);
    Ok(())
}
