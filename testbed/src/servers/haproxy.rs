//! Debian's stock HAProxy, with as many frontends as a test has `bind` lines for: a single process,
//! or as in production a master and a worker, which `USR2` to the master replaces.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::home::Home;
use super::{Server, server};
use crate::certificate::{self, Certificate};
use crate::environment::{Environment, environment_setters};
use crate::port;
use crate::process::Process;
use crate::wait::PATIENCE;

/// Where Debian has it.
pub const BINARY: &str = "/usr/sbin/haproxy";

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
    home: Home,
    addrs: Vec<SocketAddr>,
    mode: Mode,
    /// The master, or the only process.
    running: Option<Process>,
}

impl Haproxy {
    /// Begins the description of a HAProxy.
    pub fn builder() -> Result<Builder> {
        Ok(Builder {
            home: Home::new("haproxy")?,
            mode: Mode::Single,
            unprivileged: false,
            admin_socket: false,
            global: Vec::new(),
            binds: Vec::new(),
            listen: Vec::new(),
        })
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
        self.home.dir()
    }

    /// The environment of the next start.
    pub fn environment_mut(&mut self) -> &mut Environment {
        &mut self.home.environment
    }

    /// What it wrote to stderr. A daemon closes that once it is started.
    pub fn stderr(&self) -> String {
        self.home.read("stderr.txt")
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
        // That of a former master may be a stranger's by now.
        let _ = fs::remove_file(self.home.path("haproxy.pid"));
        let mut command = self.command(self.mode.arguments())?;
        let process = match self.mode {
            Mode::Daemon => self.daemon(&mut command)?,
            Mode::Single | Mode::MasterWorker => {
                self.home.spawn(&mut command)?;
                self.home.child()?
            }
        };
        self.running = Some(process);
        self.home.wait_for("HAProxy to start", || {
            if !process.is_running() {
                return Some(Err(anyhow!("HAProxy ended at its start")));
            }
            let connects = |addr| TcpStream::connect_timeout(addr, Duration::from_secs(1)).is_ok();
            (self.is_settled(&process) && self.addrs.iter().all(connects)).then_some(Ok(()))
        })?
    }

    /// `USR2` to the master, which executes itself anew; returns when a new worker has replaced the
    /// old one.
    pub fn reload(&self) -> Result<()> {
        let master = self.main_process()?;
        let before = self.worker()?;
        ensure!(master.signal(libc::SIGUSR2), "the master is gone");
        self.home.wait_for("a new worker after USR2", || {
            let now = master.children();
            let replaced = now.len() == 1 && now[0] != before;
            (replaced && self.is_settled(&master)).then_some(())
        })
    }

    /// TERM, as systemd stops it; what does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<()> {
        let process = self.main_process()?;
        process.signal(libc::SIGTERM);
        self.home.wait_gone(&[process])
    }

    /// `haproxy -c`: checks the configuration and ends.
    pub fn check(&self) -> Result<Output> {
        let mut command = self.command(&["-c"])?;
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        output.with_context(|| format!("cannot run {BINARY}; `make deps` installs it"))
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.home.command(Path::new(BINARY))?;
        command.args(arguments).arg("-f").arg(self.home.path("haproxy.cfg"));
        Ok(command)
    }

    /// The master that a daemon's parent has left behind.
    fn daemon(&self, command: &mut Command) -> Result<Process> {
        self.home.succeed(command)?;
        let file = self.home.path("haproxy.pid");
        // The parent ends before the master has written it.
        self.home.wait_for("the pid of a HAProxy that runs", || {
            Process::find(fs::read_to_string(&file).ok()?.trim().parse().ok()?)
        })
    }

    /// Whether a master has its worker and has executed itself to do nothing but watch it: before
    /// that it loses signals, and it waits for the end of children only then. A single process
    /// always is settled.
    fn is_settled(&self, process: &Process) -> bool {
        self.mode == Mode::Single || process.children().len() == 1 && process.catches(libc::SIGCHLD)
    }

    /// Sends one command over the admin socket, and returns the answer. It can be an error: HAProxy
    /// says so in words.
    pub fn admin(&self, command: &str) -> Result<String> {
        let path = self.dir().join("admin.sock");
        let mut socket = UnixStream::connect(&path)
            .with_context(|| format!("no admin socket at {}", path.display()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(format!("{command}\n").as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Replaces the certificate that was loaded from the file `loaded` by that in `replacement`,
    /// without a reload. The files stay as they are.
    pub fn update_certificate(&self, loaded: &Path, replacement: &Path) -> Result<()> {
        let loaded = loaded.display();
        let pem = fs::read_to_string(replacement)?;
        // An empty line ends the payload.
        let lines: Vec<&str> = pem.lines().filter(|line| !line.is_empty()).collect();
        let set = self.admin(&format!("set ssl cert {loaded} <<\n{}\n", lines.join("\n")))?;
        ensure!(set.contains("Transaction created"), "set ssl cert: {set}");
        let committed = self.admin(&format!("commit ssl cert {loaded}"))?;
        ensure!(committed.contains("Success!"), "commit ssl cert: {committed}");
        Ok(())
    }
}

server!(Haproxy, addr: |haproxy: &Haproxy| haproxy.addr(0), reload: Some(|haproxy| Haproxy::reload(haproxy)));

impl Mode {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Mode::Single => &["-q", "-db"],
            Mode::MasterWorker => &["-W", "-db"],
            Mode::Daemon => &["-W", "-D"],
        }
    }
}

/// What a HAProxy is to be like; made by [`Haproxy::builder`].
#[derive(Debug)]
pub struct Builder {
    home: Home,
    mode: Mode,
    unprivileged: bool,
    admin_socket: bool,
    global: Vec<String>,
    binds: Vec<String>,
    listen: Vec<SocketAddr>,
}

environment_setters!(Builder, home.environment);

impl Builder {
    /// Makes a certificate in the directory; returns its files, and the one with both that
    /// HAProxy takes as `crt`.
    pub fn certificate(&self, name: &str) -> Result<(Certificate, PathBuf)> {
        let dir = self.home.path(name);
        fs::create_dir(&dir)?;
        let certificate = certificate::create(&dir)?;
        let both = [fs::read(&certificate.cert)?, fs::read(&certificate.key)?].concat();
        let path = self.file(&format!("{name}.pem"), &both)?;
        Ok((certificate, path))
    }

    /// Writes a file into the directory, readable to its owner alone.
    pub fn file(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        self.home.file(name, contents)
    }

    /// How it runs; [`Mode::Single`] unless told.
    pub fn mode(mut self, mode: Mode) -> Builder {
        self.mode = mode;
        self
    }

    /// Lets it give up its privileges as Debian's configuration has it: the user and group
    /// haproxy, in an empty root directory.
    pub fn unprivileged(mut self) -> Builder {
        self.unprivileged = true;
        self
    }

    /// Opens the socket that [`Haproxy::admin`] talks to.
    pub fn admin_socket(mut self) -> Builder {
        self.admin_socket = true;
        self
    }

    /// Adds a line to the global section.
    pub fn global(mut self, line: &str) -> Builder {
        self.global.push(line.to_owned());
        self
    }

    /// Adds a frontend with what follows `ssl` on its `bind` line.
    pub fn frontend(mut self, bind: &str) -> Builder {
        self.binds.push(bind.to_owned());
        self
    }

    /// Lets the first frontends listen here, not on free ports of 127.0.0.1.
    pub fn listen(mut self, addrs: &[SocketAddr]) -> Builder {
        self.listen = addrs.to_vec();
        self
    }

    /// Starts HAProxy and waits until it accepts connections. Each frontend answers its number.
    pub fn start(self) -> Result<Haproxy> {
        let mut haproxy = self.prepare()?;
        haproxy.start()?;
        Ok(haproxy)
    }

    /// As [`Builder::start`], but leaves HAProxy stopped.
    pub fn prepare(self) -> Result<Haproxy> {
        if self.unprivileged {
            fs::create_dir(self.home.path("empty"))?;
        }
        let told = |number: usize| self.listen.get(number).copied();
        let addrs: Vec<SocketAddr> = (0..self.binds.len())
            .map(|number| told(number).map_or_else(port::free, Ok))
            .collect::<Result<_>>()?;
        self.file("haproxy.cfg", self.config(&addrs).as_bytes())?;
        Ok(Haproxy { home: self.home, addrs, mode: self.mode, running: None })
    }

    /// The text of haproxy.cfg.
    fn config(&self, addrs: &[SocketAddr]) -> String {
        let dir = self.home.dir().display();
        let mut text = String::new();
        let mut section = |head: &str, lines: &[String]| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{head}\n    {}\n", lines.join("\n    "));
        };
        let mut global = vec![format!("pidfile {dir}/haproxy.pid")];
        if self.unprivileged {
            global.extend(["user haproxy".into(), "group haproxy".into()]);
            global.push(format!("chroot {dir}/empty"));
        }
        if self.admin_socket {
            let options = "mode 600 level admin expose-fd listeners";
            global.push(format!("stats socket {dir}/admin.sock {options}"));
        }
        global.extend_from_slice(&self.global);
        section("global", &global);
        let timeouts = ["client", "connect", "server"].map(|what| format!("timeout {what} 30s"));
        section("defaults", &[&["mode http".to_owned()], &timeouts[..]].concat());
        for (number, (bind, addr)) in self.binds.iter().zip(addrs).enumerate() {
            let answer = format!("status 200 content-type text/plain string {number}");
            section(
                &format!("frontend f{number}"),
                &[format!("bind {addr} ssl {bind}"), format!("http-request return {answer}")],
            );
        }
        text
    }
}
