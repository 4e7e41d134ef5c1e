//! Two agents on one host, each with a ring of its own.

use testbed::port;
use testbed::wait::{self, PATIENCE};
use tktrot::secret::KeyName;

use crate::daemon::Agent;
use crate::daemon::Result;

/// Agents that know each other, not yet started.
fn fleet(count: usize) -> Result<Vec<Agent>> {
    let agents: Vec<_> = (0..count).map(|_| Agent::new("")).collect::<Result<_>>()?;
    let secret = agents[0].secret("secret")?;
    let listen: Vec<_> =
        (0..count).map(|_| Ok(format!("\"{}\"", port::free()?))).collect::<Result<_>>()?;
    for (agent, own) in agents.iter().zip(&listen) {
        // The same list for everybody.
        agent.set(&format!(
            "rotate = \"1h\"\n[mesh]\nlisten = {own}\npeers = [{}]\nsecrets = [\"{secret}\"]\n",
            listen.join(", "),
        ))?;
    }
    Ok(agents)
}

pub fn names(agent: &Agent) -> Result<Vec<KeyName>> {
    let mut names: Vec<_> = agent.view()?.keys().iter().map(|key| key.name).collect();
    names.sort_by_key(|name| name.0);
    Ok(names)
}

fn agree(agents: &[Agent]) -> Result<Vec<KeyName>> {
    Ok(wait::until(PATIENCE, "the rings to agree", || {
        let all: Result<Vec<_>> = agents.iter().map(names).collect();
        let all = all.ok()?;
        (all[0].len() >= 2 * agents.len() && all.iter().all(|names| *names == all[0]))
            .then(|| all[0].clone())
    })
    .map_err(|error| {
        let logs: Vec<_> = agents.iter().map(Agent::log).collect();
        format!("{error}\n{}", logs.join("---\n"))
    })?)
}

#[test]
fn each_has_the_keys_of_all_also_after_a_crash_and_a_reboot() -> Result<()> {
    let mut agents = fleet(3)?;
    agents.iter_mut().try_for_each(Agent::start)?;
    let all = agree(&agents)?;

    // A crash: its ring is there yet.
    agents[1].kill()?;
    agents[1].start()?;
    assert_eq!(agree(&agents)?, all);

    // A reboot: its ring is gone, and it is somebody else. The others have its former keys.
    agents[1].kill()?;
    std::fs::remove_file(agents[1].rings().join("nginx.ring"))?;
    agents[1].start()?;
    let now = names(&agents[1])?;
    assert!(all.iter().all(|name| now.contains(name)), "{all:?} {now:?}\n{}", agents[1].log());

    let peers = agents[0].peers()?;
    let states: Vec<_> = peers["peers"]
        .as_array()
        .ok_or("no peers")?
        .iter()
        .filter_map(|peer| peer["state"].as_str())
        .collect();
    assert_eq!(states, ["self", "up", "up"], "{peers:#}");

    // Nobody waits for the host that it was before.
    let revoke = ["revoke", "--fleet", "--yes", "--wait", "30s", "--key", &all[0].to_hex()];
    let said = agents[0].tktrot(&revoke)?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("and told 2 peers"), "{said:?}");
    Ok(())
}

#[test]
fn hosts_that_differ_and_hosts_that_are_not_there_are_named() -> Result<()> {
    let mut agents = fleet(3)?;
    for (agent, keys) in [(0, "lifetime = \"2h\"\n"), (1, "lifetime = \"1h\"\nbind = \"none\"\n")] {
        let text = std::fs::read_to_string(agents[agent].settings())?;
        std::fs::write(agents[agent].settings(), format!("{keys}{text}"))?;
        agents[agent].start()?;
    }
    // The third is not there.
    let problems = |agent: &Agent| -> Result<Vec<String>> {
        let peers = agent.peers()?;
        let all = peers["peers"].as_array().ok_or("no peers")?.iter();
        let all = all.filter_map(|peer| peer["problems"].as_array()).flatten();
        Ok(all.filter_map(|one| one["problem"].as_str()).map(ToOwned::to_owned).collect())
    };
    let expected = ["never-seen", "other-binding", "other-lifetime"];
    wait::until(PATIENCE, "the differences to be told", || {
        let mut found = problems(&agents[0]).ok()?;
        found.sort();
        (found == expected).then_some(())
    })
    .map_err(|late| format!("{late}: {:?}", problems(&agents[0])))?;
    let said = agents[0].tktrot(&["peers"])?;
    assert_eq!(said.status, Some(1), "{said:?}");
    for part in [
        "it was never connected since this agent started: Connection refused",
        "its keys are kept for 1h after that, those of this host for 2h (lifetime)",
        "its keys are plain, those of this host are not (bind)",
        "Connection refused (",
    ] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    let said = agents[0].tktrot(&["status", "nginx"])?;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stdout.contains("fleet: ") && said.stdout.contains("and 2 more"), "{said:?}");
    // One line for a host that is not there, however often it is tried, and none at first.
    assert_eq!(agents[0].log().matches("cannot connect").count(), 0, "{}", agents[0].log());

    // It comes, with what the others have, and only they still differ.
    let text = std::fs::read_to_string(agents[2].settings())?;
    std::fs::write(agents[2].settings(), format!("lifetime = \"2h\"\n{text}"))?;
    agents[2].start()?;
    wait::until(PATIENCE, "the third to be seen", || {
        let mut found = problems(&agents[0]).ok()?;
        found.sort();
        (found == ["other-binding", "other-lifetime"]).then_some(())
    })?;
    agents[2].kill()?;
    wait::until(PATIENCE, "the third to be missed", || {
        problems(&agents[0]).ok()?.contains(&"down".to_owned()).then_some(())
    })?;
    Ok(())
}

#[test]
fn a_rotation_and_a_revocation_are_everybodys() -> Result<()> {
    let mut agents = fleet(2)?;
    agents.iter_mut().try_for_each(Agent::start)?;
    let before = agree(&agents)?;

    let said = agents[0].tktrot(&["rotate", "--fleet"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("1 peer has acknowledged it"), "{said:?}");
    let rotated = agree(&agents)?;
    assert_ne!(rotated, before);

    let said = agents[1].tktrot(&["revoke", "--fleet", "--all", "--yes"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("and told 1 peer"), "{said:?}");
    wait::until(PATIENCE, "the keys to end", || {
        let after = names(&agents[0]).ok()?;
        after.iter().all(|name| !rotated.contains(name)).then_some(())
    })?;
    let after = agree(&agents)?;
    assert!(after.iter().all(|name| !rotated.contains(name)));

    assert!(said.stdout.contains(&format!("1 peer: {}", agents[0].listens()?)), "{said:?}");

    // Who stops says so; the other one goes on with the keys of both.
    assert_eq!(agents[1].stop()?.code(), Some(0));
    wait::until(PATIENCE, "word of it", || agents[0].log().contains("a peer stops").then_some(()))?;
    assert!(after.iter().all(|name| names(&agents[0]).is_ok_and(|names| names.contains(name))));
    let log: String = agents.iter().map(Agent::log).collect();
    assert!(!log.contains("ERROR"), "{log}");
    Ok(())
}

/// Somebody who is away is named; told when it comes, before it is ready; and then nobody is missing.
#[test]
fn who_could_not_be_told_is_named_and_told_first_of_all() -> Result<()> {
    let mut agents = fleet(3)?;
    agents.iter_mut().try_for_each(Agent::start)?;
    let key = agree(&agents)?[0];
    agents[2].kill()?;

    let name = key.to_hex();
    let revoke = ["revoke", "--fleet", "--yes", "--key", &name, "--wait"];
    let said = agents[0].tktrot(&[&revoke[..], &["1s"]].concat())?;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stdout.contains("ended 1 key and told 1 peer"), "{said:?}");
    assert!(
        said.stderr.contains(&format!("{} has not confirmed it", agents[2].listens()?)),
        "{said:?}"
    );
    assert!(!said.stderr.contains(&agents[1].listens()?), "{said:?}");
    assert!(names(&agents[2])?.contains(&key));

    // Everybody who was there starts again, in whatever order.
    for order in [[0, 1], [1, 0]] {
        order.iter().try_for_each(|&agent: &usize| agents[agent].kill())?;
        order.iter().try_for_each(|&agent| agents[agent].start())?;
    }
    agents[2].start()?;
    for agent in &agents {
        assert!(!names(agent)?.contains(&key), "{}", agent.log());
    }
    let said = agents[0].tktrot(&[&revoke[..], &["30s"]].concat())?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("and told 2 peers"), "{said:?}");
    assert!(agents.iter().all(|agent| !names(agent).is_ok_and(|names| names.contains(&key))));
    Ok(())
}

/// It has the keys, though the settings here do not know of it.
#[test]
fn who_called_and_is_gone_is_named_too() -> Result<()> {
    let mut agents = fleet(3)?;
    let text = std::fs::read_to_string(agents[0].settings())?;
    let without = text.replace(&format!(", \"{}\"", agents[2].listens()?), "");
    assert_ne!(without, text);
    std::fs::write(agents[0].settings(), without)?;
    agents.iter_mut().try_for_each(Agent::start)?;
    let key = agree(&agents)?[0].to_hex();
    agents[2].kill()?;
    let revoke = ["revoke", "--fleet", "--yes", "--key", &key, "--wait", "1s"];
    let said = agents[0].tktrot(&revoke)?;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stdout.contains("ended 1 key and told 1 peer"), "{said:?}");
    assert!(said.stderr.contains("127.0.0.1 has not confirmed it (it was connected"), "{said:?}");
    // It is told when it calls again.
    agents[2].start()?;
    let said = agents[0].tktrot(&[&revoke[..6], &["30s"]].concat())?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stdout.contains("told 2 peers"), "{said:?}");
    Ok(())
}

/// All of them call from one address, as from behind a NAT; one is taken out of the settings.
#[test]
fn who_is_gone_is_named_though_another_is_at_its_address_and_after_a_reload() -> Result<()> {
    let mut agents = fleet(3)?;
    let text = std::fs::read_to_string(agents[0].settings())?;
    let text = text.replace("[mesh]\n", "[mesh]\nahead = \"0s\"\n");
    let without = |agents: &[Agent]| -> Result<String> {
        agents.iter().try_fold(text.clone(), |text, agent| {
            Ok(text.replace(&format!(", \"{}\"", agent.listens()?), ""))
        })
    };
    std::fs::write(agents[0].settings(), without(&agents[1..2])?)?;
    agents[..2].iter_mut().try_for_each(Agent::start)?;
    let key = agree(&agents[..2])?[0];
    agents[1].kill()?;
    agents[2].start()?;
    assert!(names(&agents[2])?.contains(&key), "{}", agents[2].log());

    let name = key.to_hex();
    let revoke = |agent: &Agent, wait: &str| {
        agent.tktrot(&["revoke", "--fleet", "--yes", "--key", &name, "--wait", wait])
    };
    let gone = "127.0.0.1 has not confirmed it (it was connected, as node ";
    let said = revoke(&agents[0], "1s")?;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stdout.contains("told 1 peer"), "{said:?}");
    assert_eq!(said.stderr.matches(gone).count(), 1, "{said:?}");

    // It is connected until the settings are read again, and hangs. Keys of the new ones would have
    // ended before it has been waited for.
    assert!(agents[2].process()?.signal(libc::SIGSTOP));
    let short =
        without(&agents[1..])?.replace("rotate = \"1h\"", "rotate = \"1s\"\nlifetime = \"1s\"");
    std::fs::write(agents[0].settings(), short)?;
    agents[0].reload()?;
    let said = revoke(&agents[0], "12s")?;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert_eq!(said.stderr.matches(gone).count(), 2, "{said:?}");

    assert!(agents[2].process()?.signal(libc::SIGCONT));
    agents[1].start()?;
    let said = revoke(&agents[0], "30s")?;
    assert_eq!(said.status, Some(0), "{said:?}\n{}", agents[0].log());
    assert!(said.stdout.contains("told 2 peers"), "{said:?}");
    Ok(())
}

/// `tktrot revoke` acts on the ring, not on its agent.
#[test]
fn what_is_revoked_past_its_agent_ends_on_the_other_hosts_too() -> Result<()> {
    let mut agents = fleet(2)?;
    agents.iter_mut().try_for_each(Agent::start)?;
    let key = agree(&agents)?[0];
    let said = agents[0].tktrot(&["revoke", "--yes", "--key", &key.to_hex()])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.stderr.contains("passes it on to the hosts that share its keys"), "{said:?}");
    wait::until(PATIENCE, "the key to end on the other host", || {
        names(&agents[1]).is_ok_and(|names| !names.contains(&key)).then_some(())
    })?;
    // While no agent is there, too.
    let key = agree(&agents)?[0];
    agents[0].kill()?;
    let said = agents[0].tktrot(&["revoke", "--yes", "--key", &key.to_hex()])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    agents[0].start()?;
    wait::until(PATIENCE, "the key to end on the other host", || {
        names(&agents[1]).is_ok_and(|names| !names.contains(&key)).then_some(())
    })?;
    assert!(!names(&agents[0])?.contains(&key), "it came back");
    Ok(())
}

/// The ring of one is gone, and with it what it knew.
#[test]
fn a_host_that_reboots_gets_no_revoked_key() -> Result<()> {
    let mut agents = fleet(3)?;
    agents.iter_mut().try_for_each(Agent::start)?;
    let key = agree(&agents)?[0];
    let said = agents[1].tktrot(&["revoke", "--fleet", "--yes", "--key", &key.to_hex()])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    for rebooted in [1, 0] {
        agents.iter_mut().try_for_each(Agent::kill)?;
        std::fs::remove_file(agents[rebooted].rings().join("nginx.ring"))?;
        agents.iter_mut().try_for_each(Agent::start)?;
        agree(&agents)?;
        for agent in &agents {
            assert!(!names(agent)?.contains(&key), "{}", agent.log());
            assert!(agent.view()?.is_buried(&key), "{}", agent.log());
        }
    }
    Ok(())
}
