//! What must be true at every moment.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::node::limits::Limits;

use crate::host::place;
use crate::liar::{LIAR, Lie};
use crate::ring::Number;
use crate::timeline::Millis;
use crate::world::World;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A ticket was sealed that a live connected node cannot open.
    Sealed,
    /// A host was to open a ticket that a connected one had sealed, and could not.
    Opened,
    /// Two keys of one node encrypt.
    TwoActive,
    /// None does.
    NoActive,
    /// A key lives longer somewhere than its maker gave it.
    Lengthened,
    /// A revoked key came back where it was known to be revoked.
    CameBack,
    /// A key is somewhere, and a node there has long been connected to one that knows it is revoked.
    StillHere,
    /// There are more keys of a node in a ring than its schedule and the rotations by hand make.
    TooMany,
    /// A node that has been connected for long lacks a key, or its new times.
    Behind,
    /// A key was not taken, though it was a good one.
    Refused,
    /// The node and its ring do not agree on whether a key encrypts.
    Disagree,
    /// Something is done that only a lie asked for.
    Believed,
}

/// What was seen, and when.
#[derive(Clone, Debug)]
pub struct Violation {
    pub broken: Broken,
    pub at: Millis,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {} ms: {}", self.broken, self.at, self.text)
    }
}

/// A ticket that somebody keeps.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    key: Number,
    host: usize,
    sealed: Millis,
}

/// What was done: a simulation in which nothing happens proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub sent: u64,
    pub messages: u64,
    pub offers: u64,
    pub events: u64,
    pub breaks: u64,
    pub drops: u64,
    pub begins: u64,
    pub troubles: u64,
    /// Tickets that were sealed by a host with an agent.
    pub seals: u64,
    /// For each of those, peers that had to have its key.
    pub peers: u64,
    /// Tickets presented to a host that had to open them.
    pub opened: u64,
    /// Tickets of nodes that are gone, and those of them that did not open.
    pub orphans: u64,
    pub lost_orphans: u64,
    /// Pairs looked at by [`World::inspect`].
    pub pairs: u64,
    /// Revoked keys of which all rings knew.
    pub over: u64,
    /// The most keys in a ring.
    pub most: usize,
    /// What was said that is not so.
    pub lies: u64,
}

/// Tickets that are kept.
const TICKETS: usize = 1024;
/// A node that has been connected for longer has everything.
const SETTLED: Millis = 10_000;
/// Whoever asks for everything is answered this often.
const ANSWER_EVERY: Millis = 1_000;
/// Copies end earlier by as much as messages take, which may have been relayed.
const SHORTER: Duration = Duration::from_secs(20);

impl World {
    /// A server of the host seals a ticket.
    pub fn seal(&mut self, host: usize) {
        let now = self.now();
        let this = &self.hosts[host];
        if !this.serves {
            return;
        }
        self.check_active(host);
        let this = &self.hosts[host];
        let Some(key) = self.rings.active(host, this.time(now)) else { return };
        if this.agent.is_some() && !self.lies(host) {
            self.figures.seals += 1;
            self.check_sealed(host, key);
        }
        self.present_a_ticket(host);
        let ticket = Ticket { key, host, sealed: now };
        if self.tickets.len() < TICKETS {
            self.tickets.push(ticket);
        } else {
            let place = self.rng.usize(0..TICKETS);
            self.tickets[place] = ticket;
        }
    }

    /// The peers that have to open what `host` seals with `key`: all that it believes to be up, that
    /// have not said that they stop, and
    ///
    /// - that have been since before it announced the key, if its agent made it; or
    /// - that have been for longer than `lead_max`, which is the longest that a peer may keep it
    ///   waiting; for a key that a server made and used at once, since the agent found it; or
    /// - that believe in the same connection, and that they have heard everything
    ///   (`Node::is_synced`: only then does an agent say that it is ready).
    ///
    /// A key that was revoked somewhere is no ticket's fault: see [`Broken::StillHere`].
    fn check_sealed(&mut self, host: usize, key: Number) {
        let (now, facts) = (self.now(), &self.keys[key as usize]);
        let Some(announced) = facts.announced else { return };
        if facts.revoked.is_some() {
            return;
        }
        let (by_agent, lead_max) = (facts.by_agent, self.grace());
        let copies = self.rings.copies(key);
        let mut lacking = None;
        for (peer, end) in self.network.ends(host).iter().enumerate() {
            let that = &self.hosts[peer];
            if !end.up || that.id != end.node || that.left {
                continue;
            }
            let told = now > end.since.max(announced) + lead_max;
            let synced = || {
                let works = self.network.works(host, peer).is_some();
                works && that.agent.as_ref().is_some_and(|agent| agent.is_synced())
            };
            if !told && !(by_agent && (end.since <= announced || synced())) {
                continue;
            }
            self.figures.peers += 1;
            let opens = copies.get(peer).is_some_and(|times| that.time(now) < times.decrypt_until);
            if !opens {
                lacking = Some(peer);
            }
        }
        if let Some(peer) = lacking {
            let text = format!("host {host} seals with key {key}, which host {peer} does not have");
            self.violate(Broken::Sealed, text);
        }
    }

    /// At most one key encrypts; and one does.
    pub fn check_active(&mut self, host: usize) {
        let (now, this) = (self.now(), &self.hosts[host]);
        let (Some(agent), time) = (&this.agent, this.time(now)) else { return };
        let active = self.rings.all_active(host, time).count();
        // Where one begins on its own its agent is told at this moment, and ends the other.
        let tick = time - Duration::from_millis(self.scenario.grain);
        let began = |key: &&(Number, KeyTimes)| key.1.encrypt_from <= tick;
        let together = self.rings.all_active(host, time).filter(began).count();
        let (has, excused) = (agent.has_active(time), now <= this.excused);
        if together > 1 {
            self.violate(Broken::TwoActive, format!("host {host} encrypts with {together} keys"));
        } else if active == 0 && !excused {
            self.violate(Broken::NoActive, format!("host {host} has no active key"));
        } else if has != (active > 0) && self.scenario.fault.is_none() {
            let text = format!("host {host} has {active} active keys, its node: {has}");
            self.violate(Broken::Disagree, text);
        }
    }

    /// A key has come into the ring of a host that did not make it.
    pub fn check_taken(&mut self, host: usize, key: Number, times: KeyTimes) {
        if self.is_a_liars(key) {
            return self.check_believed(host, key, times);
        }
        let (this, facts) = (&self.hosts[host], &self.keys[key as usize]);
        // A ring that is new has heard of nothing, if it heard the liar first.
        let is_over = facts.is_over && self.scenario.lie.is_none();
        if this.nanos(times.decrypt_until) > facts.ends {
            let text = format!("key {key} lives longer on host {host} than its maker said");
            self.violate(Broken::Lengthened, text);
        } else if is_over || facts.is_known_to_be_revoked(host, this) {
            let text = format!("key {key} came back to host {host}, and was known to be revoked");
            self.violate(Broken::CameBack, text);
        }
    }

    /// A key has come into a ring that the liar made, or made up.
    fn check_believed(&mut self, host: usize, key: Number, times: KeyTimes) {
        let (this, facts) = (&self.hosts[host], &self.keys[key as usize]);
        let end = self.network.end(host, place(facts.origin));
        let speaks_for_itself = end.up && end.node == facts.origin;
        let is_of_another = facts.made_up && !self.lies(place(facts.origin)) && speaks_for_itself;
        let in_order =
            times.encrypt_from <= times.encrypt_until && times.encrypt_until <= times.decrypt_until;
        let longest = this.time(self.now()) + self.limits.longest;
        // A ring has the grave of a key for as long as honest nodes may have copies.
        let lives = self.now() * 1_000_000 < facts.ends;
        // Who never had it, or whose agent is another one, cannot know that it is over.
        let lengthened = !matches!(self.scenario.lie, Some(Lie::Longer | Lie::OutOfOrder))
            && facts.has_ended.contains(&(host, this.instance));
        let broken = if facts.origin == this.id || is_of_another || !in_order {
            Broken::Believed
        } else if times.decrypt_until > longest || lengthened {
            Broken::Lengthened
        } else if facts.is_known_to_be_revoked(host, this) && lives {
            Broken::CameBack
        } else {
            return;
        };
        self.violate(broken, format!("host {host} took key {key}, of which the liar told it"));
    }

    /// The liar is told something: it need not be told everything all the time.
    pub fn check_answer(&mut self, host: usize, message: &Message<()>) {
        if !matches!(message, Message::Held { .. }) {
            return;
        }
        let (now, since) = (self.now(), self.network.end(host, LIAR).since);
        let before = self.hosts[host].answered.replace(now);
        if before.is_some_and(|before| before > since && now < before + ANSWER_EVERY) {
            let text = format!("host {host} told the liar everything, and had just done so");
            self.violate(Broken::Believed, text);
        }
    }

    /// A client comes to `host` with a ticket that some host sealed.
    fn present_a_ticket(&mut self, host: usize) {
        let Some(ticket) = self.rng.choice(&self.tickets).copied() else { return };
        let (now, this) = (self.now(), &self.hosts[host]);
        let facts = &self.keys[ticket.key as usize];
        let (there, key) = (&self.hosts[ticket.host], ticket.key);
        let lifetime = self.scenario.policy.lifetime.saturating_sub(SHORTER).as_millis() as Millis;
        let lied = self.lies(host) || self.is_a_liars(key);
        if lied || facts.revoked.is_some() || now > ticket.sealed + lifetime || this.agent.is_none()
        {
            return;
        }
        let opens = self.rings.opens(host, key, this.time(now));
        if host == ticket.host && this.id == facts.origin {
            self.figures.opened += 1;
            if !opens {
                let text = format!("host {host} cannot open its own ticket of key {key}");
                self.violate(Broken::Opened, text);
            }
        } else if there.id == facts.origin {
            let settled = self.network.works(host, ticket.host);
            let announced = facts.announced.unwrap_or(now);
            let told = |since: Millis| now > since.max(announced) + SETTLED;
            let kept = self.rings.opens(ticket.host, key, there.time(now));
            if kept && there.agent.is_some() && settled.is_some_and(told) {
                self.figures.opened += 1;
                if !opens {
                    let text = format!(
                        "host {host} cannot open a ticket of key {key}, sealed by host {} at {}",
                        ticket.host, ticket.sealed
                    );
                    self.violate(Broken::Opened, text);
                }
            }
        } else if now > this.turned + SETTLED {
            // Where nobody has it, it cannot be had.
            let kept = (0..self.hosts.len()).any(|peer| {
                let since = self.network.works(host, peer);
                let time = self.hosts[peer].time(now);
                since.is_some_and(|at| now > at + SETTLED) && self.rings.opens(peer, key, time)
            });
            self.figures.orphans += u64::from(opens || kept);
            self.figures.lost_orphans += u64::from(!opens && kept);
        }
    }

    /// Looks at every ring, every pair of hosts and every revoked key.
    pub fn inspect(&mut self) {
        for host in 0..self.hosts.len() {
            self.check_peers(host);
        }
        self.check_numbers();
        self.check_revoked();
    }

    /// A ring holds of each node what the schedule makes, and one more for each time that this was
    /// disturbed, while such keys live.
    fn check_numbers(&mut self) {
        let (now, policy) = (self.now(), self.scenario.policy);
        let policy = Policy { lead: policy.lead.max(self.limits.lead_max), ..policy };
        let Policy { rotate_every, lifetime, .. } = policy;
        let ahead = self.limits.ahead(&policy).as_nanos().div_ceil(rotate_every.as_nanos());
        // Beyond the successor, which a single host has, too.
        let ahead = (ahead as usize).saturating_sub(1);
        // One more than the ring of a single host, where keys are announced earlier.
        let scheduled = Policy::keys_kept(rotate_every, lifetime) as usize + 1 + ahead;
        let disturbed = |times| (2 + ahead) * times;
        // Of a copy: whose host has not heard that a key began early has it for longer.
        let life = policy.last_copy(Time(0) + Limits::life(&policy, self.limits.ahead));
        let life = Time(0).until(life).as_millis();
        let mut by_origin: HashMap<NodeId, Vec<Number>> = HashMap::new();
        for key in self.rings.copied().filter(|key| !self.is_a_liars(*key)) {
            by_origin.entry(self.keys[key as usize].origin).or_default().push(key);
        }
        let times: Vec<_> = self.hosts.iter().map(|host| host.time(now)).collect();
        let lives = |host: usize, key: &KeyTimes| times[host] < key.decrypt_until;
        let mut totals: Vec<usize> = (0..self.hosts.len())
            .map(|host| self.rings.own(host).iter().filter(|(_, key)| lives(host, key)).count())
            .collect();
        let mut too_many: Vec<_> = (0..self.hosts.len())
            .map(|host| (host, self.hosts[host].id, totals[host]))
            .filter(|(host, _, count)| *count > scheduled + disturbed(self.irregular(*host, life)))
            .collect();
        let mut counts = vec![0; self.hosts.len()];
        for (origin, keys) in by_origin {
            // A new one, and successors in the place of those that were to follow the old one.
            let most = scheduled + disturbed(self.irregular(place(origin), life));
            counts.fill(0);
            for key in keys {
                for (host, key) in self.rings.copies(key).iter().enumerate() {
                    counts[host] += usize::from(lives(host, key));
                }
            }
            for (host, count) in counts.iter().enumerate() {
                totals[host] += count;
                if *count > most {
                    too_many.push((host, origin, *count));
                }
            }
        }
        self.figures.most = self.figures.most.max(totals.into_iter().max().unwrap_or(0));
        if let Some((host, origin, count)) = too_many.into_iter().min() {
            self.violate(Broken::TooMany, format!("host {host} has {count} keys of {origin}"));
        }
    }

    /// How often within this span a host was made to make a key beside its schedule.
    fn irregular(&self, host: usize, span: u128) -> usize {
        let now = self.now();
        let living = |at: &&Millis| **at + span as Millis >= now;
        self.hosts[host].irregular.iter().filter(living).count()
    }

    /// Whoever has been connected to `host` for long has the key that it encrypts with, and none
    /// of its keys with a longer life than it has itself.
    fn check_peers(&mut self, host: usize) {
        let (now, this) = (self.now(), &self.hosts[host]);
        let time = this.time(now);
        if self.lies(host) || this.agent.is_none() || now <= this.turned + SETTLED {
            return;
        }
        let active = self.rings.active(host, time);
        let known = |key: &Number| {
            let facts = &self.keys[*key as usize];
            facts.revoked.is_none() && facts.announced.is_some_and(|at| now > at + SETTLED)
        };
        let Some(key) = active.filter(known) else { return };
        let ends = this.nanos(self.rings.get(host, key).expect("the active key").decrypt_until);
        let fresh = now <= self.keys[key as usize].shortened + SETTLED;
        let copies = self.rings.copies(key);
        let mut behind = None;
        for (peer, that) in self.hosts.iter().enumerate() {
            if self.network.works(host, peer).is_none_or(|since| now <= since + SETTLED) {
                continue;
            }
            self.figures.pairs += 1;
            match copies.get(peer).filter(|times| times.decrypt_until > Time(0)) {
                Some(times) if fresh || that.nanos(times.decrypt_until) <= ends => {}
                Some(_) => behind = Some((peer, "has with a longer life")),
                None => behind = Some((peer, "lacks")),
            }
        }
        if let Some((peer, how)) = behind {
            let text = format!("host {peer} {how} key {key}, which host {host} encrypts with");
            self.violate(Broken::Behind, text);
        }
    }

    /// Whoever has been connected for long to a node that knows that a key is revoked knows it.
    fn check_revoked(&mut self) {
        let now = self.now();
        let keys = &self.keys;
        self.revoked.retain(|key| keys[*key as usize].ends > now * 1_000_000);
        let mut found = None;
        for key in &self.revoked {
            let learnt = &self.keys[*key as usize].learnt;
            for (host, this) in self.hosts.iter().enumerate() {
                if this.agent.is_none() || !self.rings.opens(host, *key, this.time(now)) {
                    continue;
                }
                let told = |(peer, (ring, at)): &(usize, &(NodeId, Millis))| {
                    let works = self.network.works(host, *peer);
                    let knows = *ring == self.hosts[*peer].id;
                    knows && works.is_some_and(|since| now > since.max(*at) + SETTLED)
                };
                if let Some((peer, _)) = learnt.iter().enumerate().find(told) {
                    found = Some(format!(
                        "host {host} has key {key}, of which host {peer} knows that it is revoked"
                    ));
                }
            }
        }
        if let Some(text) = found {
            self.violate(Broken::StillHere, text);
        }
    }
}
