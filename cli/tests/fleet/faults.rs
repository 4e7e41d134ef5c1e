//! What goes wrong in fleets, and how many tickets it may cost.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use testbed::fleet::journal::Journal;
use testbed::fleet::network::Side;
use testbed::fleet::relay::Relay;
use testbed::fleet::settings::Keys;
use testbed::fleet::{Fleet, MESH, clocks};

use crate::assertions::{LONG, all_resumed, met_since, pass, secs, seen};
use crate::{FIVE, Result, fleet, meshed_nginxes, meshed_nginxes_with};

/// R: as short as lets several pass.
const ROTATE: Duration = secs(3);

/// How long an agent waits for a peer at most, unless told.
const LEAD_MAX: Duration = secs(5);

/// So many connections are reset at least.
const RESETS: u32 = 2;

/// How soon the fleet is one again.
const WHOLE_AGAIN: Duration = secs(3);

fn keys() -> Keys {
    Keys::new(ROTATE, secs(15))
}

/// For four rotations, while its servers go on with keys that the others have. Where keys change more
/// often than peers are waited for, it is the agent that closes the gaps between them.
pub fn an_agent_is_killed_and_restarted() -> Result<()> {
    let victim = 2;
    let mut fleet = meshed_nginxes(&FIVE, Keys::new(LEAD_MAX, secs(25)))?;
    let travellers = fleet.visit(&[&FIVE])?;
    pass(secs(3));
    fleet.hosts[victim].agent().kill()?;
    pass(4 * LEAD_MAX);
    let ready = fleet.hosts[victim].start_agent()?;
    let back = pass(secs(5));
    met_since(&travellers, back, &FIVE)?;
    seen(&travellers, "200 resumptions", |journal| journal.resumed() >= 200)?;
    let journal = travellers.arrive();
    all_resumed(&journal, 200, &format!("an agent killed (ready again in {ready:.1?})"), &fleet);
    Ok(())
}

/// Each side has the keys of the other for longer than that.
pub fn hosts_are_cut_off_for_less_than_keys_are_ahead() -> Result<()> {
    let (fleet, journal) = cut_off("", 0)?;
    all_resumed(&journal, 200, "a partition, keys far ahead: on both sides and across", &fleet);
    Ok(())
}

/// Keys are known a rotation and `lead_max` before they encrypt, and no longer.
pub fn hosts_are_cut_off_for_longer_than_keys_are_ahead() -> Result<()> {
    let (_, journal) = cut_off("ahead = \"0s\"\n", 1)?;
    assert!(journal.lost() > 0, "the hosts were not cut off: {journal}");
    Ok(())
}

/// What visitors see of a fleet of which two hosts are cut off for three rotations and more; each side
/// for itself is whole all the time, and all of them are soon after. With these settings more, and until
/// so many tickets were lost.
fn cut_off(more: &str, lost: usize) -> Result<(Fleet, Journal)> {
    let (mainland, island) = ([0, 1, 2], [3, 4]);
    let fleet = meshed_nginxes_with(&FIVE, keys(), more)?;
    let travellers = fleet.visit(&[&FIVE])?;
    pass(secs(3));
    for host in island {
        fleet.network.place(fleet.hosts[host].node(), Side::Island)?;
    }
    pass(ROTATE + LEAD_MAX);
    pass(3 * ROTATE);
    seen(&travellers, "visits while hosts are cut off", |journal| journal.lost() >= lost)?;
    for host in island {
        fleet.network.place(fleet.hosts[host].node(), Side::Mainland)?;
    }
    let whole = pass(WHOLE_AGAIN);
    pass(secs(5));
    met_since(&travellers, whole, &FIVE)?;
    seen(&travellers, "visits on both sides and everywhere", |journal| {
        let on = |side: &[usize]| journal.among(side).resumed();
        on(&mainland) >= 100 && on(&island) >= 50 && journal.since(whole).resumed() >= 50
    })?;
    let journal = travellers.arrive();
    all_resumed(&journal.among(&mainland), 100, "a partition: on one side", &fleet);
    all_resumed(&journal.among(&island), 50, "a partition: on the other side", &fleet);
    all_resumed(&journal.since(whole), 50, "a partition: 3 s after it, everywhere", &fleet);
    assert_eq!(journal.failed(), 0, "{journal}");
    Ok((fleet, journal))
}

/// All that the hosts say to each other comes late, connections are reset, links go down and up.
pub fn the_path_is_slow_and_drops_connections() -> Result<()> {
    let mut fleet = fleet(FIVE.len(), keys())?;
    let relay = Relay::new();
    let mut peers = Vec::new();
    for host in FIVE {
        let at = |addr, port| SocketAddr::from((addr, port));
        let listen = at(fleet.bystander.fleet(), MESH + host as u16);
        let to = at(fleet.hosts[host].node().fleet(), MESH);
        relay.pass(fleet.bystander.namespace(), listen, to)?;
        peers.push(listen.to_string());
    }
    for host in FIVE {
        fleet.configure_peers(host, &peers, "")?;
    }
    fleet.start_agents(&FIVE)?;
    fleet.start_nginxes(&FIVE)?;
    // Everything that a start needs is five times as late as elsewhere.
    pass(secs(5));
    let travellers = fleet.visit(&[&FIVE])?;
    let began = Instant::now();
    flap(&fleet, secs(20), &relay)?;
    met_since(&travellers, began, &FIVE)?;
    seen(&travellers, "100 resumptions and 25 keys", |journal| {
        journal.resumed() >= 100 && journal.keys() >= 5 * 5
    })?;
    let journal = travellers.arrive();
    let (connections, resets) = (relay.connections(), relay.resets());
    println!("the relay: {connections} connections, {resets} reset");
    assert!(resets >= RESETS, "{resets} of {connections}");
    all_resumed(&journal, 100, "a bad path", &fleet);
    assert!(journal.keys() >= 5 * 5, "{journal}");
    Ok(())
}

/// Takes the links of all hosts down and up in turn, for so long, and until connections were reset.
fn flap(fleet: &Fleet, time: Duration, relay: &Relay) -> Result<()> {
    let began = Instant::now();
    let goes_on = || {
        let is_enough = began.elapsed() >= time && relay.resets() >= RESETS;
        !is_enough && began.elapsed() < LONG
    };
    for host in fleet.hosts.iter().cycle().take_while(|_| goes_on()) {
        fleet.network.connect(host.node(), false)?;
        thread::sleep(Duration::from_millis(300));
        fleet.network.connect(host.node(), true)?;
        thread::sleep(Duration::from_millis(1200));
    }
    Ok(())
}

pub fn wall_clocks_are_an_hour_off() -> Result<()> {
    const HOUR: i64 = 3600;
    let mut fleet = fleet(FIVE.len(), keys())?;
    fleet.configure_mesh(&FIVE, |_| String::new())?;
    for (host, ahead) in FIVE.into_iter().zip([0, HOUR, -HOUR, HOUR / 2, -HOUR]) {
        clocks::set_ahead(fleet.hosts[host].agent().environment_mut(), ahead)?;
    }
    fleet.start_agents(&FIVE)?;
    fleet.start_nginxes(&FIVE)?;
    let travellers = fleet.visit(&[&FIVE])?;
    let began = Instant::now();
    pass(secs(20));
    met_since(&travellers, began, &FIVE)?;
    seen(&travellers, "100 resumptions and 25 keys", |journal| {
        journal.resumed() >= 100 && journal.keys() >= 5 * 5
    })?;
    let journal = travellers.arrive();
    all_resumed(&journal, 100, "clocks an hour off", &fleet);
    assert!(journal.keys() >= 5 * 5, "{journal}");
    Ok(())
}

pub fn all_agents_are_restarted_in_turn() -> Result<()> {
    let mut fleet = meshed_nginxes(&FIVE, keys())?;
    let travellers = fleet.visit(&[&FIVE])?;
    pass(secs(3));
    let mut slowest = Duration::ZERO;
    for host in FIVE {
        let status = fleet.hosts[host].agent().stop()?;
        assert!(status.success(), "{status}\n{}", fleet.hosts[host].agent_log_tail());
        pass(secs(1));
        slowest = slowest.max(fleet.hosts[host].start_agent()?);
        pass(secs(1));
    }
    let last = Instant::now();
    pass(secs(5));
    met_since(&travellers, last, &FIVE)?;
    seen(&travellers, "100 resumptions", |journal| journal.resumed() >= 100)?;
    let journal = travellers.arrive();
    all_resumed(&journal, 100, &format!("all restarted, ready in {slowest:.1?}"), &fleet);
    Ok(())
}

/// One that nobody was told of, to hosts that have keys for hours.
pub fn a_host_joins() -> Result<()> {
    let (old, new) = ([0, 1, 2, 3], 4);
    let mut fleet = fleet(FIVE.len(), keys())?;
    fleet.configure_mesh(&old, |_| String::new())?;
    let of = |host: usize| fleet.hosts[host].node().fleet().to_string();
    let peers: Vec<String> = old.map(of).into();
    fleet.configure_peers(new, &peers, "")?;
    fleet.start_agents(&old)?;
    fleet.start_nginxes(&old)?;
    let before = fleet.visit(&[&old])?;
    pass(secs(5));

    let joined = Instant::now();
    let ready = fleet.hosts[new].start_agent()?;
    fleet.start_nginxes(&[new])?;
    let travellers = fleet.visit(&[&FIVE])?;
    thread::sleep(WHOLE_AGAIN.saturating_sub(joined.elapsed()));
    let whole = Instant::now();
    pass(secs(5));
    met_since(&travellers, whole, &FIVE)?;
    seen(&before, "50 resumptions on the others", |journal| journal.resumed() >= 50)?;
    seen(&travellers, "50 resumptions", |journal| journal.since(whole).resumed() >= 50)?;
    let (before, journal) = (before.arrive(), travellers.arrive());
    all_resumed(&before, 50, "a host joins: the others", &fleet);
    let after = format!("a host joins: 3 s after its agent's start (ready in {ready:.1?})");
    all_resumed(&journal.since(whole), 50, &after, &fleet);
    assert_eq!(journal.failed(), 0, "{journal}");
    Ok(())
}
