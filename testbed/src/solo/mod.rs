//! Servers of a single process that start within milliseconds: for tests that need many.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::artifacts;
use crate::certificate::{self, Certificate};
use crate::environment::{Environment, environment_setters};
use crate::port;
use crate::process::{self, Process};

/// Which program serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// `openssl s_server -www`.
    OpensslServer,
    /// Python's ssl module, which has its libssl in a scope of its own (RTLD_LOCAL).
    Python(Python),
    /// One of `c-tests/servers`, and its arguments after port, certificate and key.
    Built(PathBuf, Vec<String>),
}

/// The ways to serve with Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Python {
    /// One connection after the other.
    Sockets,
    /// `socketserver.ThreadingMixIn`: a thread for each connection.
    Threading,
    /// `http.server` on a listener that `ssl` wraps.
    Http,
}

impl Python {
    /// All.
    pub const ALL: [Python; 3] = [Python::Sockets, Python::Threading, Python::Http];

    fn script(self) -> &'static str {
        match self {
            Python::Sockets => include_str!("server.py"),
            Python::Threading => include_str!("threading_server.py"),
            Python::Http => include_str!("http_server.py"),
        }
    }
}

/// What a server is to be like; made by [`Solo::openssl`] and its like.
#[derive(Clone, Debug)]
pub struct Builder {
    program: Program,
    certificate: Option<Certificate>,
    arguments: Vec<String>,
    environment: Environment,
}

/// One server with a directory and a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Solo {
    dir: TempDir,
    addr: SocketAddr,
    program: Program,
    certificate: Certificate,
    arguments: Vec<String>,
    environment: Environment,
    child: Option<Child>,
}

environment_setters!(Builder);

impl Builder {
    fn new(program: Program) -> Builder {
        Builder {
            program,
            certificate: None,
            arguments: Vec::new(),
            environment: Environment::default(),
        }
    }

    /// Uses this certificate instead of a new one.
    pub fn certificate(mut self, certificate: &Certificate) -> Builder {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Adds an argument to the command line.
    pub fn argument(mut self, argument: &str) -> Builder {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the server.
    pub fn start(self) -> Result<Solo> {
        let mut solo = self.prepare()?;
        solo.start()?;
        Ok(solo)
    }

    /// As [`Builder::start`], but leaves the server stopped.
    pub fn prepare(mut self) -> Result<Solo> {
        let dir = tempfile::Builder::new().prefix("tktrot-solo-").tempdir()?;
        let certificate = match self.certificate.take() {
            Some(certificate) => certificate,
            None => certificate::create(dir.path())?,
        };
        Ok(Solo {
            dir,
            addr: port::free()?,
            program: self.program,
            certificate,
            arguments: self.arguments,
            environment: self.environment,
            child: None,
        })
    }
}

impl Solo {
    /// Begins the description of an `openssl s_server`.
    pub fn openssl() -> Builder {
        Builder::new(Program::OpensslServer)
    }

    /// Begins the description of a Python server.
    pub fn python() -> Builder {
        Solo::python_with(Python::Sockets)
    }

    /// Begins the description of a Python server of that kind.
    pub fn python_with(kind: Python) -> Builder {
        Builder::new(Program::Python(kind))
    }

    /// Begins the description of a server of `c-tests/servers`.
    pub fn built(name: &str, arguments: &[&str]) -> Result<Builder> {
        let path = artifacts::program(&format!("servers/{name}"))?;
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Ok(Builder::new(Program::Built(path, arguments)))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its directory: stderr.txt, cert.pem, key.pem.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it wrote to stderr.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir().join("stderr.txt")).unwrap_or_default()
    }

    /// Its pid.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.child.as_ref().context("the server does not run")?.id() as i32)
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        let child = self.child.as_mut().context("it was launched")?;
        process::serves(child, self.addr).map_err(|error| anyhow!("{error}\n{}", self.stderr()))
    }

    /// Starts a server that is expected to end by itself at once, and returns how it ended.
    pub fn start_and_end(&mut self) -> Result<ExitStatus> {
        self.launch()?;
        self.wait_for_end()
    }

    fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the server does not run")?;
        process::ended(&mut child, "the server to end")
            .map_err(|error| anyhow!("{error}\n{}", self.stderr()))
    }

    /// HUP.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(libc::SIGHUP)
    }

    /// TERM; returns how the server ended. What does not end in time is killed, and an error.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.wait_for_end()
    }

    fn signal(&self, number: i32) -> Result<()> {
        let process = Process::find(self.pid()?).context("the server is gone")?;
        ensure!(process.signal(number), "the server is gone");
        Ok(())
    }

    /// Kills the server: it gets no chance to tidy up.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn launch(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server already runs");
        let stderr =
            File::options().create(true).append(true).open(self.dir().join("stderr.txt"))?;
        let child = self
            .command()
            .args(&self.arguments)
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot run {:?}; `make deps` installs it", self.program))?;
        self.child = Some(child);
        Ok(())
    }

    fn command(&self) -> Command {
        let (cert, key) = (&self.certificate.cert, &self.certificate.key);
        match &self.program {
            Program::OpensslServer => {
                let mut command = self.environment.command(Path::new("openssl"));
                command.args(["s_server", "-www", "-quiet", "-accept", &self.addr.to_string()]);
                command.arg("-cert").arg(cert).arg("-key").arg(key);
                command
            }
            Program::Python(kind) => {
                let mut command = self.environment.command(Path::new("python3"));
                command.args(["-c", kind.script(), &self.addr.port().to_string()]);
                command.arg(cert).arg(key);
                command
            }
            Program::Built(path, arguments) => {
                let mut command = self.environment.command(path);
                command.arg(self.addr.port().to_string()).arg(cert).arg(key).args(arguments);
                command
            }
        }
    }
}

impl Drop for Solo {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.stop();
        }
    }
}
