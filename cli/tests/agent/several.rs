//! Several rings on one host, each with an agent of its own.

use std::collections::BTreeSet;
use std::path::Path;

use testbed::environment::Environment;
use testbed::log::Said;
use testbed::port;
use testbed::wait::{self, PATIENCE};
use tktrot::clock::{BootClock, Clock};
use tktrot::ring::key::KeyFacts;
use tktrot::schedule::KeyState;

use crate::daemon::Agent;
use crate::daemon::{Result, TKTROT};

const RINGS: [&str; 3] = ["nginx", "postfix", "dovecot"];

/// An agent for each ring of a host; the first agent has the directory of all rings.
fn host(secret: &mut Option<String>, listen: &[String], peers: &[String]) -> Result<Vec<Agent>> {
    let mut agents: Vec<Agent> = Vec::new();
    for (number, ring) in RINGS.iter().enumerate() {
        let agent = match agents.first() {
            None => Agent::new("")?,
            Some(first) => first.beside(ring, "")?,
        };
        if secret.is_none() {
            *secret = Some(agent.secret("secret")?);
        }
        let secret = secret.as_deref().unwrap_or_default();
        agent.set(&format!(
            "rotate = \"1h\"\n[mesh]\nlisten = {}\npeers = [{}]\nsecrets = [\"{secret}\"]\n",
            listen[number], peers[number]
        ))?;
        agents.push(agent);
    }
    agents.iter_mut().try_for_each(Agent::start)?;
    Ok(agents)
}

/// `tktrot` as an operator calls it: with the name of a ring, and no settings of its agent.
fn tktrot(rings: &Path, arguments: &[&str]) -> Result<Said> {
    let mut environment = Environment::default();
    environment.set("TKTROT_DIR", &rings.display().to_string());
    Ok(environment.command(TKTROT.as_ref()).args(arguments).output()?.into())
}

fn keys(agents: &[Agent]) -> Result<Vec<BTreeSet<[u8; 16]>>> {
    let keys = |agent: &Agent| {
        Ok(agent.view()?.keys().iter().map(|key| key.name.0).collect::<BTreeSet<_>>())
    };
    agents.iter().map(keys).collect()
}

/// Two hosts with three rings each.
#[test]
fn each_ring_has_an_agent_which_is_found_by_its_name() -> Result<()> {
    let addresses = || -> Result<Vec<String>> {
        RINGS.iter().map(|_| Ok(format!("\"{}\"", port::free()?))).collect()
    };
    let (here, there) = (addresses()?, addresses()?);
    let mut secret = None;
    let one = host(&mut secret, &here, &there)?;
    let other = host(&mut secret, &there, &here)?;
    let rings = one[0].rings();
    let in_common = wait::until(PATIENCE, "the hosts to agree on each ring", || {
        let (own, others) = (keys(&one).ok()?, keys(&other).ok()?);
        (own == others && own.iter().all(|keys| keys.len() >= 4)).then_some(own)
    })?;
    for ring in RINGS {
        let said = tktrot(&rings, &["peers", ring])?;
        assert_eq!(said.status, Some(0), "{said:?}");
        assert!(said.stdout.starts_with(&format!("{ring}: node ")), "{said:?}");
        assert!(said.stdout.contains("1 of 1 peers up"), "{said:?}");
    }
    let said = tktrot(&rings, &["peers"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("say which: dovecot, nginx, postfix"), "{said:?}");

    // Each acts on its own, on both hosts.
    let active = || -> Result<Vec<Vec<_>>> {
        let now = BootClock.now();
        let is_active = |key: &KeyFacts| key.times.state(now) == KeyState::Active;
        let own = |agent: &Agent| -> Result<Vec<_>> {
            let view = agent.view()?;
            let keys = view.keys().into_iter().filter(|key| key.node == view.node());
            Ok(keys.filter(is_active).map(|key| key.name).collect())
        };
        one.iter().map(own).collect()
    };
    let before = active()?;
    let said = tktrot(&rings, &["rotate", "postfix", "--fleet"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    let said = tktrot(&rings, &["revoke", "dovecot", "--fleet", "--all", "--yes"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    wait::until(PATIENCE, "the hosts to agree again", || {
        let (own, others) = (keys(&one).ok()?, keys(&other).ok()?);
        let is_whole = own == others
            && own[0].is_superset(&in_common[0])
            && own[1] != in_common[1]
            && own[2].is_disjoint(&in_common[2]);
        is_whole.then_some(())
    })
    .map_err(|error| {
        let logs: Vec<_> = one.iter().chain(&other).map(Agent::log).collect();
        format!("{error}\n{}", logs.join("---\n"))
    })?;
    let after = active()?;
    assert!(after[0] == before[0] && after[1] != before[1], "{before:?} {after:?}");

    // One ring has one agent, and one address one of them.
    let rival = one[0].beside("postfix", "rotate = \"1h\"\n")?;
    let said = rival.tktrot(&["agent"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("another agent governs this ring already"), "{said:?}");
    let secret = secret.unwrap_or_default();
    let stranger = one[0]
        .beside("apache2", &format!("[mesh]\nlisten = {}\nsecrets = [\"{secret}\"]\n", here[0]))?;
    let said = stranger.tktrot(&["config", "check"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stdout.contains("each agent of a host needs an address or a port"), "{said:?}");
    Ok(())
}

/// As when a host boots, or waits for a floating address.
#[test]
fn an_agent_starts_before_its_address_is_there() -> Result<()> {
    let mut agent = Agent::new("")?;
    let secret = agent.secret("secret")?;
    // No host has it (RFC 5737).
    agent.set(&format!("[mesh]\nlisten = \"192.0.2.7\"\nsecrets = [\"{secret}\"]\n"))?;
    agent.start()?;
    let log = agent.log();
    assert!(log.contains("this host does not have the address 192.0.2.7"), "{log}");
    assert_eq!(agent.stop()?.code(), Some(0));
    Ok(())
}
