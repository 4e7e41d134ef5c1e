//! nginx with `ssl_session_ticket_key` moves under the shim.

use std::fs;
use std::path::PathBuf;

use testbed::nginx::Nginx;
use testbed::visitors::Visitors;
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, artifacts};

use crate::{KeyFiles, Result, imported, keys, path_text, random, succeeds};

/// An nginx without the shim, and the file of its key.
struct Before {
    nginx: Nginx,
    key_files: KeyFiles,
    key: PathBuf,
    name: [u8; 16],
}

impl Before {
    /// With a key of so many bytes. Its directive is in a file that is included.
    fn with_key_of<const SIZE: usize>() -> Result<Before> {
        let key_files = KeyFiles::new()?;
        let bytes = random::<SIZE>()?;
        let key = key_files.write("ticket.key", &bytes)?;
        let directive = format!("ssl_session_ticket_key {};", key.display());
        let list = key_files.write("keys.conf", directive.as_bytes())?;
        let nginx = Nginx::builder().server(&format!("include {};", list.display())).start()?;
        let name = bytes[..16].try_into()?;
        Ok(Before { nginx, key_files, key, name })
    }

    fn remove_directive(&self) -> Result<()> {
        self.key_files.write("keys.conf", b"")?;
        Ok(fs::remove_file(&self.key)?)
    }

    /// Stops and starts it, now under the shim.
    fn restart_under_shim(&mut self, rings: &RingDir) -> Result<()> {
        let environment = self.nginx.environment_mut();
        environment.preload(artifacts::shim()?);
        environment.set("TKTROT_DIR", path_text(rings.path())?);
        self.nginx.stop()?;
        Ok(self.nginx.start()?)
    }
}

/// Tickets from before the move resume after it, and what is new has the ring's own keys.
fn moves(mut before: Before, import: &[&str], directive_stays: bool) -> Result<()> {
    let rings = RingDir::new()?;
    let addr = before.nginx.addr();
    let old = Visitors::of(addr)?;
    assert_eq!(old.key_names(), [before.name; 2], "nginx's own key");

    let file = path_text(&before.key)?.to_owned();
    let said = succeeds(&rings, &[&["import", &file, "nginx", "--format"], import].concat())?;
    assert!(said.contains("nginx.ring: made") && said.contains("client certificate"), "{said}");
    assert_eq!(imported(&rings, "nginx")?, [before.name]);
    if !directive_stays {
        before.remove_directive()?;
    }
    before.restart_under_shim(&rings)?;

    let renewed = old.resume(addr, "after the move")?;
    assert!(!renewed.is_empty() && !renewed.contains(&before.name), "{renewed:?}");
    let new = Visitors::of(addr)?;
    let own: Vec<_> = keys(&rings, "nginx")?.iter().map(|key| key.name.0).collect();
    for name in new.key_names() {
        assert!(name != before.name && own.contains(&name), "a key of the ring's own");
    }
    new.resume(addr, "new tickets")?;
    before.nginx.reload_by_signal()?;
    old.resume(addr, "after a reload")?;
    Ok(())
}

#[test]
fn a_key_of_80_bytes_moves_while_the_directive_stays() -> Result<()> {
    moves(Before::with_key_of::<80>()?, &["nginx-80"], true)
}

#[test]
fn a_key_of_48_bytes_moves_and_its_file_is_removed() -> Result<()> {
    moves(Before::with_key_of::<48>()?, &["nginx-48", "--allow-48"], false)
}

/// Nobody has to ask for it: the upkeep erases the key at its end.
#[test]
fn after_its_end_an_imported_key_is_gone_and_its_tickets_are_full_handshakes() -> Result<()> {
    let rings = RingDir::new()?;
    let mut before = Before::with_key_of::<80>()?;
    let addr = before.nginx.addr();
    let old = Visitors::of(addr)?;
    let file = path_text(&before.key)?.to_owned();
    succeeds(&rings, &["import", &file, "--format", "nginx-80", "nginx", "--lifetime", "2s"])?;
    assert_eq!(imported(&rings, "nginx")?, [before.name]);
    before.restart_under_shim(&rings)?;
    let new = Visitors::of(addr)?;
    wait::until(PATIENCE, "the imported key to be erased", || {
        imported(&rings, "nginx").ok()?.is_empty().then_some(())
    })?;
    for visit in old.again(addr)? {
        assert!(!visit.resumed && !visit.tickets.is_empty());
    }
    new.resume(addr, "the ring's own keys")?;
    Ok(())
}
