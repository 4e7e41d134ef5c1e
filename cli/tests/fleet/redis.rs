//! Fleets that share their keys through a Redis, and what happens to that.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testbed::fleet::Fleet;
use testbed::fleet::journal::Journal;
use testbed::fleet::network::Node;
use testbed::fleet::settings::{self, Keys};
use testbed::process;
use testbed::wait::PATIENCE;

use crate::assertions::{all_resumed, met_since, pass, secs, seen};
use crate::{Result, fleet};

/// Redis' own.
const PORT: u16 = 6379;

/// R.
const ROTATE: u64 = 3;

/// An agent looks for a Redis that is gone at least so often.
const REDIAL: Duration = secs(5);

/// A Redis that keeps nothing on a disk, where the bystander of a fleet is.
pub struct Store {
    dir: TempDir,
    addr: SocketAddr,
    child: Option<Child>,
}

impl Store {
    pub fn start(fleet: &Fleet) -> Result<Store> {
        let addr = (fleet.bystander.fleet(), PORT).into();
        let mut store = Store { dir: tempfile::tempdir()?, addr, child: None };
        store.run(&fleet.bystander)?;
        Ok(store)
    }

    /// What agents are told.
    pub fn url(fleet: &Fleet) -> String {
        format!("redis://{}:{PORT}/0", fleet.bystander.fleet())
    }

    fn run(&mut self, node: &Node) -> Result<()> {
        let log = fs::File::create(self.dir.path().join("redis.log"))?;
        let (program, words) = testbed::redis::server();
        let mut command = Command::new(program);
        command.args(words).args([
            "--bind",
            &self.addr.ip().to_string(),
            "--port",
            &PORT.to_string(),
        ]);
        command.args(["--save", "", "--appendonly", "no", "--protected-mode", "no"]);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(log);
        node.namespace().run(|| {
            let child = command.spawn().map_err(|error| format!("no Redis: {error}"))?;
            Ok(process::serves(self.child.insert(child), self.addr)?)
        })
    }

    /// All that it had is gone.
    fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().ok_or("no Redis runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn flush(&self, node: &Node) -> Result<()> {
        let mut stream = node.namespace().run(|| TcpStream::connect(self.addr))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"FLUSHALL\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"+OK\r\n");
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.stop();
        }
    }
}

const HOSTS: [usize; 4] = [0, 1, 2, 3];

/// Hosts that share through a Redis, with more settings than usual.
fn sharing(more: &str) -> Result<(Store, Fleet)> {
    sharing_for(secs(15), more)
}

/// The same, whose tickets live that long.
fn sharing_for(lifetime: Duration, more: &str) -> Result<(Store, Fleet)> {
    let mut fleet = fleet(HOSTS.len(), Keys::new(secs(ROTATE), lifetime))?;
    let store = Store::start(&fleet)?;
    for host in &fleet.hosts {
        host.configure(&(settings::redis(&Store::url(&fleet), fleet.secret()) + more))?;
    }
    fleet.start_agents(&HOSTS)?;
    fleet.start_nginxes(&HOSTS)?;
    Ok((store, fleet))
}

/// All hosts have the keys that each encrypts with meanwhile.
pub fn redis_stops_for_less_than_keys_are_ahead() -> Result<()> {
    let (mut store, fleet) = sharing("")?;
    let travellers = fleet.visit(&[&HOSTS])?;
    pass(secs(ROTATE));
    store.stop()?;
    pass(secs(25));
    seen(&travellers, "eight keys", |journal| journal.keys() >= 8)?;
    store.run(&fleet.bystander)?;
    let back = pass(REDIAL + secs(ROTATE));
    met_since(&travellers, back, &HOSTS)?;
    seen(&travellers, "200 resumptions", |journal| journal.resumed() >= 200)?;
    let journal = travellers.arrive();
    all_resumed(&journal, 200, "Redis away for eight rotations", &fleet);
    assert!(journal.keys() >= 8, "{journal}");
    Ok(())
}

/// Meanwhile each host has keys of its own, which the others come to know when Redis is back, or
/// never. What was shared goes on, and what is shared after it does.
pub fn redis_stops_for_longer_than_keys_are_ahead() -> Result<()> {
    // Tickets from before are to be had for as long as visitors may need.
    let (mut store, fleet) = sharing_for(secs(60), "ahead = \"0s\"\n")?;
    let travellers = fleet.visit(&[&HOSTS])?;
    pass(secs(2 * ROTATE));
    seen(&travellers, "50 resumptions before Redis stops", |journal| journal.resumed() >= 50)?;
    let stopped = Instant::now();
    store.stop()?;
    pass(secs(2 * ROTATE));
    let of_then = |journal: &Journal| {
        journal.only(|visit| {
            let held = visit.carried.as_ref();
            visit.began >= stopped && held.is_some_and(|held| held.received < stopped)
        })
    };
    seen(&travellers, "20 resumptions with tickets from before", |journal| {
        of_then(journal).resumed() >= 20
    })?;
    store.run(&fleet.bystander)?;
    let back = pass(REDIAL + secs(ROTATE));
    pass(secs(2 * ROTATE));
    met_since(&travellers, back, &HOSTS)?;
    seen(&travellers, "resumptions after Redis is back, and of each host's own tickets", |all| {
        at_home(all).resumed() >= 20 && of_since(all, back).resumed() >= 50
    })?;
    let journal = travellers.arrive();
    all_resumed(&journal.before(stopped), 50, "before Redis stops", &fleet);
    all_resumed(&of_then(&journal), 20, "tickets from before, while Redis is gone", &fleet);
    all_resumed(&at_home(&journal), 20, "each host's own tickets, all the time", &fleet);
    let after = of_since(&journal, back);
    all_resumed(&after, 50, "tickets from after Redis is back", &fleet);
    assert_eq!(journal.failed(), 0, "{journal}");
    Ok(())
}

/// Visits with tickets of the host that is visited.
fn at_home(journal: &Journal) -> Journal {
    journal.only(|visit| visit.carried.as_ref().is_some_and(|held| held.issuer == visit.host))
}

/// Visits with tickets that were issued then or later.
fn of_since(journal: &Journal, then: Instant) -> Journal {
    journal.only(|visit| visit.carried.as_ref().is_some_and(|held| held.received >= then))
}

/// The hosts have what they need, and what comes next is agreed upon anew.
pub fn redis_is_flushed() -> Result<()> {
    let (store, fleet) = sharing("")?;
    let travellers = fleet.visit(&[&HOSTS])?;
    pass(secs(2 * ROTATE));
    store.flush(&fleet.bystander)?;
    let flushed = pass(secs(4 * ROTATE));
    met_since(&travellers, flushed, &HOSTS)?;
    seen(&travellers, "100 resumptions and five keys", |journal| {
        journal.resumed() >= 100 && journal.keys() >= 5
    })?;
    let journal = travellers.arrive();
    all_resumed(&journal, 100, "Redis flushed", &fleet);
    assert!(journal.keys() >= 5, "{journal}");
    Ok(())
}

/// What a host says of its fleet, whatever else it says, and how its lines are broken; the exit status
/// first.
fn said(fleet: &Fleet, host: usize, command: &str) -> Result<(Option<i32>, String)> {
    let said = fleet.hosts[host].tktrot(&[command])?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = if command == "status" {
        text.split_once(" fleet: ").map_or(String::new(), |(_, text)| text.into())
    } else {
        text
    };
    Ok((said.status.code(), text))
}

/// All hosts say this in the end, and `peers` and `status` exit with 1; or all is well if there is
/// nothing to say.
fn all_say(fleet: &Fleet, what: Option<&str>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut wrong = Vec::new();
        for host in HOSTS {
            for command in ["peers", "status"] {
                let (status, text) = said(fleet, host, command)?;
                let is_right = match what {
                    Some(what) => status == Some(1) && text.contains(what),
                    None if command == "peers" => status == Some(0),
                    None => text.is_empty(),
                };
                if !is_right {
                    wrong.push(format!("host {host}: {command}: {status:?}: {text}"));
                }
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        assert!(Instant::now() < end, "{what:?}: {wrong:#?}");
        pass(Duration::from_millis(200));
    }
}

/// No ticket is lost by another rotation, and every host says that there is one; with another secret
/// they are lost, and every host says that.
pub fn rotate_is_changed_host_by_host_and_secrets_differ() -> Result<()> {
    let [first, second] = [ROTATE, 10].map(|rotate| Keys::new(secs(rotate), secs(20)));
    let mut fleet = fleet(HOSTS.len(), first)?;
    let store = Store::start(&fleet)?;
    let section = settings::redis(&Store::url(&fleet), fleet.secret());
    HOSTS.iter().try_for_each(|&host| fleet.hosts[host].configure(&section))?;
    fleet.start_agents(&HOSTS)?;
    // The servers ask for the longer one, so that it is up to their agents.
    HOSTS.iter().for_each(|&host| fleet.hosts[host].set_keys(second));
    fleet.start_nginxes(&HOSTS)?;
    let travellers = fleet.visit(&[&HOSTS])?;
    let began = pass(secs(10));
    all_say(&fleet, None)?;
    for (keys, order) in [(second, [1, 0, 2, 3]), (first, [2, 1, 3, 0])] {
        for host in order {
            fleet.hosts[host].set_keys(keys);
            fleet.hosts[host].configure(&section)?;
            fleet.hosts[host].agent().stop()?;
            fleet.hosts[host].start_agent()?;
            let differs = host != order[3];
            all_say(&fleet, differs.then_some("other hosts rotate every"))?;
            pass(secs(4));
        }
    }
    met_since(&travellers, began, &HOSTS)?;
    seen(&travellers, "200 resumptions", |journal| journal.resumed() >= 200)?;
    let journal = travellers.arrive();
    all_resumed(&journal, 200, "rotate changed host by host", &fleet);

    let other = store.dir.path().join("other.secret");
    testbed::fleet::write_secret(&other)?;
    let strange = settings::redis(&Store::url(&fleet), &other);
    for (section, what) in
        [(strange, Some("with a secret that this host does not have")), (section, None)]
    {
        fleet.hosts[0].configure(&section)?;
        fleet.hosts[0].agent().stop()?;
        fleet.hosts[0].start_agent()?;
        all_say(&fleet, what)?;
    }
    Ok(())
}
