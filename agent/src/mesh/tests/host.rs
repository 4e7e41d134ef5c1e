//! A node of a mesh, for tests.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use testbed::wait::PATIENCE;
use tktrot::clock::{BootClock, Clock};
use tktrot::secret::{KeyName, KeySecrets};
use tktrot_fleet::config::{Host as PeerHost, Peer};
use tktrot_fleet::message::{Left, Message, NodeId, Offer};
use tktrot_fleet::secret::FleetSecret;
use tktrot_fleet::wire::Hello;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::super::state::Timing;
use super::super::tls::Tls;
use super::super::{Mesh, MeshConfig, MeshEvent};

/// A fleet secret, always the same for a number.
pub fn secret(number: u8) -> FleetSecret {
    let digits: String = (0..32).map(|place| format!("{:02x}", number ^ (place * 7))).collect();
    FleetSecret::parse(digits.as_bytes()).unwrap()
}

/// What proves that a node has the first of these, and accepts them all.
pub fn tls(numbers: &[u8]) -> Tls {
    let secrets: Vec<_> = numbers.iter().map(|number| secret(*number)).collect();
    Tls::with_secrets(&secrets).unwrap()
}

/// Runs a test on one thread, for a bounded time.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { timeout(3 * PATIENCE, test).await };
    LocalSet::new().block_on(&runtime, bounded).expect("the test takes too long");
}

/// An address on 127.0.0.`number`.
pub fn address(number: u8) -> SocketAddr {
    let port = testbed::port::free().unwrap().port();
    (Ipv4Addr::new(127, 0, 0, number), port).into()
}

/// The same, as a peer of the settings.
pub fn peer(address: SocketAddr) -> Peer {
    Peer { host: PeerHost::Address(address.ip()), port: address.port() }
}

/// Short enough for tests, long enough for a busy machine.
pub fn timing() -> Timing {
    let ms = Duration::from_millis;
    Timing { redial: (ms(50), ms(200)), patience: ms(100), ..Timing::default() }
}

/// A mesh, and what it hears.
pub struct Host {
    pub mesh: Mesh,
    pub node: NodeId,
    pub address: SocketAddr,
    /// The peers that are up.
    pub up: BTreeSet<NodeId>,
    /// Every coming and going.
    pub changes: Vec<(NodeId, Result<(), String>)>,
    /// What they said.
    pub heard: Vec<(NodeId, Message<Box<KeySecrets>>, Duration)>,
    pub first_round_is_over: bool,
}

impl Host {
    /// The node of this number, in its first instance.
    pub fn start(number: u8, address: SocketAddr, tls: Tls, peers: &[SocketAddr]) -> Host {
        Host::start_as(number, 1, address, tls, peers.iter().copied().map(peer).collect(), timing())
    }

    pub fn start_as(
        number: u8,
        instance: u64,
        address: SocketAddr,
        tls: Tls,
        peers: Vec<Peer>,
        timing: Timing,
    ) -> Host {
        let node = NodeId(u64::from(number));
        let me = Hello { node, instance, ring: "ring-of-the-test".into() };
        let listener = TcpListener::bind(address).unwrap();
        let config = MeshConfig { listener, peers, tls, timing };
        let mesh = Mesh::start(config, me).unwrap();
        Host {
            mesh,
            node,
            address,
            up: BTreeSet::new(),
            changes: Vec::new(),
            heard: Vec::new(),
            first_round_is_over: false,
        }
    }

    /// Takes note of the next event.
    pub async fn event(&mut self) {
        match self.mesh.recv().await.expect("the mesh is there") {
            MeshEvent::Up(link) => {
                let node = link.hello.node;
                assert!(self.up.insert(node), "up twice: {node}");
                self.changes.push((node, Ok(())));
            }
            MeshEvent::Down(link, reason) => {
                let node = link.hello.node;
                assert!(self.up.remove(&node), "down twice: {node}");
                self.changes.push((node, Err(reason)));
            }
            MeshEvent::Received { from, message, age, at } => {
                let age = age.saturating_add(at.until(BootClock.now()));
                assert!(self.up.contains(&from), "a message of one who is not up");
                self.heard.push((from, message, age));
            }
            MeshEvent::FirstRound => {
                assert!(!self.first_round_is_over, "the first round ends once");
                self.first_round_is_over = true;
            }
        }
    }

    /// Takes note of what happens until that is so.
    pub async fn until(&mut self, what: &str, mut is_so: impl FnMut(&Host) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            let left = end.saturating_duration_since(Instant::now());
            let event = timeout(left, self.event()).await;
            assert!(event.is_ok(), "waited in vain until {what}; {:?}", self.changes);
        }
    }

    pub async fn until_up(&mut self, node: u8) {
        let node = NodeId(node.into());
        self.until(&format!("{node} is up"), |host| host.up.contains(&node)).await;
    }

    /// Waits until that peer is down; returns why it is.
    pub async fn until_down(&mut self, node: u8) -> String {
        let node = NodeId(node.into());
        self.until(&format!("{node} is down"), |host| !host.up.contains(&node)).await;
        let last = self.changes.iter().rev().find(|(changed, _)| *changed == node);
        last.expect("it was up").1.clone().expect_err("it is down")
    }

    /// Takes note of what happens for that long.
    pub async fn during(&mut self, span: Duration) {
        let end = tokio::time::Instant::now() + span;
        while tokio::time::timeout_at(end, self.event()).await.is_ok() {}
    }

    pub fn says(&self, to: u8, message: &Message<Box<KeySecrets>>) {
        self.mesh.send(NodeId(to.into()), message, BootClock.now());
    }

    /// Waits for a message, and returns the first.
    pub async fn hears(&mut self) -> (NodeId, Message<Box<KeySecrets>>, Duration) {
        self.until("a message comes", |host| !host.heard.is_empty()).await;
        self.heard.remove(0)
    }
}

/// Waits until all of these know each other.
pub async fn until_all_up(hosts: &mut [Host]) {
    let nodes: BTreeSet<NodeId> = hosts.iter().map(|host| host.node).collect();
    for host in hosts {
        let others = nodes.iter().filter(|node| **node != host.node).copied().collect();
        host.until("all are up", |host| host.up == others).await;
    }
}

/// A key of this number.
pub fn key(number: u32) -> Offer<Box<KeySecrets>> {
    let mut name = [0x5a; 16];
    name[..4].copy_from_slice(&number.to_be_bytes());
    let mut secrets = Box::new(KeySecrets::zeroed());
    for (place, byte) in secrets.aes.expose_mut().iter_mut().enumerate() {
        *byte = number as u8 ^ place as u8;
    }
    secrets.hmac.expose_mut()[..4].copy_from_slice(&number.to_be_bytes());
    let left = Left {
        begins: Duration::ZERO,
        encrypts: Duration::from_secs(3600),
        decrypts: Duration::from_secs(7200),
    };
    Offer { name: KeyName(name), origin: NodeId(1), left, plain: false, secrets }
}
