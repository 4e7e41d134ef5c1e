//! Processes by pid, safe against a pid that came to belong to somebody else.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::wait;

/// One process: its pid and its start time, which together are never reused within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pid: i32,
    started: u64,
}

/// What `/proc/PID/stat` says.
struct Stat {
    state: char,
    parent: i32,
    started: u64,
}

impl Process {
    /// The running process with this pid, if there is one. A zombie does not count as running.
    pub fn find(pid: i32) -> Option<Process> {
        let stat = read_stat(pid)?;
        (!matches!(stat.state, 'Z' | 'X')).then_some(Process { pid, started: stat.started })
    }

    /// Every running process whose command line (or title) contains `text`.
    pub fn with_title_containing(text: &str) -> Vec<Process> {
        all_pids()
            .filter_map(Process::find)
            .filter(|process| process.title().contains(text))
            .collect()
    }

    /// The pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether this very process still runs.
    pub fn is_running(&self) -> bool {
        Process::find(self.pid) == Some(*self)
    }

    /// The command line with spaces between arguments: for nginx the title that it gave itself.
    pub fn title(&self) -> String {
        let raw = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&raw).replace('\0', " ").trim().to_owned()
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        tasks.filter_map(|task| Some(name(task.ok()?)?.trim().to_owned())).collect()
    }

    /// Running children.
    pub fn children(&self) -> Vec<Process> {
        all_pids()
            .filter(|&pid| read_stat(pid).is_some_and(|stat| stat.parent == self.pid))
            .filter_map(Process::find)
            .collect()
    }

    /// Sends `signal`, unless the process is gone. Returns whether it was sent.
    pub fn signal(&self, signal: i32) -> bool {
        // SAFETY: kill(2) takes two integers and touches no memory of ours; the pid is positive
        // (it was read from /proc), so no process group is meant.
        self.is_running() && unsafe { libc::kill(self.pid, signal) } == 0
    }

    /// Waits until the process is gone.
    pub fn wait_gone(&self, limit: Duration) -> Result<()> {
        wait::until(limit, &format!("the end of process {}", self.pid), || {
            (!self.is_running()).then_some(())
        })
    }
}

/// Fails a test that takes root. It does not skip: that would be reported as passed.
pub fn needs_root(why: &str) {
    // SAFETY: geteuid(2) has no preconditions and cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(user, 0, "this test takes root: {why}");
}

/// Asks each process to end with `signal`, and after `limit` kills those that did not.
pub fn end_all(processes: &[Process], signal: i32, limit: Duration) {
    for process in processes {
        process.signal(signal);
    }
    let ended = |process: &Process| !process.is_running();
    let all_ended = || processes.iter().all(ended).then_some(());
    if wait::until(limit, "processes to end", all_ended).is_err() {
        for process in processes {
            process.signal(libc::SIGKILL);
        }
        // Bounded as well; a process that survives SIGKILL is beyond what a test can repair.
        let _ = wait::until(limit, "killed processes to end", all_ended);
    }
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn read_stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; proc(5) numbers the
    // fields from 1, so the first one after the name is number 3.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(4 - 3)?.parse().ok()?,
        started: fields.get(22 - 3)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_found_ended_and_then_gone_although_nobody_has_reaped_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let me = Process::find(std::process::id() as i32).unwrap();
        let found = Process::find(child.id() as i32).unwrap();
        assert!(me.children().contains(&found));
        end_all(&[found], libc::SIGTERM, Duration::from_secs(5));
        assert!(!found.is_running());
        assert!(!found.signal(libc::SIGTERM));
        child.wait().unwrap();
    }
}
