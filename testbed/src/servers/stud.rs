//! `c-tests/servers/stud`: a server with the life of stud, which Debian no longer has. It makes its
//! contexts as root, gives everything up, daemonizes, and forks inside its SIGCHLD handler.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::home::Home;
use super::{Server, server};
use crate::artifacts;
use crate::certificate;
use crate::environment::environment_setters;
use crate::process::Process;

/// Whoever Debian has for those who own nothing.
const USER: &str = "nobody";

/// What a stud is to be like; made by [`Stud::builder`].
#[derive(Debug)]
pub struct Builder {
    home: Home,
    workers: usize,
    hosts: Vec<String>,
}

/// One stud with a directory and a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Stud {
    home: Home,
    program: PathBuf,
    workers: usize,
    hosts: Vec<String>,
}

environment_setters!(Builder, home.environment);

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
        for host in &self.hosts {
            fs::create_dir(self.home.path(host))?;
            certificate::create(&self.home.path(host))?;
        }
        let root = self.home.path("root");
        fs::create_dir(&root)?;
        fs::set_permissions(&root, Permissions::from_mode(0o755))?;
        let log = self.home.path("tktrot.log").display().to_string();
        // A daemon's stderr is /dev/null.
        self.home.environment.set("TKTROT_LOG", &log);
        self.home.ending = libc::SIGKILL;
        let Builder { home, workers, hosts } = self;
        let mut stud = Stud { home, program: artifacts::program("servers/stud")?, workers, hosts };
        stud.start()?;
        Ok(stud)
    }
}

impl Stud {
    /// Begins the description of a stud.
    pub fn builder() -> Result<Builder> {
        Ok(Builder { home: Home::new("stud")?, workers: 2, hosts: Vec::new() })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.home.addr
    }

    /// What libtktrot wrote, and what stud wrote before it became a daemon.
    pub fn log(&self) -> String {
        self.home.log()
    }

    /// The running master.
    pub fn master(&self) -> Result<Process> {
        Process::of_pid_file(&self.home.path("stud.pid"), &self.pid_path())
    }

    /// The workers.
    pub fn workers(&self) -> Result<Vec<Process>> {
        Ok(self.master()?.children())
    }

    /// Starts stud and waits until all its workers are there and it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.master().is_err(), "stud already runs");
        // The command ends as soon as the first child is there.
        self.home.succeed(&mut self.command()?)?;
        self.home.wait_for("stud to start", || {
            (self.workers().ok()?.len() == self.workers).then_some(())?;
            TcpStream::connect_timeout(&self.home.addr, Duration::from_secs(1)).ok().map(drop)
        })
    }

    /// TERM; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let master = self.master()?;
        self.home.terminate(master)
    }

    /// Kills this worker and waits for the one that is forked in its place.
    pub fn kill_worker(&self, worker: Process) -> Result<()> {
        let before = self.workers()?;
        ensure!(before.contains(&worker), "process {} is no worker", worker.pid());
        ensure!(worker.signal(libc::SIGKILL), "worker {} is gone", worker.pid());
        self.home.wait_for("a new worker", || {
            let now = self.workers().ok()?;
            (now.len() == self.workers && !now.contains(&worker)).then_some(())
        })
    }

    fn command(&self) -> Result<Command> {
        let mut command = self.home.command(&self.program)?;
        command.arg("-p").arg(self.home.addr.port().to_string());
        command.arg("-n").arg(self.workers.to_string());
        command.arg("-r").arg(self.home.path("root"));
        command.arg("-u").arg(USER).arg("-P").arg(self.pid_path());
        for host in &self.hosts {
            let own = self.home.path(host);
            command.arg(host).arg(own.join("cert.pem")).arg(own.join("key.pem"));
        }
        Ok(command)
    }

    fn pid_path(&self) -> String {
        self.home.path("stud.pid").display().to_string()
    }
}

// Its end and a new start are all that makes it read its certificates again.
server!(Stud, addr: Stud::addr, reload: None);
