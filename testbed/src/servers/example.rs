//! `examples/server`: the prefork C server that links libtktrot.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::home::Home;
use super::{Server, server};
use crate::artifacts;
use crate::certificate::Certificate;
use crate::environment::environment_setters;
use crate::process::Process;

/// What a server is to be like; made by [`Example::builder`].
#[derive(Debug)]
pub struct Builder {
    program: PathBuf,
    workers: usize,
    daemon: bool,
    certificate: Option<Certificate>,
    home: Home,
}

/// One server with a directory and a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Example {
    home: Home,
    program: PathBuf,
    workers: usize,
    daemon: bool,
    certificate: Certificate,
    master: Option<Process>,
}

environment_setters!(Builder, home.environment);

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
    pub fn start(self) -> Result<Example> {
        let certificate = self.home.certificate(self.certificate)?;
        let Builder { home, program, workers, daemon, .. } = self;
        let mut server = Example { home, program, workers, daemon, certificate, master: None };
        server.start()?;
        Ok(server)
    }
}

impl Example {
    /// Begins the description of a server, after building its program.
    pub fn builder() -> Result<Builder> {
        let mut home = Home::new("example")?;
        let libraries = artifacts::library()?.parent().expect("a file has a directory");
        home.environment.set("LD_LIBRARY_PATH", &libraries.display().to_string());
        Ok(Builder {
            program: artifacts::program("server")?,
            workers: 2,
            daemon: false,
            certificate: None,
            home,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.home.addr
    }

    /// Its directory: stderr.txt, cert.pem, key.pem, server.pid.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// What it wrote to stderr.
    pub fn stderr(&self) -> String {
        self.home.read("stderr.txt")
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
        let pid_file = self.home.path("server.pid");
        // Left by a server that was killed, it would name a stranger.
        let _ = fs::remove_file(&pid_file);
        let mut command = self.home.command(&self.program)?;
        command.arg("--port").arg(self.home.addr.port().to_string());
        command.arg("--cert").arg(&self.certificate.cert).arg("--key").arg(&self.certificate.key);
        command.arg("--workers").arg(self.workers.to_string()).arg("--pid-file").arg(&pid_file);
        if self.daemon {
            command.arg("--daemon");
        }
        self.home.spawn(&mut command)?;
        let master = self.home.wait_for("the server to start", || {
            let pid = fs::read_to_string(&pid_file).ok()?.trim().parse().ok()?;
            let master = Process::find(pid)?;
            (master.children().len() == self.workers).then_some(())?;
            TcpStream::connect_timeout(&self.home.addr, Duration::from_secs(1)).ok()?;
            Some(master)
        })?;
        self.master = Some(master);
        Ok(())
    }

    /// HUP; returns when a new generation of workers has replaced the old one.
    pub fn reload(&mut self) -> Result<()> {
        let master = self.master()?;
        let before = master.children();
        ensure!(master.signal(libc::SIGHUP), "the master is gone");
        self.home.wait_for("new workers after HUP", || {
            let now = master.children();
            let new = now.iter().all(|worker| !before.contains(worker));
            (new && now.len() == self.workers).then_some(())
        })
    }

    /// TERM; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let master = self.master()?;
        master.signal(libc::SIGTERM);
        self.home.wait_gone(&[master])
    }

    /// Kills one worker. False when it was gone already, or was none.
    pub fn kill_worker(&self, pid: i32) -> Result<bool> {
        let worker = self.master()?.children().into_iter().find(|worker| worker.pid() == pid);
        Ok(worker.is_some_and(|worker| worker.signal(libc::SIGKILL)))
    }

    fn master(&self) -> Result<Process> {
        self.master.filter(Process::is_running).context("the server does not run")
    }
}

server!(Example, addr: Example::addr, reload: Some(Example::reload));
