//! Hosts, the network between them, and what happens next.

use std::time::Duration;

use fastrand::Rng;
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::node::event::Event;
use tktrot_fleet::node::limits::Limits;

use crate::happening::Happening;
use crate::host::Host;
use crate::invariants::{Broken, Figures, Ticket, Violation};
use crate::machine::Machine;
use crate::network::{Network, SILENCE};
use crate::ring::{self, Number, Rings};
use crate::scenario::Scenario;
use crate::timeline::{Millis, Timeline};

/// A small fleet has no more hosts.
pub const SMALL: usize = 64;

/// What is true of a key, whoever knows.
pub struct Key {
    pub origin: NodeId,
    /// The peers were told of it; or a server made it, and its agent found it then.
    pub announced: Option<Millis>,
    /// Its agent made it, and so told before it used it.
    pub by_agent: bool,
    /// When it ends, in nanoseconds since the beginning, as its maker gave it first.
    pub ends: u64,
    pub revoked: Option<Millis>,
    /// Its maker gave it earlier times then.
    pub shortened: Millis,
    /// By host: the ring that learnt that it was revoked, and when. Empty if none did.
    pub learnt: Vec<(NodeId, Millis)>,
    /// It was revoked, and all rings that there were knew.
    pub is_over: bool,
    /// No node made it: the liar says that one did.
    pub made_up: bool,
    /// Of the liar's keys: where it has ended by itself, and which agent saw that.
    pub has_ended: Vec<(usize, u32)>,
}

impl Key {
    /// One that nobody was told of yet.
    pub fn new(origin: NodeId, ends: u64, now: Millis) -> Self {
        Key {
            origin,
            announced: None,
            by_agent: false,
            ends,
            revoked: None,
            shortened: now,
            learnt: Vec::new(),
            is_over: false,
            made_up: false,
            has_ended: Vec::new(),
        }
    }

    /// The ring of this host knows that the key was revoked.
    pub fn is_known_to_be_revoked(&self, host: usize, this: &Host) -> bool {
        self.learnt.get(host).is_some_and(|(ring, _)| *ring == this.id)
    }
}

/// All there is.
pub struct World {
    pub scenario: Scenario,
    pub limits: Limits,
    pub timeline: Timeline<Happening>,
    pub network: Network,
    pub hosts: Vec<Host>,
    pub rings: Rings,
    pub keys: Vec<Key>,
    pub revoked: Vec<Number>,
    pub tickets: Vec<Ticket>,
    pub rng: Rng,
    pub figures: Figures,
    pub broken: Option<Violation>,
    pub groups: u8,
    pub revoked_all: Millis,
    trace: bool,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(scenario: &Scenario) -> Self {
        let mut rng = Rng::with_seed(scenario.seed);
        let limits = scenario.limits();
        let hosts = (0..scenario.hosts).map(|place| {
            // Booted within the last 40 days; and no two clocks tick at the same nanosecond.
            let clock = rng.u64(1_000_000_000..40 * 86_400 * 1_000_000_000);
            Host::new(new_id(&mut rng, place), clock)
        });
        let hosts: Vec<_> = hosts.collect();
        let mut world = World {
            limits,
            // In a fleet of a thousand most of the time goes into fetching a host's state into the
            // caches.
            timeline: Timeline::new(if hosts.len() > SMALL { Happening::place } else { |_| 0 }),
            network: Network::new(scenario.hosts, scenario.weather.clone(), scenario.grain),
            hosts,
            rings: Rings::new(scenario.hosts, limits.capacity),
            keys: Vec::new(),
            revoked: Vec::new(),
            tickets: Vec::new(),
            rng,
            figures: Figures::default(),
            broken: None,
            groups: 0,
            revoked_all: 0,
            trace: std::env::var_os("TKTROT_SIMULATION_TRACE").is_some(),
            scenario: scenario.clone(),
        };
        world.plan_beginning();
        world
    }

    fn plan_beginning(&mut self) {
        let Scenario { hosts, first, length, .. } = self.scenario;
        for host in 0..hosts {
            let at = if host < first { self.rng.u64(0..2_000) } else { self.rng.u64(0..length) };
            self.timeline.plan(at, Happening::Start(host as u16));
            let seal = at + self.rng.u64(0..=2 * self.scenario.seal_every);
            self.timeline.plan(seal, Happening::Seal(host as u16));
        }
        self.timeline.plan(self.scenario.inspect_every, Happening::Inspect);
        if self.scenario.lie.is_some() {
            self.timeline.plan(0, Happening::Lie);
        }
        if !self.scenario.troubles.is_empty() {
            let at = self.rng.u64(0..=2 * self.scenario.trouble_every);
            self.timeline.plan(at, Happening::Trouble);
        }
    }

    /// Lets everything happen, up to the end or the first violation.
    pub fn run(mut self) -> Result<Figures, Violation> {
        while let Some(happening) = self.timeline.next(self.scenario.length) {
            self.happen(happening);
            if let Some(violation) = self.broken {
                return Err(violation);
            }
        }
        Ok(self.figures)
    }

    /// The present.
    pub fn now(&self) -> Millis {
        self.timeline.now()
    }

    /// Something that must not be was seen.
    pub fn violate(&mut self, broken: Broken, text: String) {
        let at = self.now();
        self.trace(|| format!("VIOLATED {broken:?}: {text}"));
        self.broken.get_or_insert(Violation { broken, at, text });
    }

    pub fn trace(&self, text: impl Fn() -> String) {
        if self.trace {
            eprintln!("{:>10} {}", self.now(), text());
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now();
        match happening {
            Happening::Deliver { to, from, epoch, sent, message } => {
                self.deliver(to.into(), from.into(), epoch, sent, message);
            }
            Happening::Connect(a, b) => self.connect(a.into(), b.into()),
            Happening::Up { host, peer, epoch } => self.up(host.into(), peer.into(), epoch),
            Happening::Down { host, peer, epoch } => self.down(host.into(), peer.into(), epoch),
            Happening::Tick { host, instance } => self.tick(host.into(), instance),
            Happening::Seal(host) => {
                let next = now + self.rng.u64(1..=2 * self.scenario.seal_every);
                self.timeline.plan(next, Happening::Seal(host));
                self.serve(host.into());
            }
            Happening::Switch(host) => self.seal(host.into()),
            Happening::Inspect => {
                self.timeline.plan(now + self.scenario.inspect_every, Happening::Inspect);
                self.inspect();
            }
            Happening::Lie => self.lie(),
            Happening::Start(host) => self.start(host.into()),
            Happening::Stop(host) => self.stop(host.into()),
            Happening::Trouble => self.trouble(),
            Happening::Heal(group) => self.heal(group),
            Happening::Unblock(a, b) => {
                self.network.block(a.into(), b.into(), false);
                self.plan_connect(a.into(), b.into(), 5_000);
            }
        }
    }

    /// The agent of a host starts, with whatever its ring has.
    pub fn start(&mut self, host: usize) {
        let now = self.now();
        let grace = self.grace();
        let this = &mut self.hosts[host];
        if this.agent.is_some() {
            return;
        }
        let time = this.time(now);
        self.rings.sweep(host, time);
        let machine = Machine::new(this.id, self.limits, self.scenario.policy, self.scenario.fault);
        this.agent = Some(Box::new(machine));
        this.instance += 1;
        (this.serves, this.left) = (true, false);
        (this.turned, this.tick_at) = (now, Millis::MAX);
        this.excuse(now + grace);
        let mut found: Vec<_> = self.rings.all(host).map(|(key, times)| (key, *times)).collect();
        found.sort_by_key(|(key, _)| *key);
        let graves = self.rings.graves(host, time);
        self.feed(host, Event::Buried(graves));
        for (key, times) in found {
            if self.hosts[host].id == self.keys[key as usize].origin {
                self.keys[key as usize].announced.get_or_insert(now);
            }
            self.feed(host, Event::Found(self.facts(key, times)));
        }
        self.trace(|| format!("host {host} starts as {}", self.hosts[host].id));
        self.feed(host, Event::Tick);
        self.settle(host);
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            if self.hosts[peer].agent.is_some() {
                self.plan_connect(host, peer, 500);
            }
        }
    }

    /// The agent of a host is no more.
    pub fn stop(&mut self, host: usize) {
        let now = self.now();
        self.trace(|| format!("the agent of host {host} stops"));
        self.hosts[host].agent = None;
        self.hosts[host].turned = now;
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            self.sever(host, peer);
            self.network.down(host, peer, u32::MAX);
        }
    }

    /// The same, and the ring is gone: it will be another node's.
    pub fn lose_ring(&mut self, host: usize) {
        self.stop(host);
        self.rings.clear(host);
        let this = &mut self.hosts[host];
        this.serves = false;
        this.id = new_id(&mut self.rng, host);
    }

    pub fn plan_connect(&mut self, a: usize, b: usize, within: Millis) {
        let at = self.now() + self.rng.u64(0..=within);
        self.timeline.plan(at, Happening::Connect(a as u16, b as u16));
    }

    fn connect(&mut self, a: usize, b: usize) {
        let run = self.hosts[a].agent.is_some() && self.hosts[b].agent.is_some();
        if !run || !self.network.reaches(a, b) {
            return;
        }
        if let Some(epoch) = self.network.connect(a, b) {
            let (now, latency) = (self.now(), self.network.latency(a, b));
            let up = |host, peer| Happening::Up { host: host as u16, peer: peer as u16, epoch };
            self.timeline.plan(now, up(a, b));
            self.timeline.plan(now + latency, up(b, a));
        }
    }

    /// The connection of two hosts breaks. They learn of it, and try again.
    pub fn sever(&mut self, a: usize, b: usize) {
        let Some(epoch) = self.network.sever(a, b) else { return };
        let now = self.now();
        self.figures.breaks += 1;
        let mut tried = SILENCE;
        for (host, peer) in [(a, b), (b, a)] {
            let noticed = self.rng.u64(0..=SILENCE);
            tried = tried.min(noticed);
            let (host, peer) = (host as u16, peer as u16);
            self.timeline.plan(now + noticed, Happening::Down { host, peer, epoch });
        }
        let again = now + tried + self.rng.u64(500..=5_000);
        self.timeline.plan(again, Happening::Connect(a as u16, b as u16));
    }

    fn up(&mut self, host: usize, peer: usize, epoch: u32) {
        if self.hosts[host].agent.is_none() {
            return;
        }
        // The shell ends the old connection when there is a new one.
        let before = *self.network.end(host, peer);
        let (node, now) = (self.hosts[peer].id, self.now());
        if !self.network.up(host, peer, epoch, node, now) {
            return;
        }
        if before.up {
            self.feed(host, Event::Down(before.node));
        }
        self.trace(|| format!("host {host}: {peer} is up"));
        self.feed(host, Event::Up(node));
        self.settle(host);
    }

    fn down(&mut self, host: usize, peer: usize, epoch: u32) {
        if self.network.down(host, peer, epoch) {
            self.trace(|| format!("host {host}: {peer} is down"));
            self.feed(host, Event::Down(self.network.end(host, peer).node));
            self.settle(host);
        }
    }

    fn deliver(&mut self, to: usize, from: usize, epoch: u32, sent: Millis, message: Message<()>) {
        let end = self.network.end(to, from);
        if !end.up || end.epoch != epoch {
            return;
        }
        let node = end.node;
        self.figures.messages += 1;
        // What the shell can know: how much longer it took than the fastest, and a round trip.
        let now = self.now();
        let age = now - sent + self.network.latency(from, to);
        self.trace(|| format!("host {to} hears {from}, {age} ms old: {message:?}"));
        if matches!(message, Message::Revoked { all: true, .. }) {
            // All that the host knows ends, and everybody hears of it: each makes new keys once more.
            self.hosts.iter_mut().for_each(|host| host.irregular.push(now));
        }
        let told = match &message {
            Message::Revoked { keys, .. } => keys.iter().map(|key| key.name).collect(),
            _ => Vec::new(),
        };
        let age = Duration::from_millis(age);
        self.feed(to, Event::Received { from: node, message, age });
        for name in told {
            self.learns(to, ring::number(&name));
        }
        self.settle(to);
    }

    fn tick(&mut self, host: usize, instance: u32) {
        let now = self.now();
        let this = &mut self.hosts[host];
        if this.instance != instance || this.tick_at != now {
            return;
        }
        this.tick_at = Millis::MAX;
        self.feed(host, Event::Tick);
        self.settle(host);
    }

    /// How long a node may be without an active key after it began, or lost it.
    pub fn grace(&self) -> Millis {
        self.limits.lead_max.as_millis() as Millis + 1
    }

    /// Some looks are too dear for a fleet of a thousand.
    pub fn is_small(&self) -> bool {
        self.hosts.len() <= SMALL
    }

    /// A host among those that serve, or not.
    pub fn any_host(&mut self, suits: impl Fn(&Host) -> bool) -> Option<usize> {
        let suiting: Vec<_> = (0..self.hosts.len()).filter(|at| suits(&self.hosts[*at])).collect();
        self.rng.choice(suiting)
    }
}

fn new_id(rng: &mut Rng, place: usize) -> NodeId {
    NodeId(rng.u64(..) & !0xffff | place as u64)
}
