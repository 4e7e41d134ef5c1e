//! A stock nginx with key files and a reload command.

use std::collections::BTreeSet;

use testbed::nginx::{BINARY, Nginx};
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, artifacts, certificate};
use tktrot::schedule::KeyState;
use tktrot::secret::KeyName;
use tktrot_fleet::config::Format;

use tktrot_keyfile::files::nginx_files;

use super::{
    Result, Running, Visitors, active, export, key_names, look, names, operator, place, words,
};

#[test]
fn an_nginx_that_is_reloaded_follows_the_ring() -> Result<()> {
    let (rings, files, site) = (RingDir::new()?, RingDir::new()?, tempfile::tempdir()?);
    let certificate = certificate::create(site.path())?;
    let with = Nginx::builder().certificate(&certificate).preload(artifacts::shim()?).ring(&rings);
    let with = with.env("TKTROT_BIND", "none").start()?;
    let first = Visitors::of(with.addr())?;
    let place = place(&rings, "nginx");
    let view = look(&place)?;

    let list = files.path().join("keys.conf");
    let include = format!("include {};", list.display());
    let mut without = Nginx::builder().certificate(&certificate).server(&include).prepare()?;
    let dir = without.dir().to_str().ok_or("a path")?.to_owned();
    let (conf, log) = (format!("{dir}/nginx.conf"), format!("{dir}/error.log"));
    let mut setting = export(Format::Nginx80, list.clone());
    setting.command = words(&[BINARY, "-p", &dir, "-e", &log, "-c", &conf, "-s", "reload"]);
    let exporter = Running::start(&place, &[setting])?;
    // It does not run yet, so it cannot be told; its files are there.
    let status = exporter.wait(0, "a failed reload", |status| status.failures > 0);
    assert!(status.error.unwrap_or_default().contains("nginx.pid"));
    assert_eq!(status.keys, view.keys().len());
    without.start()?;
    exporter.wait_for_key(0, &active(&view)?);
    assert_eq!(first.resumed(without.addr())?, [true; 2]);

    let before = Visitors::of(without.addr())?;
    assert_eq!(before.resumed(with.addr())?, [true; 2]);
    let announced = names(&view, KeyState::Announced);
    let file = |name: &KeyName| files.path().join(format!("keys.conf.{}", name.to_hex()));
    let there = std::fs::read(file(&announced[0]))?;
    assert_eq!(there[..16], announced[0].0, "the successor is there a rotation ahead");

    operator(&place)?.rotate().map_err(|failure| failure.to_string())?;
    exporter.wait_for_key(0, &active(&view)?);
    // The command returns before the reload is done.
    let new = wait::until(PATIENCE, "the new key in its tickets", || {
        let new = Visitors::of(without.addr()).ok()?;
        (key_names(&new) == [active(&view).ok()?; 2]).then_some(new)
    })?;
    assert_eq!(new.resumed(with.addr())?, [true; 2]);
    assert_eq!(before.resumed(without.addr())?, [true; 2], "of the former key");
    assert_eq!(before.resumed(with.addr())?, [true; 2], "of the former key");

    let revoked = key_names(&before)[0];
    let ended = operator(&place)?.revoke_those(|name| *name == revoked);
    assert_eq!(ended.map_err(|failure| failure.to_string())?, [revoked]);
    wait::until(PATIENCE, "the end of its tickets", || {
        (before.resumed(without.addr()).ok()? == [false; 2]).then_some(())
    })?;
    let what = "a file for each key, and none of the revoked one";
    wait::until(PATIENCE, what, || {
        let expected: BTreeSet<_> = view.keys().iter().map(|key| file(&key.name)).collect();
        let there: BTreeSet<_> = nginx_files(&list).ok()?.into_iter().collect();
        (there == expected && !there.contains(&file(&revoked))).then_some(())
    })?;
    assert_eq!(new.resumed(without.addr())?, [true; 2]);
    Ok(())
}
