//! Hosts with an address of IPv4 and one of IPv6 each, which know each other by names.

use std::fmt::Write;
use std::fs;
use std::net::Ipv6Addr;

use serde_json::Value;
use testbed::fleet::settings::{self, Keys};
use testbed::fleet::{Fleet, MESH};
use testbed::wait::{self, PATIENCE};

use crate::assertions::{all_resumed, met_since, pass, secs, seen};
use crate::{Result, fleet};

const THREE: [usize; 3] = [0, 1, 2];

/// The address of IPv6 that a host has beside its other one.
fn second(host: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host as u16 + 1)
}

/// Each host has a name that stands for both its addresses, and all have one together. Everything else is
/// as it is for all hosts: the names are in a file that only their agents see as /etc/hosts.
fn named_hosts() -> Result<Fleet> {
    let mut fleet = fleet(THREE.len(), Keys::new(secs(2), secs(20)))?;
    let mut names = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for host in THREE {
        let node = fleet.hosts[host].node();
        writeln!(names, "{} h{host}.fleet all.fleet", node.fleet())?;
        writeln!(names, "{} h{host}.fleet all.fleet", second(host))?;
        node.namespace().ip(&[format!("addr add {}/64 dev fleet nodad", second(host))])?;
    }
    let peers =
        ["h0.fleet", "h1.fleet", "h2.fleet", "all.fleet"].map(|name| format!("{name}:{MESH}"));
    for host in THREE {
        let file = fleet.hosts[host].dir().join("hosts");
        fs::write(&file, &names)?;
        let sees = format!("mount --bind {} /etc/hosts && exec \"$@\"", file.display());
        let words = ["unshare", "--mount", "sh", "-c", &sees, "agent"];
        fleet.hosts[host].agent().environment_mut().launch_through(&words);
        let listen = format!("[::]:{MESH}");
        fleet.hosts[host].configure(&settings::mesh(&listen, &peers, fleet.secret()))?;
    }
    fleet.start_agents(&THREE)?;
    fleet.start_nginxes(&THREE)?;
    Ok(fleet)
}

/// What a host says of its peers: the name of each, and how it stands with it.
fn peers(fleet: &Fleet, host: usize) -> Result<Vec<(String, String)>> {
    let said = fleet.hosts[host].tktrot(&["peers", "--json"])?;
    let told: Value = serde_json::from_slice(&said.stdout)?;
    let text = |peer: &Value, what: &str| peer[what].as_str().unwrap_or_default().to_owned();
    let peers = told["peers"].as_array().ok_or("no peers")?.iter();
    Ok(peers.map(|peer| (text(peer, "name"), text(peer, "state"))).collect())
}

/// The two others are up, each under one name, and beside them there is nobody but the host itself.
fn know_each_other(fleet: &Fleet) -> Result<()> {
    for host in THREE {
        let mut expected: Vec<_> = THREE
            .iter()
            .map(|&other| {
                let state = if other == host { "self" } else { "up" };
                (format!("h{other}.fleet:{MESH}"), state.to_owned())
            })
            .collect();
        expected.sort();
        wait::until(PATIENCE, "each host to be there once", || {
            let mut found = peers(fleet, host).ok()?;
            found.sort();
            (found == expected).then_some(())
        })
        .map_err(|late| {
            format!("{late}: host {host} knows {:?}\n{}", peers(fleet, host), fleet.logs())
        })?;
    }
    Ok(())
}

/// Either address of a host may go: it is the same host at the other one.
pub fn a_name_with_two_addresses_is_one_host() -> Result<()> {
    let fleet = named_hosts()?;
    know_each_other(&fleet)?;
    let travellers = fleet.visit(&[&THREE])?;
    let began = pass(secs(5));
    let node = fleet.hosts[1].node();
    for gone in [format!("{}/24", node.fleet()), format!("{}/64", second(1))] {
        node.namespace().ip(&[format!("addr del {gone} dev fleet")])?;
        pass(secs(12));
        know_each_other(&fleet)?;
        node.namespace().ip(&[format!("addr add {gone} dev fleet")])?;
    }
    met_since(&travellers, began, &THREE)?;
    seen(&travellers, "200 resumptions", |journal| journal.resumed() >= 200)?;
    let journal = travellers.arrive();
    all_resumed(&journal, 200, "hosts with two addresses", &fleet);
    Ok(())
}
