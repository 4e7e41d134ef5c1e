//! A stock nginx whose ring this test governs, through the library, as an agent does.

use std::net::SocketAddr;
use std::thread;

use testbed::client::{Client, Handshake, Ticket, TlsVersion};
use testbed::nginx::Nginx;
use testbed::{RingDir, artifacts, wait};
use tktrot::clock::BootClock;
use tktrot::ring::stats::Counter;

use super::*;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const LIMIT: Duration = Duration::from_secs(60);
/// What nginx would do by itself: a key every second.
const ROTATE: Duration = Duration::from_secs(1);

struct OpenSsl;

impl Generator for OpenSsl {
    fn fill(&self, bytes: &mut [u8]) -> std::result::Result<(), NotRandom> {
        openssl::rand::rand_priv_bytes(bytes).map_err(|_| NotRandom::Failed)
    }
}

/// One who renews the lease until told to stop.
struct Agent {
    keyring: Keyring,
    stops: AtomicBool,
    /// The machine did not let it renew in time, so nginx has rightly taken over.
    lapsed: AtomicBool,
}

impl Agent {
    fn of(dir: &RingDir) -> Result<Agent> {
        let rings = dir.rings()?;
        assert_eq!(rings.len(), 1, "{rings:?}");
        let config = Config { ring: Some(rings[0].clone().into_os_string()), ..Config::default() };
        let ring = config.place().open(config.most_keys()).map_err(|error| error.to_string())?;
        let keyring = Keyring::new(ring, BootClock, &OpenSsl);
        drop(keyring.govern().map_err(|failure| failure.to_string())?);
        Ok(Agent { keyring, stops: false.into(), lapsed: false.into() })
    }

    /// The right to steer; notes if it was gone in between.
    fn govern(&self) -> Governed<'_> {
        if !self.keyring.is_governed() {
            self.lapsed.store(true, Ordering::Relaxed);
        }
        self.keyring.govern().unwrap()
    }

    fn lives(&self) {
        while !self.stops.load(Ordering::Relaxed) {
            drop(self.govern());
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The names of all keys in the ring.
    fn names(&self) -> Vec<KeyName> {
        self.govern().entries().iter().map(|entry| entry.name).collect()
    }

    fn count(&self, counter: Counter) -> u64 {
        self.keyring.ring().totals().of(counter)
    }
}

/// Ends when this goes, be it by a panic.
struct Life<'a>(&'a AtomicBool);

impl Drop for Life<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn expect(holds: bool, what: &str) -> Result {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// A visitor of each version.
struct Visitors(Vec<Client>, SocketAddr);

impl Visitors {
    fn come(&self) -> Result<Vec<Handshake>> {
        let handshake = |client: &Client| Ok(client.connect(self.1, None, None)?);
        self.0.iter().map(handshake).collect()
    }

    /// Both get tickets, of the same key: that, and the tickets.
    fn tickets(&self) -> Result<(KeyName, Vec<Ticket>)> {
        let handshakes = self.come()?;
        let newest = |mut handshake: Handshake| handshake.tickets.pop().ok_or("no ticket");
        let tickets: Vec<_> = handshakes.into_iter().map(newest).collect::<Result<_, _>>()?;
        let name = tickets[0].key_name();
        expect(tickets.iter().all(|ticket| ticket.key_name() == name), "tickets of two keys")?;
        Ok((KeyName(name), tickets))
    }

    fn resume(&self, tickets: &[Ticket]) -> Result<Vec<bool>> {
        let pairs = self.0.iter().zip(tickets);
        pairs.map(|(client, held)| Ok(client.connect(self.1, None, Some(held))?.resumed)).collect()
    }
}

#[test]
fn the_tickets_of_a_stock_nginx_follow_the_agent_and_go_on_without_it() -> Result {
    for _ in 0..5 {
        let dir = RingDir::new()?;
        let shim = artifacts::shim()?;
        let nginx = Nginx::builder().workers(2).preload(shim).ring(&dir);
        let nginx = nginx.env("TKTROT_ROTATE", "1s").env("TKTROT_LIFETIME", "10m").start()?;
        let agent = Agent::of(&dir)?;
        let clients: Vec<_> =
            TlsVersion::ALL.into_iter().map(Client::new).collect::<Result<_, _>>()?;
        let visitors = Visitors(clients, nginx.addr());
        let outcome = thread::scope(|scope| {
            let _agent = Life(&agent.stops);
            scope.spawn(|| agent.lives());
            follows(&agent, &visitors)
        });
        if agent.lapsed.load(Ordering::Relaxed) {
            continue;
        }
        let last = outcome.map_err(|error| format!("{error}\n{}", nginx.log_tail()))?;
        return goes_on(&agent, &visitors, &last);
    }
    Err("this machine lets nobody renew a lease of three seconds".into())
}

/// While the agent lives; returns the tickets of its last key.
fn follows(agent: &Agent, visitors: &Visitors) -> Result<Vec<Ticket>> {
    // Nobody has made a key: handshakes go on without tickets that resume.
    visitors.come()?;
    expect(agent.names().is_empty(), "nginx made a key")?;
    expect(agent.count(Counter::Issued) == 0, "a ticket without a key")?;
    expect(agent.count(Counter::Unsealed) > 0, "nobody asked for a ticket")?;

    let governed = agent.govern();
    let first = governed.make(times(governed.now(), HOUR))?;
    drop(governed);
    let (key, tickets) = visitors.tickets()?;
    expect(key == first, "not the agent's key")?;

    // What nginx would have done meanwhile, it leaves.
    let begun = BootClock.now();
    wait::until(LIMIT, "rotations that nginx does not do", || {
        visitors.come().ok()?;
        (begun.until(BootClock.now()) > 3 * ROTATE).then_some(())
    })?;
    expect(agent.names() == [first], "nginx rotated")?;

    // By hand: announce, begin, retire.
    let governed = agent.govern();
    let now = governed.now();
    let second = governed.make(times(now + HOUR, HOUR))?;
    drop(governed);
    expect(visitors.tickets()?.0 == first, "an announced key encrypts")?;
    let governed = agent.govern();
    let begun = governed.shorten(&second, &begins(governed.now(), now + HOUR))
        && governed.shorten(&first, &KeyTimes::retiring(governed.now()));
    drop(governed);
    expect(begun, "no such keys")?;
    let (key, later) = visitors.tickets()?;
    expect(key == second, "tickets do not follow")?;
    expect(visitors.resume(&tickets)? == [true, true], "a retired key does not open")?;

    expect(agent.govern().erase(&first), "no such key")?;
    expect(visitors.resume(&tickets)? == [false, false], "an erased key opens")?;
    expect(visitors.resume(&later)? == [true, true], "the key that is there does not open")?;
    expect(agent.names() == [second], "nginx made a key")?;
    Ok(later)
}

/// When the agent is gone: nginx makes keys of its own, and knows the last visitors.
fn goes_on(agent: &Agent, visitors: &Visitors, last: &[Ticket]) -> Result {
    let mut seen = vec![KeyName(last[0].key_name())];
    wait::until(LIMIT, "rotations by nginx", || {
        let (key, _) = visitors.tickets().ok()?;
        if !seen.contains(&key) {
            seen.push(key);
        }
        (seen.len() >= 4).then_some(())
    })?;
    assert_eq!(visitors.resume(last)?, [true, true]);
    assert!(!agent.keyring.is_governed());
    Ok(())
}
