//! `examples/server`: the prefork C server that links libtktrot.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::artifacts;
use crate::certificate::{self, Certificate};
use crate::environment::{Environment, environment_setters};
use crate::port;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

const LAST_WORD: Duration = Duration::from_secs(3);

/// What a server is to be like; made by [`Server::builder`].
#[derive(Debug)]
pub struct Builder {
    program: PathBuf,
    workers: usize,
    daemon: bool,
    certificate: Option<Certificate>,
    environment: Environment,
}

/// One server with a directory and a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    dir: TempDir,
    addr: SocketAddr,
    program: PathBuf,
    workers: usize,
    daemon: bool,
    certificate: Certificate,
    environment: Environment,
    master: Option<Process>,
    /// The process that we started: the master, unless that one daemonized.
    child: Option<Child>,
}

environment_setters!(Builder);

impl Builder {
    /// The number of workers; 2 unless told.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// Lets the master daemonize.
    pub fn daemon(mut self) -> Builder {
        self.daemon = true;
        self
    }

    /// Uses this certificate instead of a new one.
    pub fn certificate(mut self, certificate: &Certificate) -> Builder {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Starts the server.
    pub fn start(mut self) -> Result<Server> {
        let dir = tempfile::Builder::new().prefix("tktrot-server-").tempdir()?;
        let certificate = match self.certificate.take() {
            Some(certificate) => certificate,
            None => certificate::create(dir.path())?,
        };
        let mut server = Server {
            dir,
            addr: port::free()?,
            program: self.program,
            workers: self.workers,
            daemon: self.daemon,
            certificate,
            environment: self.environment,
            master: None,
            child: None,
        };
        server.start()?;
        Ok(server)
    }
}

impl Server {
    /// Begins the description of a server, after building its program.
    pub fn builder() -> Result<Builder> {
        let mut environment = Environment::default();
        let libraries = artifacts::library()?.parent().expect("a file has a directory");
        environment.set("LD_LIBRARY_PATH", &libraries.display().to_string());
        Ok(Builder {
            program: artifacts::program("server")?,
            workers: 2,
            daemon: false,
            certificate: None,
            environment,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its directory: stderr.txt, cert.pem, key.pem, server.pid.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it wrote to stderr.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir().join("stderr.txt")).unwrap_or_default()
    }

    /// The running master's pid.
    pub fn master_pid(&self) -> Result<i32> {
        Ok(self.master()?.pid())
    }

    /// The workers' pids, sorted.
    pub fn worker_pids(&self) -> Result<Vec<i32>> {
        let mut pids: Vec<i32> = self.master()?.children().iter().map(Process::pid).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// Starts the server and waits until all its workers are there and it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.master().is_err(), "the server already runs");
        let pid_file = self.dir().join("server.pid");
        // Left by a server that was killed, it would name a stranger.
        let _ = fs::remove_file(&pid_file);
        let stderr =
            File::options().create(true).append(true).open(self.dir().join("stderr.txt"))?;
        let mut command = self.environment.command(&self.program);
        command.arg("--port").arg(self.addr.port().to_string());
        command.arg("--cert").arg(&self.certificate.cert).arg("--key").arg(&self.certificate.key);
        command.arg("--workers").arg(self.workers.to_string()).arg("--pid-file").arg(&pid_file);
        if self.daemon {
            command.arg("--daemon");
        }
        let child = command
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        self.child = Some(child);
        let master = wait::until(PATIENCE, "the server to start", || {
            let pid = fs::read_to_string(&pid_file).ok()?.trim().parse().ok()?;
            let master = Process::find(pid)?;
            (master.children().len() == self.workers).then_some(())?;
            TcpStream::connect_timeout(&self.addr, Duration::from_secs(1)).ok()?;
            Some(master)
        })
        .map_err(|late| anyhow!("{late}\n{}", self.stderr()))?;
        self.master = Some(master);
        Ok(())
    }

    /// HUP; returns when a new generation of workers has replaced the old one.
    pub fn reload(&mut self) -> Result<()> {
        let master = self.master()?;
        let before = master.children();
        ensure!(master.signal(libc::SIGHUP), "the master is gone");
        self.wait_for("new workers after HUP", || {
            let now = master.children();
            let new = now.iter().all(|worker| !before.contains(worker));
            (new && now.len() == self.workers).then_some(())
        })
    }

    /// TERM; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let master = self.master()?;
        master.signal(libc::SIGTERM);
        let result = self.wait_for("the server to stop", || (!master.is_running()).then_some(()));
        self.end_now();
        result
    }

    /// Kills one worker. False when it was gone already, or was none.
    pub fn kill_worker(&self, pid: i32) -> Result<bool> {
        let worker = self.master()?.children().into_iter().find(|worker| worker.pid() == pid);
        Ok(worker.is_some_and(|worker| worker.signal(libc::SIGKILL)))
    }

    fn master(&self) -> Result<Process> {
        self.master.filter(Process::is_running).context("the server does not run")
    }

    fn wait_for(&self, what: &str, probe: impl FnMut() -> Option<()>) -> Result<()> {
        wait::until(PATIENCE, what, probe).map_err(|late| anyhow!("{late}\n{}", self.stderr()))
    }

    /// Ends every process of this server: each master has our directory in its command line, and
    /// so have workers that were forked from it.
    fn end_now(&mut self) {
        let mut all = Process::with_title_containing(&self.dir().display().to_string());
        if let Some(master) = self.master.take() {
            all.extend(master.children());
        }
        process::end_all(&all, libc::SIGTERM, LAST_WORD);
        if let Some(mut child) = self.child.take() {
            // It is dead by now; this takes it out of the process table.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end_now();
    }
}
