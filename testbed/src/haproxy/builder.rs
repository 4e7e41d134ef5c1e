use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use super::config::Config;
use super::{Haproxy, Mode};
use crate::certificate::{self, Certificate};
use crate::environment::{Environment, environment_setters};
use crate::port;

/// What a HAProxy is to be like; made by [`Haproxy::builder`].
#[derive(Debug)]
pub struct Builder {
    dir: TempDir,
    environment: Environment,
    mode: Mode,
    unprivileged: bool,
    admin_socket: bool,
    global: Vec<String>,
    binds: Vec<String>,
    listen: Vec<SocketAddr>,
}

environment_setters!(Builder);

impl Builder {
    pub(super) fn new() -> Result<Builder> {
        Ok(Builder {
            dir: tempfile::Builder::new().prefix("tktrot-haproxy-").tempdir()?,
            environment: Environment::default(),
            mode: Mode::Single,
            unprivileged: false,
            admin_socket: false,
            global: Vec::new(),
            binds: Vec::new(),
            listen: Vec::new(),
        })
    }

    /// Makes a certificate in the directory; returns its files, and the one with both that
    /// HAProxy takes as `crt`.
    pub fn certificate(&self, name: &str) -> Result<(Certificate, PathBuf)> {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir)?;
        let certificate = certificate::create(&dir)?;
        let both = [fs::read(&certificate.cert)?, fs::read(&certificate.key)?].concat();
        let path = self.file(&format!("{name}.pem"), &both)?;
        Ok((certificate, path))
    }

    /// Writes a file into the directory.
    pub fn file(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::write(&path, contents)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
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
            fs::create_dir(self.dir.path().join("empty"))?;
        }
        let told = |number: usize| self.listen.get(number).copied();
        let addrs: Vec<SocketAddr> = (0..self.binds.len())
            .map(|number| told(number).map_or_else(port::free, Ok))
            .collect::<Result<_>>()?;
        let config = Config {
            dir: self.dir.path(),
            unprivileged: self.unprivileged,
            admin_socket: self.admin_socket,
            global: &self.global,
            binds: &self.binds,
            addrs: &addrs,
        };
        self.file("haproxy.cfg", config.text().as_bytes())?;
        let Builder { dir, environment, mode, .. } = self;
        Ok(Haproxy { dir, addrs, mode, environment, running: None, child: None })
    }
}
