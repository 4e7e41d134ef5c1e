//! Debian's stock hitch, run as in production: a master that stays root and daemonizes, workers in a
//! chroot and of another user, the process that fetches OCSP responses.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::backend::Backend;
use crate::certificate;
use crate::environment::{Environment, environment_setters};
use crate::port;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

/// Where Debian has it.
pub const BINARY: &str = "/usr/sbin/hitch";
/// Its user, and group, in Debian.
const USER: &str = "_hitch";

/// What a hitch is to be like; made by [`Hitch::builder`].
#[derive(Debug)]
pub struct Builder {
    workers: usize,
    environment: Environment,
}

/// One hitch with a directory, a port and a backend of its own; stopped when dropped.
#[derive(Debug)]
pub struct Hitch {
    dir: TempDir,
    addr: SocketAddr,
    workers: usize,
    environment: Environment,
    backend: Backend,
}

environment_setters!(Builder);

impl Builder {
    /// The number of workers; 2 unless told.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// Starts hitch and waits until all its workers listen. It answers "ok".
    pub fn start(mut self) -> Result<Hitch> {
        let dir = tempfile::Builder::new().prefix("tktrot-hitch-").tempdir()?;
        let log = dir.path().join("tktrot.log");
        // A daemon's stderr is /dev/null.
        self.environment.set("TKTROT_LOG", &log.display().to_string());
        let hitch = Hitch {
            dir,
            addr: port::free()?,
            workers: self.workers,
            environment: self.environment,
            backend: Backend::start("ok")?,
        };
        hitch.change_certificate()?;
        fs::create_dir(hitch.root())?;
        // Its user must be able to reach the root.
        fs::set_permissions(hitch.dir.path(), Permissions::from_mode(0o755))?;
        fs::write(hitch.path("hitch.conf"), hitch.config())?;
        hitch.start()?;
        Ok(hitch)
    }
}

impl Hitch {
    /// Begins the description of a hitch.
    pub fn builder() -> Builder {
        Builder { workers: 2, environment: Environment::default() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What libtktrot wrote, and the last lines of hitch's own log.
    pub fn log_tail(&self) -> String {
        let own = fs::read_to_string(self.path("hitch.log")).unwrap_or_default();
        let lines: Vec<&str> = own.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        format!("{}\n--- end of hitch.log\n{}", self.our_log(), last.join("\n"))
    }

    /// What libtktrot wrote.
    pub fn our_log(&self) -> String {
        fs::read_to_string(self.path("tktrot.log")).unwrap_or_default()
    }

    /// The running master.
    pub fn master(&self) -> Result<Process> {
        Process::of_pid_file(&self.path("hitch.pid"), &self.config_path())
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
    pub fn start(&self) -> Result<()> {
        ensure!(self.master().is_err(), "hitch already runs");
        let log = File::options().create(true).append(true).open(self.path("hitch.log"))?;
        let mut child = self
            .environment
            .command(Path::new(BINARY))
            .arg("--config")
            .arg(self.config_path())
            .arg("--pidfile")
            .arg(self.path("hitch.pid"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {BINARY}; `make deps` installs it"))?;
        // The command ends as soon as the daemon is there.
        let status = process::ended(&mut child, "the hitch command")?;
        ensure!(status.success(), "hitch: {status}\n{}", self.log_tail());
        self.wait_for("hitch to start", || self.is_complete(&[]).then_some(()))
    }

    /// HUP; returns when new processes have replaced all old ones and listen.
    pub fn reload(&self) -> Result<()> {
        let master = self.master()?;
        let before = master.children();
        ensure!(master.signal(libc::SIGHUP), "the master is gone");
        self.wait_for("new processes after HUP", || {
            // A signal that comes after hitch's last look for signals and before its pause() is
            // not acted on until the next one comes, with and without us.
            master.signal(libc::SIGCHLD);
            self.is_complete(&before).then_some(())
        })
    }

    /// Gives the certificate's file a new time: hitch makes a new SSL_CTX of it when it reloads.
    pub fn touch_certificate(&self) -> Result<()> {
        let file = File::options().write(true).open(self.path("site.pem"))?;
        Ok(file.set_modified(SystemTime::now())?)
    }

    /// Makes a new key and certificate, which hitch takes when it reloads.
    pub fn change_certificate(&self) -> Result<()> {
        let new = certificate::create(self.dir.path())?;
        let both = [fs::read(&new.key)?, fs::read(&new.cert)?].concat();
        fs::write(self.path("site.pem"), both)?;
        Ok(fs::set_permissions(self.path("site.pem"), Permissions::from_mode(0o600))?)
    }

    /// TERM; what does not end in time is killed, and that is an error.
    pub fn stop(&self) -> Result<()> {
        let master = self.master()?;
        let mut all = master.children();
        all.push(master);
        master.signal(libc::SIGTERM);
        let all_ended = || all.iter().all(|process| !process.is_running()).then_some(());
        let result = self.wait_for("hitch to stop", all_ended);
        self.end_now();
        result
    }

    /// Whether as many processes as there should be run, none of which is in `old`, and all
    /// workers listen.
    fn is_complete(&self, old: &[Process]) -> bool {
        let Ok(master) = self.master() else { return false };
        let now = master.children();
        // Beside the workers there is the process for OCSP.
        now.len() == self.workers + 1
            && now.iter().all(|process| !old.contains(process))
            && port::listeners(self.addr) == self.workers
            && self.worker_processes().is_ok_and(|workers| workers.len() == self.workers)
    }

    /// What an administrator writes. It says nothing about tickets or about us.
    fn config(&self) -> String {
        let (frontend, backend) = (self.addr, self.backend.addr());
        format!(
            "frontend = \"[{}]:{}\"\nbackend = \"[{}]:{}\"\npem-file = \"{}\"\n\
             workers = {}\ndaemon = on\nuser = \"{USER}\"\ngroup = \"{USER}\"\n\
             chroot = \"{}\"\nlog-filename = \"{}\"\n",
            frontend.ip(),
            frontend.port(),
            backend.ip(),
            backend.port(),
            self.path("site.pem").display(),
            self.workers,
            self.root().display(),
            self.path("hitch.log").display(),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The workers' root: an empty directory.
    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn config_path(&self) -> String {
        self.path("hitch.conf").display().to_string()
    }

    fn wait_for(&self, what: &str, probe: impl FnMut() -> Option<()>) -> Result<()> {
        wait::until(PATIENCE, what, probe).map_err(|late| anyhow!("{late}\n{}", self.log_tail()))
    }

    /// Ends every process of this configuration: workers have the master's command line.
    fn end_now(&self) {
        process::end_all(
            &Process::with_title_containing(&self.config_path()),
            libc::SIGKILL,
            PATIENCE,
        );
    }
}

impl Drop for Hitch {
    fn drop(&mut self) {
        self.end_now();
    }
}
