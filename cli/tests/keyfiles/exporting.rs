//! Servers without the shim use the keys of a ring: tickets of one resume at the other, both ways.

use std::fs;
use std::os::unix::fs::MetadataExt;

use testbed::certificate;
use testbed::haproxy::Haproxy;
use testbed::nginx::Nginx;
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts};
use tktrot::secret::KeyName;

use crate::{KeyFiles, Result, fails, keys, path_text, random, succeeds};

fn mode_of(path: &std::path::Path) -> Result<u32> {
    Ok(fs::metadata(path)?.mode() & 0o7777)
}

#[test]
fn an_nginx_without_the_shim_shares_tickets_with_one_that_has_it() -> Result<()> {
    let (rings, key_files) = (RingDir::new()?, KeyFiles::new()?);
    let site = tempfile::tempdir()?;
    let certificate = certificate::create(site.path())?;
    let with = Nginx::builder().certificate(&certificate).preload(artifacts::shim()?).ring(&rings);
    let with = with.env("TKTROT_BIND", "none").start()?;
    let first = Visitors::of(with.addr())?;

    let list = key_files.path("keys.conf");
    let export = ["export", "nginx", "--format", "nginx-80", "--output", path_text(&list)?];
    succeeds(&rings, &export)?;
    let include = format!("include {};", list.display());
    let mut without = Nginx::builder().certificate(&certificate).server(&include).start()?;
    first.resume(without.addr(), "at the one without")?;
    let foreign = Visitors::of(without.addr())?;
    assert_eq!(foreign.key_names(), first.key_names(), "the active key is the first");
    foreign.resume(with.addr(), "at the one with")?;

    succeeds(&rings, &["rotate", "nginx"])?;
    succeeds(&rings, &export)?;
    without.reload()?;
    first.resume(without.addr(), "after a rotation, of the former key")?;
    let second = Visitors::of(without.addr())?;
    assert_eq!(second.key_names(), Visitors::of(with.addr())?.key_names());
    assert_ne!(second.key_names(), first.key_names());
    second.resume(with.addr(), "of the new key")?;

    // What is over in the ring does not stay behind in a file.
    let count = keys(&rings, "nginx")?.len();
    let numbered = |number| key_files.path(&format!("keys.conf.{number}"));
    for number in 0..count {
        assert_eq!(mode_of(&numbered(number))?, 0o600);
    }
    assert_eq!(fs::read(numbered(0))?[..16], second.key_names()[0]);
    let former = hex(&first.key_names()[0]);
    succeeds(&rings, &["revoke", "nginx", "--key", &former, "--yes"])?;
    succeeds(&rings, &export)?;
    assert!(!numbered(count - 1).exists() && numbered(count - 2).exists());
    without.reload()?;
    assert!(first.again(without.addr())?.iter().all(|visit| !visit.resumed), "revoked");
    second.resume(without.addr(), "of the key that stays")?;
    Ok(())
}

fn hex(name: &[u8; 16]) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_haproxy_without_the_shim_shares_tickets_with_one_that_has_it() -> Result<()> {
    let (rings, key_files) = (RingDir::new()?, KeyFiles::new()?);
    let builder = Haproxy::builder()?;
    let (_, crt) = builder.certificate("site")?;
    let builder = builder.preload(artifacts::shim()?).ring(&rings).env("TKTROT_BIND", "none");
    let with = builder.frontend(&format!("crt {}", crt.display())).start()?;
    let first = Visitors::of(with.addr(0))?;

    let file = key_files.path("ticket.keys");
    let export = ["export", "haproxy", "--format", "haproxy", "--output", path_text(&file)?];
    succeeds(&rings, &export)?;
    assert_eq!(mode_of(&file)?, 0o600);
    let bind = format!("crt {} tls-ticket-keys {}", crt.display(), file.display());
    let mut without = Haproxy::builder()?.frontend(&bind).start()?;
    let addr = without.addr(0);
    first.resume(addr, "at the one without")?;
    let foreign = Visitors::of(addr)?;
    assert_eq!(foreign.key_names(), first.key_names(), "the active key encrypts");
    foreign.resume(with.addr(0), "at the one with")?;

    succeeds(&rings, &["rotate", "haproxy"])?;
    succeeds(&rings, &export)?;
    without.stop()?;
    without.start()?;
    first.resume(addr, "after a rotation, of the former key")?;
    let second = Visitors::of(addr)?;
    assert_ne!(second.key_names(), first.key_names());
    second.resume(with.addr(0), "of the new key")?;
    Ok(())
}

/// A ring whose keys are bound, a disk, the terminal: nothing is written.
#[test]
fn what_must_not_be_exported_is_refused() -> Result<()> {
    let (rings, key_files) = (RingDir::new()?, KeyFiles::new()?);
    let disk = tempfile::tempdir_in("/var/tmp")?;
    let bound = Nginx::builder().preload(artifacts::shim()?).ring(&rings).start()?;
    Visitors::of(bound.addr())?;
    let raw = ["export", "nginx", "--format", "raw", "--output"];
    let to = |output| [&raw[..], &[output]].concat();
    let target = key_files.path("keys");
    let said = fails(&rings, &to(path_text(&target)?))?;
    assert!(said.contains("TKTROT_BIND=none") && said.contains("client certificate"), "{said}");
    assert!(!target.exists());

    let plain_rings = RingDir::new()?;
    let plain = Nginx::builder().preload(artifacts::shim()?).ring(&plain_rings);
    let plain = plain.env("TKTROT_BIND", "none").start()?;
    Visitors::of(plain.addr())?;
    let on_disk = disk.path().join("keys");
    let said = fails(&plain_rings, &to(path_text(&on_disk)?))?;
    assert!(said.contains("tmpfs") && said.contains("--force-disk"), "{said}");
    assert_eq!(disk.path().read_dir()?.count(), 0, "nothing is left there");
    let said = fails(&plain_rings, &to("-"))?;
    assert!(said.contains("never printed"), "{said}");
    let said = fails(&plain_rings, &to("/dev/stdout"))?;
    assert!(said.contains("not a regular file"), "{said}");

    // What is replaced has the rights of a new file.
    fs::write(&target, "")?;
    succeeds(&plain_rings, &to(path_text(&target)?))?;
    assert_eq!(mode_of(&target)?, 0o600);
    let keys = keys(&plain_rings, "nginx")?;
    let bytes = fs::read(&target)?;
    assert_eq!(bytes.len(), 80 * keys.len());
    let is_in = |name: &KeyName| bytes.chunks(80).any(|key| key[..16] == name.0);
    assert!(keys.iter().all(|key| is_in(&key.name)));
    Ok(())
}

/// An imported key of 16 bytes is none for HAProxy or nginx' 80 bytes: it is left out, and said.
#[test]
fn a_short_key_is_left_out() -> Result<()> {
    let (rings, key_files) = (RingDir::new()?, KeyFiles::new()?);
    let plain = Nginx::builder().preload(artifacts::shim()?).ring(&rings);
    let plain = plain.env("TKTROT_BIND", "none").start()?;
    Visitors::of(plain.addr())?;
    let own = keys(&rings, "nginx")?.len();
    let short = key_files.write("short.key", &random::<48>()?)?;
    let short = path_text(&short)?;
    succeeds(&rings, &["import", short, "nginx", "--format", "nginx-48", "--allow-48"])?;
    assert_eq!(keys(&rings, "nginx")?.len(), own + 1);
    let target = key_files.path("keys");
    let export = ["export", "nginx", "--format", "raw", "--output", path_text(&target)?];
    let said = succeeds(&rings, &export)?;
    assert!(said.contains("1 keys are left out"), "{said}");
    assert_eq!(fs::read(&target)?.len(), 80 * own);
    Ok(())
}
