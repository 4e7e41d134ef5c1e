//! Redis servers and Sentinels: on a port of 127.0.0.1, in a directory on tmpfs, and told to write
//! nothing to disk.

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::port;
use crate::process;
use crate::wait::{self, PATIENCE};

/// Of Debian's package redis-server, which is Sentinel, too.
const PROGRAM: &str = "/usr/bin/redis-server";

/// What a Redis is to be like; made by [`Redis::builder`].
#[derive(Debug)]
pub struct Builder {
    dir: TempDir,
    addr: SocketAddr,
    lines: Vec<String>,
    password: Option<String>,
    tls: bool,
    sentinel: bool,
}

/// One Redis; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    dir: TempDir,
    addr: SocketAddr,
    password: Option<String>,
    tls: bool,
    sentinel: bool,
    child: Option<Child>,
}

impl Builder {
    /// Adds a line to its configuration.
    pub fn line(mut self, line: &str) -> Builder {
        self.lines.push(line.to_owned());
        self
    }

    /// Clients must know this password.
    pub fn password(mut self, password: &str) -> Builder {
        self.password = Some(password.to_owned());
        self.line(&format!("requirepass {password}"))
    }

    /// It speaks TLS only, with this certificate.
    pub fn tls(mut self, certificate: &crate::certificate::Certificate) -> Builder {
        self.tls = true;
        let (cert, key) = (certificate.cert.display(), certificate.key.display());
        self.line(&format!("tls-cert-file {cert}"))
            .line(&format!("tls-key-file {key}"))
            .line(&format!("tls-ca-cert-file {cert}"))
            .line("tls-auth-clients no")
    }

    /// It copies this one.
    pub fn replica_of(self, master: &Redis) -> Builder {
        let line = format!("replicaof {} {}", master.addr.ip(), master.addr.port());
        self.line(&line).line("repl-diskless-sync-delay 0")
    }

    /// It is a Sentinel that looks after this one, decides alone, and soon.
    pub fn sentinel_of(mut self, name: &str, master: &Redis) -> Builder {
        self.sentinel = true;
        let (ip, port) = (master.addr.ip(), master.addr.port());
        self.line(&format!("sentinel monitor {name} {ip} {port} 1"))
            .line(&format!("sentinel down-after-milliseconds {name} 500"))
            .line(&format!("sentinel failover-timeout {name} 2000"))
    }

    /// Starts it.
    pub fn start(self) -> Result<Redis> {
        let port = self.addr.port();
        let mut lines = vec![
            format!("bind {}", self.addr.ip()),
            format!("dir {}", self.dir.path().display()),
            "daemonize no".into(),
        ];
        if self.tls {
            lines.extend([format!("tls-port {port}"), "port 0".into()]);
        } else {
            lines.push(format!("port {port}"));
        }
        if !self.sentinel {
            lines.extend(["save \"\"".into(), "appendonly no".into()]);
        }
        lines.extend(self.lines);
        let path = self.dir.path().join("redis.conf");
        fs::write(&path, lines.join("\n") + "\n")?;
        // A password may be in it.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let Builder { dir, addr, password, tls, sentinel, .. } =
            Builder { lines: Vec::new(), ..self };
        let mut redis = Redis { dir, addr, password, tls, sentinel, child: None };
        redis.start()?;
        Ok(redis)
    }
}

impl Redis {
    /// Begins the description of one.
    pub fn builder() -> Result<Builder> {
        let dir = tempfile::Builder::new()
            .prefix("tktrot-redis-")
            .tempdir_in("/dev/shm")
            .context("cannot make a directory in /dev/shm")?;
        let addr = port::free()?;
        Ok(Builder { dir, addr, lines: Vec::new(), password: None, tls: false, sentinel: false })
    }

    /// One like most.
    pub fn new() -> Result<Redis> {
        Redis::builder()?.start()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        // Its certificate is for that name.
        match self.tls {
            true => format!("rediss://localhost:{}", self.addr.port()),
            false => format!("redis://{}", self.addr),
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log.txt")
    }

    /// Starts it, once more perhaps, and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "this Redis already runs");
        ensure!(Path::new(PROGRAM).exists(), "there is no {PROGRAM}; `make deps` installs it");
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(PROGRAM);
        command.arg(self.dir.path().join("redis.conf"));
        if self.sentinel {
            command.arg("--sentinel");
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = self.child.insert(command.spawn().context("cannot run redis-server")?);
        process::serves(child, self.addr).map_err(|error| anyhow!("{error}\n{}", self.log()))?;
        wait::until(PATIENCE, "Redis to answer", || {
            self.ask(&["PING"]).ok().filter(|answer| answer == "PONG")
        })?;
        Ok(())
    }

    /// Kills it. What it held is gone: it has written nothing.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("this Redis does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// What it answers to a command, by redis-cli.
    pub fn ask(&self, command: &[&str]) -> Result<String> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "localhost", "-p", &self.addr.port().to_string()]);
        if self.tls {
            cli.args(["--tls", "--insecure"]);
        }
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        let output = cli.args(command).output().context("cannot run redis-cli")?;
        ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended by itself.
            let _ = self.kill();
        }
    }
}
