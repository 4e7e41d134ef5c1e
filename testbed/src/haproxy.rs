//! Debian's stock HAProxy: one process, with as many frontends as a test has `bind` lines for.

use std::fmt::Write;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::certificate::{self, Certificate};
use crate::environment::{Environment, RingDir};
use crate::port;
use crate::wait::{self, PATIENCE};

/// Where Debian has it.
pub const BINARY: &str = "/usr/sbin/haproxy";

/// What a HAProxy is to be like; made by [`Haproxy::builder`].
#[derive(Debug)]
pub struct Builder {
    dir: TempDir,
    environment: Environment,
    binds: Vec<String>,
}

/// One HAProxy with a directory of its own; stopped when dropped.
#[derive(Debug)]
pub struct Haproxy {
    dir: TempDir,
    addrs: Vec<SocketAddr>,
    child: Child,
}

impl Builder {
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

    /// Sets `LD_PRELOAD` for HAProxy.
    pub fn preload(mut self, library: &Path) -> Builder {
        self.environment.preload(library);
        self
    }

    /// Sets a variable for HAProxy.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.environment.set(name, value);
        self
    }

    /// Sets `TKTROT_DIR` to this directory, which has to live as long as HAProxy.
    pub fn ring(self, dir: &RingDir) -> Builder {
        self.env("TKTROT_DIR", &dir.path().display().to_string())
    }

    /// Adds a frontend with what follows `ssl` on its `bind` line.
    pub fn frontend(mut self, bind: &str) -> Builder {
        self.binds.push(bind.to_owned());
        self
    }

    /// Starts HAProxy and waits until it accepts connections. Each frontend answers its number.
    pub fn start(self) -> Result<Haproxy> {
        let mut config = String::from("defaults\n    mode http\n");
        for what in ["client", "connect", "server"] {
            writeln!(config, "    timeout {what} 5s")?;
        }
        let mut addrs = Vec::new();
        for (number, bind) in self.binds.iter().enumerate() {
            let addr = port::free()?;
            writeln!(config, "frontend f{number}\n    bind {addr} ssl {bind}")?;
            writeln!(
                config,
                "    http-request return status 200 content-type text/plain string {number}"
            )?;
            addrs.push(addr);
        }
        let path = self.file("haproxy.cfg", config.as_bytes())?;
        let child = self
            .environment
            .command(Path::new(BINARY))
            .args(["-q", "-db", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.dir.path().join("stderr.txt"))?)
            .spawn()
            .with_context(|| format!("cannot run {BINARY}; `make deps` installs it"))?;
        let mut haproxy = Haproxy { dir: self.dir, addrs, child };
        let last = *haproxy.addrs.last().context("no frontend")?;
        let started = wait::until(PATIENCE, "HAProxy to start", || {
            if let Ok(Some(status)) = haproxy.child.try_wait() {
                return Some(Err(anyhow!("HAProxy ended at its start: {status}")));
            }
            TcpStream::connect_timeout(&last, Duration::from_secs(1)).ok().map(|_| Ok(()))
        });
        started
            .and_then(|result| result)
            .map_err(|error| anyhow!("{error}\n{}", haproxy.stderr()))?;
        Ok(haproxy)
    }
}

impl Haproxy {
    /// Begins the description of a HAProxy.
    pub fn builder() -> Result<Builder> {
        let dir = tempfile::Builder::new().prefix("tktrot-haproxy-").tempdir()?;
        Ok(Builder { dir, environment: Environment::default(), binds: Vec::new() })
    }

    /// Where a frontend listens.
    pub fn addr(&self, frontend: usize) -> SocketAddr {
        self.addrs[frontend]
    }

    /// What it wrote to stderr.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr.txt")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
