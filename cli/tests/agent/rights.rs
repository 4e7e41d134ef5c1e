//! What an agent may do once it runs, and who may ask it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use testbed::process::needs_root;

use crate::daemon::Agent;
use crate::daemon::{Result, TKTROT};

const NOBODY: &str = "65534";

fn field(status: &str, name: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

#[test]
fn started_by_root_it_becomes_somebody_who_may_nothing() -> Result<()> {
    needs_root("it gives root's rights up");
    let agent = Agent::started("rotate = \"1h\"\n[agent]\nmetrics = \"127.0.0.1:0\"\n")?;
    let proc = format!("/proc/{}", agent.process()?.pid());
    let status = fs::read_to_string(format!("{proc}/status"))?;
    assert_eq!(field(&status, "Uid:"), [NOBODY; 4]);
    assert_eq!(field(&status, "Gid:"), [NOBODY; 4]);
    assert_eq!(field(&status, "Groups:"), [NOBODY]);
    assert_eq!(field(&status, "NoNewPrivs:"), ["1"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&status, set), ["0000000000000000"], "{set}");
    }
    // Of a process that is not dumpable all of this is root's: nobody's others cannot look into it.
    assert_eq!(fs::metadata(format!("{proc}/mem"))?.uid(), 0);
    let limits = fs::read_to_string(format!("{proc}/limits"))?;
    assert_eq!(field(&limits, "Max core file size")[..2], ["0", "0"]);
    Ok(())
}

#[test]
fn it_stays_root_if_it_is_told_to_and_refuses_who_is_nobody() -> Result<()> {
    needs_root("it stays root");
    let agent = Agent::started("[agent]\nuser = \"root\"\n")?;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.process()?.pid()))?;
    assert_eq!(field(&status, "Uid:"), ["0"; 4]);
    assert_eq!(field(&status, "NoNewPrivs:"), ["1"]);
    let other = Agent::new("[agent]\nuser = \"nobody-of-that-name\"\n")?;
    let said = other.tktrot(&["agent"])?;
    assert_eq!(said.status, Some(2), "{said:?}");
    assert!(said.stderr.contains("there is no user \"nobody-of-that-name\""), "{said:?}");
    Ok(())
}

#[test]
fn others_may_not_ask_it() -> Result<()> {
    needs_root("it takes another user's part");
    let agent = Agent::started("rotate = \"1h\"\n")?;
    let socket = agent.rings().join("nginx.agent");
    assert_eq!(fs::metadata(&socket)?.mode() & 0o777, 0o600);
    let ask = |uid: &str| -> Result<String> {
        let mut command = Command::new("setpriv");
        command
            .args([&format!("--reuid={uid}"), "--regid=65534", "--clear-groups", TKTROT])
            .arg("--config")
            .arg(agent.settings())
            .arg("peers")
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        Ok(String::from_utf8(command.output()?.stderr)?)
    };
    let refused = ask("65533")?;
    assert!(refused.contains("its agent answers its own user and root only"), "{refused}");
    // Even where the file lets them: the kernel tells who they are.
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let refused = ask("65533")?;
    assert!(refused.contains("its agent answers its own user and root only"), "{refused}");
    assert_eq!(ask(NOBODY)?, "");
    Ok(())
}

#[test]
fn without_root_it_governs_a_ring_of_its_own_user() -> Result<()> {
    needs_root("it takes another user's part");
    let mut agent = Agent::new("rotate = \"1h\"\n[agent]\nuser = \"root\"\n")?;
    std::os::unix::fs::chown(agent.rings(), Some(65534), Some(65534))?;
    agent.launch_with(&["--reuid=65534", "--regid=65534", "--clear-groups"])?;
    agent.wait_to_hear("READY=1")?;
    let facts = fs::metadata(agent.rings().join("nginx.ring"))?;
    assert_eq!((facts.uid(), facts.mode() & 0o777), (65534, 0o600));
    assert_eq!(agent.peers()?["own_keys"], 2);
    assert_eq!(agent.stop()?.code(), Some(0));
    Ok(())
}

/// Those that its unit leaves it (dist/systemd).
#[test]
fn two_capabilities_are_enough_for_its_start() -> Result<()> {
    needs_root("it begins as root, with little else");
    let mut agent = Agent::new("rotate = \"1h\"\n[agent]\nmetrics = \"127.0.0.1:0\"\n")?;
    agent.launch_with(&["--bounding-set=-all,+setuid,+setgid"])?;
    agent.wait_to_hear("READY=1")?;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.process()?.pid()))?;
    assert_eq!(field(&status, "Uid:"), [NOBODY; 4]);
    assert_eq!(field(&status, "CapBnd:"), ["00000000000000c0"]);
    Ok(())
}
