//! Whoever asks an agent, and waits or hangs up.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testbed::port;
use testbed::wait::{self, PATIENCE};
use tktrot_agent::control;

use crate::daemon::{Agent, Result};
use crate::telling::asked;

/// More than an agent lets wait at once.
const MANY: usize = 100;

/// One that waits for a host that never comes, once it has asked that a key is revoked.
fn waiting(agent: &Agent) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(control::socket(&agent.place()))?;
    let key = agent.view()?.keys().first().map_or("0".repeat(32), |key| key.name.to_hex());
    stream.write_all(
        format!("{{\"ask\":\"revoke\",\"keys\":[\"{key}\"],\"wait\":600000}}\n").as_bytes(),
    )?;
    Ok(stream)
}

/// Without its answer within this time it waits.
fn waits(stream: UnixStream, time: Duration) -> Result<bool> {
    stream.set_read_timeout(Some(time))?;
    Ok(BufReader::new(stream).read_line(&mut String::new()).is_err())
}

#[test]
fn whoever_waits_for_a_host_is_in_nobodys_way_and_is_free_to_go() -> Result<()> {
    // An address of which nothing ever comes back (RFC 5737).
    let mut agent = Agent::new("")?;
    let secret = agent.secret("secret")?;
    let listen = port::free()?;
    agent.set(&format!(
        "rotate = \"1h\"\n[mesh]\nlisten = \"{listen}\"\npeers = [\"192.0.2.1\"]\n\
         secrets = [\"{secret}\"]\n"
    ))?;
    agent.start()?;
    let many = (0..MANY).map(|_| waiting(&agent)).collect::<Result<Vec<_>>>()?;
    agent.peers()?;
    // What it asks for is done, though it cannot wait.
    let one_more = waiting(&agent)?;
    assert!(!waits(one_more, PATIENCE)?, "there is room for more than {MANY}");
    drop(many);
    wait::until(PATIENCE, "the places of those that have gone", || {
        waits(waiting(&agent).ok()?, Duration::from_millis(300)).ok()?.then_some(())
    })?;
    agent.stop()?;
    Ok(())
}

/// It says so itself: `tktrot_agent::control`. A revocation that comes late does no harm, one that
/// does not come does.
#[test]
fn what_an_agent_is_asked_while_it_hangs_it_does_when_it_goes_on() -> Result<()> {
    let agent = Agent::started("rotate = \"1h\"\n")?;
    let key = agent.view()?.keys().first().ok_or("no key")?.name;
    assert!(agent.process()?.signal(libc::SIGSTOP));
    drop(waiting(&agent)?);
    assert!(agent.view()?.keys().iter().any(|there| there.name == key));
    assert!(agent.process()?.signal(libc::SIGCONT));
    wait::until(PATIENCE, "the end of the key", || {
        agent.view().ok()?.is_buried(&key).then_some(())
    })?;
    Ok(())
}

#[test]
fn idle_connections_do_not_keep_others_from_asking_whether_it_is_well() -> Result<()> {
    let address = port::free()?;
    let agent = Agent::started(&format!("rotate = \"1h\"\n[agent]\nmetrics = \"{address}\"\n"))?;
    let idle = |_| TcpStream::connect(address);
    let _idle = (0..3 * MANY).map(idle).collect::<std::io::Result<Vec<_>>>()?;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = asked(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    drop(agent);
    Ok(())
}
