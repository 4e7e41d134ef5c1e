//! Processes by pid, safe against a pid that came to belong to somebody else.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::wait::{self, PATIENCE};

/// One process: its pid and its start time, which together are never reused within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pid: i32,
    started: u64,
}

/// One thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name; the first thread's is the program's.
    pub name: String,
    blocked: u64,
}

impl Thread {
    /// Whether no handler of `signal` can run on it.
    pub fn blocks(&self, signal: i32) -> bool {
        self.blocked & (1 << (signal - 1)) != 0
    }

    /// Whether it takes none of the signals that servers are told things by.
    pub fn leaves_signals_alone(&self) -> bool {
        USED_BY_SERVERS.iter().all(|signal| self.blocks(*signal))
    }
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

    /// The running process that a pid file names, whose command line contains `text`: an old file
    /// may name a stranger.
    pub fn of_pid_file(file: &Path, text: &str) -> Result<Process> {
        let pid = fs::read_to_string(file)
            .with_context(|| format!("it does not run: no {}", file.display()))?;
        let pid = pid.trim().parse().context("the pid file holds no number")?;
        Process::find(pid)
            .filter(|process| process.title().contains(text))
            .with_context(|| format!("it does not run: process {pid} is gone"))
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

    /// Whether it is stopped (SIGSTOP).
    pub fn is_stopped(&self) -> bool {
        read_stat(self.pid).is_some_and(|stat| stat.state == 'T' && stat.started == self.started)
    }

    /// The command line with spaces between arguments: for nginx the title that it gave itself.
    pub fn title(&self) -> String {
        let raw = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&raw).replace('\0', " ").trim().to_owned()
    }

    /// Whether it has a handler for `signal`.
    pub fn catches(&self, signal: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << (signal - 1) != 0)
    }

    /// Whether it has this file in its memory.
    pub fn maps(&self, file: &Path) -> bool {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid)).unwrap_or_default();
        let file = file.display().to_string();
        maps.lines().any(|line| line.ends_with(&file))
    }

    /// What its descriptors are open for: paths, and for what has none the kernel's word for it.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
    }

    /// Running children.
    pub fn children(&self) -> Vec<Process> {
        all_pids()
            .filter(|&pid| read_stat(pid).is_some_and(|stat| stat.parent == self.pid))
            .filter_map(Process::find)
            .collect()
    }

    /// Children that are dead, but still in the process table: nobody has waited for them.
    pub fn zombies(&self) -> Vec<i32> {
        let is_ours = |stat: Stat| stat.parent == self.pid && stat.state == 'Z';
        all_pids().filter(|&pid| read_stat(pid).is_some_and(is_ours)).collect()
    }

    /// Its threads, sorted by number, so that the first is the one that the process began with.
    pub fn threads(&self) -> Vec<Thread> {
        let tasks = format!("/proc/{}/task", self.pid);
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut numbers: Vec<i32> =
            fs::read_dir(&tasks).into_iter().flatten().flatten().filter_map(number).collect();
        numbers.sort_unstable();
        let thread = |number: &i32| {
            let status = fs::read_to_string(format!("{tasks}/{number}/status")).ok()?;
            let field =
                |name| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
            let blocked = u64::from_str_radix(field("SigBlk:")?, 16).ok()?;
            Some(Thread { name: field("Name:")?.to_owned(), blocked })
        };
        numbers.iter().filter_map(thread).collect()
    }

    /// The names of its threads, in the same order.
    pub fn thread_names(&self) -> Vec<String> {
        self.threads().into_iter().map(|thread| thread.name).collect()
    }

    /// The upkeep threads among them.
    pub fn upkeep_threads(&self) -> Vec<Thread> {
        self.threads().into_iter().filter(|thread| thread.name == UPKEEP).collect()
    }

    /// Waits until it has `own` threads with this name, which is the program's, and `upkeep` of ours. A
    /// thread that was just made still has its maker's name.
    pub fn wait_for_threads(&self, name: &str, own: usize, upkeep: usize) -> Result<()> {
        let mut expected = [vec![name; own], vec![UPKEEP; upkeep]].concat();
        expected.sort_unstable();
        wait::until(PATIENCE, "the threads", || {
            let mut names = self.thread_names();
            names.sort_unstable();
            (names == expected).then_some(())
        })
        .with_context(|| format!("{:?} instead of {expected:?}", self.thread_names()))
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

/// How the library's own thread is called.
pub const UPKEEP: &str = "tktrot";

/// The signals that servers are told things by.
const USED_BY_SERVERS: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGIO,
];

/// Fails a test that takes root. It does not skip: that would be reported as passed.
pub fn needs_root(why: &str) {
    // SAFETY: geteuid(2) has no preconditions and cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(user, 0, "this test takes root: {why}");
}

/// Waits for the end of a command that ends by itself; what does not end in time is killed, and
/// that is an error.
pub fn ended(child: &mut Child, what: &str) -> Result<ExitStatus> {
    match wait::until(PATIENCE, what, || child.try_wait().transpose()) {
        Ok(status) => Ok(status?),
        Err(late) => {
            child.kill()?;
            child.wait()?;
            Err(late)
        }
    }
}

/// Waits until a server that was started accepts connections there. One that ends before is an
/// error.
pub fn serves(child: &mut Child, addr: SocketAddr) -> Result<()> {
    wait::until(PATIENCE, "the server to start", || {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(Err(anyhow!("the server ended at its start: {status}")));
        }
        TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok().map(|_| Ok(()))
    })?
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
