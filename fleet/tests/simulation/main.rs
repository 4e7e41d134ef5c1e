//! Whole fleets on a virtual time line: hosts with clocks of their own, a network that loses and
//! delays, and all that happens to hosts and agents. What must be true is in [`invariants`]; that
//! each of it would be missed is shown with nodes that do one thing wrong, in [`machine`].
//!
//! Clocks differ, but run equally fast.

mod agents;
mod happening;
mod host;
mod invariants;
mod liar;
mod machine;
mod network;
mod ring;
mod scenario;
mod shrinking;
mod timeline;
mod troubles;
mod world;

use std::env;
use std::time::Instant;

use invariants::{Broken, Figures};
use liar::Lie;
use machine::Fault;
use scenario::{Scenario, Trouble};
use world::World;

/// A number from the environment: for a longer search than `make test` does.
fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}

#[test]
fn small_fleets_survive_whatever_happens() {
    let first = setting("TKTROT_SIMULATION_SEED", 0);
    let seeds = setting("TKTROT_SIMULATION_SEEDS", 60);
    let (mut opened, mut over) = (0, 0);
    for seed in first..first + seeds {
        match shrinking::check(&Scenario::nasty(seed)) {
            Ok(figures) => (opened, over) = (opened + figures.opened, over + figures.over),
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    assert!(opened > 10 * seeds, "hardly a ticket was ever presented: {opened}");
    assert!(over > seeds, "hardly a key was ever revoked everywhere: {over}");
}

#[test]
fn a_thousand_nodes_serve_for_a_day() {
    let nodes = setting("TKTROT_SIMULATION_NODES", 1000) as usize;
    let start = Instant::now();
    let figures =
        shrinking::check(&Scenario::large(nodes)).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{figures:#?}\nin {:?}", start.elapsed());
    assert!((2 * nodes..4 * nodes).contains(&figures.most), "{figures:?}");
    let nodes = nodes as u64;
    assert!(figures.messages > 8 * nodes * nodes, "{figures:?}");
    assert!(figures.peers > 10 * nodes * nodes, "{figures:?}");
    assert!(figures.pairs > 10 * nodes * nodes, "{figures:?}");
    assert!(figures.breaks > nodes && figures.begins > 2 * nodes, "{figures:?}");
    assert!(figures.opened > 10 * nodes && figures.troubles > 50, "{figures:?}");
}

/// Tickets of nodes that are gone, and how many of them did not open.
fn orphans(fault: Option<Fault>) -> (u64, u64) {
    let runs = (0..20).map(|seed| {
        let mut scenario = Scenario::nasty(seed);
        scenario.troubles = vec![Trouble::Reboot];
        scenario.weather.lost = 0.01;
        scenario.fault = fault;
        World::new(&scenario).run().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"))
    });
    let sum = runs.fold(Figures::default(), |mut sum, figures| {
        sum.orphans += figures.orphans;
        sum.lost_orphans += figures.lost_orphans;
        sum
    });
    (sum.orphans, sum.lost_orphans)
}

#[test]
fn what_a_node_that_is_gone_has_sealed_still_opens() {
    let (orphans_seen, lost) = orphans(None);
    println!("{lost} of {orphans_seen} tickets lost");
    assert!(orphans_seen > 1_000, "{orphans_seen}");
    assert!(lost * 100 <= orphans_seen, "{lost} of {orphans_seen} tickets lost");
    let (orphans_seen, lost) = orphans(Some(Fault::NeverPulls));
    assert!(lost * 10 > orphans_seen, "only {lost} of {orphans_seen} tickets lost");
}

#[test]
fn a_node_that_lies_does_no_harm_to_the_others() {
    for lie in Lie::ALL {
        let seeds = setting("TKTROT_SIMULATION_SEEDS", 3);
        let figures = (0..seeds).map(|seed| {
            let scenario = Scenario { lie: Some(lie), ..Scenario::nasty(seed) };
            shrinking::check(&scenario)
                .unwrap_or_else(|broken| panic!("{lie:?}, seed {seed}: {broken}"))
        });
        let (lies, opened) =
            figures.fold((0, 0), |sum, run| (sum.0 + run.lies, sum.1 + run.opened));
        println!("{lie:?}: told {lies} times, {opened} tickets opened");
        assert!(lies > 10 * seeds, "{lie:?} was told {lies} times");
        assert!(opened > 10 * seeds, "{lie:?}: hardly a ticket was ever presented: {opened}");
    }
}

/// What is seen first, of one seed after the other, when all nodes have this fault.
fn seen_with(fault: Fault) -> Vec<Broken> {
    let scenarios = (0..40).map(|seed| Scenario { fault: Some(fault), ..Scenario::nasty(seed) });
    let runs = scenarios.map(|scenario| World::new(&scenario).run());
    runs.filter_map(|run| run.err().map(|violation| violation.broken)).take(5).collect()
}

#[test]
fn every_fault_of_a_node_is_seen() {
    use Broken::*;
    let faults: [(Fault, &[Broken]); 12] = [
        (Fault::BeginsAtOnce, &[Sealed]),
        (Fault::TakesNothing, &[Sealed]),
        (Fault::WaitsForNobody, &[Sealed]),
        (Fault::IgnoresAge, &[Lengthened]),
        (Fault::Lengthens, &[Lengthened]),
        (Fault::StopsMaking, &[NoActive]),
        (Fault::NeverRetires, &[TwoActive]),
        (Fault::ForgetsTombstones, &[CameBack]),
        (Fault::ForgetsWithAgent, &[CameBack]),
        (Fault::IgnoresRevocations, &[StillHere]),
        (Fault::MakesTwo, &[TooMany]),
        (Fault::NeverShortens, &[Behind]),
    ];
    for (fault, expected) in faults {
        let seen = seen_with(fault);
        println!("{fault:?}: {seen:?}");
        assert!(seen.iter().any(|broken| expected.contains(broken)), "{fault:?}: {seen:?}");
    }
}

/// The day of the large fleet is a calm one: it must not be so calm that a fault makes no difference.
#[test]
fn faults_are_seen_in_a_large_fleet_too() {
    use Broken::*;
    let faults = [
        (Fault::WaitsForNobody, Sealed),
        (Fault::TakesNothing, Sealed),
        (Fault::Lengthens, Lengthened),
        (Fault::NeverRetires, TwoActive),
        (Fault::IgnoresRevocations, StillHere),
        (Fault::NeverShortens, Behind),
    ];
    for (fault, expected) in faults {
        let mut scenarios =
            (1..=8).map(|seed| Scenario { seed, fault: Some(fault), ..Scenario::large(100) });
        let seen = scenarios.find_map(|scenario| World::new(&scenario).run().err());
        let seen = seen.map(|violation| violation.broken);
        assert_eq!(seen, Some(expected), "{fault:?}");
    }
}
