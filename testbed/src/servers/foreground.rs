//! Any server that stays in the foreground and reads its configuration from a directory of its own.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::home::Home;
use crate::certificate::Certificate;
use crate::environment::environment_setters;
use crate::process::{self, Process};
use crate::wait::PATIENCE;

/// Gives a file or directory to a user, by name.
pub fn give(path: &Path, user: &str) -> Result<()> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries
        .find(|entry| entry[0] == user && entry.len() > 3)
        .with_context(|| format!("there is no user {user}; `make deps` installs the servers"))?;
    chown(path, Some(entry[2].parse()?), Some(entry[3].parse()?))
        .with_context(|| format!("cannot give {} to {user}", path.display()))
}

/// What a server is to be like; made by [`Foreground::builder`]. The directory, the certificate and
/// the address are there before the server starts, for the configuration to name them.
#[derive(Debug)]
pub struct Builder {
    home: Home,
    certificate: Certificate,
}

/// One server with a directory and a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Foreground {
    home: Home,
    program: PathBuf,
    arguments: Vec<String>,
}

environment_setters!(Builder, home.environment);

impl Builder {
    /// Its directory: cert.pem, key.pem, both.pem (certificate and key), log.txt and what
    /// [`Builder::file`] adds. Every user may look into it.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// Where it is to listen.
    pub fn addr(&self) -> SocketAddr {
        self.home.addr
    }

    /// What it is to present.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Writes a file into the directory, readable to its owner alone.
    pub fn file(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        self.home.file(name, contents)
    }

    /// Starts `program`, which must not leave the foreground, and waits until it accepts
    /// connections. It writes its log to standard output or error, or itself to log.txt.
    pub fn start(self, program: &str, arguments: &[&str]) -> Result<Foreground> {
        let mut server = Foreground {
            home: self.home,
            program: PathBuf::from(program),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        };
        server.start()?;
        Ok(server)
    }
}

impl Foreground {
    /// Begins the description of a server.
    pub fn builder() -> Result<Builder> {
        let home = Home::new("foreground")?;
        let certificate = home.certificate(None)?;
        let both = [fs::read(&certificate.cert)?, fs::read(&certificate.key)?].concat();
        home.file("both.pem", &both)?;
        Ok(Builder { home, certificate })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.home.addr
    }

    /// Its directory; see [`Builder::dir`].
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// What it has logged since the first start.
    pub fn log(&self) -> String {
        self.home.read("log.txt")
    }

    /// The process that was started and all its descendants, the oldest generation first.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let mut all = vec![self.home.child()?];
        let mut next = 0;
        while let Some(process) = all.get(next) {
            all.extend(process.children());
            next += 1;
        }
        Ok(all)
    }

    /// Starts the server once more and waits until it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        let program = self.program.display();
        ensure!(self.program.exists(), "there is no {program}; `make deps` installs it");
        // Apache ends its whole process group, which would be that of the tests, and Postfix
        // wants to lead a session.
        let mut command = self.home.logged(Path::new("setsid"))?;
        self.home.serve(command.arg(&self.program).args(&self.arguments))
    }

    /// Sends `signal` and waits until the log says `done` once more than before.
    pub fn reload(&self, signal: i32, done: &str) -> Result<()> {
        let said = || self.log().matches(done).count();
        let before = said();
        ensure!(self.home.child()?.signal(signal), "the server is gone");
        self.home.wait_for(done, || (said() > before).then_some(()))
    }

    /// TERM, and waits until the server and all its processes are gone; what does not go is killed.
    pub fn stop(&mut self) -> Result<()> {
        let all = self.processes()?;
        all[0].signal(libc::SIGTERM);
        let ended = self.home.child_ended();
        process::end_all(&all, libc::SIGTERM, PATIENCE);
        ended.map(drop)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // It may be stopped already, or have ended by itself.
        let _ = self.stop();
    }
}
