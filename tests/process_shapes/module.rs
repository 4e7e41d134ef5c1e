//! A server whose TLS library came in with a module, under RTLD_LOCAL, and may go with it.

use std::fs;
use std::path::Path;

use testbed::client::{Client, TlsVersion};
use testbed::solo::{Builder, Solo};
use testbed::{RingDir, artifacts};

use crate::{Result, every_ticket_resumes, rotating};

/// The server changes its module so often after each connection.
const RELOADS: usize = 4;

fn server() -> Result<Builder> {
    let module = artifacts::program("servers/module/tls.so")?;
    Ok(Solo::built("module/host", &[&module.display().to_string(), &RELOADS.to_string()])?)
}

/// What the server says: how often it has changed its module, and after how many of those the TLS
/// library had gone with it.
fn reloads(server: &Solo) -> Result<(usize, usize)> {
    let answer = Client::new(TlsVersion::V12)?.connect(server.addr(), None, None)?;
    let (reloads, gone) = answer.body.split_once(' ').ok_or("an answer of another form")?;
    Ok((reloads.parse()?, gone.parse()?))
}

/// Connects until it has done so a thousand times.
fn a_thousand_reloads(server: &Solo) -> Result<(usize, usize)> {
    for _ in 0..1000 / RELOADS {
        let (count, gone) = reloads(server)?;
        if count >= 1000 {
            return Ok((count, gone));
        }
    }
    reloads(server)
}

#[test]
fn every_ticket_resumes_while_the_module_is_replaced_a_thousand_times() -> Result {
    let ring = RingDir::new()?;
    let mut server = rotating(server()?, &ring)?;
    every_ticket_resumes(&mut server, 1, |server| {
        let (count, gone) = a_thousand_reloads(server)?;
        assert!(count >= 1000, "{count} reloads");
        assert_eq!(gone, 0, "Debian's library is never unloaded");
        Ok(())
    })?;
    Ok(())
}

/// Debian's TLS library forbids its unloading; others do not. These copies of it do not.
fn libraries_that_can_go(dir: &Path) -> Result {
    const DT_FLAGS_1: u64 = 0x6fff_fffb;
    const DF_1_NODELETE: u64 = 8;
    for name in ["libssl.so.3", "libcrypto.so.3"] {
        let found = LIBRARY_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|p| p.exists());
        let mut bytes = fs::read(found.ok_or("no OpenSSL 3 where Debian has it")?)?;
        let entry: Vec<usize> = (0..bytes.len() - 16)
            .step_by(8)
            .filter(|&at| bytes[at..at + 8] == DT_FLAGS_1.to_le_bytes())
            .collect();
        let [entry] = entry[..] else { return Err(format!("{name}: flags at {entry:?}").into()) };
        let flags = bytes[entry + 8];
        assert_ne!(u64::from(flags) & DF_1_NODELETE, 0, "{name} can be unloaded anyway");
        bytes[entry + 8] = flags & !(DF_1_NODELETE as u8);
        fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

const LIBRARY_DIRS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
];

/// The keys' generator is a function of the library, and the upkeep thread calls it at any time.
#[test]
fn a_library_whose_functions_are_kept_is_not_unloaded_with_the_module() -> Result {
    let libraries = tempfile::tempdir()?;
    libraries_that_can_go(libraries.path())?;
    let path = libraries.path().display().to_string();

    let alone = server()?.env("LD_LIBRARY_PATH", &path).start()?;
    let (count, gone) = a_thousand_reloads(&alone)?;
    assert!(gone > 0 && gone == count, "the copies go: {gone} times of {count}");

    let ring = RingDir::new()?;
    let mut server = rotating(server()?.env("LD_LIBRARY_PATH", &path), &ring)?;
    every_ticket_resumes(&mut server, 1, |server| {
        let (count, gone) = a_thousand_reloads(server)?;
        assert!(count >= 1000, "{count} reloads");
        assert_eq!(gone, 0, "the library went");
        Ok(())
    })?;
    Ok(())
}
