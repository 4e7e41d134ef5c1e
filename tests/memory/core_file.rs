//! A core file of a worker that dies while it serves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use testbed::process::{Process, needs_root};
use testbed::{RingDir, wait};

use super::witness::Witness;
use super::{LATE, LIMIT, Result, Visitors, nginx};

/// What nginx has in its memory for certain: 64 characters of a response.
const MARK: &str = "a-response-of-this-many-bytes-is-found-wherever-it-happens-to-lie";

/// The core file in a directory, complete or not.
fn core_in(dir: &RingDir) -> Option<PathBuf> {
    let is_core = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"core"))
    };
    dir.entries().ok()?.into_iter().find(is_core)
}

#[test]
fn a_core_file_of_a_worker_has_no_key() -> Result<()> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    assert!(
        pattern.starts_with("core") && !pattern.contains('/'),
        "core files go elsewhere; run: sysctl kernel.core_pattern=core (it is {})",
        pattern.trim()
    );
    needs_root("it gives a directory to another user");
    // On tmpfs, and removed with the directory: it must never reach a disk.
    let cores = RingDir::new()?;
    let www_data = user_id("www-data")?;
    chown(cores.path(), Some(www_data), Some(0))?;
    fs::set_permissions(cores.path(), fs::Permissions::from_mode(0o700))?;

    let ring = RingDir::new()?;
    let nginx = nginx(&ring)?
        .main("worker_rlimit_core 1g;")
        .main(&format!("working_directory {};", cores.path().display()))
        .server(&format!("location /mark {{ return 200 \"{MARK}\"; }}"))
        .start()?;
    let mut witness = Witness::new(ring.path())?;
    for at in 0..8 {
        witness.keys.add(&MARK.as_bytes()[at..at + 32], "mark");
    }
    let mut visitors = Visitors::new()?;
    let workers = nginx.worker_pids()?;
    visitors.meet(&nginx, &workers)?;
    // The first keys are dead then, those that are used at the end are not.
    let dead = witness.await_end(LATE, || visitors.come(&nginx).expect("a handshake"))?;
    visitors.meet(&nginx, &workers)?;
    let live = witness.look()?;
    assert!(live.len() >= 2 && live.iter().all(|name| !dead.contains(name)), "{live:?} {dead:?}");

    let worker = Process::find(workers[0]).ok_or("no worker")?;
    assert!(worker.signal(libc::SIGABRT));
    worker.wait_gone(LIMIT)?;
    let core = wait::until(LIMIT, "a core file", || core_in(&cores))
        .map_err(|late| format!("{late}\n{}", nginx.log_tail()))?;

    let found = witness.keys.in_file(&core)?;
    assert!(found.iter().any(|found| found.label == "mark"), "the search is blind: {found:x?}");
    let keys: Vec<_> = found.iter().filter(|found| found.label != "mark").collect();
    assert!(keys.is_empty(), "{keys:x?}");
    let pieces = witness.pieces.in_file(&core)?;
    assert!(pieces.is_empty(), "{pieces:x?}");
    Ok(())
}

fn user_id(name: &str) -> Result<u32> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.split(':').next() == Some(name));
    let field = line.and_then(|line| line.split(':').nth(2)).ok_or("no such user")?;
    Ok(field.parse()?)
}
