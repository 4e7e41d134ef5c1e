//! Servers of a single process that start within milliseconds: for tests that need many.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Result, ensure};

use super::home::Home;
use super::{Server, server};
use crate::artifacts;
use crate::certificate::Certificate;
use crate::environment::{Environment, environment_setters};

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
    home: Home,
    program: Program,
    certificate: Certificate,
    arguments: Vec<String>,
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
        let mut home = Home::new("solo")?;
        let certificate = home.certificate(self.certificate.take())?;
        home.environment = self.environment;
        Ok(Solo { home, program: self.program, certificate, arguments: self.arguments })
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
        self.home.addr
    }

    /// Its directory: stderr.txt, cert.pem, key.pem.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// What it wrote to stderr.
    pub fn stderr(&self) -> String {
        self.home.read("stderr.txt")
    }

    /// Its pid.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.home.child()?.pid())
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.command()?;
        self.home.serve(&mut command)
    }

    /// Starts a server that is expected to end by itself at once, and returns how it ended.
    pub fn start_and_end(&mut self) -> Result<ExitStatus> {
        let mut command = self.command()?;
        self.home.spawn(&mut command)?;
        self.home.child_ended()
    }

    /// HUP.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(libc::SIGHUP)
    }

    /// TERM; returns how the server ended. What does not end in time is killed, and an error.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.home.child_ended()
    }

    fn signal(&self, number: i32) -> Result<()> {
        ensure!(self.home.child()?.signal(number), "the server is gone");
        Ok(())
    }

    /// Kills the server: it gets no chance to tidy up.
    pub fn stop(&mut self) -> Result<()> {
        self.home.kill()
    }

    fn command(&self) -> Result<Command> {
        let Certificate { cert, key } = &self.certificate;
        let (addr, port) = (self.home.addr.to_string(), self.home.addr.port().to_string());
        let mut command = match &self.program {
            Program::OpensslServer => {
                let mut command = self.home.command(Path::new("openssl"))?;
                command.args(["s_server", "-www", "-quiet", "-accept", &addr]);
                command.arg("-cert").arg(cert).arg("-key").arg(key);
                command
            }
            Program::Python(kind) => {
                let mut command = self.home.command(Path::new("python3"))?;
                command.args(["-c", kind.script(), &port]).arg(cert).arg(key);
                command
            }
            Program::Built(path, arguments) => {
                let mut command = self.home.command(path)?;
                command.arg(port).arg(cert).arg(key).args(arguments);
                command
            }
        };
        command.args(&self.arguments);
        Ok(command)
    }
}

server!(Solo, addr: Solo::addr, reload: None);
