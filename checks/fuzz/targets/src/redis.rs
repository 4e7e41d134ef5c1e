//! A host around a node that shares through Redis: its ring, its clock, that Redis; and what must
//! hold whatever happens.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tktrot::clock::{Time, nanos};
use tktrot::schedule::{KeyState, KeyTimes, Policy};
use tktrot::secret::KeyName;
use tktrot_fleet::message::{Facts, NodeId, Refusal};
use tktrot_fleet::redis::clock::{ClockReading, RedisTime};
use tktrot_fleet::redis::event::{Look, Mark, Memory, RedisAction, RedisEvent};
use tktrot_fleet::redis::stored::{Flaw, Grave, Revoked, Slot, Stored, Terms, Turn};
use tktrot_fleet::redis::{RedisNode, Settings, longest_life};

use crate::made_up;
use crate::passing::Host;

/// The node.
pub const ME: NodeId = NodeId(1);
/// More answers than any state needs: a node that asks on keeps Redis busy for ever.
const ANSWERS: usize = 40;
/// Names of keys that came out of Redis are of higher numbers than this, and than [`FOUND`] are
/// those of keys of other nodes that the ring has.
const STORED: u32 = 1_000_000;
const FOUND: u32 = 2_000_000;
/// The clock of Redis is so much ahead at the beginning.
const AHEAD: u64 = 1_700_000_000_000_000_000;
/// After a failure the generator is asked again so much later.
const RETRY: Duration = Duration::from_secs(1);

struct Value {
    slot: Slot,
    what: Result<Stored<()>, Flaw>,
    /// Redis forgets it then.
    until: Time,
}

/// What Redis has been asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Poll,
    Look,
    Write,
}

/// One host, and a Redis.
pub struct World {
    shared: RedisNode,
    pub policy: Policy,
    pub now: Time,
    /// A key of the fleet's came into the ring.
    pub has_taken: bool,
    pub graves: Vec<Grave>,
    ring: BTreeMap<[u8; 16], Facts>,
    values: Vec<Value>,
    /// What the ring remembers.
    memory: Memory,
    mark: Option<Mark>,
    /// Redis' time at this host's zero.
    ahead: u64,
    up: bool,
    asked: Option<Asked>,
    made: u32,
    stored: u32,
    found: u32,
    /// Until when a key that was here must not come back.
    ended: HashMap<KeyName, Time>,
    started: Option<Time>,
    has_served: bool,
    failed: Option<Time>,
    generator_works: bool,
    ring_is_full: bool,
}

impl Host for World {
    fn now(&mut self) -> &mut Time {
        &mut self.now
    }

    fn deadline(&self) -> Time {
        self.shared.deadline()
    }

    fn tick(&mut self) {
        self.handle(RedisEvent::Tick);
    }
}

impl World {
    pub fn new(policy: Policy) -> Self {
        World {
            shared: RedisNode::new(ME, Settings::default(), policy, Memory::NONE),
            policy,
            now: Time(0) + Duration::from_secs(100_000),
            has_taken: false,
            graves: Vec::new(),
            ring: BTreeMap::new(),
            values: Vec::new(),
            memory: Memory::NONE,
            mark: None,
            ahead: AHEAD,
            up: false,
            asked: None,
            made: 0,
            stored: STORED,
            found: FOUND,
            ended: HashMap::new(),
            started: None,
            has_served: false,
            failed: None,
            generator_works: true,
            ring_is_full: false,
        }
    }

    pub fn redis_now(&self) -> RedisTime {
        RedisTime(self.now.0.saturating_add(self.ahead))
    }

    /// The epoch that honest nodes have.
    pub fn epoch(&self) -> u64 {
        self.memory.epoch
    }

    pub fn period(&self) -> u64 {
        self.redis_now().0 / nanos(self.policy.rotate_every)
    }

    /// Something happens, and what the node wants is done.
    pub fn handle(&mut self, event: RedisEvent<()>) {
        if event == RedisEvent::Tick {
            self.started.get_or_insert(self.now);
        }
        let mut events = VecDeque::from([event]);
        let mut answers = 0;
        while let Some(event) = events.pop_front() {
            made_up::tell(&(self.now, &event));
            for action in self.shared.handle(event, self.now) {
                made_up::tell(&action);
                events.extend(self.act(action));
            }
            if events.is_empty() && self.up {
                events.extend(self.answer());
                answers += 1;
                assert!(answers < ANSWERS, "the node asks for ever");
            }
        }
        self.check();
    }

    fn act(&mut self, action: RedisAction<()>) -> Option<RedisEvent<()>> {
        match action {
            RedisAction::Make(times) => {
                assert!(times.are_ordered() && times.decrypt_until > self.now, "{times:?}");
                if !self.generator_works {
                    self.failed = Some(self.now);
                    return Some(RedisEvent::NotMade);
                }
                return Some(RedisEvent::Made(self.make(ME, times)));
            }
            RedisAction::Take(stored, times) => return Some(self.take(&stored, times)),
            RedisAction::Shorten(name, times) => match self.ring.get_mut(&name.0) {
                Some(key) => {
                    let shortened = key.times.shortened(&times);
                    assert_eq!(times, shortened, "{name} lives longer than it did");
                    key.times = times;
                }
                // It has not heard yet that the key was not taken.
                None => assert!(self.ring_is_full, "{name} is shortened and not there"),
            },
            RedisAction::Erase(name) => {
                let was_there = self.ring.remove(&name.0).is_some();
                assert!(was_there || self.ring_is_full, "{name} is erased and not there");
            }
            RedisAction::Poll => self.is_asked(Asked::Poll),
            RedisAction::Look(_) => self.is_asked(Asked::Look),
            RedisAction::Offer(terms, keep) => {
                self.writes(&terms, keep);
                assert_eq!(terms.rotate_every, self.policy.rotate_every);
                let slot = Slot::At(terms.turn);
                self.stored += 1;
                self.puts(slot, Ok(made_up::name(self.stored)), terms, keep);
            }
            RedisAction::PutBack(slot, name, terms, keep) => {
                self.writes(&terms, keep);
                assert!(self.ring.contains_key(&name.0), "{name} is put back and not here");
                self.puts(slot, Ok(name), terms, keep);
            }
            RedisAction::Bury(graves, slots) => {
                self.is_asked(Asked::Write);
                self.graves.extend(graves);
                self.values.retain(|value| !slots.contains(&value.slot));
                self.changes();
            }
            RedisAction::Entomb(..) | RedisAction::Note(_) => {}
            RedisAction::Remember(memory) => {
                let before = self.memory;
                assert!(memory.epoch >= before.epoch && memory.period >= before.period);
                self.memory = memory;
            }
        }
        None
    }

    fn is_asked(&mut self, what: Asked) {
        assert!(self.up, "Redis is asked and not there");
        let several = what == Asked::Write && self.asked == Some(Asked::Write);
        assert!(self.asked.is_none() || several, "Redis is asked twice");
        self.asked = Some(what);
    }

    /// What is written is something that others take for a key.
    fn writes(&mut self, terms: &Terms, keep: Duration) {
        self.is_asked(Asked::Write);
        assert!(terms.are_ordered(), "{terms:?}");
        assert!(keep <= self.longest() + Duration::from_secs(60), "kept for {keep:?}");
    }

    /// The longest life of any key.
    fn longest(&self) -> Duration {
        longest_life(self.policy.rotate_every)
    }

    fn puts(&mut self, slot: Slot, name: Result<KeyName, Flaw>, terms: Terms, keep: Duration) {
        if self.values.iter().all(|value| value.slot != slot) {
            let what = name.map(|name| Stored { name, terms, secrets: () });
            self.values.push(Value { slot, what, until: self.now + keep });
            self.changes();
        }
    }

    /// Somebody wrote something: all are told by another mark.
    pub fn changes(&mut self) {
        let token = self.mark.map_or(0, |mark| mark.token + 1);
        self.mark = Some(Mark { token });
    }

    /// Redis answers what it was asked.
    fn answer(&mut self) -> Option<RedisEvent<()>> {
        let asked = self.asked.take()?;
        let host = RedisTime(self.now.0.saturating_add(AHEAD));
        let redis = self.redis_now();
        let reading = ClockReading { asked: self.now, answered: self.now, redis, host };
        self.values.retain(|value| value.until > self.now);
        Some(match asked {
            Asked::Poll => RedisEvent::Polled(reading, self.mark),
            Asked::Write => RedisEvent::Written,
            Asked::Look => {
                let graves: Vec<_> = self
                    .graves
                    .iter()
                    .filter(|grave| grave.ends > reading.redis)
                    .copied()
                    .collect();
                for grave in &graves {
                    if let Revoked::Key(name) = grave.what
                        && let Some(key) = self.ring.get(&name.0)
                    {
                        let until = key.times.decrypt_until.min(reading.local(grave.ends));
                        self.ended.entry(name).or_insert(until);
                    }
                }
                let keys = self.values.iter().map(|value| (value.slot, value.what.clone()));
                let keys = keys.collect();
                RedisEvent::Looked(Look { reading, mark: self.mark, keys, graves })
            }
        })
    }

    fn make(&mut self, origin: NodeId, times: KeyTimes) -> Facts {
        let number = if origin == ME { &mut self.made } else { &mut self.found };
        *number += 1;
        let facts = Facts { name: made_up::name(*number), origin, times, plain: false };
        self.ring.insert(facts.name.0, facts);
        facts
    }

    fn take(&mut self, stored: &Stored<()>, times: KeyTimes) -> RedisEvent<()> {
        let Stored { name, terms, .. } = stored;
        assert!(!self.ring.contains_key(&name.0), "{name} is there already");
        assert!(times.are_ordered(), "{times:?}");
        assert!(terms.epoch >= self.memory.epoch, "{name} came back: all like it were revoked");
        assert!(self.now < times.decrypt_until, "{name} has ended: {times:?}");
        assert!(times.decrypt_until <= self.now + self.longest(), "{name} lives long: {times:?}");
        let spans = times.encrypt_from.max(self.now).until(times.encrypt_until);
        assert!(spans <= self.policy.rotate_every, "{name} encrypts for {spans:?}");
        let over = self.ended.get(name).is_some_and(|until| *until > self.now);
        assert!(!over, "{name} came back");
        if self.ring_is_full {
            return RedisEvent::Took(*name, Err(Refusal::Full));
        }
        self.has_taken = true;
        self.ring.insert(name.0, Facts { name: *name, origin: ME, times, plain: terms.plain });
        RedisEvent::Took(*name, Ok(()))
    }

    /// What holds after every event.
    fn check(&mut self) {
        let now = self.now;
        let remembered = now + 2 * self.policy.rotate_every + self.policy.lifetime;
        self.ring.retain(|_, key| {
            let is_over = key.times.decrypt_until <= now;
            if is_over {
                self.ended.insert(key.name, remembered);
            }
            !is_over
        });
        let is_active = |key: &&Facts| key.times.state(now) == KeyState::Active && key.origin == ME;
        let active = self.ring.values().filter(is_active).count();
        assert_eq!(self.shared.has_active(now), active > 0, "ring and node do not agree");
        let Some(started) = self.started else { return };
        assert!(self.shared.deadline() > now, "the node wants to be called in the past");
        self.has_served |= active > 0;
        let Settings { patience, lead, .. } = Settings::default();
        // While Redis answers, the fleet's first key is waited for.
        let first = if self.has_served { Duration::ZERO } else { lead };
        let patient = now < started + patience + first;
        let failed = self.failed.is_some_and(|failed| now < failed + RETRY);
        assert!(active > 0 || patient || failed || !self.generator_works, "no key encrypts");
    }

    pub fn comes_up(&mut self) {
        if !self.up {
            (self.up, self.asked) = (true, None);
            self.handle(RedisEvent::Up);
        }
    }

    pub fn goes_down(&mut self) {
        (self.up, self.asked) = (false, None);
        self.handle(RedisEvent::Down);
    }

    /// Another node of the fleet stores a key.
    pub fn stores(&mut self, slot: Slot, terms: Terms) {
        self.stored += 1;
        let name = match slot {
            Slot::Kept(name) => name,
            Slot::At(_) => made_up::name(self.stored),
        };
        let keep = self.redis_now().until(terms.ends).min(Duration::from_secs(30 * 24 * 3600));
        self.puts(slot, Ok(name), terms, keep);
    }

    /// The slot for the next key that is only kept.
    pub fn kept(&self) -> Slot {
        Slot::Kept(made_up::name(self.stored + 1))
    }

    /// Something that is no key is written.
    pub fn spoils(&mut self, slot: Slot, flaw: Flaw) {
        self.values.retain(|value| value.slot != slot);
        self.values.push(Value { slot, what: Err(flaw), until: Time::NEVER });
        self.changes();
    }

    /// Redis loses everything, or all keys, or some of them.
    pub fn loses_all(&mut self, byte: u8) {
        let mut number = 0;
        self.values.retain(|_| {
            number += 1;
            byte & 4 != 0 && number % 2 == 0
        });
        if byte & 1 != 0 {
            self.graves.clear();
        }
        if byte & 2 != 0 {
            self.mark = None;
        }
    }

    pub fn sets_clock(&mut self, forward: bool, by: Duration) {
        // No more than a year, nor to before it was made.
        let by = nanos(by.min(Duration::from_secs(365 * 24 * 3600)));
        self.ahead =
            if forward { self.ahead.saturating_add(by) } else { self.ahead.saturating_sub(by) };
    }

    pub fn finds_new(&mut self, origin: NodeId, times: KeyTimes) {
        if times.decrypt_until > self.now {
            let facts = self.make(origin, times);
            self.handle(RedisEvent::Found(facts));
        }
    }

    /// Somebody on this host revoked a key past the agent.
    pub fn loses(&mut self, which: u8) {
        let Some(name) = self.some(which) else { return };
        let key = self.ring.remove(&name.0).expect("it is there");
        self.ended.entry(name).or_insert(key.times.decrypt_until);
        self.handle(RedisEvent::Lost(name));
        if which & 1 == 0 {
            // As whoever revokes it; else it is gone for some other reason.
            self.handle(RedisEvent::Graves(vec![(name, key.times.decrypt_until)]));
        }
    }

    pub fn revokes(&mut self, names: Vec<KeyName>) {
        self.end(&names);
        self.handle(RedisEvent::Revoke(names.clone()));
        self.are_gone(&names);
    }

    pub fn revokes_all(&mut self) {
        let all: Vec<_> = self.ring.keys().map(|name| KeyName(*name)).collect();
        self.end(&all);
        self.handle(RedisEvent::RevokeAll);
        self.are_gone(&all);
    }

    fn end(&mut self, names: &[KeyName]) {
        for name in names {
            if let Some(key) = self.ring.get(&name.0) {
                self.ended.insert(*name, key.times.decrypt_until);
            }
        }
    }

    fn are_gone(&self, names: &[KeyName]) {
        for name in names {
            assert!(!self.ring.contains_key(&name.0), "{name} was revoked and is still there");
        }
    }

    pub fn has_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.handle(RedisEvent::Policy(policy));
    }

    /// What works and what does not.
    pub fn trouble(&mut self, byte: u8) {
        if !self.generator_works {
            self.failed = Some(self.now);
        }
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

    /// The name of the key that this host made as the n-th; where it did not yet, one of no key: names
    /// are random, and nobody can know one in advance.
    pub fn past(&self, number: u32) -> KeyName {
        made_up::name(if number <= self.made { number } else { u32::MAX - number })
    }

    /// Where nothing is broken any more a key encrypts, whatever happened before.
    pub fn calm_down(&mut self) {
        self.trouble(0);
        let Settings { patience, lead, .. } = Settings::default();
        self.pass(patience + lead + 2 * RETRY);
        assert!(self.shared.has_active(self.now), "no key encrypts in the end");
        let _: Option<(Turn, KeyName)> = self.shared.turn(self.now);
    }
}
