//! Connections between hosts: how long a message takes, and which ends believe that one is up.
//!
//! A connection carries messages in order. One that is lost is sent again by TCP, and all behind it
//! wait; or the connection breaks. Then both ends learn of it, each in its own time, up to
//! [`SILENCE`] later: until then they believe that it is up, and what they say is lost.

use fastrand::Rng;

use tktrot_fleet::message::NodeId;

use crate::timeline::Millis;

/// A host that is silent for so long is down for its peers (the agent's mesh pings).
pub const SILENCE: Millis = 3_000;
/// TCP's first retransmission; each further one takes twice as long.
const RETRANSMISSION: Millis = 200;

/// What the network does to messages.
#[derive(Clone, Debug)]
pub struct Weather {
    /// The time that a message takes, from the nearest to the farthest pair of hosts.
    pub latency: (Millis, Millis),
    /// The share of messages that get lost.
    pub lost: f64,
    /// The share of those whose connection breaks; the others are sent again.
    pub breaks: f64,
}

/// What one end of a connection believes.
#[derive(Clone, Copy)]
pub struct End {
    /// Who the peer is, or was.
    pub node: NodeId,
    /// The connection is up.
    pub up: bool,
    /// Since then.
    pub since: Millis,
    /// Which of this pair's connections.
    pub epoch: u32,
    /// When the last message that was sent arrives.
    arrives: Millis,
}

/// What is true of two hosts' connection, known or not.
#[derive(Clone, Copy, Default)]
struct Pair {
    /// The last one's number.
    latest: u32,
    /// The last one that broke.
    broken: u32,
    /// The hosts do not reach each other.
    blocked: bool,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Arrives(Millis),
    /// It is lost, and the connection with it.
    Breaks,
    /// It goes into a connection that is broken already.
    Vanishes,
}

/// All connections.
pub struct Network {
    weather: Weather,
    /// Messages arrive at multiples of this.
    grain: Millis,
    hosts: usize,
    ends: Vec<End>,
    pairs: Vec<Pair>,
    /// Hosts of different groups do not reach each other.
    groups: Vec<u8>,
}

impl Network {
    /// No host is connected to any other.
    pub fn new(hosts: usize, weather: Weather, grain: Millis) -> Self {
        let never = End { node: NodeId(0), up: false, since: 0, epoch: 0, arrives: 0 };
        let (ends, pairs) = (vec![never; hosts * hosts], vec![Pair::default(); hosts * hosts]);
        Network { weather, grain, hosts, ends, pairs, groups: vec![0; hosts] }
    }

    /// What `host` believes of its connections, by peer.
    pub fn ends(&self, host: usize) -> &[End] {
        &self.ends[host * self.hosts..][..self.hosts]
    }

    /// What `host` believes of its connection to `peer`.
    pub fn end(&self, host: usize, peer: usize) -> &End {
        &self.ends[host * self.hosts + peer]
    }

    fn end_mut(&mut self, host: usize, peer: usize) -> &mut End {
        &mut self.ends[host * self.hosts + peer]
    }

    fn pair(&self, a: usize, b: usize) -> &Pair {
        &self.pairs[a.min(b) * self.hosts + a.max(b)]
    }

    fn pair_mut(&mut self, a: usize, b: usize) -> &mut Pair {
        &mut self.pairs[a.min(b) * self.hosts + a.max(b)]
    }

    /// Since when both ends believe in the same connection, if they do and it works.
    pub fn works(&self, a: usize, b: usize) -> Option<Millis> {
        let (here, there) = (self.end(a, b), self.end(b, a));
        let same = here.up && there.up && here.epoch == there.epoch;
        (same && self.pair(a, b).broken < here.epoch).then(|| here.since.max(there.since))
    }

    /// True if a connection could be made.
    pub fn reaches(&self, a: usize, b: usize) -> bool {
        self.groups[a] == self.groups[b] && !self.pair(a, b).blocked
    }

    /// The group of a host.
    pub fn group(&self, host: usize) -> u8 {
        self.groups[host]
    }

    /// Puts a host into a group. Connections across are for the caller to break.
    pub fn set_group(&mut self, host: usize, group: u8) {
        self.groups[host] = group;
    }

    /// The hosts of this pair no longer reach each other, or do again.
    pub fn block(&mut self, a: usize, b: usize, blocked: bool) {
        self.pair_mut(a, b).blocked = blocked;
    }

    /// How long a message takes at least.
    pub fn latency(&self, a: usize, b: usize) -> Millis {
        let (least, most) = self.weather.latency;
        let pair = (a.min(b) as u64) << 32 | a.max(b) as u64;
        least + (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % (most - least + 1)
    }

    /// A new connection; none if there is one that works, or that may come to work.
    pub fn connect(&mut self, a: usize, b: usize) -> Option<u32> {
        let pair = self.pair_mut(a, b);
        if pair.broken < pair.latest {
            return None;
        }
        pair.latest += 1;
        Some(pair.latest)
    }

    /// The connection of these two is broken, whether they know or not: its number, if it was not.
    pub fn sever(&mut self, a: usize, b: usize) -> Option<u32> {
        let pair = self.pair_mut(a, b);
        let news = pair.broken < pair.latest;
        pair.broken = pair.latest;
        news.then_some(pair.latest)
    }

    /// `host` learns that a connection is up, and to whom; false if it broke before that.
    pub fn up(&mut self, host: usize, peer: usize, epoch: u32, node: NodeId, now: Millis) -> bool {
        if self.pair(host, peer).broken >= epoch {
            return false;
        }
        // What is said at once arrives when the peer knows, too.
        let arrives = now + self.latency(host, peer) + 1;
        *self.end_mut(host, peer) = End { node, up: true, since: now, epoch, arrives };
        true
    }

    /// `host` learns that a connection is down; false if it is in a newer one.
    pub fn down(&mut self, host: usize, peer: usize, epoch: u32) -> bool {
        let end = self.end_mut(host, peer);
        let news = end.up && end.epoch <= epoch;
        end.up &= !news;
        news
    }

    /// What becomes of a message that `from` sends now.
    pub fn send(&mut self, from: usize, to: usize, now: Millis, rng: &mut Rng) -> Fate {
        let epoch = self.end(from, to).epoch;
        if self.pair(from, to).broken >= epoch {
            return Fate::Vanishes;
        }
        let (latency, grain) = (self.latency(from, to), self.grain);
        let mut took = latency + rng.u64(0..=latency / 4);
        let mut wait = RETRANSMISSION;
        while rng.f64() < self.weather.lost {
            took += wait;
            wait *= 2;
            if took >= SILENCE || rng.f64() < self.weather.breaks {
                return Fate::Breaks;
            }
        }
        let end = self.end_mut(from, to);
        end.arrives = end.arrives.max(now + took).next_multiple_of(grain);
        Fate::Arrives(end.arrives)
    }
}
