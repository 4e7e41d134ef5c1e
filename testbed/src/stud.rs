//! `c-tests/servers/stud`: a server with the life of stud, which Debian no longer has. It makes its
//! contexts as root, gives everything up, daemonizes, and forks inside its SIGCHLD handler.

use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::artifacts;
use crate::certificate;
use crate::environment::{Environment, environment_setters};
use crate::port;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

/// Whoever Debian has for those who own nothing.
const USER: &str = "nobody";

/// What a stud is to be like; made by [`Stud::builder`].
#[derive(Debug)]
pub struct Builder {
    workers: usize,
    hosts: Vec<String>,
    environment: Environment,
}

/// One stud with a directory and a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Stud {
    dir: TempDir,
    addr: SocketAddr,
    program: PathBuf,
    workers: usize,
    hosts: Vec<String>,
    environment: Environment,
}

environment_setters!(Builder);

impl Builder {
    /// The number of workers; 2 unless told.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// Adds a host with a certificate of its own. The first one also serves who names none.
    pub fn host(mut self, name: &str) -> Builder {
        self.hosts.push(name.to_owned());
        self
    }

    /// Starts stud.
    pub fn start(mut self) -> Result<Stud> {
        let dir = tempfile::Builder::new().prefix("tktrot-stud-").tempdir()?;
        for host in &self.hosts {
            fs::create_dir(dir.path().join(host))?;
            certificate::create(&dir.path().join(host))?;
        }
        let root = dir.path().join("root");
        fs::create_dir(&root)?;
        fs::set_permissions(&root, Permissions::from_mode(0o755))?;
        let log = dir.path().join("tktrot.log");
        // A daemon's stderr is /dev/null.
        self.environment.set("TKTROT_LOG", &log.display().to_string());
        let stud = Stud {
            dir,
            addr: port::free()?,
            program: artifacts::program("servers/stud")?,
            workers: self.workers,
            hosts: self.hosts,
            environment: self.environment,
        };
        stud.start()?;
        Ok(stud)
    }
}

impl Stud {
    /// Begins the description of a stud.
    pub fn builder() -> Builder {
        Builder { workers: 2, hosts: Vec::new(), environment: Environment::default() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What libtktrot wrote, and what stud wrote before it became a daemon.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
        read("tktrot.log") + &read("stderr.txt")
    }

    /// The running master.
    pub fn master(&self) -> Result<Process> {
        Process::of_pid_file(&self.path("stud.pid"), &self.pid_path())
    }

    /// The workers.
    pub fn workers(&self) -> Result<Vec<Process>> {
        Ok(self.master()?.children())
    }

    /// Starts stud and waits until all its workers are there and it accepts connections.
    pub fn start(&self) -> Result<()> {
        ensure!(self.master().is_err(), "stud already runs");
        let mut child = self.command()?.spawn().context("cannot run stud")?;
        // The command ends as soon as the first child is there.
        let status = process::ended(&mut child, "the stud command")?;
        ensure!(status.success(), "stud: {status}\n{}", self.log());
        self.wait_for("stud to start", || {
            (self.workers().ok()?.len() == self.workers).then_some(())?;
            TcpStream::connect_timeout(&self.addr, Duration::from_secs(1)).ok().map(drop)
        })
    }

    /// TERM; what does not end in time is killed, and that is an error.
    pub fn stop(&self) -> Result<()> {
        let master = self.master()?;
        let mut all = master.children();
        all.push(master);
        master.signal(libc::SIGTERM);
        let all_ended = || all.iter().all(|process| !process.is_running()).then_some(());
        let result = self.wait_for("stud to stop", all_ended);
        self.end_now();
        result
    }

    /// Kills this worker and waits for the one that is forked in its place.
    pub fn kill_worker(&self, worker: Process) -> Result<()> {
        let before = self.workers()?;
        ensure!(before.contains(&worker), "process {} is no worker", worker.pid());
        ensure!(worker.signal(libc::SIGKILL), "worker {} is gone", worker.pid());
        self.wait_for("a new worker", || {
            let now = self.workers().ok()?;
            (now.len() == self.workers && !now.contains(&worker)).then_some(())
        })
    }

    fn command(&self) -> Result<Command> {
        let mut command = self.environment.command(&self.program);
        command.arg("-p").arg(self.addr.port().to_string());
        command.arg("-n").arg(self.workers.to_string());
        command.arg("-r").arg(self.path("root"));
        command.arg("-u").arg(USER).arg("-P").arg(self.pid_path());
        for host in &self.hosts {
            let own = self.path(host);
            command.arg(host).arg(own.join("cert.pem")).arg(own.join("key.pem"));
        }
        let stderr = File::options().create(true).append(true).open(self.path("stderr.txt"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Ok(command)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pid_path(&self) -> String {
        self.path("stud.pid").display().to_string()
    }

    fn wait_for(&self, what: &str, probe: impl FnMut() -> Option<()>) -> Result<()> {
        wait::until(PATIENCE, what, probe).map_err(|late| anyhow!("{late}\n{}", self.log()))
    }

    /// Ends every process of this stud: workers have the master's command line.
    fn end_now(&self) {
        process::end_all(
            &Process::with_title_containing(&self.pid_path()),
            libc::SIGKILL,
            PATIENCE,
        );
    }
}

impl Drop for Stud {
    fn drop(&mut self) {
        self.end_now();
    }
}
