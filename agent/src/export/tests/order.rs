//! No entry's server is switched to a key that another entry's has not got.

use std::fs;

use testbed::RingDir;
use tktrot::config::Bind;
use tktrot_fleet::config::Format;

use super::Result;
use super::{Running, active, export, hex, holds, look, ring, words};

#[test]
fn nobody_encrypts_with_a_key_before_all_can_decrypt_it() -> Result<()> {
    let (rings, files) = (RingDir::new()?, RingDir::new()?);
    let (place, keyring) = ring(&rings, Bind::NONE)?;
    let view = look(&place)?;
    let old = active(&view)?;
    let flag = files.path().join("flag");
    fs::write(&flag, "")?;
    let mut lagging = export(Format::Raw, files.path().join("lagging"));
    lagging.command = words(&["/bin/ls", flag.to_str().ok_or("a path")?]);
    let good = files.path().join("good");
    let exports = [lagging, export(Format::Raw, good.clone())];
    let exporter = Running::start(&place, &exports)?;
    exporter.wait_for_key(0, &old);
    exporter.wait_for_key(1, &old);

    // A rotation that nobody has announced, while one server cannot be told.
    fs::remove_file(&flag)?;
    keyring.rotate().map_err(|failure| failure.to_string())?;
    let new = active(&view)?;
    assert_ne!(new, old);
    let status = exporter.wait(0, "three failures", |status| status.failures >= 3);
    assert!(status.error.is_some());
    exporter.wait_for_key(1, &old);
    assert_eq!(fs::read(&good)?[..16], old.0, "the old one encrypts");
    assert!(holds(&good, &new.0)?, "the new one decrypts");

    // Whoever lags itself need not wait, because the other one has the key.
    assert_eq!(status.encrypts, Some(hex(&new)));
    fs::write(&flag, "")?;
    exporter.wait_for_key(0, &new);
    exporter.wait_for_key(1, &new);
    assert_eq!(fs::read(&good)?[..16], new.0);
    assert!(holds(&good, &old.0)?, "the old one still decrypts");

    // What an agent finds at its start is what servers have: one of them lacks the newest key.
    drop(exporter);
    keyring.rotate().map_err(|failure| failure.to_string())?;
    let newest = active(&view)?;
    fs::remove_file(&flag)?;
    let exporter = Running::start(&place, &exports)?;
    exporter.wait(0, "a failure", |status| status.failures >= 2);
    exporter.wait_for_key(1, &new);
    assert!(holds(&good, &newest.0)?);

    // No order is worth a revoked key.
    keyring.revoke_those(|name| *name == new).map_err(|failure| failure.to_string())?;
    exporter
        .wait(1, "the revocation", |status| status.current && status.encrypts != Some(hex(&new)));
    assert!(!holds(&good, &new.0)?);
    Ok(())
}
