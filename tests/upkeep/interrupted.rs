//! Sleep that is interrupted: by the signal that glibc sends to every thread when a server changes
//! its user, which cannot be blocked, and by a stop of the process.

use std::collections::BTreeSet;
use std::fs;

use testbed::RingDir;
use testbed::process::{Process, UPKEEP};
use testbed::solo::Solo;
use testbed::wait;

use crate::{LIMIT, Result, process, under_shim, visit, wait_until_erased};

/// Changes of user and group, each of which interrupts all threads.
const ROUNDS: usize = 2000;
const STOPS: usize = 20;

/// The numbers of our threads.
fn ours(process: &Process) -> BTreeSet<String> {
    let tasks = format!("/proc/{}/task", process.pid());
    let number = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let named = |number: &String| {
        fs::read_to_string(format!("{tasks}/{number}/comm")).is_ok_and(|name| name.trim() == UPKEEP)
    };
    let entries = fs::read_dir(&tasks).into_iter().flatten().flatten();
    entries.filter_map(number).filter(named).collect()
}

fn rounds(server: &Solo) -> Result<usize> {
    Ok(visit(server)?.1.parse()?)
}

#[test]
fn the_thread_lives_while_the_server_changes_its_user_and_is_stopped() -> Result {
    let ring = RingDir::new()?;
    let server = under_shim(Solo::built("changes_user", &[])?, &ring)?.start()?;
    let begin = rounds(&server)?;
    let process = process(&server)?;
    process.wait_for_threads("changes_user", 2, 1)?;
    let thread = ours(&process);
    assert_eq!(thread.len(), 1);

    wait::until(LIMIT, "changes of the user", || {
        (rounds(&server).ok()? >= begin + ROUNDS).then_some(())
    })?;
    for _ in 0..STOPS {
        assert!(process.signal(libc::SIGSTOP));
        wait::until(LIMIT, "a stop", || process.is_stopped().then_some(()))?;
        assert!(process.signal(libc::SIGCONT));
    }

    // Nobody else erases it: a thread that had ended would not come back without a visit.
    wait_until_erased(visit(&server)?.0, &ring)?;
    assert_eq!(ours(&process), thread, "another thread: {}", server.stderr());
    assert_eq!(server.stderr(), "");
    Ok(())
}
