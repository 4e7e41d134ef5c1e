//! Servers that are told to be left alone.

use testbed::client::{Client, TlsVersion};
use testbed::solo::{Builder, Solo};
use testbed::{RingDir, artifacts, log};

use crate::Result;

/// Whether tickets of both versions outlive a restart; the answer must be the same for both.
pub fn tickets_survive_a_restart(server: &mut Solo) -> Result<bool> {
    let mut issued = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let full = client.connect(server.addr(), Some("localhost"), None)?;
        let ticket = full.tickets.last().ok_or("no ticket")?.clone();
        let again = client.connect(server.addr(), Some("localhost"), Some(&ticket))?;
        assert!(again.resumed, "{version}: not even without a restart");
        issued.push((client, ticket));
    }
    server.stop()?;
    server.start()?;
    let mut results = Vec::new();
    for (client, ticket) in issued {
        let after = client.connect(server.addr(), Some("localhost"), Some(&ticket))?;
        assert!(after.resumed || !after.tickets.is_empty(), "no new ticket");
        results.push(after.resumed);
    }
    assert_eq!(results[0], results[1]);
    Ok(results[0])
}

#[test]
fn only_the_named_executables_are_served() -> Result<()> {
    let cases = [("openssl", true), ("nginx, openssl", true), ("nginx", false), ("ssl", false)];
    for (only, served) in cases {
        let ring = RingDir::new()?;
        let builder = Solo::openssl().preload(artifacts::shim()?).ring(&ring);
        let mut server = builder.env("TKTROT_ONLY", only).start()?;
        assert_eq!(tickets_survive_a_restart(&mut server)?, served, "{only}");
        assert_eq!(ring.entries()?.len(), usize::from(served), "{only}");
        assert_eq!(log::ours(&server.stderr()), [""; 0]);
    }
    Ok(())
}

#[test]
fn a_server_that_is_not_meant_is_not_stopped_by_settings_for_another() -> Result<()> {
    let strict_and_wrong = |builder: Builder| {
        builder.env("TKTROT_STRICT", "1").env("TKTROT_ROTATE", "soon").env("TKTROT_DIR", "wrong")
    };
    for (name, value) in [("TKTROT_ONLY", "nginx"), ("TKTROT_DISABLE", "1")] {
        let builder = Solo::openssl().preload(artifacts::shim()?).env(name, value);
        let mut server = strict_and_wrong(builder).start()?;
        assert!(!tickets_survive_a_restart(&mut server)?, "{name}");
        assert_eq!(log::ours(&server.stderr()), [""; 0]);
    }
    Ok(())
}

#[test]
fn a_disabled_shim_does_nothing() -> Result<()> {
    for (value, served) in [("1", false), ("0", true)] {
        let ring = RingDir::new()?;
        let builder = Solo::openssl().preload(artifacts::shim()?).ring(&ring);
        let mut server = builder.env("TKTROT_DISABLE", value).start()?;
        assert_eq!(tickets_survive_a_restart(&mut server)?, served, "{value}");
        assert_eq!(ring.entries()?.len(), usize::from(served), "{value}");
        assert_eq!(log::ours(&server.stderr()), [""; 0]);
    }
    Ok(())
}
