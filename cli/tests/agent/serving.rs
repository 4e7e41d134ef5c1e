//! An agent beside a server, which lives on when the agent dies.

use std::time::Duration;

use testbed::artifacts;
use testbed::load::{Load, Promise};
use testbed::nginx::Nginx;
use testbed::wait::{self, PATIENCE};
use tktrot::clock::{BootClock, Clock};

use crate::daemon::Agent;
use crate::daemon::Result;

const ROTATE: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(60);

fn nginx(agent: &Agent) -> Result<Nginx> {
    let rings = agent.rings().display().to_string();
    let builder = Nginx::builder().workers(2).preload(artifacts::shim()?).env("TKTROT_DIR", &rings);
    Ok(builder.start()?)
}

fn is_governed(agent: &Agent) -> bool {
    agent.view().is_ok_and(|view| view.governed(BootClock.now()).is_some())
}

#[test]
fn no_ticket_is_lost_when_the_agent_dies_and_comes_back() -> Result<()> {
    let mut agent = Agent::started("rotate = \"2s\"\nlifetime = \"60s\"\n")?;
    let nginx = nginx(&agent)?;
    let mut load = Load::new(nginx.addr(), 4, Promise::rotating(ROTATE, LIFETIME))?;
    let rotations = |agent: &Agent| agent.view().map(|view| view.rotations()).unwrap_or(0);
    let mut pass = |what: &str, done: &(dyn Fn() -> bool + Sync)| -> Result<()> {
        let report = load.run(LIMIT, |progress| progress.handshakes >= 50 && done());
        let total = report.total();
        assert!(total.resumed > 0 && done(), "{what}: {report}");
        assert_eq!((total.failed(), total.unexpected_full), (0, 0), "{what}: {report}");
        Ok(())
    };
    let view = agent.view()?;
    let before = rotations(&agent);
    pass("with the agent", &|| view.rotations() >= before + 2)?;
    assert!(is_governed(&agent));

    agent.kill()?;
    let before = view.rotations();
    pass("without it", &|| view.rotations() >= before + 3)?;
    assert!(!is_governed(&agent), "the servers rotate, and somebody governs");

    agent.start()?;
    assert!(is_governed(&agent));
    let before = view.rotations();
    pass("with it again", &|| view.rotations() >= before + 2)?;

    assert_eq!(agent.stop()?.code(), Some(0));
    let before = view.rotations();
    pass("after its end", &|| view.rotations() >= before + 2)?;
    let log = agent.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    Ok(())
}

#[test]
fn the_keys_outlive_the_server_as_long_as_the_agent_runs() -> Result<()> {
    let agent = Agent::started("rotate = \"1h\"\n")?;
    let mut nginx = nginx(&agent)?;
    let mut load = Load::new(nginx.addr(), 2, Promise::constant(LIFETIME))?;
    load.run(LIMIT, |progress| progress.handshakes >= 20);
    let tickets = load.tickets();
    nginx.stop()?;
    nginx.start()?;
    wait::until(PATIENCE, "the server", || load.fresh_round().total().handshakes.checked_sub(1))?;
    let offered = load.offer(&tickets).total();
    assert_eq!(offered.resumed, tickets.len() as u64, "{offered}");
    assert!(is_governed(&agent));
    Ok(())
}
