//! A fleet on one machine: hosts in network namespaces, each with a ring, an agent and a server of
//! its own, and clients that carry their tickets from one to the next.

pub mod agent;
pub mod clocks;
pub mod host;
pub mod journal;
pub mod namespace;
pub mod network;
pub mod relay;
pub mod settings;
pub mod travel;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use openssl::base64;
use openssl::rand::rand_bytes;
use tempfile::TempDir;

use crate::certificate::{self, Certificate};
use crate::environment::RingDir;
use host::Host;
use network::{Network, Node};
use settings::Keys;
use travel::{Stop, Travellers};

/// Where the agents listen for each other.
pub const MESH: u16 = 4744;
/// The numbers of those who are no hosts.
const VISITORS: u8 = 250;
const BYSTANDER: u8 = 251;

/// The pause of the visitors of one route between two visits.
const PAUSE: Duration = Duration::from_millis(40);

/// Hosts that share a secret and a certificate.
pub struct Fleet {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// Their network.
    pub network: Network,
    /// Where the clients are.
    pub visitors: Node,
    /// Where anything else can be that the hosts talk to: a relay, a Redis.
    pub bystander: Node,
    keys: Keys,
    certificate: Certificate,
    secret: PathBuf,
    _public: TempDir,
    _secrets: RingDir,
}

impl Fleet {
    /// Hosts on which nothing runs. `program` is the `tktrot` that they have.
    pub fn new(program: &Path, hosts: usize, keys: Keys) -> Result<Fleet> {
        let network = Network::new()?;
        let public = tempfile::Builder::new().prefix("tktrot-fleet-").tempdir()?;
        let certificate = certificate::create(public.path())?;
        let secrets = RingDir::new()?;
        let secret = secrets.path().join("fleet.secret");
        write_secret(&secret)?;
        let numbers = 1..=u8::try_from(hosts)?;
        let hosts = numbers
            .map(|number| Host::new(network.attach(number)?, program, keys))
            .collect::<Result<Vec<Host>>>()?;
        Ok(Fleet {
            hosts,
            visitors: network.attach(VISITORS)?,
            bystander: network.attach(BYSTANDER)?,
            network,
            keys,
            certificate,
            secret,
            _public: public,
            _secrets: secrets,
        })
    }

    /// What the servers show.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The secret that the agents share.
    pub fn secret(&self) -> &Path {
        &self.secret
    }

    /// How the keys live.
    pub fn keys(&self) -> Keys {
        self.keys
    }

    /// Lets these hosts look for each other. More sections can follow for each.
    pub fn configure_mesh(&self, hosts: &[usize], more: impl Fn(usize) -> String) -> Result<()> {
        let peers: Vec<String> =
            hosts.iter().map(|&host| self.hosts[host].node().fleet().to_string()).collect();
        hosts.iter().try_for_each(|&host| self.configure_peers(host, &peers, &more(host)))
    }

    /// Lets a host look for these peers.
    pub fn configure_peers(&self, host: usize, peers: &[String], more: &str) -> Result<()> {
        let listen = format!("{}:{MESH}", self.hosts[host].node().fleet());
        let mesh = settings::mesh(&listen, peers, &self.secret);
        self.hosts[host].configure(&format!("{mesh}{more}"))
    }

    /// Starts the agents of these hosts, and waits until all are ready.
    pub fn start_agents(&mut self, hosts: &[usize]) -> Result<()> {
        for &host in hosts {
            self.hosts[host].launch_agent()?;
        }
        for &host in hosts {
            self.hosts[host].agent().wait_ready()?;
        }
        Ok(())
    }

    /// Starts an nginx under the shim on each of these hosts.
    pub fn start_nginxes(&mut self, hosts: &[usize]) -> Result<()> {
        hosts.iter().try_for_each(|&host| self.hosts[host].start_nginx(&self.certificate))
    }

    /// Starts a HAProxy under the shim on each of these hosts.
    pub fn start_haproxies(&mut self, hosts: &[usize]) -> Result<()> {
        hosts.iter().try_for_each(|&host| self.hosts[host].start_haproxy(&self.certificate))
    }

    /// See [`Host::start_stock_haproxy`].
    pub fn start_stock_haproxy(&mut self, host: usize, more: &str) -> Result<()> {
        self.hosts[host].start_stock_haproxy(&self.certificate, more)
    }

    /// Lets visitors depart, on a route for each of these groups of hosts.
    pub fn visit(&self, groups: &[&[usize]]) -> Result<Travellers> {
        let stop = |&host: &usize| -> Stop { (host, self.hosts[host].addr()) };
        let routes: Vec<Vec<Stop>> =
            groups.iter().map(|group| group.iter().map(stop).collect()).collect();
        Travellers::depart(self.visitors.namespace(), &routes, self.keys.lifetime, PAUSE)
    }

    /// The ends of all logs, for messages about failures.
    pub fn logs(&self) -> String {
        let of = |(number, host): (usize, &Host)| {
            format!("host {number}\n{}{}", host.agent_log_tail(), host.server_log())
        };
        self.hosts.iter().enumerate().map(of).collect()
    }
}

/// A line of random text that only its owner may read, in memory.
pub fn write_secret(path: &Path) -> Result<()> {
    let mut bytes = [0; 32];
    rand_bytes(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
    fs::write(path, base64::encode_block(&bytes) + "\n")?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}
