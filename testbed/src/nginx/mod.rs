//! Debian's stock nginx, run as in production: a master that daemonizes, workers of another user.
//! Or as containers and debuggers have it: in the foreground, or as a single process.

mod builder;
mod config;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

pub use builder::Builder;

use crate::environment::Environment;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

/// Where Debian has it.
pub const BINARY: &str = "/usr/sbin/nginx";

/// Its module for connections of any protocol, which is a package of its own.
pub const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// How a master calls itself, before its command line.
const MASTER_TITLE: &str = "nginx: master process";
/// How a worker calls itself, before it also says "is shutting down".
const WORKER_TITLE: &str = "nginx: worker process";
/// At the end nginx gets this long before it is killed.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Which processes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A master that daemonized, and workers.
    Daemon,
    /// A master that is our child, and workers.
    Foreground,
    /// A master that is the child of our child, in a PID namespace of its own, and workers.
    Contained,
    /// One process that is our child.
    Single,
}

/// One nginx with a directory, a port and a configuration of its own; stopped when dropped.
#[derive(Debug)]
pub struct Nginx {
    dir: TempDir,
    addr: SocketAddr,
    mode: Mode,
    workers: usize,
    environment: Environment,
    /// The process that stays in the foreground, if one does.
    child: Option<Child>,
}

impl Nginx {
    /// Begins the description of an nginx.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its directory: nginx.conf, error.log, stderr.txt, cert.pem, key.pem, nginx.pid.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The environment of the next start.
    pub fn environment_mut(&mut self) -> &mut Environment {
        &mut self.environment
    }

    /// What the error log holds. In it is what workers write to stderr, too.
    pub fn error_log(&self) -> String {
        fs::read_to_string(self.dir().join("error.log")).unwrap_or_default()
    }

    /// What the commands that start, reload and stop nginx wrote to stderr.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir().join("stderr.txt")).unwrap_or_default()
    }

    /// The last lines of stderr and error log, for messages about failures.
    pub fn log_tail(&self) -> String {
        let mut tail = String::new();
        for (name, text) in [("stderr.txt", self.stderr()), ("error.log", self.error_log())] {
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(10)..];
            let path = self.dir().join(name);
            tail.push_str(&format!("--- end of {}\n{}\n", path.display(), last.join("\n")));
        }
        tail
    }

    /// Leaves the directory with the logs behind, for whoever looks into a failure.
    pub fn keep_files(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// The running master.
    pub fn master_process(&self) -> Result<Process> {
        self.master()
    }

    /// The running master's pid.
    pub fn master_pid(&self) -> Result<i32> {
        Ok(self.master()?.pid())
    }

    /// The pids of the workers that take connections, sorted.
    pub fn worker_pids(&self) -> Result<Vec<i32>> {
        let mut pids: Vec<i32> = workers_of(&self.master()?).iter().map(Process::pid).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Starts nginx and waits until all its workers are there and it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.master().is_err(), "nginx already runs");
        match self.mode {
            Mode::Daemon => self.run(&[])?,
            Mode::Foreground | Mode::Contained | Mode::Single => {
                self.child = Some(self.spawn(&[])?);
            }
        }
        self.wait_for("nginx to start", || {
            let master = self.master().ok()?;
            (workers_of(&master).len() == self.workers).then_some(())?;
            TcpStream::connect_timeout(&self.addr, Duration::from_secs(1)).is_ok().then_some(())
        })
    }

    /// `nginx -s reload`; returns when a new generation of workers has taken over.
    pub fn reload(&mut self) -> Result<()> {
        self.renew_workers(|_| self.run(&["-s", "reload"]))
    }

    /// HUP to the master, as `nginx -s reload` sends it, but without that command, which reads the
    /// configuration, too; returns when a new generation of workers has taken over.
    pub fn reload_by_signal(&mut self) -> Result<()> {
        self.renew_workers(|master| {
            ensure!(master.signal(libc::SIGHUP), "the master is gone");
            Ok(())
        })
    }

    /// Starts an nginx that is expected to give up, and returns how the command ended.
    pub fn start_and_end(&mut self) -> Result<ExitStatus> {
        ensure!(self.master().is_err(), "nginx already runs");
        self.run_to_end(&[])
    }

    /// `nginx -s quit`; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let master = self.master()?;
        self.run(&["-s", "quit"])?;
        let result = self.wait_for("nginx to quit", || (!master.is_running()).then_some(()));
        self.end_now();
        result
    }

    /// Replaces the running nginx by a new one that inherits the listening sockets, as for an
    /// upgrade of the binary: USR2, then WINCH and QUIT for the old master. The variables must be
    /// named in the configuration ([`Builder::keep_environment`]).
    pub fn upgrade_usr2(&mut self) -> Result<()> {
        let old = self.master()?;
        ensure!(old.signal(libc::SIGUSR2), "the old master is gone");
        self.wait_for("the new master after USR2", || {
            let new = self.master().ok().filter(|new| *new != old)?;
            (workers_of(&new).len() == self.workers).then_some(())
        })?;
        old.signal(libc::SIGWINCH);
        self.wait_for("the old workers' end", || workers_of(&old).is_empty().then_some(()))?;
        old.signal(libc::SIGQUIT);
        self.wait_for("the old master's end", || (!old.is_running()).then_some(()))
    }

    /// Kills one worker. False when it was gone already, or was none.
    pub fn kill_worker(&self, pid: i32) -> Result<bool> {
        let worker = workers_of(&self.master()?).into_iter().find(|worker| worker.pid() == pid);
        Ok(worker.is_some_and(|worker| worker.signal(libc::SIGKILL)))
    }

    fn renew_workers(&self, renew: impl FnOnce(&Process) -> Result<()>) -> Result<()> {
        ensure!(self.mode != Mode::Single, "a single process has no workers to wait for");
        let master = self.master()?;
        let before = workers_of(&master);
        renew(&master)?;
        self.wait_for("new workers after a reload", || {
            let now = workers_of(&master);
            let new = now.iter().all(|worker| !before.contains(worker));
            (new && now.len() == self.workers).then_some(())
        })
    }

    /// The master that the pid file names, if it runs and is ours. In a container that number is
    /// another one than here.
    fn master(&self) -> Result<Process> {
        if self.mode == Mode::Contained {
            let launcher = self.child.as_ref().and_then(|child| Process::find(child.id() as i32));
            let mut children = launcher.iter().flat_map(Process::children);
            let master = children.find(|child| child.title().starts_with(MASTER_TITLE));
            return master.with_context(|| format!("it does not run:\n{}", self.log_tail()));
        }
        Process::of_pid_file(&self.dir().join("nginx.pid"), &self.config_path())
    }

    fn config_path(&self) -> String {
        self.dir().join("nginx.conf").display().to_string()
    }

    /// As [`Nginx::run_to_end`], for commands that are to succeed.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let status = self.run_to_end(arguments)?;
        ensure!(status.success(), "nginx {arguments:?}: {status}\n{}", self.log_tail());
        Ok(())
    }

    /// Runs the nginx command, which ends by itself: as a daemon's parent or after a signal.
    fn run_to_end(&self, arguments: &[&str]) -> Result<ExitStatus> {
        ensure!(self.mode != Mode::Contained, "a command would run in another container");
        let mut child = self.spawn(arguments)?;
        process::ended(&mut child, "the nginx command")
            .map_err(|error| anyhow!("{error}\n{}", self.log_tail()))
    }

    fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let stderr =
            File::options().create(true).append(true).open(self.dir().join("stderr.txt"))?;
        let mut command: Command = self.environment.command(Path::new(BINARY));
        command.current_dir(self.dir()).arg("-p").arg(self.dir());
        command.arg("-e").arg(self.dir().join("error.log")).arg("-c").arg(self.config_path());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command.spawn().with_context(|| format!("cannot run {BINARY}; `make deps` installs it"))
    }

    fn wait_for(&self, what: &str, probe: impl FnMut() -> Option<()>) -> Result<()> {
        wait::until(PATIENCE, what, probe).map_err(|late| anyhow!("{late}\n{}", self.log_tail()))
    }

    /// Ends every master of this configuration (an upgrade may have left two) and its workers.
    fn end_now(&mut self) {
        let masters = Process::with_title_containing(&self.config_path());
        let workers = masters.iter().flat_map(Process::children);
        let all: Vec<Process> = workers.chain(masters.iter().copied()).collect();
        process::end_all(&all, libc::SIGTERM, LAST_WORD);
        if let Some(mut child) = self.child.take() {
            // It is dead by now, or never came to name itself; this takes it out of the process
            // table.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// The workers that are not on their way out.
fn workers_of(master: &Process) -> Vec<Process> {
    let mut workers = master.children();
    workers.retain(|worker| worker.title() == WORKER_TITLE);
    workers
}
