//! More rings than one, fewer, and what is none.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use testbed::RingDir;

use crate::program::{Result, document, keyring, keyring_with_keys, tktrot};

#[test]
fn several_rings_get_a_line_each_and_the_worst_decides() -> Result<()> {
    let ring = RingDir::new()?;
    let _idle = keyring(&ring, "idle")?;
    let _other = keyring(&ring, "other")?;
    let said = tktrot(&ring, &["status"])?;
    assert_eq!((said.status, said.stdout.lines().count()), (Some(0), 2), "{said:?}");
    assert!(said.stdout.starts_with("idle   ok        exposure 3 h "), "{said:?}");
    assert!(said.stdout.contains("key none      users 1   no alarms"), "{said:?}");

    let junk = ring.path().join("junk.ring");
    fs::write(&junk, [7; 4096])?;
    fs::set_permissions(&junk, fs::Permissions::from_mode(0o600))?;
    let said = tktrot(&ring, &["status"])?;
    assert_eq!((said.status, said.stdout.lines().count()), (Some(2), 3), "{said:?}");
    assert!(said.stdout.contains("junk.ring: it is not a ring"), "{said:?}");
    let document = document(&ring, &[])?;
    let rings = document["rings"].as_array().ok_or("no rings")?;
    assert_eq!(rings.len(), 3);
    assert!(rings[1]["error"].as_str().is_some_and(|error| error.contains("it is not a ring")));
    let metrics = tktrot(&ring, &["status", "--prometheus"])?;
    assert!(metrics.stdout.contains("tktrot_readable{ring=\"junk\"} 0"), "{metrics:?}");
    assert!(metrics.stdout.contains("tktrot_readable{ring=\"other\"} 1"), "{metrics:?}");

    // One that is named is told in full, or is the command's failure.
    let one = tktrot(&ring, &["status", "other"])?;
    assert!(one.stdout.contains("exposure    a stolen key opens at most"), "{one:?}");
    let none = tktrot(&ring, &["status", "junk", "--json"])?;
    assert_eq!((none.status, &*none.stdout), (Some(2), ""), "{none:?}");
    assert!(none.stderr.contains("junk.ring: it is not a ring"), "{none:?}");
    let many = tktrot(&ring, &["watch", "--count", "1"])?;
    assert!(many.stderr.contains("say which: idle, junk, other"), "{many:?}");
    Ok(())
}

#[test]
fn no_ring_is_told_with_the_place_that_was_looked_at() -> Result<()> {
    let ring = RingDir::new()?;
    let said = tktrot(&ring, &["status"])?;
    assert_eq!((said.status, &*said.stdout), (Some(2), ""));
    let place = format!("there is no ring in {}", ring.path().display());
    assert!(said.stderr.contains(&place), "{said:?}");

    let _keyring = keyring_with_keys(&ring, "some")?;
    for slip in ["soem", "some.ring", "Some"] {
        let said = tktrot(&ring, &["status", slip])?;
        assert!(said.stderr.contains("there is no such ring (did you mean some?)"), "{said:?}");
    }
    let said = tktrot(&ring, &["status", "other"])?;
    assert_eq!(said.status, Some(2));
    assert!(said.stderr.contains("there is no such ring; in its directory there are: some"));
    Ok(())
}

#[test]
fn what_does_not_fit_together_is_wrong_usage() -> Result<()> {
    let ring = RingDir::new()?;
    for arguments in [
        &["status", "--json", "--prometheus"][..],
        &["status", "--interval", "0"],
        &["watch", "--count", "0"],
    ] {
        let said = tktrot(&ring, arguments)?;
        assert_eq!(said.status, Some(64), "{arguments:?} {said:?}");
    }
    Ok(())
}
