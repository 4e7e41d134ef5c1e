//! Fleets: hosts in network namespaces, `tktrot agent` and a stock server on each, and clients that
//! carry their tickets from host to host while hosts, links, clocks and agents fail.
//!
//! A scenario waits far more than it computes, so several run side by side for each processor. Not
//! all: keys live for seconds here, and a host that does not get to run for as long loses tickets.

mod addresses;
mod assertions;
mod faults;
mod hosts;
mod redis;
mod revoke;
mod settings;
mod without_agent;

use std::num::NonZero;
use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};
use testbed::fleet::Fleet;
use testbed::fleet::settings::Keys;
use testbed::process::needs_root;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where cargo built it.
const TKTROT: &str = env!("CARGO_BIN_EXE_tktrot");

/// So many run side by side for each processor.
const BESIDE: usize = 3;

/// The hosts of a fleet of five.
const FIVE: [usize; 5] = [0, 1, 2, 3, 4];

fn main() {
    needs_root("it makes network namespaces");
    let mut arguments = Arguments::from_args();
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(BESIDE * processors);
    let trials = SCENARIOS.iter().map(|&(name, scenario)| {
        Trial::test(name, move || scenario().map_err(|error| Failed::from(error.to_string())))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// A scenario and its name.
type Scenario = (&'static str, fn() -> Result<()>);

macro_rules! scenarios {
    ($($module:ident: $($name:ident)*;)*) => {
        const SCENARIOS: &[Scenario] =
            &[$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name)),*),*];
    };
}

scenarios! {
    without_agent:
        hosts_refuse_each_others_tickets;
    addresses:
        a_name_with_two_addresses_is_one_host;
    hosts:
        nginxes_resume_each_others_tickets
        two_of_them_may_be_haproxies
        one_may_have_nothing_but_exported_files;
    faults:
        an_agent_is_killed_and_restarted
        hosts_are_cut_off_for_less_than_keys_are_ahead
        hosts_are_cut_off_for_longer_than_keys_are_ahead
        the_path_is_slow_and_drops_connections
        wall_clocks_are_an_hour_off
        all_agents_are_restarted_in_turn
        a_host_joins;
    revoke:
        every_host_refuses_what_one_revokes
        a_host_that_was_away_learns_it_before_it_serves
        no_agent_that_restarts_brings_a_key_back;
    settings:
        rotate_is_changed_host_by_host
        running_servers_move_into_a_fleet
        one_host_has_a_ring_of_16_keys;
    redis:
        redis_stops_for_less_than_keys_are_ahead
        redis_stops_for_longer_than_keys_are_ahead
        redis_is_flushed
        rotate_is_changed_host_by_host_and_secrets_differ;
}

/// Hosts on which nothing runs.
fn fleet(hosts: usize, keys: Keys) -> Result<Fleet> {
    Ok(Fleet::new(TKTROT.as_ref(), hosts, keys)?)
}

/// Hosts that share their keys with each other, each with an agent and an nginx.
fn meshed_nginxes(hosts: &[usize], keys: Keys) -> Result<Fleet> {
    meshed_nginxes_with(hosts, keys, "")
}

/// The same, with more settings in `[mesh]`.
fn meshed_nginxes_with(hosts: &[usize], keys: Keys, more: &str) -> Result<Fleet> {
    let mut fleet = fleet(hosts.len(), keys)?;
    fleet.configure_mesh(hosts, |_| more.to_owned())?;
    fleet.start_agents(hosts)?;
    fleet.start_nginxes(hosts)?;
    Ok(fleet)
}
