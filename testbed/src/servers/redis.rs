//! Redis servers and Sentinels: on a port of 127.0.0.1, in a directory on tmpfs, and told to write
//! nothing to disk.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::home::Home;
use crate::certificate::Certificate;
use crate::{port, wait};

/// Of Debian's package redis-server, which is Sentinel, too; `REDIS_SERVER` has another command, as
/// `make test-valkey` does.
const PROGRAM: &str = "/usr/bin/redis-server";

/// The command that starts a server: a program and the words before its own.
pub fn server() -> (PathBuf, Vec<String>) {
    let command = env::var("REDIS_SERVER").unwrap_or_else(|_| PROGRAM.into());
    let mut words = command.split_whitespace().map(str::to_owned);
    let program = words.next().unwrap_or_else(|| PROGRAM.into());
    (program.into(), words.collect())
}

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

    /// It is a node of a cluster.
    fn of_cluster(self, bus: SocketAddr) -> Builder {
        self.line("cluster-enabled yes")
            .line(&format!("cluster-port {}", bus.port()))
            .line("cluster-node-timeout 1000")
            .line("repl-diskless-sync-delay 0")
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
        let (program, words) = server();
        let mut command = self.home.logged(&program)?;
        command.args(words).arg(self.home.path("redis.conf"));
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

/// Hash slots, of which each master of a cluster has a share.
const SLOTS: usize = 16_384;

/// A Redis Cluster: masters, which share the slots, and perhaps a replica.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes, the masters first.
    pub nodes: Vec<Redis>,
    masters: usize,
}

impl Cluster {
    /// One of so many masters.
    pub fn new(masters: usize) -> Result<Cluster> {
        let mut cluster = Cluster { nodes: Vec::new(), masters };
        for number in 0..masters {
            cluster.join()?;
            let (first, end) = (number * SLOTS / masters, (number + 1) * SLOTS / masters);
            let (first, last) = (first.to_string(), (end - 1).to_string());
            cluster.nodes[number].ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])?;
        }
        cluster.settled()?;
        Ok(cluster)
    }

    /// A node more, without slots.
    fn join(&mut self) -> Result<()> {
        let bus = port::free()?;
        let node = Redis::builder()?.of_cluster(bus).start()?;
        // Two masters of one epoch would have to come to terms first.
        node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(self.nodes.len() + 1).to_string()])?;
        let (ip, at) = (node.addr().ip().to_string(), node.addr().port().to_string());
        if let Some(first) = self.nodes.first() {
            first.ask(&["CLUSTER", "MEET", &ip, &at, &bus.port().to_string()])?;
        }
        self.nodes.push(node);
        Ok(())
    }

    /// A node more, which copies the master that has this key.
    pub fn add_replica_for(&mut self, key: &str) -> Result<()> {
        let master = self.nodes[self.owner(key)?].ask(&["CLUSTER", "MYID"])?;
        self.join()?;
        self.settled()?;
        let replica = self.nodes.last().expect("it has joined");
        replica.ask(&["CLUSTER", "REPLICATE", &master])?;
        wait::until(wait::PATIENCE, "the replica to be a copy", || {
            let info = replica.ask(&["INFO", "replication"]).unwrap_or_default();
            info.contains("master_link_status:up").then_some(())
        })
    }

    /// Which of the nodes has this key when it is new.
    pub fn owner(&self, key: &str) -> Result<usize> {
        let slot: usize = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key])?.parse()?;
        Ok((0..self.masters).rfind(|number| number * SLOTS / self.masters <= slot).unwrap_or(0))
    }

    /// Begins to move the slot of this key; which it is.
    pub fn begin_move(&self, key: &str, from: usize, to: usize) -> Result<String> {
        let (old, new) = (&self.nodes[from], &self.nodes[to]);
        let slot = old.ask(&["CLUSTER", "KEYSLOT", key])?;
        let (from, to) = (old.ask(&["CLUSTER", "MYID"])?, new.ask(&["CLUSTER", "MYID"])?);
        new.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from])?;
        old.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to])?;
        Ok(slot)
    }

    /// Moves what is in the slot, and ends that.
    pub fn end_move(&self, slot: &str, from: usize, to: usize) -> Result<()> {
        let (old, new) = (&self.nodes[from], &self.nodes[to]);
        let (ip, at) = (new.addr().ip().to_string(), new.addr().port().to_string());
        loop {
            let keys = old.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "100"])?;
            let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
            if keys.is_empty() {
                break;
            }
            let command = ["MIGRATE", &ip, &at, "", "0", "5000", "KEYS"];
            old.ask(&[&command[..], &keys].concat())?;
        }
        let to = new.ask(&["CLUSTER", "MYID"])?;
        for node in [new, old] {
            node.ask(&["CLUSTER", "SETSLOT", slot, "NODE", &to])?;
        }
        Ok(())
    }

    /// Waits until all nodes know each other, and say that all is well.
    pub fn settled(&self) -> Result<()> {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        wait::until(wait::PATIENCE, "the cluster to be one", || {
            let is_well = |node: &Redis| {
                let info = node.ask(&["CLUSTER", "INFO"]).unwrap_or_default();
                info.contains("cluster_state:ok") && info.lines().any(|line| line.trim() == known)
            };
            self.nodes.iter().all(is_well).then_some(())
        })
    }
}
