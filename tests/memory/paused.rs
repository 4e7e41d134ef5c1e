//! Who sees to the ring stands still, in another container.

use std::fs;
use std::os::unix::fs::MetadataExt;

use testbed::container::{self, own_namespaces};
use testbed::nginx::Nginx;
use testbed::process::{Process, needs_root};
use testbed::{RingDir, wait};
use tktrot::process::ProcessId;
use tktrot::ring::life::SILENCE;
use tktrot::ring::lock::Holder;

use super::witness::Witness;
use super::{LATE, LIMIT, Result, Visitors, assert_gone, assert_kept, assert_no_key, nginx, of};

/// Whether that process is in the container of this nginx.
fn has(nginx: &Nginx, process: ProcessId) -> Result<bool> {
    let namespace = fs::metadata(format!("/proc/{}/ns/pid", nginx.master_pid()?))?;
    Ok(namespace.ino() as u32 == process.namespace())
}

fn processes(nginx: &Nginx) -> Result<Vec<Process>> {
    let master = nginx.master_process()?;
    Ok([vec![master], master.children()].concat())
}

fn pids(processes: &[Process]) -> Vec<i32> {
    processes.iter().map(Process::pid).collect()
}

/// Stops all processes of a container if one of them leads and none has the writer lock; lets them go
/// on otherwise.
fn stop_if_leading(nginx: &Nginx, witness: &Witness) -> Result<Option<Vec<Process>>> {
    let processes = processes(nginx)?;
    container::pause(&processes)?;
    let writes = match witness.writer() {
        Holder::Thread { process, .. } => has(nginx, process)?,
        Holder::Nobody | Holder::Dead => false,
    };
    if !writes && has(nginx, witness.leader())? {
        return Ok(Some(processes));
    }
    container::resume(&processes);
    Ok(None)
}

/// The keys go on time, wherever they are. What a process that stands still has on its heap only it
/// can erase: of dead keys these are states of MACs, and they go as soon as it goes on.
#[test]
fn of_a_dead_key_nothing_is_left_where_who_leads_is_paused_in_another_container() -> Result<()> {
    needs_root("it reads the memory of all processes, and makes namespaces");
    let ring = RingDir::new()?;
    let start = || -> Result<Nginx> {
        Ok(nginx(&ring)?.contained().launch_through(&own_namespaces(0)).start()?)
    };
    let nginxes = [start()?, start()?];
    let mut visitors = Visitors::new()?;
    for nginx in &nginxes {
        visitors.meet(nginx, &nginx.worker_pids()?)?;
    }
    let mut witness = Witness::new(ring.path())?;
    for nginx in &nginxes {
        assert_kept(&mut witness, &mut visitors, nginx)?;
    }
    let stop = |nginx: &Nginx| stop_if_leading(nginx, &witness).transpose();
    let (leading, stopped) = wait::until(LIMIT, "a leader that is stopped", || {
        (0..nginxes.len()).find_map(|at| stop(&nginxes[at]).map(|stopped| (at, stopped)))
    })?;
    let (leading, other, stopped) = (&nginxes[leading], &nginxes[1 - leading], stopped?);
    let running = processes(other)?;
    let dead = witness.await_end(SILENCE + LATE, || ())?;
    assert_gone(&witness, &dead, &pids(&running), "in a container that goes on")?;
    assert_no_key(&witness, &dead, &pids(&stopped), "in a container that is paused")?;
    assert!(stopped.iter().all(Process::is_stopped), "{}", leading.log_tail());
    assert!(!has(leading, witness.leader())?, "the lead has not passed on");
    let live = witness.look()?;
    assert!(live.iter().any(|name| !dead.contains(name)), "nobody rotates: {live:?}");

    container::resume(&stopped);
    for pid in pids(&stopped) {
        wait::until(LIMIT, "the end of MAC states", || {
            let left = of(&dead, witness.states.in_process(pid).ok()?);
            left.is_empty().then_some(())
        })?;
    }
    assert_gone(&witness, &dead, &pids(&stopped), "in a container that goes on again")?;
    for process in [stopped, running].concat() {
        assert!(process.is_running(), "process {} ended", process.pid());
    }
    Ok(())
}
