//! `tktrot revoke --fleet`: what one host is told, no host resumes any more.

use std::thread;
use std::time::{Duration, Instant};

use testbed::client::{Client, Ticket, TlsVersion};
use testbed::fleet::Fleet;
use testbed::fleet::journal::Journal;
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

    /// Waits until each of these hosts resumes all.
    fn open_on_all(&self, fleet: &Fleet, hosts: &[usize]) -> Result<()> {
        let all_on =
            |&host: &usize| self.resumed_on(fleet, host).is_ok_and(|open| open == self.count());
        Ok(wait::until(PATIENCE, "the hosts to know each other's keys", || {
            hosts.iter().all(all_on).then_some(())
        })?)
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

/// Revokes everything, and returns what is said of those that could not be told.
fn revoke_all(fleet: &Fleet, host: usize, wait: &str) -> Result<String> {
    let command = ["revoke", "--fleet", "--all", "--yes", "--wait", wait];
    let output = fleet.hosts[host].tktrot(&command)?;
    let missing = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = testbed::log::said(&output);
    let expected = if missing.is_empty() { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{said}\n{}", fleet.logs());
    Ok(missing)
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
    assert_eq!(revoke_all(&fleet, 1, "60s")?, "");
    let told = began.elapsed();
    let (fleet_ref, tickets_ref) = (&fleet, &tickets);
    let last = thread::scope(|scope| -> Result<Duration> {
        // The command has said that all have it: the first look is the one that counts.
        let watch = move |host| -> Result<Duration> {
            assert_eq!(tickets_ref.resumed_on(fleet_ref, host)?, 0, "host {host}");
            Ok(began.elapsed())
        };
        let watches = FIVE.map(|host| scope.spawn(move || watch(host)));
        let mut last = Duration::ZERO;
        for watch in watches {
            last = last.max(watch.join().expect("it does not panic")?);
        }
        Ok(last)
    })?;
    println!("revoke --fleet: said after {told:.2?}, refused on all 5 hosts after {last:.2?}");

    // New tickets of new keys do everywhere.
    let sealed = wait::until(PATIENCE, "tickets of new keys", || {
        let new = travellers.journal().since(began + last);
        new.visits.iter().find(|visit| visit.sealed_with.is_some()).map(|visit| visit.began)
    })?;
    println!("revoke --fleet: tickets again after {:.2?}", sealed - began);
    let of_new_keys = |journal: Journal| {
        journal
            .only(|visit| visit.carried.as_ref().is_some_and(|held| held.received > began + last))
    };
    wait::until(PATIENCE, "50 visits with tickets of new keys", || {
        (of_new_keys(travellers.journal()).resumed() >= 50).then_some(())
    })?;
    let journal = travellers.arrive();
    assert_eq!(journal.failed(), 0, "{journal}\n{}", fleet.logs());
    let of_new_keys = of_new_keys(journal);
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
    tickets.open_on_all(&fleet, &FIVE)?;
    fleet.hosts[down].stop_server()?;
    fleet.hosts[down].agent().kill()?;
    fleet.network.place(fleet.hosts[cut_off].node(), Side::Island)?;

    let missing = revoke_all(&fleet, 0, "10s")?;
    let told = Instant::now();
    for host in FIVE {
        let address = fleet.hosts[host].node().fleet().to_string();
        assert_eq!(missing.contains(&address), [down, cut_off].contains(&host), "{missing}");
    }
    for host in [0, 1, 2] {
        let after = tickets.refused_on(&fleet, host, told)?;
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

/// Of those that have heard of it, all agents are killed and started again, in both orders, one after
/// the other and all at once, and a host reboots. Then one comes that has not heard: it still has the
/// keys, and nobody takes one from it.
pub fn no_agent_that_restarts_brings_a_key_back() -> Result<()> {
    const TOLD: [usize; 3] = [0, 1, 2];
    const ALL: [usize; 4] = [0, 1, 2, 3];
    let (reboots, away) = (1, 3);
    let mut fleet = meshed_nginxes(&ALL, keys())?;
    let tickets = Tickets::of(&fleet, &ALL)?;
    tickets.open_on_all(&fleet, &ALL)?;
    fleet.hosts[away].agent().kill()?;
    let missing = revoke_all(&fleet, 0, "10s")?;
    assert!(missing.contains(&fleet.hosts[away].node().fleet().to_string()), "{missing}");
    let none_opens = |fleet: &Fleet, hosts: &[usize], when: &str| -> Result<()> {
        for &host in hosts {
            assert_eq!(tickets.resumed_on(fleet, host)?, 0, "host {host}, {when}");
        }
        Ok(())
    };
    none_opens(&fleet, &TOLD, "when they were told")?;
    for order in [[0, 1, 2], [2, 1, 0]] {
        for host in order {
            fleet.hosts[host].agent().kill()?;
            fleet.hosts[host].start_agent()?;
            none_opens(&fleet, &TOLD, "after one agent was started again")?;
        }
        for host in order {
            fleet.hosts[host].agent().kill()?;
        }
        for host in order {
            fleet.hosts[host].start_agent()?;
            none_opens(&fleet, &TOLD, "while agents start")?;
        }
    }
    // Its ring is gone; the others live.
    fleet.hosts[reboots].stop_server()?;
    fleet.hosts[reboots].agent().kill()?;
    std::fs::remove_file(fleet.hosts[reboots].ring().path().join("fleet.ring"))?;
    fleet.hosts[reboots].start_agent()?;
    fleet.start_nginxes(&[reboots])?;
    assert_eq!(tickets.resumed_on(&fleet, away)?, tickets.count(), "it cannot know");
    fleet.hosts[away].start_agent()?;
    none_opens(&fleet, &ALL, "when the one that was away is ready")?;
    // Asked again, all have it.
    assert_eq!(revoke_all(&fleet, 0, "60s")?, "");
    none_opens(&fleet, &ALL, "when all were told")
}
