//! Whole fleets on a virtual time line.

mod host;
mod invariants;
mod machine;
mod network;
mod ring;
mod scenario;
mod timeline;
mod troubles;
mod world;

use std::time::{Duration, Instant};

use scenario::{Scenario, Trouble};
use tktrot::schedule::Policy;
use world::World;

#[test]
fn small_fleets_survive_whatever_happens() {
    let seeds: u64 =
        std::env::var("TKTROT_SIMULATION_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let first: u64 =
        std::env::var("TKTROT_SIMULATION_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let scenario = Scenario::nasty(seed);
        if std::env::var_os("TKTROT_SURVEY").is_some() {
            match World::new(&scenario).run() {
                Ok(figures) => println!("{seed} ok {figures:?}"),
                Err(violation) => println!(
                    "{seed} {violation:?} hosts {} {:?}",
                    scenario.hosts, scenario.troubles
                ),
            }
            continue;
        }
        if let Err(violation) = World::new(&scenario).run() {
            panic!("{violation:?} in {scenario:#?}");
        }
    }
}

#[test]
fn a_thousand_nodes_for_a_day() {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let policy =
        Policy { rotate_every: hours(8), lifetime: hours(8), lead: Policy::default_lead(hours(8)) };
    let nodes: usize =
        std::env::var("TKTROT_SIMULATION_NODES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let scenario = Scenario {
        seed: 1,
        hosts: nodes,
        first: nodes * 9 / 10,
        length: 24 * 3_600_000,
        policy,
        weather: network::Weather { latency: (1, 80), lost: 0.05, breaks: 0.05 },
        troubles: Trouble::ALL
            .into_iter()
            .filter(|trouble| *trouble != Trouble::RevokeAll && *trouble != Trouble::RollingRestart)
            .collect(),
        trouble_every: 900_000,
        trouble_lasts: 1_200_000,
        seal_every: 3_000_000,
        inspect_every: 3_600_000,
        fault: None,
    };
    let start = Instant::now();
    let figures = World::new(&scenario).run();
    println!("{figures:#?} {:?}", start.elapsed());
    figures.unwrap();
}
