//! Settings that are changed while an agent runs (SIGHUP).

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::time::Duration;

use nix::sys::stat::Mode;
use testbed::port;
use testbed::process::needs_root;
use testbed::redis::Redis;
use testbed::wait::{self, PATIENCE};
use tktrot::clock::{BootClock, Clock};
use tktrot::schedule::KeyState;
use tktrot::secret::KeyName;

use crate::daemon::Agent;
use crate::daemon::Result;
use crate::fleet::names;

const NOBODY: u32 = 65534;

/// Those that encrypt.
fn active(agent: &Agent) -> Result<Vec<KeyName>> {
    let now = BootClock.now();
    let keys = agent.view()?.keys().into_iter();
    Ok(keys.filter(|key| key.times.state(now) == KeyState::Active).map(|key| key.name).collect())
}

/// The secret is root's, and the agent is somebody else by then.
#[test]
fn peers_rotation_and_exports_are_changed_without_a_restart() -> Result<()> {
    needs_root("it becomes somebody else");
    let (mut one, mut other) = (Agent::new("")?, Agent::new("")?);
    let secret = one.secret("secret")?;
    let [here, there] = [port::free()?, port::free()?];
    let mesh = |listen, peers: &str| {
        format!("[mesh]\nlisten = \"{listen}\"\npeers = [{peers}]\nsecrets = [\"{secret}\"]\n")
    };
    one.set(&format!("rotate = \"1h\"\nbind = \"none\"\n{}", mesh(here, "")))?;
    other.set(&format!("rotate = \"1h\"\nbind = \"none\"\n{}", mesh(there, "")))?;
    one.start()?;
    other.start()?;
    let (own, others) = (active(&one)?, active(&other)?);
    assert_eq!((own.len(), others.len()), (1, 1));
    let node = one.peers()?["node"].clone();

    let files = tempfile::tempdir_in("/dev/shm")?;
    chown(files.path(), Some(NOBODY), Some(NOBODY))?;
    let export = files.path().join("keys");
    let rotate = |span: &str| {
        let mesh = mesh(here, &format!("\"{there}\""));
        let export = export.display();
        format!(
            "rotate = \"{span}\"\nlifetime = \"3h\"\nbind = \"none\"\n{mesh}\
             [[export]]\nformat = \"raw\"\noutput = \"{export}\"\n"
        )
    };
    // Shorter, and longer again: nobody else asks for less.
    for (span, seconds) in [("30m", 1800), ("2h", 7200)] {
        one.set(&rotate(span))?;
        one.reload()?;
        let applies = one.view()?.settings().rotate_every;
        assert_eq!(applies, Some(Duration::from_secs(seconds)), "{}", one.log());
    }
    wait::until(PATIENCE, "the keys of both in both", || {
        let all = [names(&one).ok()?, names(&other).ok()?];
        all.iter().all(|all| own.iter().chain(&others).all(|key| all.contains(key))).then_some(())
    })
    .map_err(|error| format!("{error}\n{}---\n{}", one.log(), other.log()))?;
    wait::until(PATIENCE, "the exported key", || export.exists().then_some(()))
        .map_err(|error| format!("{error}\n{}", one.log()))?;
    let peers = one.peers()?;
    assert_eq!((&peers["node"], &peers["peers"][0]["state"]), (&node, &"up".into()), "{peers:#}");
    assert_eq!(one.tktrot(&["rotate", "--fleet"])?.status, Some(0));
    assert_eq!(one.stop()?.code(), Some(0));
    Ok(())
}

#[test]
fn settings_that_are_wrong_or_need_a_restart_are_told_and_the_former_go_on() -> Result<()> {
    needs_root("it becomes somebody else");
    let mut agent = Agent::new("")?;
    let first = agent.secret("first")?;
    let listen = port::free()?;
    let settings = |rotate: &str, user: &str, secrets: &str| {
        format!(
            "rotate = \"{rotate}\"\n[agent]\nuser = \"{user}\"\n\
             [mesh]\nlisten = \"{listen}\"\nsecrets = [{secrets}]\n"
        )
    };
    let firsts = format!("\"{first}\"");
    agent.set(&settings("1h", "nobody", &firsts))?;
    agent.start()?;
    let rotates =
        |agent: &Agent| -> Result<Option<Duration>> { Ok(agent.view()?.settings().rotate_every) };
    let hour = Some(Duration::from_secs(3600));

    // Nothing of it, though some is right.
    agent.set(&format!("lifetme = 1\n{}", settings("30m", "no body", &firsts)))?;
    agent.reload()?;
    let log = agent.log();
    for part in ["the settings are not changed", ":3:1: there is no setting", ":6:8: user has no"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(rotates(&agent)?, hour);

    // A secret that it may not read any more, even under the name of the one that it has read.
    let more = agent.secret("second")?;
    for secrets in [format!("\"{first}\", \"{more}\""), format!("\"{more}\"")] {
        agent.set(&settings("30m", "nobody", &secrets))?;
        agent.reload()?;
        let log = agent.log();
        let why = "second: Permission denied (os error 13): the agent is user 65534 now";
        assert!(log.contains(why) && log.contains("restart it"), "{log}");
        assert_eq!(rotates(&agent)?, hour);
    }
    // The one that it has read it still has; who it is it stays.
    agent.set(&settings("30m", "root", &firsts))?;
    agent.reload()?;
    let half = Some(Duration::from_secs(1800));
    assert_eq!(rotates(&agent)?, half, "{}", agent.log());
    assert!(agent.log().contains("until the agent is restarted: user\n"), "{}", agent.log());

    // Another file under that name, and one that a start as root would refuse.
    let own = agent.secret("own")?;
    chown(&own, Some(NOBODY), Some(NOBODY))?;
    fs::rename(&more, &first)?;
    for (secrets, why) in [
        (firsts.clone(), "the file has changed since it read it; restart it".to_owned()),
        (format!("\"{own}\""), format!("{own}: it belongs to user {NOBODY}")),
    ] {
        agent.set(&settings("1h", "nobody", &secrets))?;
        agent.reload()?;
        assert!(agent.log().contains(&why), "{why}: {}", agent.log());
        assert_eq!(rotates(&agent)?, half);
    }
    agent.set(&settings("1h", "nobody", &firsts))?;
    let said = agent.tktrot(&["config", "check"])?;
    assert_eq!(said.status, Some(0), "{said:?}");
    let told = format!("user nobody cannot read {first}: if such a file changes, restart");
    assert!(said.stdout.contains(&told), "{said:?}");
    assert_eq!(agent.stop()?.code(), Some(0));
    Ok(())
}

/// A service manager may ask for it as soon as there is a process.
#[test]
fn a_reload_that_is_asked_for_before_settings_are_read_comes_after_the_start() -> Result<()> {
    let mut agent = Agent::new("")?;
    fs::remove_file(agent.settings())?;
    nix::unistd::mkfifo(&agent.settings(), Mode::S_IRWXU)?;
    agent.launch()?;
    let settings = format!(
        "ring = \"nginx\"\ndir = \"{}\"\n[agent]\nuser = \"root\"\n",
        agent.rings().display()
    );
    // It reads from here on, to no end yet.
    let mut file = fs::File::options().write(true).open(agent.settings())?;
    assert!(agent.process()?.signal(libc::SIGHUP));
    file.write_all(settings.as_bytes()).map_err(|error| format!("{error}: {}", agent.log()))?;
    drop(file);
    agent.wait_to_hear("RELOADING=1")?;
    fs::write(agent.settings(), settings)?;
    agent.wait_to_hear("READY=1")?;
    assert_eq!(agent.stop()?.code(), Some(0), "{}", agent.log());
    Ok(())
}

/// It forgets what it may no longer use, and does not say that the file is another one.
#[test]
fn a_secret_that_settings_named_once_is_read_anew() -> Result<()> {
    needs_root("it becomes somebody else");
    let mut agent = Agent::new("")?;
    let secret = agent.secret("secret")?;
    let listen = port::free()?;
    let mesh = format!("[mesh]\nlisten = \"{listen}\"\nsecrets = [\"{secret}\"]\n");
    agent.set(&mesh)?;
    agent.start()?;
    for settings in ["", &mesh] {
        agent.set(settings)?;
        agent.reload()?;
    }
    let why = "secret: Permission denied (os error 13): the agent is user 65534 now, and has kept \
               only files that its former settings name; restart it";
    assert!(agent.log().contains(why), "{}", agent.log());
    Ok(())
}

/// From nobody to a Redis, through which another host has the same key.
#[test]
fn whoever_shared_with_nobody_shares_through_redis() -> Result<()> {
    needs_root("it becomes somebody else");
    let redis = Redis::new()?;
    let (mut one, mut other) = (Agent::new("")?, Agent::new("")?);
    let secret = one.secret("secret")?;
    let with = |fleet: &str| format!("rotate = \"1h\"\nlifetime = \"2h\"\n{fleet}");
    let through = |url: &str| {
        with(&format!("[redis]\nurl = \"{url}\"\nlead = \"100ms\"\nsecrets = [\"{secret}\"]\n"))
    };
    one.set(&with(""))?;
    one.start()?;
    other.set(&through(&redis.url()))?;
    other.start()?;
    // It has not read the secret, so it is told to.
    one.set(&through(&redis.url()))?;
    one.reload()?;
    assert!(one.log().contains("secret: Permission denied"), "{}", one.log());
    assert_eq!(one.peers()?["sharing"], "alone");
    one.stop()?;
    // As who stays root it may.
    one.set(&with("[agent]\nuser = \"root\"\n"))?;
    one.start()?;
    one.set(&format!("{}[agent]\nuser = \"root\"\n", through(&redis.url())))?;
    one.reload()?;
    wait::until(PATIENCE, "one key for both", || {
        let shared = one.peers().ok()?["redis"]["shared"] == true;
        let (one, other) = (active(&one).ok()?, active(&other).ok()?);
        (shared && one == other).then_some(())
    })
    .map_err(|error| format!("{error}\n{}---\n{}", one.log(), other.log()))?;
    Ok(())
}
