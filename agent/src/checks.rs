//! What the agent needs of its host, looked at before it opens anything: whoever starts it, or asks
//! `tktrot config check`, learns all that is missing at once.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ::redis::{ConnectionAddr, IntoConnectionInfo};
use anyhow::{Context, Error, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::unistd::User;
use tktrot::config::{Bind, Config};
use tktrot::ring::file::{Place, on_memory};
use tktrot_fleet::config::{Config as FleetConfig, Credentials, Export, Host, Peer, RedisAt};

use super::export::entry::Entry;
use super::files::Files;
use super::{control, listening, mesh, metrics, privileges, redis};

/// What is not as the agent needs it.
#[derive(Debug, Default)]
pub struct Findings {
    /// The agent does not start.
    pub stops: Vec<Error>,
    /// It starts, and something does not work.
    pub doubts: Vec<String>,
    /// A running agent cannot read these files again.
    pub at_restart: Vec<PathBuf>,
}

impl Findings {
    /// # Errors
    ///
    /// All that keeps the agent from starting.
    pub fn pass(self) -> Result<()> {
        for doubt in &self.doubts {
            tracing::warn!("{doubt}");
        }
        let mut stops = self.stops;
        match stops.len() {
            0 => Ok(()),
            1 => Err(stops.remove(0)),
            _ => {
                let lines: Vec<_> = stops.iter().map(|stop| format!("{stop:#}")).collect();
                Err(anyhow!("the agent cannot start:\n  {}", lines.join("\n  ")))
            }
        }
    }

    fn needs<T>(&mut self, what: impl Display, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.stops.push(error.context(what.to_string()))).ok()
    }
}

/// Looks at everything that these settings name. `ring` is where the ring lies, or why it cannot be
/// used; a ring that is not there is made.
pub fn all(fleet: &FleetConfig, config: &Config, ring: Result<Place>, files: &Files) -> Findings {
    let mut findings = Findings::default();
    let place = ring.map_err(|error| findings.stops.push(error)).ok();
    if let Some(place) = &place {
        let made = check_directory(place);
        made.unwrap_or_else(|error| findings.stops.push(error));
    }
    let user = findings.needs("[agent]: user", privileges::user(&fleet.agent.user)).flatten();
    if let Some(mesh) = &fleet.mesh {
        let flaws = mesh::tls::flaws(&mesh.credentials, files);
        findings.stops.extend(flaws.into_iter().map(|flaw| flaw.context("[mesh]")));
    }
    if let Some(redis) = &fleet.redis {
        let flaws = redis::flaws(redis, files);
        findings.stops.extend(flaws.into_iter().map(|flaw| flaw.context("[redis]")));
    }
    findings.stops.extend(metrics::flaws(&fleet.agent, files));
    let is_run = place.as_ref().is_some_and(has_agent);
    let metrics = fleet.agent.metrics.map(|address| ("metrics", address));
    let listen = fleet.mesh.as_ref().map(|mesh| ("[mesh]", mesh.listen));
    for (setting, address) in metrics.into_iter().chain(listen) {
        check_address(&mut findings, setting, address, is_run);
    }
    if let Some((_, listen)) = listen.filter(|(_, listen)| listen.port() == 0) {
        findings.doubts.push(format!(
            "[mesh]: listen = \"{listen}\": with port 0 it is another port at each start, which no \
             peer knows"
        ));
    }
    if let (Some((_, metrics)), Some((_, listen))) = (metrics, listen)
        && listening::clash(metrics, listen)
    {
        findings.stops.push(anyhow!(
            "metrics: {metrics} and listen = {listen} of [mesh] are one port; give one of them \
             another"
        ));
    }
    for export in &fleet.exports {
        let what = format!("[[export]] {}", export.output.display());
        findings.stops.extend(Entry::of(export).err());
        let doubts = doubts_of_export(export, user.as_ref());
        findings.doubts.extend(doubts.into_iter().map(|doubt| format!("{what}: {doubt}")));
    }
    findings.at_restart = not_read_again(fleet, user.as_ref());
    if !fleet.exports.is_empty() && config.bind != Some(Bind::NONE) {
        findings.doubts.push(
            "[[export]]: keys that are bound to a service cannot be exported; set bind = \"none\", \
             here and in all servers of the ring"
                .into(),
        );
    }
    findings
}

/// What only a look at the network shows, and passes perhaps: names of other hosts and of Redis that
/// have no address now. Takes some seconds where nobody answers for them.
pub fn unresolved(fleet: &FleetConfig) -> Vec<String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let name = |peer: &Peer| match &peer.host {
        Host::Name(name) => Some(("[mesh] peers", name.clone())),
        Host::Address(_) => None,
    };
    let peers = fleet.mesh.iter().flat_map(|mesh| mesh.peers.iter().filter_map(name));
    let urls = fleet.redis.iter().flat_map(|redis| match &redis.at {
        RedisAt::Url(url) => vec![url.clone()],
        RedisAt::Cluster(urls) | RedisAt::Sentinels { urls, .. } => urls.clone(),
    });
    let of_redis = urls.filter_map(|url| Some(("[redis]", host_in(&url)?)));
    let names: BTreeSet<_> = peers.chain(of_redis).collect();
    let (looked_up, answers) = mpsc::channel();
    let mut waiting = names.len();
    for (setting, name) in names {
        let looked_up = looked_up.clone();
        // Where the resolver hangs, so does its thread, until the program ends.
        thread::spawn(move || {
            let found = (name.as_str(), 0).to_socket_addrs().map(drop);
            let _ = looked_up.send(found.err().map(|error| (setting, name, error)));
        });
    }
    let until = Instant::now() + PATIENCE;
    let mut doubts = Vec::new();
    while waiting > 0 {
        match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(answer) => doubts.extend(answer.map(|(setting, name, error)| {
                format!("{setting}: {name} has no address: {error}; the agent goes on asking")
            })),
            Err(_) => {
                doubts.push(format!(
                    "{waiting} names of other hosts were not found within {} s; is there a DNS \
                     server that answers?",
                    PATIENCE.as_secs()
                ));
                break;
            }
        }
        waiting -= 1;
    }
    doubts.sort();
    doubts
}

/// The name in a URL of Redis, if it has one.
fn host_in(url: &str) -> Option<String> {
    let info = url.into_connection_info().ok()?;
    let (ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) = info.addr() else {
        return None;
    };
    host.parse::<IpAddr>().is_err().then(|| host.clone())
}

/// The files that root reads, and whom the agent becomes does not.
fn not_read_again(fleet: &FleetConfig, user: Option<&User>) -> Vec<PathBuf> {
    let Some(user) = user else { return Vec::new() };
    let mesh = fleet.mesh.iter().flat_map(|mesh| match &mesh.credentials {
        Credentials::Secrets(files) => files.clone(),
        Credentials::Certificate { certificate, key, ca } => {
            vec![certificate.clone(), key.clone(), ca.clone()]
        }
    });
    let redis = fleet.redis.iter().flat_map(|redis| {
        redis.secrets.iter().chain(&redis.password_file).chain(&redis.ca).cloned()
    });
    let agent = &fleet.agent;
    let tls = agent.metrics_certificate.iter().flat_map(|(own, key)| [own.clone(), key.clone()]);
    let metrics = agent.metrics_token.iter().cloned().chain(tls);
    mesh.chain(redis).chain(metrics).filter(|file| file.exists() && !may(file, user, 0o4)).collect()
}

/// The directory of the ring and of the agent's socket: it is there, or can be made.
fn check_directory(place: &Place) -> Result<()> {
    /// `sun_path` with its last NUL (unix(7)).
    const LONGEST: usize = 107;
    let socket = control::socket(place);
    let length = socket.as_os_str().len();
    ensure!(
        length <= LONGEST,
        "{}: the agent's socket has a path of {length} bytes, and {LONGEST} are possible; set a \
         shorter dir or ring",
        socket.display()
    );
    ensure!(
        !fs::symlink_metadata(&socket).is_ok_and(|there| there.is_dir()),
        "{}: the agent's socket belongs there, and it is a directory; remove it",
        socket.display()
    );
    let parent = place.dir.parent().unwrap_or(Path::new("/"));
    let there = if place.dir.exists() { &place.dir } else { parent };
    let dir = File::open(there).with_context(|| {
        format!(
            "{}: the ring's directory cannot be made in {}",
            place.dir.display(),
            there.display()
        )
    })?;
    ensure!(
        on_memory(&dir),
        "{}: it is not on tmpfs or ramfs, and keys must never reach a disk; set dir to a place \
         such as /run/tktrot",
        there.display()
    );
    Ok(())
}

/// Whether an agent governs the ring now: what it listens on is not free.
fn has_agent(place: &Place) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    control::connect(&control::socket(place), PATIENCE).map_or_else(
        // Somebody else's, or one that is stopped.
        |error| matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::WouldBlock),
        |_| true,
    )
}

fn check_address(findings: &mut Findings, setting: &str, address: SocketAddr, is_run: bool) {
    match listening::on(address) {
        Ok(_) => {}
        Err(Errno::EADDRINUSE) if is_run => return,
        Err(errno) => {
            let hint = match errno {
                Errno::EADDRINUSE => "; each agent of a host needs an address or a port of its own",
                Errno::EACCES => "; ports below 1024 need CAP_NET_BIND_SERVICE",
                _ => "",
            };
            let error = anyhow!("{setting}: cannot listen on {address}: {}{hint}", errno.desc());
            findings.stops.push(error);
            return;
        }
    }
    if !listening::is_here(address.ip()) {
        findings.doubts.push(format!(
            "{setting}: this host does not have the address {}: nobody can connect until it has",
            address.ip()
        ));
    }
}

/// What keeps a file from being written, or its server from being told. The agent goes on without.
fn doubts_of_export(export: &Export, user: Option<&User>) -> Vec<String> {
    let mut doubts = Vec::new();
    let dir = export.output.parent().unwrap_or(Path::new("/"));
    match File::open(dir) {
        Err(error) => doubts.push(format!("its directory {}: {error}", dir.display())),
        Ok(_) if !dir.is_dir() => doubts.push(format!("{} is not a directory", dir.display())),
        Ok(file) => {
            if !on_memory(&file) {
                let dir = dir.display();
                doubts.push(format!("{dir} is not on tmpfs, and keys must never reach a disk"));
            }
            if let Some(user) = user.filter(|user| !may(dir, user, 0o3)) {
                let (dir, name) = (dir.display(), &user.name);
                doubts.push(format!("the agent becomes user {name}, who may not write in {dir}"));
            }
        }
    }
    if let Some(socket) = &export.socket {
        match fs::metadata(socket) {
            Err(error) => doubts.push(format!("{}: {error}", socket.display())),
            Ok(_) => {
                if let Some(user) = user.filter(|user| !may(socket, user, 0o2)) {
                    let (socket, name) = (socket.display(), &user.name);
                    doubts.push(format!("the agent becomes user {name}, who may not use {socket}"));
                }
            }
        }
    }
    if let Some(program) = export.command.first().filter(|program| program.contains('/'))
        && let Err(error) = fs::metadata(program)
    {
        doubts.push(format!("command: {program}: {error}"));
    }
    doubts
}

/// Whether the modes of a file, and of all directories above it, give the user these rights, as one
/// digit of a mode has them.
fn may(path: &Path, user: &User, rights: u32) -> bool {
    let digit = |path: &Path| {
        let facts = fs::metadata(path).ok()?;
        let shift = match () {
            () if facts.uid() == user.uid.as_raw() => 6,
            () if facts.gid() == user.gid.as_raw() => 3,
            () => 0,
        };
        Some(facts.mode() >> shift)
    };
    let has = |path: &Path, rights| digit(path).is_some_and(|digit| digit & rights == rights);
    has(path, rights) && path.ancestors().skip(1).all(|dir| has(dir, 0o1))
}
