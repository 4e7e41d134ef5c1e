//! Hosts whose settings differ, while they are changed one after the other, or for good.

use testbed::fleet::settings::Keys;

use crate::assertions::{all_resumed, met_since, pass, secs, seen};
use crate::{Result, fleet};

const THREE: [usize; 3] = [0, 1, 2];

/// From a key each second to one in half a minute, and back, by a restart of each agent.
pub fn rotate_is_changed_host_by_host() -> Result<()> {
    let [fast, slow] = [1, 30].map(|rotate| Keys::new(secs(rotate), secs(20)));
    let mut fleet = fleet(THREE.len(), fast)?;
    fleet.configure_mesh(&THREE, |_| String::new())?;
    fleet.start_agents(&THREE)?;
    // The servers ask for the longer one, so that it is up to their agents.
    THREE.iter().for_each(|&host| fleet.hosts[host].set_keys(slow));
    fleet.start_nginxes(&THREE)?;
    let travellers = fleet.visit(&[&THREE])?;
    // The first keys of an agent come late for their turn where R is shorter than `lead_max`: until they
    // are over, it is the agent that leaves no gap.
    let began = pass(secs(10));
    for (keys, order) in [(slow, [1, 0, 2]), (fast, [2, 1, 0])] {
        for host in order {
            fleet.hosts[host].set_keys(keys);
            fleet.configure_mesh(&THREE, |_| String::new())?;
            fleet.hosts[host].agent().stop()?;
            fleet.hosts[host].start_agent()?;
            pass(secs(5));
            let said = fleet.hosts[host].tktrot(&["peers"])?;
            let told = String::from_utf8_lossy(&said.stdout).into_owned();
            let differs = host != order[2];
            assert_eq!(said.status.code(), Some(i32::from(differs)), "{told}");
            assert_eq!(told.contains("(rotate)"), differs, "{told}");
        }
    }
    met_since(&travellers, began, &THREE)?;
    seen(&travellers, "200 resumptions", |journal| journal.resumed() >= 200)?;
    let journal = travellers.arrive();
    all_resumed(&journal, 200, "rotate changed host by host", &fleet);
    // A key each second until the first change, and after the last.
    assert!(journal.keys() >= 20, "{journal}");
    Ok(())
}

/// What they have issued before opens everywhere, too.
pub fn running_servers_move_into_a_fleet() -> Result<()> {
    let mut fleet = fleet(THREE.len(), Keys::new(secs(5), secs(30)))?;
    fleet.configure_mesh(&THREE, |_| String::new())?;
    fleet.start_nginxes(&THREE)?;
    let travellers = fleet.visit(&[&THREE])?;
    pass(secs(7));
    seen(&travellers, "tickets that other hosts refuse", |journal| journal.lost() > 0)?;
    for host in THREE {
        fleet.hosts[host].start_agent()?;
        pass(secs(2));
    }
    let whole = pass(secs(3));
    pass(secs(15));
    met_since(&travellers, whole, &THREE)?;
    seen(&travellers, "100 resumptions", |journal| journal.since(whole).resumed() >= 100)?;
    let journal = travellers.arrive();
    let before = journal.before(whole);
    assert!(before.lost() > 0, "they were a fleet before: {before}");
    assert_eq!(journal.failed(), 0, "{journal}");
    all_resumed(&journal.since(whole), 100, "moved into a fleet", &fleet);
    Ok(())
}

/// What is enough for one host's keys is not for those of three.
pub fn one_host_has_a_ring_of_16_keys() -> Result<()> {
    let keys = Keys::new(secs(2), secs(15));
    let mut fleet = fleet(THREE.len(), keys)?;
    fleet.hosts[1].set_keys(Keys { capacity: Some(16), ..keys });
    fleet.configure_mesh(&THREE, |_| String::new())?;
    fleet.start_agents(&THREE)?;
    // One whose server says so once more when its agent governs.
    fleet.start_nginxes(&THREE)?;
    let travellers = fleet.visit(&[&THREE])?;
    let began = pass(secs(25));
    met_since(&travellers, began, &THREE)?;
    seen(&travellers, "200 resumptions", |journal| journal.resumed() >= 200)?;
    let journal = travellers.arrive();
    all_resumed(&journal, 200, "a ring of 16 keys", &fleet);
    for host in THREE {
        let said = fleet.hosts[host].tktrot(&["peers"])?;
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        let said = fleet.hosts[host].tktrot(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_slice(&said.stdout)?;
        assert_eq!(status["rings"][0]["capacity"], 16384, "{status:#}");
        assert_eq!(status["rings"][0]["fleet_problems"].as_array().map(Vec::len), Some(0));
    }
    Ok(())
}
