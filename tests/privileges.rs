//! The ring is opened by root and rotated by workers that have no right to open it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use testbed::client::{Client, TlsVersion};
use testbed::nginx::Nginx;
use testbed::process::needs_root;
use testbed::{RingDir, log, wait};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For a few rotations of one second.
const LIMIT: Duration = Duration::from_secs(60);

/// The effective user of a process.
fn user_of(pid: i32) -> Result<u32> {
    Ok(fs::metadata(format!("/proc/{pid}/task"))?.uid())
}

/// Waits until `count` keys were seen that are not in `known`, and adds them to it.
fn see_new_keys(nginx: &Nginx, known: &mut BTreeSet<[u8; 16]>, count: usize) -> Result<()> {
    let client = Client::new(TlsVersion::V13)?;
    let wanted = known.len() + count;
    wait::until(LIMIT, "new keys", || {
        let full = client.connect(nginx.addr(), None, None).ok()?;
        known.extend(full.tickets.iter().map(|ticket| ticket.key_name()));
        (known.len() >= wanted).then_some(())
    })
    .map_err(|late| format!("{late}\n{}", nginx.log_tail()))?;
    Ok(())
}

#[test]
fn workers_rotate_a_ring_that_only_root_could_open() -> Result<()> {
    needs_root("there are no privileges to drop else");
    for upkeep in ["thread", "callback"] {
        let ring = RingDir::new()?;
        let mut nginx = Nginx::builder()
            .rotating(&ring, Duration::from_secs(1), Duration::from_secs(60))?
            .env("TKTROT_UPKEEP", upkeep)
            .start()?;
        for worker in nginx.worker_pids()? {
            assert_ne!(user_of(worker)?, 0, "a worker runs as root");
        }
        let mut keys = BTreeSet::new();
        let client = Client::new(TlsVersion::V12)?;
        let first = client.connect(nginx.addr(), None, None)?.tickets.pop().ok_or("no ticket")?;
        see_new_keys(&nginx, &mut keys, 2)?;
        nginx.reload_by_signal()?;
        see_new_keys(&nginx, &mut keys, 1)?;
        assert!(client.connect(nginx.addr(), None, Some(&first))?.resumed);

        let path = ring.path().join("nginx.ring");
        let facts = fs::metadata(&path)?;
        assert_eq!((facts.mode() & 0o7777, facts.uid(), facts.nlink()), (0o600, 0, 1));
        assert_eq!(ring.entries()?, [path], "nothing but the ring");
        assert_eq!(log::ours(&nginx.stderr()), [""; 0]);
        assert_eq!(log::ours(&nginx.error_log()), [""; 0]);
    }
    Ok(())
}
