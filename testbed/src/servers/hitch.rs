//! Debian's stock hitch, run as in production: a master that stays root and daemonizes, workers in a
//! chroot and of another user, the process that fetches OCSP responses.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, ensure};

use super::home::Home;
use super::{Server, server};
use crate::backend::Backend;
use crate::certificate;
use crate::environment::environment_setters;
use crate::port;
use crate::process::Process;

/// Where Debian has it.
pub const BINARY: &str = "/usr/sbin/hitch";
/// Its user, and group, in Debian.
const USER: &str = "_hitch";

/// What a hitch is to be like; made by [`Hitch::builder`].
#[derive(Debug)]
pub struct Builder {
    home: Home,
    workers: usize,
}

/// One hitch with a directory, a port and a backend of its own; stopped when dropped.
#[derive(Debug)]
pub struct Hitch {
    home: Home,
    workers: usize,
    backend: Backend,
}

environment_setters!(Builder, home.environment);

impl Builder {
    /// The number of workers; 2 unless told.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// Starts hitch and waits until all its workers listen. It answers "ok".
    pub fn start(mut self) -> Result<Hitch> {
        let log = self.home.path("tktrot.log").display().to_string();
        // A daemon's stderr is /dev/null.
        self.home.environment.set("TKTROT_LOG", &log);
        self.home.ending = libc::SIGKILL;
        let mut hitch =
            Hitch { home: self.home, workers: self.workers, backend: Backend::start("ok")? };
        hitch.change_certificate()?;
        fs::create_dir(hitch.root())?;
        fs::write(hitch.home.path("hitch.conf"), hitch.config())?;
        hitch.start()?;
        Ok(hitch)
    }
}

impl Hitch {
    /// Begins the description of a hitch.
    pub fn builder() -> Result<Builder> {
        Ok(Builder { home: Home::new("hitch")?, workers: 2 })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.home.addr
    }

    /// The last lines that it and libtktrot wrote.
    pub fn log_tail(&self) -> String {
        self.home.log_tail()
    }

    /// What libtktrot wrote.
    pub fn our_log(&self) -> String {
        self.home.read("tktrot.log")
    }

    /// The running master.
    pub fn master(&self) -> Result<Process> {
        Process::of_pid_file(&self.home.path("hitch.pid"), &self.config_path())
    }

    /// The workers: those children of the master that are in the chroot.
    pub fn worker_processes(&self) -> Result<Vec<Process>> {
        let mut workers = self.master()?.children();
        workers.retain(|worker| {
            let root = fs::read_link(format!("/proc/{}/root", worker.pid()));
            root.is_ok_and(|root| root == self.root())
        });
        Ok(workers)
    }

    /// Starts hitch and waits until all its processes are there and all workers listen.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.master().is_err(), "hitch already runs");
        let mut command = self.home.command(Path::new(BINARY))?;
        command.arg("--config").arg(self.config_path());
        command.arg("--pidfile").arg(self.home.path("hitch.pid"));
        // The command ends as soon as the daemon is there.
        self.home.succeed(&mut command)?;
        self.home.wait_for("hitch to start", || self.is_complete(&[]).then_some(()))
    }

    /// HUP; returns when new processes have replaced all old ones and listen.
    pub fn reload(&self) -> Result<()> {
        let master = self.master()?;
        let before = master.children();
        ensure!(master.signal(libc::SIGHUP), "the master is gone");
        self.home.wait_for("new processes after HUP", || {
            // A signal that comes after hitch's last look for signals and before its pause() is
            // not acted on until the next one comes, with and without us.
            master.signal(libc::SIGCHLD);
            self.is_complete(&before).then_some(())
        })
    }

    /// Gives the certificate's file a new time: hitch makes a new SSL_CTX of it when it reloads.
    pub fn touch_certificate(&self) -> Result<()> {
        let file = File::options().write(true).open(self.home.path("site.pem"))?;
        Ok(file.set_modified(SystemTime::now())?)
    }

    /// Makes a new key and certificate, which hitch takes when it reloads.
    pub fn change_certificate(&self) -> Result<()> {
        let new = certificate::create(self.home.dir())?;
        let both = [fs::read(&new.key)?, fs::read(&new.cert)?].concat();
        self.home.file("site.pem", &both)?;
        Ok(())
    }

    /// TERM; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let master = self.master()?;
        self.home.terminate(master)
    }

    /// Whether as many processes as there should be run, none of which is in `old`, and all
    /// workers listen.
    fn is_complete(&self, old: &[Process]) -> bool {
        let Ok(master) = self.master() else { return false };
        let now = master.children();
        // Beside the workers there is the process for OCSP.
        now.len() == self.workers + 1
            && now.iter().all(|process| !old.contains(process))
            && port::listeners(self.home.addr) == self.workers
            && self.worker_processes().is_ok_and(|workers| workers.len() == self.workers)
    }

    /// What an administrator writes. It says nothing about tickets or about us.
    fn config(&self) -> String {
        let (frontend, backend) = (self.home.addr, self.backend.addr());
        format!(
            "frontend = \"[{}]:{}\"\nbackend = \"[{}]:{}\"\npem-file = \"{}\"\n\
             workers = {}\ndaemon = on\nuser = \"{USER}\"\ngroup = \"{USER}\"\n\
             chroot = \"{}\"\nlog-filename = \"{}\"\n",
            frontend.ip(),
            frontend.port(),
            backend.ip(),
            backend.port(),
            self.home.path("site.pem").display(),
            self.workers,
            self.root().display(),
            self.home.path("hitch.log").display(),
        )
    }

    /// The workers' root: an empty directory.
    fn root(&self) -> PathBuf {
        self.home.path("root")
    }

    fn config_path(&self) -> String {
        self.home.path("hitch.conf").display().to_string()
    }
}

server!(Hitch, addr: Hitch::addr, reload: Some(|hitch| Hitch::reload(hitch)));
