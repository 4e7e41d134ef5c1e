//! A host that has the fleet's secret and lies: its node does everything right, and what it says is
//! twisted on its way out. Whatever it says, the others are to be as if it were not there; what is true of
//! them all the same, and what its own keys may do to them, is in [`crate::invariants`].

use std::time::Duration;

use tktrot_fleet::message::{Left, Message, NodeId, Offer, Refusal};

use crate::happening::Happening;
use crate::host::place;
use crate::ring::{self, Number};
use crate::timeline::Millis;
use crate::world::{Key, World};

/// The host that lies, where one does.
pub const LIAR: usize = 0;
/// It does so this often, beside what it says anyway.
const EVERY: Millis = 1_000;
/// So many things at once.
const MANY: usize = 50;
/// Longer than any key lives.
const FOREVER: Duration = Duration::from_secs(90 * 86_400);
/// A node remembers the keys that ended by themselves for ten minutes.
const REMEMBERED: u64 = 500_000_000_000;

/// What the liar says that is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Its keys live for months.
    Longer,
    /// Its keys end before they encrypt.
    OutOfOrder,
    /// Keys that it made up are of the node that hears of them.
    KeysOfTheHearer,
    /// Keys that it made up are of another node, and it is that node.
    SpeaksForAnother,
    /// Keys that it made up are of another node that is up, which has told of them.
    HasHeardOfAnother,
    /// The keys of others are its own, and end at once.
    EndsKeysOfOthers,
    /// The keys of the node that hears it are its own, and end at once.
    EndsKeysOfTheHearer,
    /// Revoked keys are good ones.
    BringsBackRevoked,
    /// Its own keys that have ended have not.
    BringsBackEnded,
    /// It has more keys than any ring can hold.
    Floods,
    /// So have others that nobody else knows.
    FloodsForStrangers,
    /// It says nothing about the keys that it is told.
    SaysNothing,
    /// It can never write its ring.
    IsBusy,
    /// All keys that anybody was told were taken.
    AnswersForOthers,
    /// It has to know everything, all the time.
    AsksAllTheTime,
}

impl Lie {
    /// Every lie.
    pub const ALL: [Lie; 15] = [
        Lie::Longer,
        Lie::OutOfOrder,
        Lie::KeysOfTheHearer,
        Lie::SpeaksForAnother,
        Lie::HasHeardOfAnother,
        Lie::EndsKeysOfOthers,
        Lie::EndsKeysOfTheHearer,
        Lie::BringsBackRevoked,
        Lie::BringsBackEnded,
        Lie::Floods,
        Lie::FloodsForStrangers,
        Lie::SaysNothing,
        Lie::IsBusy,
        Lie::AnswersForOthers,
        Lie::AsksAllTheTime,
    ];
}

impl World {
    /// Whether what this host says is not to be believed.
    pub fn lies(&self, host: usize) -> bool {
        self.scenario.lie.is_some() && host == LIAR
    }

    /// Whether the liar, or nobody at all, made a key.
    pub fn is_a_liars(&self, key: Number) -> bool {
        let key = &self.keys[key as usize];
        key.made_up || self.lies(place(key.origin))
    }

    /// What is said in the place of what was to be said; nothing if that is the lie.
    pub fn twist(&mut self, message: Message<()>) -> Option<Message<()>> {
        let Some(lie) = self.scenario.lie else { return Some(message) };
        let mut message = message;
        let this = self.hosts[LIAR].id;
        match (lie, &mut message) {
            (Lie::Longer, Message::Keys(offers)) => {
                for offer in offers.iter_mut() {
                    offer.left.decrypts = FOREVER;
                }
            }
            (Lie::OutOfOrder, Message::Keys(offers)) => {
                for Offer { left, .. } in offers.iter_mut() {
                    let Left { begins, encrypts, decrypts } = *left;
                    *left =
                        Left { begins: decrypts, encrypts: decrypts + begins, decrypts: encrypts };
                }
            }
            (Lie::SaysNothing, Message::Taken(_) | Message::Refused(_)) => {
                self.figures.lies += 1;
                return None;
            }
            (Lie::IsBusy, Message::Taken(names)) => {
                let busy = names.iter().map(|name| (*name, Refusal::Busy)).collect();
                message = Message::Refused(busy);
            }
            _ => return Some(message),
        }
        let of_its_own = |offer: &Offer<()>| offer.origin == this;
        let lied = match &message {
            Message::Keys(offers) => offers.iter().any(of_its_own),
            _ => true,
        };
        self.figures.lies += u64::from(lied);
        Some(message)
    }

    /// What the liar says to everybody who is up, of its own accord.
    pub fn lie(&mut self) {
        let now = self.now();
        self.timeline.plan(now + EVERY, Happening::Lie);
        let Some(lie) = self.scenario.lie.filter(|_| self.hosts[LIAR].agent.is_some()) else {
            return;
        };
        for hearer in (0..self.hosts.len()).filter(|host| *host != LIAR) {
            if self.network.works(LIAR, hearer).is_none() {
                continue;
            }
            for message in self.lies_for(lie, hearer) {
                self.figures.lies += 1;
                self.transmit(LIAR, hearer, message);
            }
        }
    }

    fn lies_for(&mut self, lie: Lie, hearer: usize) -> Vec<Message<()>> {
        let (this, that) = (self.hosts[LIAR].id, self.hosts[hearer].id);
        let held = |keys: Vec<Offer<()>>| vec![Message::Held { keys, last: false }];
        let lies = match lie {
            Lie::KeysOfTheHearer => held(self.made_up(that, 3)),
            Lie::SpeaksForAnother => {
                let Some(other) = self.another(hearer) else { return Vec::new() };
                vec![Message::Keys(self.made_up(other, 10))]
            }
            Lie::HasHeardOfAnother => {
                let Some(other) = self.another(hearer) else { return Vec::new() };
                held(self.made_up(other, 3))
            }
            Lie::EndsKeysOfOthers => {
                // Who hears of one from the liar first believes it: nothing else is known of it.
                let others = self.rings.all(LIAR).map(|(key, _)| key).filter(|key| {
                    let origin = self.keys[*key as usize].origin;
                    origin != this && origin != that && self.rings.get(hearer, *key).is_some()
                });
                vec![Message::Keys(others.map(|key| ending(key, this)).collect())]
            }
            Lie::EndsKeysOfTheHearer => {
                let its = self.rings.own(hearer).iter().map(|(key, _)| ending(*key, this));
                vec![Message::Keys(its.collect())]
            }
            Lie::BringsBackRevoked => {
                let revoked = self.revoked.clone();
                let (its, others): (Vec<_>, Vec<_>) =
                    self.as_they_were(revoked).into_iter().partition(|offer| offer.origin == this);
                vec![Message::Keys(its), Message::Held { keys: others, last: false }]
            }
            Lie::BringsBackEnded => {
                let nanos = self.now() * 1_000_000;
                let ended = |key: &&Key| {
                    key.origin == this && key.ends <= nanos && nanos < key.ends + REMEMBERED
                };
                let all = self.keys.iter().enumerate();
                let keys = all.filter(|(_, key)| ended(key)).map(|(number, key)| {
                    let left = Duration::from_secs(60);
                    offer(number as Number, key.origin, left)
                });
                vec![Message::Keys(keys.collect())]
            }
            Lie::Floods => vec![Message::Keys(self.flood(this, hearer))],
            Lie::FloodsForStrangers => {
                let stranger = NodeId(self.rng.u64(..) & !0xffff | LIAR as u64);
                held(self.flood(stranger, hearer))
            }
            Lie::AnswersForOthers => {
                let its = self.rings.own(hearer).iter().map(|(key, _)| ring::name(*key));
                vec![Message::Taken(its.collect())]
            }
            Lie::AsksAllTheTime => vec![Message::Pull; MANY],
            Lie::Longer | Lie::OutOfOrder | Lie::SaysNothing | Lie::IsBusy => Vec::new(),
        };
        let says = |message: &Message<()>| match message {
            Message::Keys(keys) | Message::Held { keys, .. } => !keys.is_empty(),
            Message::Taken(names) => !names.is_empty(),
            _ => true,
        };
        lies.into_iter().filter(says).collect()
    }

    /// A node to which `hearer` is connected.
    fn another(&mut self, hearer: usize) -> Option<NodeId> {
        let up = |host: &usize| {
            *host != LIAR && *host != hearer && self.network.works(hearer, *host).is_some()
        };
        let up: Vec<_> = (0..self.hosts.len()).filter(up).collect();
        self.rng.choice(up).map(|host| self.hosts[host].id)
    }

    /// More keys than before, up to twice those that a ring holds.
    fn flood(&mut self, origin: NodeId, hearer: usize) -> Vec<Offer<()>> {
        let told = self.hosts[hearer].flooded;
        let more = (2 * self.limits.capacity).saturating_sub(told).min(MANY);
        self.hosts[hearer].flooded += more;
        self.made_up(origin, more)
    }

    /// Keys that nobody has made, as if that node had.
    fn made_up(&mut self, origin: NodeId, count: usize) -> Vec<Offer<()>> {
        let now = self.now();
        let left = self.limits.longest;
        let ends = now * 1_000_000 + left.as_nanos() as u64;
        let keys = (0..count).map(|_| {
            let number = self.keys.len() as Number;
            self.keys.push(Key { made_up: true, ..Key::new(origin, ends, now) });
            offer(number, origin, left)
        });
        keys.collect()
    }

    /// Keys with the times that they had, as far as these are not over.
    fn as_they_were(&self, keys: Vec<Number>) -> Vec<Offer<()>> {
        let nanos = self.now() * 1_000_000;
        let offers = keys.into_iter().map(|number| {
            let key = &self.keys[number as usize];
            let left = Duration::from_nanos(key.ends.saturating_sub(nanos));
            offer(number, key.origin, left)
        });
        offers.filter(|offer| !offer.left.decrypts.is_zero()).collect()
    }
}

/// A key as if `maker` had made it, and ended it.
fn ending(number: Number, maker: NodeId) -> Offer<()> {
    offer(number, maker, Duration::from_secs(1))
}

/// A key that encrypts nothing any more, and is good for so long.
fn offer(number: Number, origin: NodeId, left: Duration) -> Offer<()> {
    let left = Left { begins: Duration::ZERO, encrypts: Duration::ZERO, decrypts: left };
    Offer { name: ring::name(number), origin, left, plain: false, secrets: () }
}
