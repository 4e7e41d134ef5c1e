//! Commands that go well, fail, hang, and cannot be started.

use std::fs;
use std::time::{Duration, Instant};

use testbed::process::Process;
use testbed::wait::{self, PATIENCE};

use super::super::command;
use super::{Result, words};

fn run(line: &[&str], limit: Duration) -> anyhow::Result<Option<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command::run(&words(line), limit))
}

fn fails(line: &[&str], limit: Duration) -> String {
    run(line, limit).map(|_| ()).expect_err("it fails").to_string()
}

#[test]
fn the_last_line_is_kept() -> Result<()> {
    let said = run(&["/bin/sh", "-c", "echo one; echo two; echo"], PATIENCE)?;
    assert_eq!(said.as_deref(), Some("two"));
    let said = run(&["/bin/sh", "-c", "echo out; echo '\x1berr' >&2"], PATIENCE)?;
    assert_eq!(said.as_deref(), Some("err"), "standard error counts more");
    assert_eq!(run(&["/bin/true"], PATIENCE)?, None);
    // More than a pipe holds.
    let said = run(&["/bin/sh", "-c", "head -c 300000 /dev/zero; echo; echo end"], PATIENCE)?;
    assert_eq!(said.as_deref(), Some("end"));
    Ok(())
}

#[test]
fn no_shell_reads_it() -> Result<()> {
    let said = run(&["/bin/echo", "$HOME;", "`id`"], PATIENCE)?;
    assert_eq!(said.as_deref(), Some("$HOME; `id`"));
    Ok(())
}

#[test]
fn a_failure_says_how_and_what() {
    let said = fails(&["/bin/sh", "-c", "echo no such service >&2; exit 3"], PATIENCE);
    assert_eq!(said, "command /bin/sh: exit status: 3: no such service");
    let said = fails(&["/bin/false"], PATIENCE);
    assert_eq!(said, "command /bin/false: exit status: 1: it said nothing");
    let said = fails(&["/nowhere/at-all"], PATIENCE);
    assert_eq!(said, "command /nowhere/at-all: cannot start it");
}

#[test]
fn one_that_hangs_is_killed_with_what_it_started() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pids = dir.path().join("pids");
    let script = format!("echo begun; sleep 1000 & echo $$ $! >{}; wait", pids.display());
    let said = fails(&["/bin/sh", "-c", &script], Duration::from_secs(1));
    assert_eq!(said, "command /bin/sh: killed, it did not end within 1 s; it said: begun");
    let text = fs::read_to_string(pids)?;
    let pids: Vec<i32> =
        text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
    assert_eq!(pids.len(), 2);
    for pid in pids {
        // Nobody may have taken its child's child out of the process table.
        let is_gone = || Process::find(pid).is_none_or(|found| !found.is_running()).then_some(());
        wait::until(PATIENCE, "the command's end", is_gone)?;
    }
    Ok(())
}

#[test]
fn a_daemon_that_keeps_the_output_open_is_not_waited_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pid = dir.path().join("pid");
    let script = format!("sleep 30 & echo $! >{}; echo done", pid.display());
    let before = Instant::now();
    let said = run(&["/bin/sh", "-c", &script], PATIENCE)?;
    assert_eq!(said.as_deref(), Some("done"));
    let pid: i32 = fs::read_to_string(pid)?.trim().parse()?;
    let daemon = Process::find(pid).ok_or("it lives on")?;
    assert!(before.elapsed() < Duration::from_secs(30) && daemon.is_running());
    daemon.signal(libc::SIGKILL);
    Ok(())
}
