//! Redis servers and Sentinels: on a port of 127.0.0.1, in a directory on tmpfs, and told to write
//! nothing to disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::home::Home;
use crate::certificate::Certificate;

/// Of Debian's package redis-server, which is Sentinel, too.
const PROGRAM: &str = "/usr/bin/redis-server";

/// What a Redis is to be like; made by [`Redis::builder`].
#[derive(Debug)]
pub struct Builder {
    home: Home,
    lines: Vec<String>,
    password: Option<String>,
    tls: bool,
    sentinel: bool,
}

/// One Redis; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    home: Home,
    password: Option<String>,
    tls: bool,
    sentinel: bool,
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
    pub fn tls(mut self, certificate: &Certificate) -> Builder {
        self.tls = true;
        let (cert, key) = (certificate.cert.display(), certificate.key.display());
        self.line(&format!("tls-cert-file {cert}"))
            .line(&format!("tls-key-file {key}"))
            .line(&format!("tls-ca-cert-file {cert}"))
            .line("tls-auth-clients no")
    }

    /// It copies this one.
    pub fn replica_of(self, master: &Redis) -> Builder {
        let line = format!("replicaof {} {}", master.home.addr.ip(), master.home.addr.port());
        self.line(&line).line("repl-diskless-sync-delay 0")
    }

    /// It is a Sentinel that looks after this one, decides alone, and soon.
    pub fn sentinel_of(mut self, name: &str, master: &Redis) -> Builder {
        self.sentinel = true;
        let (ip, port) = (master.home.addr.ip(), master.home.addr.port());
        self.line(&format!("sentinel monitor {name} {ip} {port} 1"))
            .line(&format!("sentinel down-after-milliseconds {name} 500"))
            .line(&format!("sentinel failover-timeout {name} 2000"))
    }

    /// Starts it.
    pub fn start(self) -> Result<Redis> {
        let port = self.home.addr.port();
        let mut lines = vec![
            format!("bind {}", self.home.addr.ip()),
            format!("dir {}", self.home.dir().display()),
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
        lines.extend_from_slice(&self.lines);
        // A password may be in it.
        self.home.file("redis.conf", (lines.join("\n") + "\n").as_bytes())?;
        let Builder { home, password, tls, sentinel, .. } = self;
        let mut redis = Redis { home, password, tls, sentinel };
        redis.start()?;
        Ok(redis)
    }
}

impl Redis {
    /// Begins the description of one.
    pub fn builder() -> Result<Builder> {
        let home = Home::within(Path::new("/dev/shm"), "redis")?;
        Ok(Builder { home, lines: Vec::new(), password: None, tls: false, sentinel: false })
    }

    /// One like most.
    pub fn new() -> Result<Redis> {
        Redis::builder()?.start()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.home.addr
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        // Its certificate is for that name.
        match self.tls {
            true => format!("rediss://localhost:{}", self.home.addr.port()),
            false => format!("redis://{}", self.home.addr),
        }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        self.home.log()
    }

    /// Starts it, once more perhaps, and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.home.logged(Path::new(PROGRAM))?;
        command.arg(self.home.path("redis.conf"));
        if self.sentinel {
            command.arg("--sentinel");
        }
        self.home.serve(&mut command)?;
        self.home.wait_for("Redis to answer", || {
            self.ask(&["PING"]).ok().filter(|answer| answer == "PONG")
        })?;
        Ok(())
    }

    /// Kills it. What it held is gone: it has written nothing.
    pub fn kill(&mut self) -> Result<()> {
        self.home.kill()
    }

    /// What it answers to a command, by redis-cli.
    pub fn ask(&self, command: &[&str]) -> Result<String> {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "localhost", "-p", &self.home.addr.port().to_string()]);
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
