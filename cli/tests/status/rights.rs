//! Users who may not look, and users who may not see everything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use serde_json::Value;
use testbed::RingDir;
use testbed::process::needs_root;

use crate::program::{NOBODY, Result, as_nobody, keyring_with_keys};

#[test]
fn who_may_not_look_is_told_whose_the_ring_is_and_who_may() -> Result<()> {
    needs_root("another user's rights are tried");
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    let only_root = format!("belongs to user 0, and you are user {NOBODY}: only root may");

    // The directory is closed, then open with a closed ring in it; named or found.
    for (mode, arguments) in [
        (0o700, &["status"][..]),
        (0o700, &["status", "some"]),
        (0o755, &["status"]),
        (0o755, &["watch", "some", "--count", "1"]),
        (0o755, &["revoke", "some", "--all", "--yes"]),
    ] {
        fs::set_permissions(ring.path(), fs::Permissions::from_mode(mode))?;
        let said = as_nobody(&ring, arguments)?;
        assert_eq!((said.status, &*said.stdout), (Some(2), ""), "{mode:o} {arguments:?} {said:?}");
        assert!(said.stderr.contains(&only_root), "{mode:o} {arguments:?} {said:?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    }
    Ok(())
}

#[test]
fn processes_that_cannot_be_seen_are_counted_not_left_out() -> Result<()> {
    needs_root("another user's rights are tried");
    let ring = RingDir::new()?;
    let keyring = keyring_with_keys(&ring, "some")?;
    // This process, which is root's, is told by the ring itself, too.
    keyring.settle();
    chown(ring.path(), Some(NOBODY), Some(NOBODY))?;
    chown(ring.path().join("some.ring"), Some(NOBODY), Some(NOBODY))?;

    let said = as_nobody(&ring, &["status", "--json"])?;
    let document: Value = serde_json::from_str(&said.stdout).map_err(|_| format!("{said:?}"))?;
    let reading = &document["rings"][0];
    assert!(reading["hidden_processes"].as_u64() > Some(0), "{reading:#}");
    let me = &reading["users"][0];
    assert_eq!((&me["pid"], &me["presence"]), (&std::process::id().into(), &"hidden".into()));
    let text = as_nobody(&ring, &["status"])?.stdout;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "not visible: only root (with CAP_SYS_PTRACE) can see whether",
        "not visible; has used tickets",
    ] {
        assert!(text.contains(told), "{text}");
    }
    Ok(())
}
