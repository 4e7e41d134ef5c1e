//! `tktrot revoke --fleet`: what one host is told, no host resumes any more.

use std::time::{Duration, Instant};

use testbed::client::{Client, Ticket, TlsVersion};
use testbed::fleet::Fleet;
use testbed::fleet::network::Side;
use testbed::fleet::settings::Keys;
use testbed::wait::{self, PATIENCE};

use crate::assertions::{all_resumed, pass, secs};
use crate::{FIVE, Result, meshed_nginxes};

/// No key ends by itself while a test looks.
fn keys() -> Keys {
    Keys::new(secs(60), secs(120))
}

/// The bound is one second; a machine that hardly runs gets longer.
const AT_ONCE: Duration = secs(3);

/// A ticket of each host, for each version.
struct Tickets {
    clients: Vec<(Client, Vec<Ticket>)>,
}

impl Tickets {
    fn of(fleet: &Fleet, hosts: &[usize]) -> Result<Tickets> {
        let mut clients = Vec::new();
        for version in TlsVersion::ALL {
            let client = Client::new(version)?;
            let mut tickets = Vec::new();
            for &host in hosts {
                let addr = fleet.hosts[host].addr();
                let full = fleet.visitors.namespace().run(|| client.connect(addr, None, None))?;
                tickets.push(full.tickets.last().ok_or("no ticket")?.clone());
            }
            clients.push((client, tickets));
        }
        Ok(Tickets { clients })
    }

    /// How many of them a host resumes.
    fn resumed_on(&self, fleet: &Fleet, host: usize) -> Result<usize> {
        let addr = fleet.hosts[host].addr();
        fleet.visitors.namespace().run(|| {
            let mut resumed = 0;
            for (client, tickets) in &self.clients {
                for ticket in tickets {
                    let visit = client.connect(addr, None, Some(ticket));
                    resumed += usize::from(visit.map_err(|error| error.to_string())?.resumed);
                }
            }
            Ok(resumed)
        })
    }

    fn count(&self) -> usize {
        self.clients.iter().map(|(_, tickets)| tickets.len()).sum()
    }

    /// Waits until a host resumes none, and returns how long after `since` that was.
    fn refused_on(&self, fleet: &Fleet, host: usize, since: Instant) -> Result<Duration> {
        wait::until(PATIENCE, &format!("host {host} to refuse tickets"), || {
            match self.resumed_on(fleet, host) {
                Ok(0) => Some(Ok(since.elapsed())),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        })?
    }
}

fn revoke_all(fleet: &Fleet, host: usize) -> Result<()> {
    let output = fleet.hosts[host].tktrot(&["revoke", "--fleet", "--all", "--yes"])?;
    let said = testbed::log::said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", fleet.logs());
    Ok(())
}

pub fn every_host_refuses_what_one_revokes() -> Result<()> {
    let fleet = meshed_nginxes(&FIVE, keys())?;
    let travellers = fleet.visit(&[&FIVE])?;
    pass(secs(4));
    let tickets = Tickets::of(&fleet, &FIVE)?;
    for host in FIVE {
        assert_eq!(tickets.resumed_on(&fleet, host)?, tickets.count(), "host {host}");
    }

    let began = Instant::now();
    revoke_all(&fleet, 1)?;
    let told = began.elapsed();
    let mut last = Duration::ZERO;
    for host in FIVE {
        last = last.max(tickets.refused_on(&fleet, host, began)?);
    }
    println!("revoke --fleet: said after {told:.2?}, refused on all 5 hosts after {last:.2?}");
    assert!(last < AT_ONCE, "{last:?}");

    // New tickets of new keys do everywhere.
    let sealed = wait::until(PATIENCE, "tickets of new keys", || {
        let new = travellers.journal().since(began + last);
        new.visits.iter().find(|visit| visit.sealed_with.is_some()).map(|visit| visit.began)
    })?;
    println!("revoke --fleet: tickets again after {:.2?}", sealed - began);
    pass(secs(6));
    let journal = travellers.arrive();
    assert_eq!(journal.failed(), 0, "{journal}\n{}", fleet.logs());
    let of_new_keys = journal
        .only(|visit| visit.carried.as_ref().is_some_and(|held| held.received > began + last));
    all_resumed(&of_new_keys, 50, "tickets from after the revocation", &fleet);
    for host in FIVE {
        assert_eq!(tickets.resumed_on(&fleet, host)?, 0, "a key came back on host {host}");
    }
    Ok(())
}

/// One is down, with the revoked keys still in its ring; one is cut off, and serves on.
pub fn a_host_that_was_away_learns_it_before_it_serves() -> Result<()> {
    let (down, cut_off) = (4, 3);
    let mut fleet = meshed_nginxes(&FIVE, keys())?;
    let tickets = Tickets::of(&fleet, &FIVE)?;
    wait::until(PATIENCE, "the hosts to know each other's keys", || {
        let all = FIVE.iter().all(|&host| {
            tickets.resumed_on(&fleet, host).is_ok_and(|resumed| resumed == tickets.count())
        });
        all.then_some(())
    })?;
    fleet.hosts[down].stop_server()?;
    fleet.hosts[down].agent().kill()?;
    fleet.network.place(fleet.hosts[cut_off].node(), Side::Island)?;

    let began = Instant::now();
    revoke_all(&fleet, 0)?;
    for host in [0, 1, 2] {
        let after = tickets.refused_on(&fleet, host, began)?;
        assert!(after < AT_ONCE, "host {host}: {after:?}");
    }
    assert_eq!(tickets.resumed_on(&fleet, cut_off)?, tickets.count(), "it cannot know");

    fleet.hosts[down].start_agent()?;
    fleet.start_nginxes(&[down])?;
    assert_eq!(tickets.resumed_on(&fleet, down)?, 0, "{}", fleet.logs());

    fleet.network.place(fleet.hosts[cut_off].node(), Side::Mainland)?;
    let after = tickets.refused_on(&fleet, cut_off, Instant::now())?;
    println!("revoke --fleet: a host that was cut off refuses {after:.2?} after it is back");
    assert!(after < 2 * AT_ONCE, "{after:?}");
    for host in FIVE {
        assert_eq!(tickets.resumed_on(&fleet, host)?, 0, "a key came back on host {host}");
    }
    Ok(())
}
