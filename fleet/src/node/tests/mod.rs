//! One node and what its peers say, on a virtual clock. The simulation has whole fleets.

mod ahead;
mod keys;
mod others;
mod revocation;
mod settings;

use std::collections::HashMap;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyState, KeyTimes, Policy};
use tktrot::secret::KeyName;

use super::Node;
use super::event::{Action, Event};
use super::limits::Limits;
use crate::ahead::Ahead;
use crate::message::{Facts, Grave, Left, Message, NodeId, Offer};

const HOUR: Duration = Duration::from_secs(3600);
const ME: NodeId = NodeId(1);
const BOB: NodeId = NodeId(2);
const EVE: NodeId = NodeId(3);

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

fn policy() -> Policy {
    Policy { rotate_every: HOUR, lifetime: 2 * HOUR, lead: Policy::default_lead(HOUR) }
}

fn limits() -> Limits {
    Limits {
        lead_min: Limits::LEAD_MIN,
        lead_max: Limits::LEAD_MAX,
        capacity: 100,
        nodes: 3,
        longest: 4 * HOUR,
        ahead: Ahead::LEAST,
    }
}

fn name(number: u32) -> KeyName {
    let mut name = [7; 16];
    name[..4].copy_from_slice(&number.to_be_bytes());
    KeyName(name)
}

/// A node with a ring that is a map, and a clock.
struct Host {
    node: Node<()>,
    ring: HashMap<KeyName, Facts>,
    /// What the ring knows to be revoked: it outlives the node.
    graves: HashMap<KeyName, Time>,
    now: Time,
    made: u32,
    /// What was sent and not looked at yet.
    sent: Vec<(NodeId, Message<()>)>,
    dropped: Vec<NodeId>,
    generator_works: bool,
    /// Peers that answer by themselves whenever time passes.
    obliging: Vec<NodeId>,
}

impl Host {
    fn new() -> Self {
        Host::with(limits(), policy())
    }

    fn with(limits: Limits, policy: Policy) -> Self {
        let node = Node::new(ME, limits, policy);
        let (ring, sent, dropped) = (HashMap::new(), Vec::new(), Vec::new());
        let now = Time(0) + HOUR;
        Host {
            node,
            ring,
            graves: HashMap::new(),
            now,
            made: 0,
            sent,
            dropped,
            generator_works: true,
            obliging: Vec::new(),
        }
    }

    fn started() -> Self {
        let mut host = Host::new();
        host.handle(Event::Tick);
        host
    }

    /// The agent is killed, and started again.
    fn restarts(&mut self) {
        self.node = Node::new(ME, limits(), policy());
        let graves = self.graves.iter();
        let graves = graves.map(|(name, until)| Grave { name: *name, until: *until }).collect();
        self.handle(Event::Buried(graves));
        for facts in self.ring.values().copied().collect::<Vec<_>>() {
            self.handle(Event::Found(facts));
        }
        self.handle(Event::Tick);
    }

    fn handle(&mut self, event: Event<()>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.node.handle(event, self.now) {
                events.extend(self.act(action));
            }
        }
    }

    fn act(&mut self, action: Action<()>) -> Option<Event<()>> {
        match action {
            Action::Make(_) if !self.generator_works => return Some(Event::NotMade),
            Action::Make(times) => {
                self.made += 1;
                let facts = Facts { name: name(self.made), origin: ME, times, plain: false };
                self.ring.insert(facts.name, facts);
                return Some(Event::Made(facts));
            }
            Action::Take { from, keys } => {
                let mut taken = Vec::new();
                for (Offer { name, origin, plain, .. }, times) in keys {
                    self.ring.insert(name, Facts { name, origin, times, plain });
                    taken.push(name);
                }
                return Some(Event::Took { from, taken, refused: Vec::new() });
            }
            Action::Shorten(name, times) => {
                let key = self.ring.get_mut(&name).expect("the key shortened");
                assert_eq!(times, key.times.shortened(&times), "a key is lengthened");
                key.times = times;
            }
            Action::Erase(name) => drop(self.ring.remove(&name)),
            Action::Bury(graves) => {
                for grave in graves {
                    self.ring.remove(&grave.name);
                    self.graves.insert(grave.name, grave.until);
                }
            }
            Action::Send { to, message } => self.sent.push((to, message)),
            Action::Drop { peer, .. } => self.dropped.push(peer),
            Action::Note(_) => {}
        }
        None
    }

    /// Lets time pass, from deadline to deadline.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..20_000 {
            let next = self.node.deadline(self.now);
            if next > end {
                self.now = end;
                return self.handle(Event::Tick);
            }
            self.now = next.max(self.now);
            self.handle(Event::Tick);
            for peer in self.obliging.clone() {
                self.all_is_taken_by(peer);
            }
        }
        panic!("the deadlines do not come to an end");
    }

    fn hears(&mut self, from: NodeId, message: Message<()>) {
        self.handle(Event::Received { from, message, age: Duration::ZERO });
    }

    /// The peer takes every key that it was told of.
    fn all_is_taken_by(&mut self, peer: NodeId) {
        let told: Vec<_> = self.told(peer).iter().map(|offer| offer.name).collect();
        self.hears(peer, Message::Taken(told));
    }

    /// The keys that a peer was told of since it was last looked.
    fn told(&mut self, peer: NodeId) -> Vec<Offer<()>> {
        let (told, rest) = std::mem::take(&mut self.sent)
            .into_iter()
            .partition(|(to, message)| *to == peer && matches!(message, Message::Keys(_)));
        self.sent = rest;
        let offers = |(_, message)| match message {
            Message::Keys(offers) => offers,
            _ => Vec::new(),
        };
        told.into_iter().flat_map(offers).collect()
    }

    fn has_sent(&self, peer: NodeId, what: impl Fn(&Message<()>) -> bool) -> bool {
        self.sent.iter().any(|(to, message)| *to == peer && what(message))
    }

    fn in_all_states(&self) -> Vec<Facts> {
        self.ring.values().filter(|facts| facts.origin == ME).copied().collect()
    }

    fn in_state(&self, state: KeyState) -> Vec<Facts> {
        let own = self.ring.values().filter(|facts| facts.origin == ME);
        own.filter(|facts| facts.times.state(self.now) == state).copied().collect()
    }

    fn active(&self) -> Option<KeyName> {
        let active = self.in_state(KeyState::Active);
        assert!(active.len() <= 1, "{} active keys", active.len());
        active.first().map(|facts| facts.name)
    }
}

/// A key of a peer's.
fn offer(number: u32, origin: NodeId, decrypts: Duration) -> Offer<()> {
    let left = Left { begins: Duration::ZERO, encrypts: decrypts / 2, decrypts };
    Offer { name: name(number), origin, left, plain: false, secrets: () }
}

fn facts(number: u32, origin: NodeId, times: KeyTimes) -> Facts {
    Facts { name: name(number), origin, times, plain: false }
}
