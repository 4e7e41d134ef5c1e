//! Debian's stock HAProxy, with as many frontends as a test has `bind` lines for: a single process,
//! or as in production a master and a worker, which `USR2` to the master replaces.

mod admin;
mod builder;
mod config;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

pub use builder::Builder;

use crate::environment::Environment;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

/// Where Debian has it.
pub const BINARY: &str = "/usr/sbin/haproxy";

/// At the end HAProxy gets this long before it is killed.
const LAST_WORD: Duration = Duration::from_secs(3);

/// How HAProxy runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One process in the foreground.
    Single,
    /// A master in the foreground and a worker, as under systemd.
    MasterWorker,
    /// A master that daemonizes and a worker, as from an init script.
    Daemon,
}

/// One HAProxy with a directory of its own; stopped when dropped.
#[derive(Debug)]
pub struct Haproxy {
    dir: TempDir,
    addrs: Vec<SocketAddr>,
    mode: Mode,
    environment: Environment,
    /// The master, or the only process.
    running: Option<Process>,
    /// What we started: the same, unless it daemonized.
    child: Option<Child>,
}

impl Haproxy {
    /// Begins the description of a HAProxy.
    pub fn builder() -> Result<Builder> {
        Builder::new()
    }

    /// Where a frontend listens.
    pub fn addr(&self, frontend: usize) -> SocketAddr {
        self.addrs[frontend]
    }

    /// Where its frontends listen.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Its directory: haproxy.cfg, haproxy.pid, admin.sock, stderr.txt, certificates.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The environment of the next start.
    pub fn environment_mut(&mut self) -> &mut Environment {
        &mut self.environment
    }

    /// What it wrote to stderr. A daemon closes that once it is started.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir().join("stderr.txt")).unwrap_or_default()
    }

    /// The master, or the only process.
    pub fn main_process(&self) -> Result<Process> {
        self.running.filter(Process::is_running).context("HAProxy does not run")
    }

    /// The worker that takes connections.
    pub fn worker(&self) -> Result<Process> {
        let master = self.main_process()?;
        ensure!(self.mode != Mode::Single, "a single process has no worker");
        let mut workers = master.children();
        ensure!(workers.len() == 1, "{} workers instead of 1", workers.len());
        Ok(workers.remove(0))
    }

    /// Starts HAProxy and waits until it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.main_process().is_err(), "HAProxy already runs");
        let stderr =
            File::options().create(true).append(true).open(self.dir().join("stderr.txt"))?;
        // That of a former master may be a stranger's by now.
        let _ = fs::remove_file(self.dir().join("haproxy.pid"));
        let child = self.command(self.mode.arguments()).stderr(stderr).spawn();
        let child =
            child.with_context(|| format!("cannot run {BINARY}; `make deps` installs it"))?;
        let pid = child.id() as i32;
        self.child = Some(child);
        let process = match self.mode {
            Mode::Single | Mode::MasterWorker => Process::find(pid).context("it is gone")?,
            Mode::Daemon => self.daemon()?,
        };
        self.running = Some(process);
        self.wait_for("HAProxy to start", || {
            if !process.is_running() {
                return Some(Err(anyhow!("HAProxy ended at its start")));
            }
            let connects = |addr| TcpStream::connect_timeout(addr, Duration::from_secs(1)).is_ok();
            (self.is_settled(&process) && self.addrs.iter().all(connects)).then_some(Ok(()))
        })
    }

    /// `USR2` to the master, which executes itself anew; returns when a new worker has replaced the
    /// old one.
    pub fn reload(&self) -> Result<()> {
        let master = self.main_process()?;
        let before = self.worker()?;
        ensure!(master.signal(libc::SIGUSR2), "the master is gone");
        self.wait_for("a new worker after USR2", || {
            let now = master.children();
            let replaced = now.len() == 1 && now[0] != before;
            (replaced && self.is_settled(&master)).then_some(Ok(()))
        })
    }

    /// TERM, as systemd stops it; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.main_process()?;
        process.signal(libc::SIGTERM);
        let result = self.wait_for("HAProxy to stop", || (!process.is_running()).then_some(Ok(())));
        self.end_now();
        result
    }

    /// `haproxy -c`: checks the configuration and ends.
    pub fn check(&self) -> Result<Output> {
        let output = self.command(&["-c"]).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        output.with_context(|| format!("cannot run {BINARY}; `make deps` installs it"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.environment.command(Path::new(BINARY));
        command.args(arguments).arg("-f").arg(self.config_path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn config_path(&self) -> PathBuf {
        self.dir().join("haproxy.cfg")
    }

    /// The master that a daemon's parent has left behind.
    fn daemon(&mut self) -> Result<Process> {
        let mut parent = self.child.take().context("it was started")?;
        let status = process::ended(&mut parent, "HAProxy to daemonize")?;
        ensure!(status.success(), "HAProxy did not daemonize: {status}\n{}", self.stderr());
        let file = self.dir().join("haproxy.pid");
        // The parent ends before the master has written it.
        let master = wait::until(PATIENCE, "the pid of a HAProxy that runs", || {
            Process::find(fs::read_to_string(&file).ok()?.trim().parse().ok()?)
        });
        master.map_err(|late| anyhow!("{late}\n{}", self.stderr()))
    }

    /// Whether a master has its worker and has executed itself to do nothing but watch it: before
    /// that it loses signals, and it waits for the end of children only then. A single process
    /// always is settled.
    fn is_settled(&self, process: &Process) -> bool {
        self.mode == Mode::Single || process.children().len() == 1 && process.catches(libc::SIGCHLD)
    }

    fn wait_for(&self, what: &str, probe: impl FnMut() -> Option<Result<()>>) -> Result<()> {
        let result = wait::until(PATIENCE, what, probe).and_then(|result| result);
        result.map_err(|error| anyhow!("{error}\n{}", self.stderr()))
    }

    /// Ends every process of this HAProxy: all have the configuration in their command line.
    fn end_now(&mut self) {
        let all = Process::with_title_containing(&self.config_path().display().to_string());
        process::end_all(&all, libc::SIGTERM, LAST_WORD);
        self.running = None;
        if let Some(mut child) = self.child.take() {
            // It is dead by now; this takes it out of the process table.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Mode {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Mode::Single => &["-q", "-db"],
            Mode::MasterWorker => &["-W", "-db"],
            Mode::Daemon => &["-W", "-D"],
        }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.end_now();
    }
}
