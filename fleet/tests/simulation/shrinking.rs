//! The smallest scenario that still shows what another one showed.

use crate::invariants::Violation;
use crate::scenario::Scenario;
use crate::world::World;

/// Runs a scenario; if something is broken, tells how, and in the smallest scenario found.
pub fn check(scenario: &Scenario) -> Result<crate::invariants::Figures, String> {
    World::new(scenario).run().map_err(|violation| {
        let (smallest, violation) = shrink(scenario.clone(), violation);
        format!(
            "{violation}\nTo see it happen: TKTROT_SIMULATION_TRACE=1. The smallest scenario: \
             {smallest:#?}"
        )
    })
}

fn shrink(mut scenario: Scenario, mut violation: Violation) -> (Scenario, Violation) {
    // Nothing after the violation matters.
    scenario.length = violation.at + 1;
    while let Some((smaller, seen)) = candidates(&scenario).into_iter().find_map(|smaller| {
        let seen = World::new(&smaller).run().err()?;
        (seen.broken == violation.broken).then_some((smaller, seen))
    }) {
        (scenario, violation) = (smaller, seen);
        scenario.length = violation.at + 1;
    }
    (scenario, violation)
}

fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut smaller = Vec::new();
    for without in 0..scenario.troubles.len() {
        let mut fewer = scenario.clone();
        fewer.troubles.remove(without);
        smaller.push(fewer);
    }
    if scenario.hosts > 2 {
        let hosts = scenario.hosts - 1;
        smaller.push(Scenario { hosts, first: scenario.first.min(hosts), ..scenario.clone() });
    }
    if scenario.weather.lost > 0.0 {
        let mut calm = scenario.clone();
        calm.weather.lost = 0.0;
        smaller.push(calm);
    }
    smaller
}
