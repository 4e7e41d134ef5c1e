//! Servers that are told to be left alone.

use testbed::solo::{Builder, Solo};
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, log};

use crate::Result;

/// Whether tickets of both versions outlive a restart; the answer must be the same for both.
pub fn tickets_survive_a_restart(server: &mut Solo) -> Result<bool> {
    let visitors = Visitors::of(server.addr())?;
    visitors.resume(server.addr(), "within one life")?;
    server.stop()?;
    server.start()?;
    let after = visitors.again(server.addr())?;
    assert!(after.iter().all(|visit| visit.resumed || !visit.tickets.is_empty()), "no new ticket");
    assert_eq!(after[0].resumed, after[1].resumed);
    Ok(after[0].resumed)
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
    for (value, served) in [("1", false), ("yes", false), ("0", true), ("off", true)] {
        let ring = RingDir::new()?;
        let builder = Solo::openssl().preload(artifacts::shim()?).ring(&ring);
        let mut server = builder.env("TKTROT_DISABLE", value).start()?;
        assert_eq!(tickets_survive_a_restart(&mut server)?, served, "{value}");
        assert_eq!(ring.entries()?.len(), usize::from(served), "{value}");
        assert_eq!(log::ours(&server.stderr()), [""; 0]);
    }
    Ok(())
}
