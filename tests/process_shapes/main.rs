//! Servers of other shapes than a master with workers: threads that replace their contexts, a TLS
//! library that comes and goes with a module, a script. The same is asked of each.

mod module;
mod python;
mod threaded;

use std::time::Duration;

use testbed::journey::{Event, Journey, LIMIT};
use testbed::load::Load;
use testbed::process::Process;
use testbed::solo::{Builder, Solo};
use testbed::{RingDir, log, wait};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROTATE: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_secs(8);

/// The server under the shim, with a rotation that a test can wait for.
fn rotating(server: Builder, ring: &RingDir) -> Result<Solo> {
    Ok(server.rotating(ring, ROTATE, LIFETIME)?.start()?)
}

/// The promise, from the side of clients who do what browsers do: through rotations, whatever the
/// server does at run time, and a restart. Returns the load, which has seen it all.
fn every_ticket_resumes(
    server: &mut Solo,
    threads: usize,
    at_run_time: impl Fn(&Solo) -> Result,
) -> Result<Load> {
    let journey = Journey { visitors: 2 * threads, threads, ..Journey::new(ROTATE, LIFETIME) };
    let event = Event::new(|server: &mut Solo| {
        has_one_upkeep_thread(server)?;
        at_run_time(server)
    });
    let load = journey.run(server, vec![event])?;
    has_one_upkeep_thread(server)?;
    assert_eq!(log::ours(&server.stderr()), [""; 0]);
    Ok(load)
}

/// It has its name a moment after it was made.
fn has_one_upkeep_thread(server: &Solo) -> Result {
    let process = Process::find(server.pid()?).ok_or("the server is gone")?;
    let ours = || process.upkeep_threads().len();
    wait::until(LIMIT, "the upkeep thread", || (ours() == 1).then_some(()))
        .map_err(|late| format!("{late}: {:?}", process.thread_names()))?;
    Ok(())
}
