//! HAProxy with `tls-ticket-keys` moves under the shim.

use openssl::base64;
use testbed::haproxy::Haproxy;
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts};

use crate::{KeyFiles, Result, imported, path_text, random, succeeds};

fn moves<const SIZE: usize>(more: &[&str]) -> Result<()> {
    let (rings, key_files) = (RingDir::new()?, KeyFiles::new()?);
    let keys = [random::<SIZE>()?, random::<SIZE>()?, random::<SIZE>()?];
    let names = keys.each_ref().map(|key| *key.first_chunk::<16>().expect("a name"));
    let lines: String = keys.iter().map(|key| base64::encode_block(key) + "\n").collect();
    let file = key_files.write("ticket.keys", lines.as_bytes())?;
    let file = path_text(&file)?;

    let builder = Haproxy::builder()?;
    let (_, crt) = builder.certificate("site")?;
    let bind = format!("crt {} tls-ticket-keys {file}", crt.display());
    let mut haproxy = builder.frontend(&bind).start()?;
    let addr = haproxy.addr(0);
    let old = Visitors::of(addr)?;
    assert_eq!(old.key_names(), [names[1]; 2], "the penultimate key encrypts");

    let import = ["import", file, "haproxy", "--format", "haproxy"];
    succeeds(&rings, &[&import, more].concat())?;
    let mut found = imported(&rings, "haproxy")?;
    found.sort_unstable();
    let mut all = names;
    all.sort_unstable();
    assert_eq!(found, all);

    haproxy.stop()?;
    let environment = haproxy.environment_mut();
    environment.preload(artifacts::shim()?);
    environment.set("TKTROT_DIR", path_text(rings.path())?);
    haproxy.start()?;
    let renewed = old.resume(addr, "after the move")?;
    assert!(!renewed.is_empty());
    let new = Visitors::of(addr)?;
    let mut after = renewed.into_iter().chain(new.key_names());
    assert!(after.all(|name| !names.contains(&name)), "a ticket of HAProxy's own keys");
    new.resume(addr, "new tickets")?;
    Ok(())
}

#[test]
fn keys_of_80_bytes_move() -> Result<()> {
    moves::<80>(&[])
}

#[test]
fn keys_of_48_bytes_move() -> Result<()> {
    moves::<48>(&["--allow-48"])
}
