//! Nodes and a Redis that exist in this test only, on a virtual clock.

mod agreement;
mod ahead;
mod attacker;
mod crowd;
mod losses;
mod revocation;
mod slow;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tktrot::clock::{Time, nanos};
use tktrot::schedule::{KeyState, KeyTimes, MAX_LIFETIME, Policy};
use tktrot::secret::KeyName;

use super::clock::{ClockReading, RedisTime, SLACK};
use super::event::{Look, Mark, Memory, RedisAction, RedisEvent, RedisNote};
use super::stored::{Flaw, Grave, Revoked, Slot, Stored};
use super::{RedisNode, Settings};
use crate::ahead::Ahead;
use crate::message::{Facts, NodeId};

const R: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(120);
const LEAD: Duration = Duration::from_secs(5);
/// How long a question to Redis takes, there and back, unless a host is told otherwise.
const TRIP: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_millis(10);
const YEAR: u64 = 365 * 24 * 3600 * 1_000_000_000;

fn policy() -> Policy {
    Policy { rotate_every: R, lifetime: LIFETIME, lead: Policy::default_lead(R) }
}

/// Keys are no further ahead than a period, as what is tested is what happens without them.
fn settings() -> Settings {
    Settings { ahead: Ahead::LEAST, ..Settings::default() }
}

/// A Redis: what it holds, each with its end on its own clock.
struct Redis {
    up: bool,
    /// Its clock, as the difference to the one of the test.
    clock: u64,
    values: HashMap<Slot, (Stored<()>, RedisTime)>,
    mark: Option<Mark>,
    graves: Vec<Grave>,
    tokens: u64,
    /// Somebody who may write keeps there what has ended.
    keeps_all: bool,
    /// Nothing is said of changes.
    mark_is_kept: bool,
    /// What was revoked is there and cannot be found, among what else is.
    hides_graves: bool,
    /// What was written, in how many questions.
    written: u64,
    /// Questions that were answered.
    asked: u64,
}

impl Redis {
    fn time(&self, now: Time) -> RedisTime {
        RedisTime(now.0 + self.clock)
    }

    fn expire(&mut self, now: Time) {
        if self.keeps_all {
            return;
        }
        let now = self.time(now);
        self.values.retain(|_, (_, ends)| *ends > now);
        self.graves.retain(|grave| grave.ends > now);
    }

    fn flush(&mut self) {
        self.values.clear();
        self.graves.clear();
        self.mark = None;
    }

    fn change(&mut self) {
        if self.mark_is_kept {
            return;
        }
        self.tokens += 1;
        self.mark = Some(Mark { token: self.tokens });
    }

    fn store(&mut self, slot: Slot, key: Stored<()>, keep: Duration, now: Time) {
        if !self.values.contains_key(&slot) {
            let ends = self.time(now).after(keep);
            self.values.insert(slot, (key, ends));
            self.change();
        }
    }
}

/// A host: its node, its ring, and the answers on their way to it.
struct Host {
    node: RedisNode,
    id: NodeId,
    /// Its clock, as the difference to the one of the test.
    boot: u64,
    /// Its time of day, as the difference in seconds to the right one.
    wrong_by: i64,
    ring: BTreeMap<[u8; 16], KeyTimes>,
    /// What the ring remembers beside.
    memory: Memory,
    graves: BTreeMap<[u8; 16], Time>,
    /// Keys of the fleet that were in the ring to their end, or until they were revoked.
    over: HashSet<KeyName>,
    answers: VecDeque<(Time, RedisEvent<()>)>,
    /// Asked, and to reach Redis then.
    questions: VecDeque<(Time, RedisAction<()>)>,
    reaches_redis: bool,
    /// How long its questions take, there and back.
    trip: Duration,
    connected: bool,
    /// The fleet secrets that it has; it wraps with the first one.
    secrets: Vec<u8>,
    notes: Vec<RedisNote>,
    running: bool,
}

struct Fleet {
    now: Time,
    settings: Settings,
    redis: Redis,
    hosts: Vec<Host>,
    names: u64,
    /// When each key ends at the latest, as its first copy was made; on the test's clock.
    ends: HashMap<KeyName, Time>,
    /// Keys that were never stored: no other node has them.
    own: Vec<KeyName>,
    /// The fleet secret that each stored key is wrapped with.
    wrapped: HashMap<KeyName, u8>,
    /// What keys may live longer: Redis' clock was ahead by so much at most when they were made.
    lied: Duration,
}

impl Fleet {
    fn new(hosts: usize) -> Fleet {
        let mut fleet = Fleet::empty(settings());
        for _ in 0..hosts {
            fleet.join(policy());
        }
        fleet
    }

    fn empty(settings: Settings) -> Fleet {
        let redis = Redis {
            up: true,
            clock: 50 * YEAR,
            values: HashMap::new(),
            mark: None,
            graves: Vec::new(),
            tokens: 0,
            keeps_all: false,
            mark_is_kept: false,
            hides_graves: false,
            written: 0,
            asked: 0,
        };
        Fleet {
            now: Time(nanos(Duration::from_secs(7))),
            settings,
            redis,
            hosts: Vec::new(),
            names: 0,
            ends: HashMap::new(),
            own: Vec::new(),
            wrapped: HashMap::new(),
            lied: Duration::ZERO,
        }
    }

    /// A new host with an empty ring; its number.
    fn join(&mut self, policy: Policy) -> usize {
        let number = self.hosts.len();
        let id = NodeId(number as u64 * 2 + 1);
        self.hosts.push(Host {
            node: RedisNode::new(id, self.settings, policy, Memory::NONE),
            id,
            boot: number as u64 * 1_000_000_007_000,
            wrong_by: 0,
            ring: BTreeMap::new(),
            memory: Memory::NONE,
            graves: BTreeMap::new(),
            over: HashSet::new(),
            answers: VecDeque::new(),
            questions: VecDeque::new(),
            reaches_redis: true,
            trip: TRIP,
            connected: false,
            secrets: vec![1],
            notes: Vec::new(),
            running: true,
        });
        number
    }

    /// The host starts anew: its ring is gone.
    fn reboot(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.ring.clear();
        host.graves.clear();
        host.over.clear();
        host.memory = Memory::NONE;
        self.restart(number);
    }

    /// The agent starts anew on a ring that is there.
    fn restart(&mut self, number: usize) {
        self.restart_with(number, policy());
    }

    /// The same, with other settings.
    fn restart_with(&mut self, number: usize, policy: Policy) {
        let host = &mut self.hosts[number];
        host.node = RedisNode::new(host.id, self.settings, policy, host.memory);
        host.answers.clear();
        host.questions.clear();
        host.connected = false;
        host.running = true;
        let origin = host.id;
        let graves: Vec<_> =
            host.graves.iter().map(|(name, until)| (KeyName(*name), *until)).collect();
        let found: Vec<_> =
            host.ring.iter().map(|(name, times)| (KeyName(*name), *times)).collect();
        self.tell(number, RedisEvent::Graves(graves));
        for (name, times) in found {
            let facts = Facts { name, origin, times, plain: false };
            self.tell(number, RedisEvent::Found(facts));
        }
    }

    /// Somebody on this host revokes a key in the ring, as `tktrot revoke` does without `--fleet`.
    fn revoke_here(&mut self, number: usize, name: KeyName) {
        let until = self.local(number) + MAX_LIFETIME;
        let host = &mut self.hosts[number];
        host.ring.remove(&name.0);
        host.graves.insert(name.0, until);
        if host.running {
            self.tell(number, RedisEvent::Lost(name));
            self.tell(number, RedisEvent::Graves(vec![(name, until)]));
        }
    }

    fn local(&self, number: usize) -> Time {
        Time(self.now.0 + self.hosts[number].boot)
    }

    fn tell(&mut self, number: usize, event: RedisEvent<()>) {
        let now = self.local(number);
        let mut actions: VecDeque<_> = self.hosts[number].node.handle(event, now).into();
        while let Some(action) = actions.pop_front() {
            if let Some(event) = self.act(number, action) {
                actions.extend(self.hosts[number].node.handle(event, now));
            }
        }
    }

    /// Does to the ring what is to be done; what is for Redis takes its way.
    fn act(&mut self, number: usize, action: RedisAction<()>) -> Option<RedisEvent<()>> {
        let host = &mut self.hosts[number];
        match action {
            RedisAction::Make(times) => {
                self.names += 1;
                let name = name(self.names);
                host.ring.insert(name.0, times);
                self.ends.insert(name, Time(times.decrypt_until.0 - host.boot));
                self.own.push(name);
                Some(RedisEvent::Made(Facts { name, origin: host.id, times, plain: false }))
            }
            RedisAction::Take(key, times) => {
                assert!(times.are_ordered(), "{times:?}");
                assert!(times.decrypt_until.0 > self.now.0 + host.boot, "it has ended");
                assert!(!host.over.contains(&key.name), "it was over");
                assert!(!host.graves.contains_key(&key.name.0), "it was revoked");
                assert!(key.terms.epoch >= host.memory.epoch, "all like it were revoked");
                assert!(host.ring.insert(key.name.0, times).is_none(), "it is there");
                Some(RedisEvent::Took(key.name, Ok(())))
            }
            RedisAction::Shorten(name, times) => {
                let held = host.ring.get_mut(&name.0).expect("a key that is shortened");
                assert_eq!(held.shortened(&times), times, "nothing is ever lengthened");
                *held = times;
                None
            }
            RedisAction::Erase(name) => {
                host.ring.remove(&name.0).expect("a key that is erased");
                host.over.insert(name);
                None
            }
            RedisAction::Entomb(name, until) => {
                host.graves.insert(name.0, until);
                None
            }
            RedisAction::Remember(memory) => {
                assert!(memory.epoch >= host.memory.epoch && memory.period >= host.memory.period);
                host.memory = memory;
                None
            }
            RedisAction::Note(note) => {
                host.notes.push(note);
                None
            }
            question => {
                host.questions.push_back((self.now + host.trip / 2, question));
                None
            }
        }
    }

    /// What is asked reaches Redis; the answers take their way back.
    fn ask(&mut self, number: usize) {
        let mut written = false;
        while let Some((at, _)) = self.hosts[number].questions.front() {
            if *at > self.now {
                break;
            }
            let (_, question) = self.hosts[number].questions.pop_front().expect("there is one");
            if !self.redis.up || !self.hosts[number].reaches_redis {
                continue;
            }
            self.redis.asked += 1;
            let Host { boot, trip, .. } = self.hosts[number];
            // No two trips are alike, nor both ways of one: a number that jumps about.
            let jitter = self.redis.asked.wrapping_mul(0x9E37_79B9_7F4A_7C15) % nanos(trip / 2);
            let answered = self.now + trip / 2;
            let wrong = self.hosts[number].wrong_by * 1_000_000_000;
            let reading = ClockReading {
                asked: Time(self.now.0 + boot - jitter),
                answered: Time(answered.0 + boot),
                redis: self.redis.time(self.now),
                host: RedisTime((answered.0 + 50 * YEAR).saturating_add_signed(wrong)),
            };
            let answer = match question {
                RedisAction::Poll => Some(RedisEvent::Polled(reading, self.redis.mark)),
                RedisAction::Look(_) => Some(RedisEvent::Looked(self.look(number, reading))),
                writing => {
                    self.write(number, writing);
                    written = true;
                    None
                }
            };
            let due = self.now + trip / 2;
            self.hosts[number].answers.extend(answer.map(|answer| (due, answer)));
        }
        if written {
            let due = self.now + self.hosts[number].trip / 2;
            self.hosts[number].answers.push_back((due, RedisEvent::Written));
        }
    }

    fn look(&mut self, number: usize, reading: ClockReading) -> Look<()> {
        self.redis.expire(self.now);
        let secrets = &self.hosts[number].secrets;
        // As `wrap` has it.
        let seen = |(slot, (key, _)): (&Slot, &(Stored<()>, RedisTime))| {
            let wrapped = self.wrapped[&key.name];
            let is_there = match slot {
                Slot::At(turn) => *turn == key.terms.turn,
                Slot::Kept(name) => *name == key.name,
            };
            let what = match (secrets.contains(&wrapped), is_there) {
                (true, true) => Ok(key.clone()),
                (true, false) => Err(Flaw::Misplaced),
                (false, _) => Err(Flaw::Secret([wrapped; 8])),
            };
            (*slot, what)
        };
        let mark = self.redis.mark;
        let graves = self.redis.graves.iter().filter(|_| !self.redis.hides_graves).copied();
        let graves = graves.collect();
        let keys = self.redis.values.iter().map(seen).collect();
        Look { reading, mark, keys, graves }
    }

    fn write(&mut self, number: usize, writing: RedisAction<()>) {
        self.redis.expire(self.now);
        self.redis.written += 1;
        match writing {
            RedisAction::Offer(terms, keep) => {
                self.names += 1;
                let name = name(self.names);
                let slot = Slot::At(terms.turn);
                self.ends.insert(name, self.now + keep);
                self.wrapped.insert(name, self.hosts[number].secrets[0]);
                self.redis.store(slot, Stored { name, terms, secrets: () }, keep, self.now);
            }
            RedisAction::PutBack(slot, name, terms, keep) => {
                assert!(self.hosts[number].ring.contains_key(&name.0), "its secrets are needed");
                self.redis.store(slot, Stored { name, terms, secrets: () }, keep, self.now);
            }
            RedisAction::Bury(graves, slots) => {
                let mut is_news = self.redis.values.keys().any(|slot| slots.contains(slot));
                for grave in graves {
                    is_news |= !self.redis.graves.contains(&grave);
                    self.redis.graves.retain(|other| other.what != grave.what);
                    self.redis.graves.push(grave);
                }
                self.redis.values.retain(|slot, _| !slots.contains(slot));
                if is_news {
                    self.redis.change();
                }
            }
            other => panic!("{other:?} is not written"),
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        for number in 0..self.hosts.len() {
            if !self.hosts[number].running {
                continue;
            }
            let now = self.local(number);
            let host = &mut self.hosts[number];
            host.ring.retain(|name, times| {
                let is_over = times.state(now) == KeyState::Expired;
                if is_over {
                    host.over.insert(KeyName(*name));
                }
                !is_over
            });
            let reached = self.redis.up && host.reaches_redis;
            if reached != host.connected {
                host.connected = reached;
                host.questions.clear();
                host.answers.clear();
                self.tell(number, if reached { RedisEvent::Up } else { RedisEvent::Down });
            }
            self.ask(number);
            while let Some((at, _)) = self.hosts[number].answers.front()
                && *at <= self.now
            {
                let (_, event) = self.hosts[number].answers.pop_front().expect("there is one");
                self.tell(number, event);
            }
            let ring = self.hosts[number].ring.len();
            if self.hosts[number].node.deadline() <= now {
                self.tell(number, RedisEvent::Tick);
            }
            assert!(ring < 256, "bounded");
        }
        self.check();
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step();
        }
    }

    /// No key lives longer than it was made for, beyond what clocks may differ by.
    fn check(&self) {
        for (number, host) in self.hosts.iter().enumerate() {
            for (key, times) in &host.ring {
                let end = Time(times.decrypt_until.0 - host.boot);
                let made = self.ends[&KeyName(*key)];
                assert!(
                    end <= made + SLACK + host.trip + self.lied,
                    "host {number}: {} late",
                    made.until(end).as_secs_f32()
                );
            }
        }
    }

    /// The key that a server on this host encrypts with, as [`tktrot::ring`] finds it: of those
    /// that encrypt the one that began first.
    fn encrypting(&self, number: usize) -> Option<KeyName> {
        let now = self.local(number);
        let active = self.hosts[number].ring.iter();
        let active = active.filter(|(_, times)| times.state(now) == KeyState::Active);
        active.min_by_key(|(_, times)| times.encrypt_from).map(|(name, _)| KeyName(*name))
    }

    /// Every host that runs encrypts, and what it encrypts, all others decrypt.
    fn agrees(&self) -> bool {
        let running = || (0..self.hosts.len()).filter(|number| self.hosts[*number].running);
        running().all(|number| {
            self.encrypting(number).is_some_and(|name| {
                running().all(|other| self.hosts[other].ring.contains_key(&name.0))
            })
        })
    }

    fn notes(&self, number: usize, which: impl Fn(&RedisNote) -> bool) -> usize {
        self.hosts[number].notes.iter().filter(|note| which(note)).count()
    }
}

fn name(number: u64) -> KeyName {
    let mut name = [7; 16];
    name[..8].copy_from_slice(&number.to_be_bytes());
    KeyName(name)
}
