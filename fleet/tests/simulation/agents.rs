//! The agent of a host around its node, as far as the simulation has one: what the node wants is
//! done to the ring and said to the peers. And the servers of the host, which rotate themselves
//! where no agent does.

use tktrot::clock::Time;
use tktrot::schedule::{self, KeyTimes, Step};
use tktrot_fleet::message::{Facts, Message, NodeId, Refusal};
use tktrot_fleet::node::event::{Action, Event, Note};

use crate::happening::Happening;
use crate::host::{Host, place};
use crate::invariants::Broken;
use crate::network::Fate;
use crate::ring::{self, Number};
use crate::timeline::Millis;
use crate::world::{Key, SMALL, World};

/// A ring is its servers' own again so long after its agent was last seen.
const LEASE: Millis = 3_000;

/// Which keys an event ends before their time.
enum Revoking {
    These(Vec<Number>),
    All,
}

impl Revoking {
    fn by(event: &Event<()>) -> Self {
        match event {
            Event::Revoke(names) => Revoking::These(names.iter().map(ring::number).collect()),
            Event::RevokeAll => Revoking::All,
            Event::Buried(graves) => {
                Revoking::These(graves.iter().map(|grave| ring::number(&grave.name)).collect())
            }
            Event::Received { message: Message::Revoked { keys, all }, .. } => match all {
                true => Revoking::All,
                false => Revoking::These(keys.iter().map(|key| ring::number(&key.name)).collect()),
            },
            _ => Revoking::These(Vec::new()),
        }
    }

    fn means(&self, key: Number) -> bool {
        match self {
            Revoking::These(keys) => keys.contains(&key),
            Revoking::All => true,
        }
    }
}

impl World {
    /// Tells the agent of a host what happened, and does what it wants.
    pub fn feed(&mut self, host: usize, event: Event<()>) {
        let now = self.now();
        let this = &mut self.hosts[host];
        let time = this.time(now);
        let Some(agent) = &mut this.agent else { return };
        let revoking = Revoking::by(&event);
        self.figures.events += 1;
        let mut answers = Vec::new();
        for action in agent.handle(event, time) {
            self.perform(host, action, time, &revoking, &mut answers);
        }
        for answer in answers {
            self.feed(host, answer);
        }
    }

    /// After all that happened at once: what can be seen now, and when the agent wants to wake.
    pub fn settle(&mut self, host: usize) {
        self.check_active(host);
        let now = self.now();
        let this = &mut self.hosts[host];
        let Some(agent) = &this.agent else { return };
        let wanted = this.moment(agent.deadline(this.time(now))).max(now + 1);
        let wanted = wanted.checked_next_multiple_of(self.scenario.grain).unwrap_or(wanted);
        if wanted < this.tick_at {
            this.tick_at = wanted;
            let instance = this.instance;
            self.timeline.plan(wanted, Happening::Tick { host: host as u16, instance });
        }
    }

    fn perform(
        &mut self,
        host: usize,
        action: Action<()>,
        time: Time,
        revoking: &Revoking,
        answers: &mut Vec<Event<()>>,
    ) {
        match action {
            Action::Make(times) => {
                let made = self.make(host, times, true);
                answers
                    .push(made.map_or(Event::NotMade, |key| Event::Made(self.facts(key, times))));
            }
            Action::Take { from, keys } => {
                let (mut taken, mut refused) = (Vec::new(), Vec::new());
                for (offer, times) in keys {
                    match self.take(host, ring::number(&offer.name), times, time) {
                        true => taken.push(offer.name),
                        false => refused.push((offer.name, Refusal::Full)),
                    }
                }
                answers.push(Event::Took { from, taken, refused });
            }
            Action::Shorten(name, times) => {
                let key = ring::number(&name);
                self.trace(|| format!("host {host} shortens key {key}"));
                self.rings.shorten(host, key, &times);
                if self.keys[key as usize].origin == self.hosts[host].id {
                    self.keys[key as usize].shortened = self.now();
                    self.plan_switches(host, key);
                }
            }
            Action::Erase(name) => self.erase(host, ring::number(&name), time, revoking),
            Action::Bury(graves) => {
                for grave in graves {
                    let key = ring::number(&grave.name);
                    self.rings.bury(host, key, grave.until);
                    self.erase(host, key, time, revoking);
                }
            }
            Action::Send { to, message } => self.send(host, to, message),
            Action::Drop { peer, .. } => {
                let there = place(peer);
                self.trace(|| format!("host {host} drops {there}"));
                self.figures.drops += 1;
                if self.network.end(host, there).node == peer {
                    self.network.down(host, there, u32::MAX);
                    self.sever(host, there);
                }
                answers.push(Event::Down(peer));
            }
            Action::Note(note) => self.note(host, note),
        }
    }

    fn note(&mut self, host: usize, note: Note) {
        self.trace(|| format!("host {host}: {note:?}"));
        match note {
            Note::Began { .. } => self.figures.begins += 1,
            Note::Refused(from, name, why, _)
                if why != Refusal::Ended
                    && !self.lies(place(from))
                    && !self.is_a_liars(ring::number(&name)) =>
            {
                let text = format!("host {host} refused {}: {why}", ring::number(&name));
                self.violate(Broken::Refused, text);
            }
            _ => {}
        }
    }

    pub fn facts(&self, key: Number, times: KeyTimes) -> Facts {
        let origin = self.keys[key as usize].origin;
        Facts { name: ring::name(key), origin, times, plain: false }
    }

    /// A key of the host's own; `None` if it cannot be made.
    pub fn make(&mut self, host: usize, times: KeyTimes, by_agent: bool) -> Option<Number> {
        let now = self.now();
        let this = &mut self.hosts[host];
        let key = self.keys.len() as Number;
        let time = this.time(now);
        if this.generator_fails > now || !self.rings.insert(host, key, times, true, time) {
            return None;
        }
        let ends = this.nanos(times.decrypt_until);
        let announced = by_agent.then_some(now);
        self.keys.push(Key { announced, by_agent, ..Key::new(this.id, ends, now) });
        self.trace(|| format!("host {host} makes key {key}, by its agent: {by_agent}"));
        self.plan_switches(host, key);
        Some(key)
    }

    fn plan_switches(&mut self, host: usize, key: Number) {
        let this = &self.hosts[host];
        let Some(times) = self.rings.get(host, key) else { return };
        let moments = [this.moment(times.encrypt_from), this.moment(times.encrypt_until)];
        for moment in moments.into_iter().filter(|moment| *moment != Millis::MAX) {
            self.timeline.plan(moment, Happening::Switch(host as u16));
        }
    }

    fn take(&mut self, host: usize, key: Number, times: KeyTimes, time: Time) -> bool {
        let known = self.rings.opens(host, key, time);
        let taken = self.rings.insert(host, key, times, false, time);
        if taken && !known {
            self.check_taken(host, key, times);
        }
        taken
    }

    fn erase(&mut self, host: usize, key: Number, time: Time, revoking: &Revoking) {
        self.trace(|| format!("host {host} erases key {key}"));
        let grace = self.grace();
        let now = self.now();
        let lived = self.rings.erase(host, key).is_some_and(|times| time < times.decrypt_until);
        if !lived && self.is_a_liars(key) {
            let seen_by = (host, self.hosts[host].instance);
            self.keys[key as usize].has_ended.push(seen_by);
        }
        if lived && revoking.means(key) {
            self.note_revoked(key);
            self.learns(host, key);
            if self.keys[key as usize].origin == self.hosts[host].id {
                self.hosts[host].excuse(now + grace);
            }
        }
    }

    /// A key was revoked, here first or again.
    pub fn note_revoked(&mut self, key: Number) {
        if self.keys[key as usize].revoked.is_none() {
            self.keys[key as usize].revoked = Some(self.now());
            self.revoked.push(key);
        }
    }

    /// The ring of a host knows that a key was revoked.
    pub fn learns(&mut self, host: usize, key: Number) {
        let (hosts, now) = (self.hosts.len(), self.now());
        let known = &mut self.keys[key as usize];
        if known.revoked.is_none() {
            return;
        }
        known.learnt.resize(hosts, (NodeId(0), 0));
        let ring = self.hosts[host].id;
        if known.learnt[host].0 != ring {
            known.learnt[host] = (ring, now);
        }
        // Once all rings know, nobody can bring it back to any, not even to one that is new.
        let knows = |(host, this): (usize, &Host)| !this.serves || known.learnt[host].0 == this.id;
        let small = self.hosts.len() <= SMALL;
        if small && !known.is_over && self.hosts.iter().enumerate().all(knows) {
            self.keys[key as usize].is_over = true;
            self.figures.over += 1;
        }
    }

    fn send(&mut self, from: usize, node: NodeId, mut message: Message<()>) {
        let to = place(node);
        let end = self.network.end(from, to);
        if !end.up || end.node != node {
            return;
        }
        let small = self.is_small();
        if let Message::Keys(keys) | Message::Held { keys, .. } = &mut message {
            if small {
                keys.retain(|offer| self.rings.get(from, ring::number(&offer.name)).is_some());
            }
            self.figures.offers += keys.len() as u64;
        }
        if self.lies(to) {
            self.check_answer(from, &message);
        }
        if self.lies(from) {
            let Some(twisted) = self.twist(message) else { return };
            message = twisted;
        }
        self.transmit(from, to, message);
    }

    /// What one host says to another is on its way.
    pub fn transmit(&mut self, from: usize, to: usize, message: Message<()>) {
        let (epoch, now) = (self.network.end(from, to).epoch, self.now());
        self.figures.sent += 1;
        match self.network.send(from, to, now, &mut self.rng) {
            Fate::Vanishes => {}
            Fate::Breaks => self.sever(from, to),
            Fate::Arrives(at) => {
                let (to, from) = (to as u16, from as u16);
                self.timeline.plan(at, Happening::Deliver { to, from, epoch, sent: now, message });
            }
        }
    }

    /// A server seals a ticket, having seen to the ring first if nobody else does.
    pub fn serve(&mut self, host: usize) {
        let this = &self.hosts[host];
        if this.serves && this.agent.is_none() && self.now() > this.turned + LEASE {
            self.rotate_itself(host);
        }
        self.seal(host);
    }

    /// What the library does to a ring that no agent governs.
    fn rotate_itself(&mut self, host: usize) {
        let policy = self.scenario.policy;
        let now = self.now();
        loop {
            let time = self.hosts[host].time(now);
            let own = self.rings.own(host).to_vec();
            let times: Vec<_> = own.iter().map(|(_, times)| *times).collect();
            match schedule::next_step(&times, &policy, time) {
                Some(Step::Publish(times)) => {
                    if self.make(host, times, false).is_none() {
                        return;
                    }
                }
                Some(Step::Retire(index)) => {
                    let limit = KeyTimes::retiring(time);
                    self.rings.shorten(host, own[index].0, &limit);
                }
                Some(Step::Discard(index)) => drop(self.rings.erase(host, own[index].0)),
                None => return,
            }
        }
    }
}
