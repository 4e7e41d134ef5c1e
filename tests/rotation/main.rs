//! Rotation under whatever may happen: processes come and go, machines sleep,
//! generators fail, operators rotate, revoke and change their minds. On a
//! virtual clock; what must hold is looked at after every act.
//!
//! - [`steps`]: the schedule alone, from any keys, not only those it made
//! - [`acts`]: what may happen
//! - [`agent`]: what an agent does to the ring
//! - [`world`]: the ring, and the processes that have it open
//! - [`witness`]: who sees all of it and remembers what was promised
//!
//! The same cases in each run. For others, and more of them:
//! `PROPTEST_RNG_SEED=$RANDOM PROPTEST_CASES=20000 cargo test --test rotation`

mod acts;
mod agent;
mod source;
mod steps;
mod witness;
mod world;

use std::env;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use acts::{Act, acts, attended_acts, capacity, governed_acts, settings};
use tktrot::log;
use world::World;

/// So many cases of a seed that does not change, unless the environment says otherwise.
fn cases(cases: u32) -> Config {
    let default = Config { failure_persistence: None, ..Config::default() };
    Config {
        cases: if env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases },
        rng_seed: match default.rng_seed {
            RngSeed::Random => RngSeed::Fixed(0x7469_636b_6574_7321),
            given => given,
        },
        ..default
    }
}

fn live(mut world: World, acts: Vec<Act>) {
    // Problems are told once for each keyring: thousands of lines here.
    let _ = log::open(&log::Destination::Nothing);
    world.check();
    for act in acts {
        world.perform(&act);
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn whatever_happens_every_promise_about_keys_is_kept(
        capacity in capacity(),
        settings in settings(),
        acts in prop::collection::vec(acts(), 1..80),
    ) {
        live(World::new(capacity, &settings), acts);
    }

    #[test]
    fn an_agent_that_steers_a_ring_lengthens_no_key_and_leaves_it_to_the_schedule(
        capacity in capacity(),
        settings in settings(),
        acts in prop::collection::vec(governed_acts(), 1..80),
    ) {
        live(World::new(capacity, &settings), acts);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn where_somebody_comes_by_each_key_is_announced_in_time(
        capacity in capacity(),
        settings in settings(),
        acts in prop::collection::vec(attended_acts(), 1..30),
    ) {
        live(World::new(capacity, &settings), acts);
    }
}
