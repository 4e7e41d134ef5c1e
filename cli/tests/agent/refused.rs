//! What an agent does not start with.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use testbed::port;
use testbed::process::needs_root;

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
        ("[mesh]\nlisten = \"x\"\n", "tktrot.toml:4:10: listen has no valid value"),
        ("[mesh]\n", "tktrot.toml:3:2: [mesh]: nodes need something to authenticate with"),
        (
            "[agent]\nmetrics = \"0.0.0.0:1\"\n",
            ":4:11: [agent]: metrics tell how busy this host is",
        ),
        ("[mesh]\nsecrets = [\"/no/such/secret\"]\n", "/no/such/secret"),
    ];
    for (settings, part) in cases {
        let said = refusal(settings)?;
        assert!(said.contains(part), "{settings:?}: {said}");
    }
    Ok(())
}

/// An agent that did not start would be worse than a week.
#[test]
fn of_a_lifetime_over_a_week_a_week_applies_and_that_is_told_with_its_place() -> Result<()> {
    let mut agent = Agent::new("lifetime = \"8d\"\n[agent]\nlog = \"text\"\n")?;
    let told = "tktrot.toml:3:12: lifetime has no valid value; accepted: 1s to 7d, such as 30s, \
                10m or 1h; 7d applies";
    let said = agent.tktrot(&["config", "check"])?;
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.stdout.contains(told) && !said.stdout.contains("all valid"), "{said:?}");
    agent.start()?;
    agent.reload()?;
    let log = agent.log();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains(told));
    assert_eq!(warnings.count(), 2, "{log}");
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    assert_eq!(agent.view()?.settings().lifetime, Some(week), "{log}");

    // The environment overrides the file, and is named itself.
    for (value, status) in [("9d", 1), ("1h", 0)] {
        let mut command = agent.command(&["config", "check"]);
        let output = command.env("TKTROT_LIFETIME", value).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{said}");
        let is_named = said.contains("TKTROT_LIFETIME=\"9d\" cannot be used");
        assert!(is_named == (status == 1) && !said.contains(told), "{said}");
    }
    Ok(())
}

/// Both by the agent and by `tktrot config check`, which makes nothing.
#[test]
fn all_that_is_missing_on_this_host_is_told_at_once() -> Result<()> {
    needs_root("it would become another user");
    let agent = Agent::new("")?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let open = agent.path().join("open.secret");
    fs::write(&open, "")?;
    fs::set_permissions(&open, Permissions::from_mode(0o644))?;
    let closed = agent.path().join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
    agent.set(&format!(
        "[agent]\nuser = \"nobody-of-that-name\"\nmetrics = \"{address}\"\n\
         [mesh]\nlisten = \"{address}\"\nsecrets = [\"/no/such/secret\", \"{open}\"]\n\
         [[export]]\nformat = \"raw\"\noutput = \"/no/such/dir/keys\"\n\
         group = \"no-such-group\"\n",
        open = open.display(),
    ))?;
    let stops = [
        "there is no user \"nobody-of-that-name\"".to_owned(),
        format!("metrics: cannot listen on {address}: Address already in use"),
        format!("[mesh]: cannot listen on {address}: Address already in use"),
        format!("metrics: {address} and listen = {address} of [mesh] are one port"),
        "[mesh]: /no/such/secret: No such file or directory".to_owned(),
        format!("[mesh]: {}: others have rights to it (mode 0644)", open.display()),
        "there is no group no-such-group".to_owned(),
    ];
    let checked = agent.tktrot(&["config", "check"])?;
    let started = agent.tktrot(&["agent"])?;
    assert_eq!((checked.status, started.status), (Some(2), Some(2)), "{checked:?} {started:?}");
    for stop in &stops {
        assert!(checked.stdout.contains(stop), "{stop}: {checked:?}");
        assert!(started.stderr.contains(stop), "{stop}: {started:?}");
    }
    assert_eq!(checked.stdout.matches("\ncritical  ").count(), stops.len(), "{checked:?}");
    assert!(!agent.rings().join("nginx.ring").exists());

    // What it starts with all the same. No host has this address (RFC 5737).
    agent.set(&format!(
        "bind = \"none\"\n[agent]\n[mesh]\nlisten = \"192.0.2.7\"\nsecrets = [\"{secret}\"]\n\
         [[export]]\nformat = \"raw\"\noutput = \"{closed}/keys\"\n\
         [[export]]\nformat = \"haproxy\"\noutput = \"/etc/keys\"\nsocket = \"/no/such/socket\"\n",
        closed = closed.display(),
        secret = agent.path().join("secret").display(),
    ))?;
    let secret = agent.secret("secret")?;
    let said = agent.tktrot(&["config", "check"])?;
    assert_eq!(said.status, Some(1), "{said:?}");
    for doubt in [
        "[mesh]: this host does not have the address 192.0.2.7",
        &format!("the agent becomes user nobody, who may not write in {}", closed.display()),
        "/etc is not on tmpfs",
        "/no/such/socket: No such file or directory",
    ] {
        assert!(said.stdout.contains(doubt), "{doubt}: {said:?}");
    }

    let listen = port::free()?;
    let listening = |metrics| {
        format!(
            "[agent]\nmetrics = \"{metrics}\"\n\
             [mesh]\nlisten = \"{listen}\"\nsecrets = [\"{secret}\"]\n"
        )
    };
    let refused = |why: &str| -> Result<()> {
        for command in [&["config", "check"][..], &["agent"]] {
            let said = agent.tktrot(command)?;
            assert_eq!(said.status, Some(2), "{said:?}");
            assert!(said.stdout.contains(why) || said.stderr.contains(why), "{why}: {said:?}");
        }
        Ok(())
    };
    // One port is one listener's, and a directory stays.
    agent.set(&listening(listen))?;
    refused("are one port; give one of them another")?;
    agent.set(&listening(port::free()?))?;
    let socket = agent.rings().join("nginx.agent");
    fs::create_dir(&socket)?;
    refused("nginx.agent: the agent's socket belongs there, and it is a directory; remove it")?;
    fs::remove_dir(&socket)?;

    // What a running agent listens on is its own.
    let mut agent = agent;
    agent.start()?;
    let said = agent.tktrot(&["config", "check"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    // But not twice.
    agent.set(&listening(listen))?;
    let said = agent.tktrot(&["config", "check"])?;
    assert!(said.stdout.contains("are one port"), "{said:?}");
    assert_eq!(said.status, Some(2), "{said:?}");
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

/// Names may be found later; the agent starts.
#[test]
fn names_that_have_no_address_are_named_by_a_check() -> Result<()> {
    let agent = Agent::new("")?;
    let secret = agent.secret("secret")?;
    let mesh = format!(
        "[mesh]\nlisten = \"127.0.0.1:0\"\npeers = [\"here.invalid:4744\", \"localhost:4744\"]\n\
         secrets = [\"{secret}\"]\n"
    );
    let redis = format!("[redis]\nurl = \"rediss://there.invalid\"\nsecrets = [\"{secret}\"]\n");
    for (settings, all) in
        [(mesh, &["here.invalid", "port 0"][..]), (redis, &["there.invalid"][..])]
    {
        agent.set(&settings)?;
        let said = agent.tktrot(&["config", "check"])?;
        assert_eq!(said.status, Some(1), "{said:?}");
        for one in all {
            assert!(said.stdout.contains(one), "{one}: {said:?}");
        }
        assert!(!said.stdout.contains("localhost"), "{said:?}");
    }
    Ok(())
}
