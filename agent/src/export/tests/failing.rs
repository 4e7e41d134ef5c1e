//! Entries that cannot work say why, and are tried again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use testbed::RingDir;
use testbed::wait::{self, PATIENCE};
use tktrot::config::Bind;
use tktrot_fleet::config::Format;

use super::Result;
use super::{Running, active, export, holds, look, ring, words};

#[test]
fn a_disk_is_refused() -> Result<()> {
    let rings = RingDir::new()?;
    let (place, _keyring) = ring(&rings, Bind::NONE)?;
    let disk = tempfile::tempdir_in("/var/tmp")?;
    let exporter = Running::start(&place, &[export(Format::Raw, disk.path().join("keys"))])?;
    let status = exporter.wait(0, "the refusal", |status| status.error.is_some());
    let error = status.error.unwrap_or_default();
    assert!(error.contains("tmpfs") && !error.contains("--force-disk"), "{error}");
    assert!(error.contains("keys: "), "it names the file: {error}");
    assert_eq!(disk.path().read_dir()?.count(), 0, "nothing is left there");
    exporter.wait(0, "another try", |status| status.failures > 1 && !status.current);
    Ok(())
}

#[test]
fn bound_keys_are_refused_with_the_setting() -> Result<()> {
    let (rings, files) = (RingDir::new()?, RingDir::new()?);
    let (place, _keyring) = ring(&rings, Bind::ALL)?;
    let output = files.path().join("keys");
    let exporter = Running::start(&place, &[export(Format::Raw, output.clone())])?;
    let status = exporter.wait(0, "the refusal", |status| status.error.is_some());
    let error = status.error.unwrap_or_default();
    assert!(error.contains("bind = \"none\"") && error.contains("client certificate"), "{error}");
    assert!(!output.exists() && !status.current);
    Ok(())
}

#[test]
fn a_command_that_fails_is_shown_and_run_again_until_it_succeeds() -> Result<()> {
    let (rings, files) = (RingDir::new()?, RingDir::new()?);
    let (place, _keyring) = ring(&rings, Bind::NONE)?;
    let flag = files.path().join("flag");
    let mut setting = export(Format::Raw, files.path().join("keys"));
    setting.command = words(&["/bin/ls", flag.to_str().ok_or("a path")?]);
    let exporter = Running::start(&place, &[setting])?;
    let status = exporter.wait(0, "two failures", |status| status.failures >= 2);
    let error = status.error.unwrap_or_default();
    assert!(error.contains("exit status: 2") && error.contains("No such file"), "{error}");
    assert!(status.written.is_some() && !status.current && status.keys > 0);
    fs::write(&flag, "")?;
    let status = exporter.wait(0, "success", |status| status.current);
    assert_eq!((status.error, status.failures), (None, 0));
    assert_eq!(status.said.as_deref(), flag.to_str());
    Ok(())
}

#[test]
fn one_that_hangs_holds_up_nobody_else() -> Result<()> {
    let (rings, files) = (RingDir::new()?, RingDir::new()?);
    let (place, _keyring) = ring(&rings, Bind::NONE)?;
    let mut hanging = export(Format::Raw, files.path().join("hanging"));
    hanging.command = words(&["/bin/sleep", "1000"]);
    hanging.timeout = Duration::from_millis(300);
    let mut absent = export(Format::Raw, files.path().join("absent"));
    absent.command = words(&["/nowhere/at-all"]);
    let well = export(Format::Raw, files.path().join("well"));
    let exporter = Running::start(&place, &[hanging, absent, well])?;
    exporter.wait_for_key(2, &active(&look(&place)?)?);
    let status = exporter.wait(0, "the end of its time", |status| status.failures > 0);
    assert!(status.error.unwrap_or_default().contains("did not end within 0.3 s"));
    let status = exporter.wait(1, "the failure", |status| status.failures > 0);
    assert!(status.error.unwrap_or_default().contains("cannot start it"));
    Ok(())
}

#[test]
fn rights_are_as_asked_and_files_that_vanish_come_back() -> Result<()> {
    testbed::process::needs_root("files are given to a group");
    let (rings, files) = (RingDir::new()?, RingDir::new()?);
    let (place, keyring) = ring(&rings, Bind::NONE)?;
    let output = files.path().join("keys");
    let mut setting = export(Format::Raw, output.clone());
    (setting.mode, setting.group) = (0o640, Some("www-data".into()));
    let exporter = Running::start(&place, std::slice::from_ref(&setting))?;
    exporter.wait(0, "its files", |status| status.current);
    let facts = fs::metadata(&output)?;
    let group = nix::unistd::Group::from_name("www-data")?.ok_or("no group www-data")?;
    assert_eq!((facts.mode() & 0o7777, facts.gid()), (0o640, group.gid.as_raw()));
    fs::remove_file(&output)?;
    wait::until(PATIENCE, "the file again", || output.exists().then_some(()))?;

    // A revoked key goes at once, and files stay when the exporter stops.
    let old = active(&look(&place)?)?;
    keyring.revoke_those(|name| *name == old).map_err(|failure| failure.to_string())?;
    exporter.wait_for_key(0, &active(&look(&place)?)?);
    assert!(!holds(&output, &old.0)?);
    drop(exporter);
    assert!(output.exists());

    setting.group = Some("no-such-group".into());
    let error = Running::start(&place, &[setting]).err().ok_or("a group that is not there")?;
    assert!(error.to_string().contains("[[export]]"), "{error}");
    Ok(())
}
