//! What an agent does not start with.

use std::fs;
use std::net::TcpListener;

use crate::daemon::Agent;
use crate::daemon::Result;

/// What it says instead of starting.
fn refusal(settings: &str) -> Result<String> {
    let agent = Agent::new(settings)?;
    let said = agent.tktrot(&["agent"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    Ok(said.stderr)
}

#[test]
fn settings_that_cannot_be_used_are_told_with_their_place() -> Result<()> {
    let cases = [
        ("[agent]\nusr = \"x\"\n", "tktrot.toml:4:1: there is no setting \"usr\" in [agent]"),
        ("[mesh]\n", "tktrot.toml:3:2: [mesh]: nodes need something to authenticate with"),
        ("[agent]\nmetrics = \"0.0.0.0:1\"\n", ":4:11: metrics has no valid value"),
        ("[mesh]\nsecrets = [\"/no/such/secret\"]\n", "/no/such/secret"),
    ];
    for (settings, part) in cases {
        let said = refusal(settings)?;
        assert!(said.contains(part), "{settings:?}: {said}");
    }
    Ok(())
}

#[test]
fn an_address_that_another_one_has_is_told() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let said = refusal(&format!("[agent]\nmetrics = \"{address}\"\n"))?;
    assert!(said.contains(&format!("metrics: cannot listen on {address}")), "{said}");
    Ok(())
}

#[test]
fn without_a_ring_of_that_name_it_makes_one_and_without_a_name_it_does_not() -> Result<()> {
    let agent = Agent::new("")?;
    fs::write(agent.settings(), format!("dir = \"{}\"\n", agent.rings().display()))?;
    let said = agent.tktrot(&["agent"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("a new ring needs a name"), "{said:?}");
    let said = agent.tktrot(&["peers", "nginx"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(
        said.stderr.contains("no agent governs this ring (start one: tktrot agent nginx)"),
        "{said:?}"
    );
    Ok(())
}
