//! An agent that shares keys with nobody: what it does to its ring.

use testbed::wait::{self, PATIENCE};
use tktrot::clock::{BootClock, Clock};
use tktrot::schedule::KeyState;

use crate::daemon::Agent;
use crate::daemon::Result;

fn governed(agent: &Agent) -> Result<bool> {
    Ok(agent.view()?.governed(BootClock.now()).is_some())
}

/// The names of keys in a state.
fn names(agent: &Agent, state: KeyState) -> Result<Vec<String>> {
    let now = BootClock.now();
    let keys = agent.view()?.keys().into_iter();
    Ok(keys.filter(|key| key.times.state(now) == state).map(|key| key.name.to_string()).collect())
}

#[test]
fn it_is_ready_with_a_key_and_rotates() -> Result<()> {
    let agent = Agent::started("rotate = \"1s\"\nlifetime = \"3s\"\n")?;
    assert!(governed(&agent)?);
    assert_eq!(names(&agent, KeyState::Active)?.len(), 1);
    let first = names(&agent, KeyState::Active)?;
    wait::until(PATIENCE, "the first key to end", || {
        let view = agent.view().ok()?;
        (!view.keys().iter().any(|key| key.name.to_string() == first[0])).then_some(())
    })?;
    assert!(governed(&agent)?, "{}", agent.log());
    assert!(agent.view()?.keys().len() <= 8);
    let log = agent.log();
    assert!(log.matches("a key begins to encrypt").count() >= 3, "{log}");
    Ok(())
}

#[test]
fn what_it_finds_after_a_crash_is_what_it_left() -> Result<()> {
    let mut agent = Agent::started("rotate = \"1h\"\n")?;
    let (active, next) = (names(&agent, KeyState::Active)?, names(&agent, KeyState::Announced)?);
    agent.kill()?;
    agent.start()?;
    assert_eq!(names(&agent, KeyState::Active)?, active);
    assert_eq!(names(&agent, KeyState::Announced)?, next);
    Ok(())
}

#[test]
fn told_to_stop_it_leaves_the_ring_to_servers() -> Result<()> {
    let mut agent = Agent::started("rotate = \"1h\"\n")?;
    let status = agent.stop()?;
    assert_eq!(status.code(), Some(0), "{}", agent.log());
    assert!(!governed(&agent)?);
    assert_eq!(names(&agent, KeyState::Active)?.len(), 1);
    agent.wait_to_hear("STOPPING=1")
}

#[test]
fn one_agent_is_enough() -> Result<()> {
    let agent = Agent::started("rotate = \"1h\"\n")?;
    let second = agent.tktrot(&["agent"])?;
    assert_eq!(second.status, Some(2), "{second:?}");
    assert!(second.stderr.contains("nginx.ring: another agent governs this ring"), "{second:?}");
    // The first one goes on, and answers.
    let peers = agent.peers()?;
    assert_eq!((&peers["sharing"], &peers["synced"]), (&"alone".into(), &true.into()));
    Ok(())
}

#[test]
fn what_an_operator_does_to_the_ring_is_noticed() -> Result<()> {
    let agent = Agent::started("rotate = \"1h\"\n")?;
    let first = names(&agent, KeyState::Active)?.remove(0);
    let said = agent.tktrot(&["rotate"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stderr.contains("an agent governs this ring"), "{said:?}");
    let second = names(&agent, KeyState::Active)?.remove(0);
    assert_ne!(first, second);
    let own = |count: u64| {
        wait::until(PATIENCE, "the agent to know", || {
            (agent.peers().ok()?["own_keys"] == count).then_some(())
        })
    };
    // Its former key and the one by hand; and one that follows, where another one did before.
    wait::until(PATIENCE, "a successor", || {
        let log = agent.log();
        let begun = log.contains(&format!("a key begins to encrypt key={second}"));
        (begun && names(&agent, KeyState::Announced).ok()?.len() == 1).then_some(())
    })?;
    own(agent.view()?.keys().len() as u64)?;
    let said = agent.tktrot(&["revoke", "--key", &first, "--yes"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stderr.contains("--fleet waits until it has"), "{said:?}");
    own(agent.view()?.keys().len() as u64)?;
    assert_eq!(names(&agent, KeyState::Retired)?, [""; 0]);
    assert_eq!(names(&agent, KeyState::Active)?, [second]);
    Ok(())
}

#[test]
fn by_its_agent_a_ring_is_rotated_and_revoked() -> Result<()> {
    let agent = Agent::started("rotate = \"1h\"\n")?;
    let before = names(&agent, KeyState::Active)?.remove(0);
    let said = agent.tktrot(&["rotate", "--fleet"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    let after = names(&agent, KeyState::Active)?.remove(0);
    assert_ne!(before, after);
    assert!(
        said.stdout.contains(&format!("key {after} encrypts; 0 peers have acknowledged it")),
        "{said:?}"
    );

    let said = agent.tktrot(&["revoke", "--fleet", "--key", &before, "--yes"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("ended 1 key and told 0 peers"), "{said:?}");
    assert_eq!(names(&agent, KeyState::Retired)?, [""; 0]);
    let said = agent.tktrot(&["revoke", "--fleet", "--all", "--yes"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    wait::until(PATIENCE, "another key", || {
        let active = names(&agent, KeyState::Active).ok()?;
        (active.len() == 1 && active[0] != after).then_some(())
    })?;
    assert_eq!(names(&agent, KeyState::Retired)?, [""; 0]);
    Ok(())
}

#[test]
fn it_ends_when_its_ring_was_removed() -> Result<()> {
    let mut agent = Agent::started("rotate = \"1h\"\n")?;
    std::fs::remove_file(agent.rings().join("nginx.ring"))?;
    assert_eq!(agent.ended()?.code(), Some(2));
    assert!(agent.log().contains("the ring was removed"), "{}", agent.log());
    Ok(())
}

/// One that was told to stop releases the ring.
#[test]
fn status_tells_of_an_agent_that_does_not_do_its_work() -> Result<()> {
    let mut agent = Agent::started("")?;
    let alarms = |agent: &Agent| -> Result<(Option<i32>, Vec<String>)> {
        let said = agent.tktrot(&["status", "--json"])?;
        let document: serde_json::Value =
            serde_json::from_str(&said.stdout).map_err(|_| format!("{said:?}"))?;
        let found = document["rings"][0]["alarms"].as_array().ok_or("no alarms")?;
        let of_agent = found.iter().filter(|alarm| alarm["alarm"] == "agent");
        let words = of_agent.filter_map(|alarm| alarm["what"].as_str());
        Ok((said.status, words.map(str::to_owned).collect()))
    };
    assert_eq!(alarms(&agent)?.1, [""; 0]);

    // Within the lease it is asked, and does not answer; afterwards the lease says it.
    let words =
        ["its agent does not answer", "its agent is gone", "its agent has shown no sign of"];
    let is_told = |(status, told): (Option<i32>, Vec<String>), words: &[&str]| {
        assert_eq!((status, told.len()), (Some(1), 1), "{told:?}");
        assert!(words.iter().any(|words| told[0].starts_with(words)), "{told:?}");
    };
    let process = agent.process()?;
    assert!(process.signal(libc::SIGSTOP));
    let stopped = alarms(&agent);
    assert!(process.signal(libc::SIGCONT));
    is_told(stopped?, &[words[0], words[2]]);

    wait::until(PATIENCE, "the agent to go on", || {
        matches!(governed(&agent), Ok(true)).then_some(())
    })?;
    agent.kill()?;
    is_told(alarms(&agent)?, &words[1..]);
    wait::until(PATIENCE, "servers to have the ring", || {
        matches!(governed(&agent), Ok(false)).then_some(())
    })?;
    is_told(alarms(&agent)?, &words[2..]);

    agent.start()?;
    agent.stop()?;
    assert_eq!(alarms(&agent)?.1, [""; 0]);
    Ok(())
}
