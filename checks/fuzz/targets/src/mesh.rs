//! A host around a node of the mesh: its ring, its clock, its peers; and what must hold whatever
//! happens.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::ring::layout::MAX_GRAVES;
use tktrot::schedule::{KeyState, KeyTimes, Policy};
use tktrot::secret::KeyName;
use tktrot_fleet::ahead::Ahead;
use tktrot_fleet::message::{Facts, Grave, Message, NodeId, Offer, Refusal};
use tktrot_fleet::node::Node;
use tktrot_fleet::node::event::{Action, Event};
use tktrot_fleet::node::limits::Limits;

use crate::made_up;
use crate::passing::Host;

/// The node.
pub const ME: NodeId = NodeId(1);
/// The first name that is not one of the node's own or of its peers'.
const FOUND: u32 = 2000;

#[derive(Clone, Copy)]
struct Key {
    facts: Facts,
    /// The peer that made it said so itself.
    by_maker: bool,
}

/// One host.
pub struct World {
    node: Node<()>,
    pub limits: Limits,
    pub policy: Policy,
    pub now: Time,
    /// How many keys were made here; their names are of these numbers.
    pub made: u32,
    /// A key of a peer's came into the ring.
    pub has_taken: bool,
    ring: BTreeMap<[u8; 16], Key>,
    up: BTreeSet<NodeId>,
    /// Keys of this node that a peer was told of and has not answered for.
    told: HashMap<NodeId, Vec<KeyName>>,
    /// Until when a key that was here must not come back.
    ended: HashMap<KeyName, Time>,
    /// Every name that a node can have heard of.
    names: HashSet<KeyName>,
    found: u32,
    /// Keys that a node may have: its share, and as much of what is common as it leaves free.
    kept: usize,
    started: bool,
    generator_works: bool,
    ring_is_full: bool,
}

impl Host for World {
    fn now(&mut self) -> &mut Time {
        &mut self.now
    }

    fn deadline(&self) -> Time {
        self.node.deadline(self.now)
    }

    fn tick(&mut self) {
        self.handle(Event::Tick);
    }
}

impl World {
    pub fn new(policy: Policy) -> Self {
        let limits = Limits {
            lead_min: Limits::LEAD_MIN,
            lead_max: Limits::LEAD_MAX,
            ahead: Ahead::default(),
            capacity: 100,
            nodes: 3,
            longest: 2 * policy.rotate_every + policy.lifetime + Duration::from_secs(3600),
        };
        World {
            node: Node::new(ME, limits, policy),
            limits,
            policy,
            now: Time(0) + Duration::from_secs(100_000),
            made: 0,
            has_taken: false,
            ring: BTreeMap::new(),
            up: BTreeSet::new(),
            told: HashMap::new(),
            ended: HashMap::new(),
            names: HashSet::new(),
            found: FOUND,
            kept: limits.room(0).share + limits.room(0).common / 2 + 1,
            started: false,
            generator_works: true,
            ring_is_full: false,
        }
    }

    /// Something happens, and what the node wants is done.
    pub fn handle(&mut self, event: Event<()>) {
        self.started |= matches!(event, Event::Tick);
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            made_up::tell(&(self.now, &event));
            for action in self.node.handle(event, self.now) {
                made_up::tell(&action);
                events.extend(self.act(action));
            }
        }
        self.check();
    }

    fn act(&mut self, action: Action<()>) -> Option<Event<()>> {
        match action {
            Action::Make(_) if !self.generator_works => return Some(Event::NotMade),
            Action::Make(times) => {
                assert!(times.are_ordered() && times.decrypt_until > self.now, "{times:?}");
                return Some(Event::Made(self.make(ME, times)));
            }
            Action::Take { from, keys } => return Some(self.take(from, keys)),
            Action::Shorten(name, times) => {
                let key = self.ring.get_mut(&name.0).expect("a key that is there is shortened");
                let shortened = key.facts.times.shortened(&times);
                assert_eq!(times, shortened, "{name} lives longer than it did");
                key.facts.times = times;
            }
            Action::Erase(name) => {
                assert!(self.ring.remove(&name.0).is_some(), "{name} is erased and not there");
            }
            Action::Bury(graves) => {
                for grave in graves {
                    self.ring.remove(&grave.name.0);
                }
            }
            Action::Send { to, message } => self.send(to, &message),
            Action::Drop { peer, .. } => {
                assert!(self.up.remove(&peer), "{peer} is dropped and not there");
                return Some(Event::Down(peer));
            }
            Action::Note(_) => {}
        }
        None
    }

    fn make(&mut self, origin: NodeId, times: KeyTimes) -> Facts {
        let number = if origin == ME { &mut self.made } else { &mut self.found };
        *number += 1;
        let facts = Facts { name: made_up::name(*number), origin, times, plain: false };
        self.names.insert(facts.name);
        self.ring.insert(facts.name.0, Key { facts, by_maker: false });
        facts
    }

    fn take(&mut self, from: NodeId, keys: Vec<(Offer<()>, KeyTimes)>) -> Event<()> {
        assert!(!keys.is_empty());
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for (offer, times) in keys {
            let Offer { name, origin, left, plain, .. } = offer;
            assert!(!self.ring.contains_key(&name.0), "{name} is there already");
            assert!(!name.is_constant() && origin != ME, "a key that nobody has");
            assert!(times.are_ordered(), "{times:?}");
            let most = self.now + left.decrypts.min(self.limits.longest);
            assert!(self.now < times.decrypt_until && times.decrypt_until <= most, "{times:?}");
            self.check_ended(&name);
            if self.ring_is_full {
                refused.push((name, Refusal::Full));
                continue;
            }
            let facts = Facts { name, origin, times, plain };
            self.ring.insert(name.0, Key { facts, by_maker: origin == from });
            self.has_taken = true;
            taken.push(name);
        }
        let of_maker = self.ring.values().filter(|key| key.by_maker && key.facts.origin == from);
        assert!(of_maker.count() <= self.kept, "too many keys of {from}");
        assert!(
            self.ring.values().filter(|key| key.facts.origin != ME).count() <= self.limits.capacity
                || self.found > FOUND,
            "more keys than a ring holds"
        );
        Event::Took { from, taken, refused }
    }

    /// What is revoked does not come back, unless so much is that nobody can remember it.
    fn check_ended(&self, name: &KeyName) {
        let over = self.ended.get(name).is_some_and(|until| *until > self.now);
        assert!(!over || self.names.len() >= 4 * self.limits.capacity, "{name} came back");
    }

    fn send(&mut self, to: NodeId, message: &Message<()>) {
        assert!(self.up.contains(&to), "{to} is told something and not there");
        match message {
            Message::Keys(keys) => {
                assert!(keys.iter().all(|key| key.origin == ME), "others tell of their keys");
                self.told.entry(to).or_default().extend(keys.iter().map(|key| key.name));
            }
            Message::Held { keys, .. } => {
                assert!(keys.iter().all(|key| key.origin != to), "a key for who made it");
            }
            Message::Revoked { keys, .. } => {
                assert!(keys.len() <= 4 * self.limits.capacity + MAX_GRAVES as usize + 8);
            }
            Message::Buried(names) => {
                let lives = |name: &KeyName| self.ring.contains_key(&name.0);
                assert!(!names.iter().any(lives), "a key that lives is said to be buried");
            }
            _ => {}
        }
    }

    /// What holds after every event.
    fn check(&self) {
        let own = |key: &&Key| key.facts.origin == ME;
        let active = self.ring.values().filter(own).filter(|key| self.is_active(key)).count();
        assert!(active <= 1 || !self.started, "{active} own keys encrypt");
        assert_eq!(self.node.has_active(self.now), active > 0, "ring and node do not agree");
        let mut origins = HashMap::new();
        for key in self.ring.values() {
            *origins.entry(key.facts.origin).or_insert(0) += 1;
        }
        assert_eq!(self.node.keys_by_origin(), origins, "ring and node do not agree");
    }

    fn is_active(&self, key: &Key) -> bool {
        key.facts.times.state(self.now) == KeyState::Active
    }

    pub fn comes_up(&mut self, peer: NodeId) {
        self.up.insert(peer);
        self.told.remove(&peer);
        self.handle(Event::Up(peer));
    }

    pub fn goes_down(&mut self, peer: NodeId) {
        self.up.remove(&peer);
        self.handle(Event::Down(peer));
    }

    /// The peer takes all that it was told of.
    pub fn answers(&mut self, peer: NodeId) {
        let told = self.told.remove(&peer).unwrap_or_default();
        self.hears(peer, Message::Taken(told), Duration::ZERO);
    }

    /// A peer says something, whether it is there or not.
    pub fn hears(&mut self, from: NodeId, message: Message<()>, age: Duration) {
        let offers = match &message {
            Message::Keys(keys) | Message::Held { keys, .. } => &keys[..],
            _ => &[],
        };
        self.names.extend(offers.iter().map(|offer| offer.name));
        let mut gone = Vec::new();
        if let Message::Revoked { keys, all } = &message
            && self.up.contains(&from)
        {
            gone.extend(keys.iter().map(|key| key.name));
            self.names.extend(&gone);
            if *all {
                gone.extend(self.ring.keys().map(|name| KeyName(*name)));
            }
        }
        self.ends(gone, |world| world.handle(Event::Received { from, message, age }));
    }

    /// These end with what happens, for good.
    fn ends(&mut self, names: Vec<KeyName>, happens: impl FnOnce(&mut World)) {
        let mut gone = Vec::new();
        for name in names {
            if let Some(key) = self.ring.get(&name.0) {
                self.ended.insert(name, key.facts.times.decrypt_until);
                gone.push(name);
            }
        }
        happens(self);
        for name in gone {
            assert!(!self.ring.contains_key(&name.0), "{name} was revoked and is still there");
        }
    }

    /// Somebody on this host made a key, or it was there before the agent.
    pub fn finds_new(&mut self, origin: NodeId, times: KeyTimes) {
        if times.decrypt_until > self.now {
            let facts = self.make(origin, times);
            self.handle(Event::Found(facts));
        }
    }

    /// Somebody on this host retired a key of this node.
    pub fn retires(&mut self, which: u8) {
        let Some(name) = self.some(which) else { return };
        let key = self.ring.get_mut(&name.0).expect("it is there");
        if key.facts.origin == ME {
            let times = &mut key.facts.times;
            times.encrypt_until = times.encrypt_until.min(self.now.max(times.encrypt_from));
            let facts = key.facts;
            self.handle(Event::Found(facts));
        }
    }

    /// Somebody on this host revoked a key past the agent.
    pub fn loses(&mut self, which: u8) {
        let Some(name) = self.some(which) else { return };
        self.ends(vec![name], |world| {
            world.ring.remove(&name.0);
            world.handle(Event::Lost(name));
        });
    }

    /// As [`World::loses`], by a library that buries what it revokes.
    pub fn buries(&mut self, which: u8) {
        let Some(name) = self.some(which) else { return };
        self.ends(vec![name], |world| {
            let key = world.ring.remove(&name.0).expect("it is there");
            let until = world.limits.fitting(world.policy).last_copy(key.facts.times.decrypt_until);
            world.handle(Event::Buried(vec![Grave { name, until }]));
        });
    }

    pub fn revokes(&mut self, names: Vec<KeyName>) {
        self.ends(names.clone(), |world| world.handle(Event::Revoke(names)));
    }

    pub fn revokes_all(&mut self) {
        let all = self.ring.keys().map(|name| KeyName(*name)).collect();
        self.ends(all, |world| world.handle(Event::RevokeAll));
    }

    pub fn has_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.handle(Event::Policy(policy));
    }

    /// What works and what does not.
    pub fn trouble(&mut self, byte: u8) {
        (self.generator_works, self.ring_is_full) = (byte & 1 == 0, byte & 2 != 0);
    }

    /// A key of the ring.
    pub fn some(&self, which: u8) -> Option<KeyName> {
        let count = self.ring.len();
        (count > 0).then(|| {
            let name = self.ring.keys().nth(usize::from(which) % count);
            KeyName(*name.expect("there are so many"))
        })
    }

    /// Where nothing is broken any more a key encrypts, whatever happened before.
    pub fn calm_down(&mut self) {
        self.trouble(0);
        self.jump(Duration::ZERO);
        self.pass(2 * self.limits.lead_max + Duration::from_secs(2));
        assert!(self.node.has_active(self.now), "no key encrypts in the end");
    }
}
