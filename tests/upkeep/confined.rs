//! A server that confines itself before it serves: whatever it takes from itself, a thread of ours
//! does not keep.

use std::fs;

use testbed::process::{Process, UPKEEP, needs_root};
use testbed::solo::Solo;
use testbed::{RingDir, log, wait};

use crate::{LIMIT, Result, process, under_shim, visit, wait_until_erased};

const NAME: &str = "confines_itself";
const PROGRAM: &str = "../confined/confines_itself";
/// Functions that forbid threads.
const CALLS: [&str; 4] = ["setrlimit", "setrlimit64", "prlimit", "prlimit64"];

/// What a thread may do, as the kernel has it.
#[derive(Debug, PartialEq, Eq)]
struct Rights {
    name: String,
    capabilities: u64,
    may_get_more: bool,
    is_filtered: bool,
}

fn rights(process: &Process) -> Vec<Rights> {
    let entries = fs::read_dir(format!("/proc/{}/task", process.pid()));
    let of = |entry: fs::DirEntry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        Some(Rights {
            name: field("Name:")?.to_owned(),
            capabilities: u64::from_str_radix(field("CapPrm:")?, 16).ok()?,
            may_get_more: field("NoNewPrivs:")? == "0",
            is_filtered: field("Seccomp:")? == "2",
        })
    };
    entries.into_iter().flatten().flatten().filter_map(of).collect()
}

fn ours(process: &Process) -> Option<Rights> {
    rights(process).into_iter().find(|thread| thread.name == UPKEEP)
}

/// The server when it has taken these steps, and nobody has made a handshake with it.
fn server(steps: &[&str], ring: &RingDir) -> Result<Solo> {
    needs_root("a server is to have rights to give up");
    Ok(under_shim(Solo::built(PROGRAM, steps)?, ring)?.start()?)
}

#[test]
fn a_thread_that_starts_before_threads_are_forbidden_has_fewer_rights_than_anybody() -> Result {
    for call in CALLS {
        let ring = RingDir::new()?;
        let server = server(&["user", "other", call, "privileges", "again"], &ring)?;
        let process = process(&server)?;
        process.wait_for_threads(NAME, 1, 1).map_err(|error| format!("{call}: {error:?}"))?;
        let confined = Rights {
            name: UPKEEP.to_owned(),
            capabilities: 0,
            may_get_more: false,
            is_filtered: true,
        };
        assert_eq!(ours(&process), Some(confined), "{call}");
        let key = visit(&server)?.0;
        wait_until_erased(key, &ring)?;
        assert_ne!(visit(&server)?.0, key, "{call}");
        process.wait_for_threads(NAME, 1, 1)?;
        assert_eq!(server.stderr(), "", "{call}");
    }
    Ok(())
}

#[test]
fn no_thread_starts_while_the_server_has_rights_to_give_up() -> Result {
    for last in ["capabilities", "filter"] {
        let ring = RingDir::new()?;
        let server = server(&["user-keeping", "setrlimit", "capabilities", last], &ring)?;
        let process = process(&server)?;
        assert_eq!(process.thread_names(), [NAME], "{last}");
        // Handshakes do what it would do, and one line says so.
        let key = visit(&server)?.0;
        wait::until(LIMIT, "a rotation", || (visit(&server).ok()?.0 != key).then_some(()))?;
        assert_eq!(process.thread_names(), [NAME], "{last}");
        let said = server.stderr();
        let lines = log::ours(&said);
        let why = if last == "filter" { "confines itself" } else { "no thread can be started" };
        assert!(lines.len() == 1 && lines[0].contains(why), "{said}");
    }
    Ok(())
}

/// The kernel refuses a filter for all threads where one of them has one of its own.
#[test]
fn a_thread_of_ours_keeps_no_server_from_confining_its_threads() -> Result {
    for filter in ["filter", "filter-all"] {
        let ring = RingDir::new()?;
        let server = server(&["user", "setrlimit", filter], &ring)?;
        let process = process(&server)?;
        assert!(ours(&process).is_none(), "{filter}: {:?}", rights(&process));
        let key = visit(&server)?.0;
        wait::until(LIMIT, "a rotation", || (visit(&server).ok()?.0 != key).then_some(()))?;
        assert!(ours(&process).is_none(), "{filter}: {:?}", rights(&process));
        let said = server.stderr();
        let lines = log::ours(&said);
        assert!(lines.len() == 1 && lines[0].contains("confines itself"), "{filter}: {said}");
    }
    Ok(())
}

#[test]
fn another_limit_and_a_shim_that_is_not_wanted_change_nothing() -> Result {
    let ring = RingDir::new()?;
    let server = server(&["user", "other", "open-files"], &ring)?;
    let process = process(&server)?;
    assert_eq!(process.thread_names(), [NAME]);
    visit(&server)?;
    process.wait_for_threads(NAME, 1, 1)?;
    let thread = ours(&process).ok_or("it is gone")?;
    assert!(!thread.is_filtered && thread.may_get_more && thread.capabilities == 0, "{thread:?}");

    let steps = ["user", "other", "setrlimit", "filter-all"];
    let builder = under_shim(Solo::built(PROGRAM, &steps)?, &ring)?;
    let server = builder.env("TKTROT_DISABLE", "1").start()?;
    assert_eq!(crate::process(&server)?.thread_names(), [NAME]);
    assert_eq!(server.stderr(), "");
    Ok(())
}

/// It was forbidden when the first ticket came, and is not any more.
#[test]
fn a_later_ticket_starts_the_thread_that_could_not_be_started() -> Result {
    let ring = RingDir::new()?;
    let server = server(&["user", "unseen"], &ring)?;
    let process = process(&server)?;
    visit(&server)?;
    assert_eq!(process.thread_names(), [NAME]);
    assert!(process.signal(libc::SIGUSR1));
    wait::until(LIMIT, "the upkeep thread", || {
        visit(&server).ok()?;
        ours(&process)
    })?;
    let said = server.stderr();
    assert_eq!(log::ours(&said).len(), 1, "{said}");
    Ok(())
}

/// Rights that belong to one thread, given up after the first ticket: with a thread of ours that kept
/// them glibc would end the server when it changes its user then.
#[test]
fn a_thread_of_ours_keeps_no_capability_that_the_server_gives_up() -> Result {
    let ring = RingDir::new()?;
    let server = server(&["login"], &ring)?;
    let process = process(&server)?;
    visit(&server)?;
    process.wait_for_threads(NAME, 1, 1)?;
    server.hang_up()?;
    let own = || rights(&process).into_iter().find(|thread| thread.name == NAME);
    const SETUID: u64 = 1 << 7;
    wait::until(LIMIT, "the login", || (own()?.capabilities == SETUID).then_some(()))
        .map_err(|error| format!("{error}: {:?}, {}", rights(&process), server.stderr()))?;
    wait::until(LIMIT, "the upkeep thread", || {
        visit(&server).ok()?;
        ours(&process)
    })?;
    process.wait_for_threads(NAME, 1, 1)?;
    let capabilities: Vec<u64> =
        rights(&process).iter().map(|thread| thread.capabilities).collect();
    assert_eq!(capabilities, [SETUID; 2]);
    assert_eq!(server.stderr(), "");
    Ok(())
}
