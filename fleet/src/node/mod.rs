//! A node of the fleet as a state machine: `(event, now) -> actions`. No socket, no thread, no
//! clock, no secret.
//!
//! - [`event`]: what happens to it, and what it wants done
//! - [`limits`]: what it waits for, and what it takes at most
//! - [`own`]: the keys it encrypts with, and who has yet to answer for them
//! - [`held`]: the keys of others
//! - [`ended`]: keys that nobody brings back
//! - [`peers`]: who is up, and what each has yet to tell
//! - [`hearing`]: what peers say; and keys that end before their time

mod ended;
pub mod event;
mod hearing;
mod held;
pub mod limits;
mod own;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::ring::layout::MAX_GRAVES;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;

use crate::message::{Facts, Left, Message, NodeId, Offer};
use ended::Ended;
use event::{Action, DropReason, Event, Note};
use held::{Held, ToldBy};
use limits::{LONGEST, Limits};
use own::{Line, LineStep, Owed, Own};
use peers::Peers;

/// After a failure to make a key.
const RETRY: Duration = Duration::from_secs(1);
/// For so long after a revocation on this host, all peers are told what else has ended by it, and
/// not only those that pass it on: somebody waits until everybody has it.
const REVOKING: Duration = Duration::from_secs(600);

/// One host's writer.
pub struct Node<S> {
    id: NodeId,
    limits: Limits,
    policy: Policy,
    /// In the order in which they begin.
    own: Vec<Own>,
    held: Held,
    ended: Ended,
    peers: Peers,
    /// [`Event::Tick`] has come: all that the ring had before is known.
    started: bool,
    /// A rotation was asked for, and has not happened yet.
    rotation_asked: bool,
    /// A revocation on this host goes on until then: see [`REVOKING`].
    revoking_until: Time,
    /// One of all keys does: who comes meanwhile and has not said that it knows, is to end all it has.
    revoking_all_until: Time,
    has_ended_all: HashSet<NodeId>,
    /// [`Action::Make`] is under way.
    making: bool,
    /// Not before, after a failure.
    make_at: Time,
    /// The key that encrypted when it was last looked.
    active: Option<KeyName>,
    _passes_on: PhantomData<fn(S) -> S>,
}

impl<S> Node<S> {
    /// A node that holds no key and has no peer. It is told what its ring has by [`Event::Found`],
    /// and begins with the first [`Event::Tick`].
    pub fn new(id: NodeId, limits: Limits, policy: Policy) -> Self {
        Node {
            id,
            limits,
            policy: limits.fitting(policy),
            own: Vec::new(),
            held: Held::new(limits.room(0).share),
            ended: Ended::new(limits.capacity * 4 + MAX_GRAVES as usize),
            peers: Peers::default(),
            started: false,
            rotation_asked: false,
            revoking_until: Time(0),
            revoking_all_until: Time(0),
            has_ended_all: HashSet::new(),
            making: false,
            make_at: Time(0),
            active: None,
            _passes_on: PhantomData,
        }
    }

    /// What is to be done about an event, in order.
    pub fn handle(&mut self, event: Event<S>, now: Time) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        self.take_in(event, now, &mut actions);
        self.tend(now, &mut actions);
        actions
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn deadline(&self, now: Time) -> Time {
        let line = match self.started && !self.making {
            true => self.line().deadline(now),
            false => Time::NEVER,
        };
        // All steps that are due were taken, but for a key that cannot be made yet.
        let line = if line <= now { line.max(self.make_at) } else { line };
        let others = line.min(self.held.next_end()).min(self.peers.pull_at());
        let due = |key: &Own| {
            let overdue = key.owed.overdue_at(self.limits.lead_max);
            key.facts.times.decrypt_until.min(overdue).min(key.again_at())
        };
        self.own.iter().map(due).fold(others, Time::min)
    }

    /// True if every peer that is up has told its keys, and those asked for all they hold have
    /// answered. True without peers, too.
    pub fn is_synced(&self) -> bool {
        self.peers.are_synced()
    }

    /// True if a key of this node's own encrypts at `now`.
    pub fn has_active(&self, now: Time) -> bool {
        self.line().active(now).is_some()
    }

    /// False if this node has so many keys already that its peers may refuse one more.
    pub fn may_rotate(&self) -> bool {
        self.own.len() + 2 < self.limits.keys_of_each()
    }

    /// How many keys are here of each node, this one included.
    pub fn keys_by_origin(&self) -> HashMap<NodeId, usize> {
        let mut counts = HashMap::new();
        let own = self.own.iter().map(|key| key.facts);
        for facts in own.chain(self.held.all()) {
            *counts.entry(facts.origin).or_default() += 1;
        }
        counts
    }

    fn line(&self) -> Line<'_> {
        Line {
            own: &self.own,
            policy: &self.policy,
            limits: &self.limits,
            rotation_asked: self.rotation_asked,
        }
    }

    fn take_in(&mut self, event: Event<S>, now: Time, actions: &mut Vec<Action<S>>) {
        match event {
            Event::Tick => self.started = true,
            Event::Found(facts) => self.found(facts, now, actions),
            Event::Buried(graves) => self.find_graves(graves, now, actions),
            Event::Lost(name) => self.lose(&name, now),
            Event::Made(facts) => {
                self.making = false;
                self.announce(facts, now, actions);
            }
            Event::NotMade => {
                self.making = false;
                self.make_at = now + RETRY;
            }
            Event::Took { from, taken, refused } => self.took(from, taken, refused, actions),
            Event::Up(peer) => self.up(peer, now, actions),
            Event::Down(peer) => self.down(peer, now),
            Event::Received { from, message, age } => {
                if self.peers.has(from) {
                    self.hear(from, message, age, now, actions);
                }
            }
            Event::Policy(policy) => self.policy = self.limits.fitting(policy),
            Event::Rotate => self.rotation_asked = true,
            Event::Revoke(names) => self.revoke(names, now, actions),
            Event::RevokeAll => self.revoke_all(None, now, actions),
            Event::Leave => self.tell_all(|| Message::Leaving, actions),
        }
    }

    /// Everything that is due.
    fn tend(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        self.ended.sweep(now);
        while let Some(name) = self.held.pop_ended(now) {
            self.ended.expire(name, now);
            actions.push(Action::Erase(name));
        }
        self.end_own(now, actions);
        for (peer, key) in self.overdue(now) {
            actions.push(Action::Drop { peer, reason: DropReason::Silent(key) });
            self.down(peer, now);
        }
        while let Some(peer) = self.peers.due_to_pull(now) {
            actions.push(send(peer, Message::Pull));
        }
        for (peer, keys) in self.due_again(now) {
            actions.push(send(peer, Message::Keys(keys)));
        }
        if self.started {
            self.take_steps(now, actions);
        }
        self.notice_switch(now, actions);
    }

    /// Keys of this node's own that are over are gone, and nobody brings them back.
    fn end_own(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        let is_over = |key: &mut Own| key.facts.times.decrypt_until <= now;
        for key in self.own.extract_if(.., is_over) {
            self.ended.expire(key.facts.name, now);
            actions.push(Action::Erase(key.facts.name));
        }
    }

    /// The peers that have not answered in time, each with one key.
    fn overdue(&mut self, now: Time) -> BTreeMap<NodeId, KeyName> {
        let mut overdue = BTreeMap::new();
        for key in &mut self.own {
            for peer in key.owed.overdue(now, self.limits.lead_max) {
                overdue.entry(peer).or_insert(key.facts.name);
            }
        }
        overdue
    }

    /// What was refused for want of room, or of the right to write, is offered again: by peer.
    fn due_again(&mut self, now: Time) -> BTreeMap<NodeId, Vec<Offer<()>>> {
        let mut due = BTreeMap::<_, Vec<_>>::new();
        for key in self.own.iter_mut().filter(|key| key.again_at() <= now) {
            let facts = key.facts;
            key.again.retain(|peer, at| {
                let is_due = *at <= now;
                if is_due {
                    due.entry(*peer).or_default().push(offer(&facts, now));
                }
                !is_due
            });
        }
        due
    }

    fn take_steps(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        // Each step leaves fewer to take; what is made comes back as an event.
        while !self.making
            && let Some(step) = self.line().next_step(now)
        {
            match step {
                LineStep::Make(_) if now < self.make_at => break,
                LineStep::Make(times) => {
                    self.making = true;
                    actions.push(Action::Make(times));
                }
                LineStep::Begin(name) => {
                    self.rotation_asked = false;
                    let times = self.policy.times_from(now);
                    self.shorten(&name, times, actions);
                    // It began as if it had been made for now; so it ends earlier, everywhere.
                    self.tell_times(&name, now, actions);
                }
                LineStep::Retire(name) => {
                    let until = KeyTimes::retiring(now);
                    self.shorten(&name, until, actions);
                }
                LineStep::Discard(name) => {
                    // It must not take up room at the peers, which may refuse the next one then.
                    let over =
                        KeyTimes { encrypt_from: now, encrypt_until: now, decrypt_until: now };
                    if let Some(key) = self.own.iter_mut().find(|key| key.facts.name == name) {
                        key.facts.times = over;
                    }
                    self.tell_times(&name, now, actions);
                    self.end_own(now, actions);
                }
            }
        }
    }

    /// Makes times of a key of this node's own earlier.
    fn shorten(&mut self, name: &KeyName, limit: KeyTimes, actions: &mut Vec<Action<S>>) {
        if let Some(key) = self.own.iter_mut().find(|key| key.facts.name == *name) {
            key.facts.times = key.facts.times.shortened(&limit);
            actions.push(Action::Shorten(*name, key.facts.times));
            self.own.sort_by_key(Own::begins);
        }
    }

    /// Says to all peers what is left of a key that they know already.
    fn tell_times(&self, name: &KeyName, now: Time, actions: &mut Vec<Action<S>>) {
        if let Some(key) = self.own.iter().find(|key| key.facts.name == *name) {
            self.tell_all(|| Message::Keys(vec![offer(&key.facts, now)]), actions);
        }
    }

    fn notice_switch(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        let active = self.line().active(now).map(|key| (key.facts.name, key.owed.len()));
        let name = active.map(|(name, _)| name);
        if name != self.active {
            self.active = name;
            if let Some((name, waiting)) = active {
                let peers = self.peers.len().saturating_sub(waiting);
                actions.push(Action::Note(Note::Began { name, peers }));
            }
        }
    }

    fn found(&mut self, facts: Facts, now: Time, actions: &mut Vec<Action<S>>) {
        match self.ended.grave(&facts.name) {
            // Whatever brought it back, it knows of no graves.
            Some(grave) => actions.push(Action::Bury(vec![grave])),
            None if facts.origin == self.id => self.announce(facts, now, actions),
            // It may have been cut short here, and live on elsewhere.
            None => self.held.insert(facts, ToldBy::Other, now + LONGEST),
        }
    }

    /// A key of this node's own is in the ring: the peers have to know.
    fn announce(&mut self, facts: Facts, now: Time, actions: &mut Vec<Action<S>>) {
        if self.own.iter().any(|key| key.facts.name == facts.name) {
            return self.shorten(&facts.name, facts.times, actions);
        }
        // Who rotated by hand on this host got what a rotation here was to bring.
        let begins = self.line().active(now).map(|key| key.facts.times.encrypt_from);
        self.rotation_asked &=
            !(facts.times.encrypt_from <= now && begins < Some(facts.times.encrypt_from));
        let mut owed = Owed::default();
        self.peers.all_that_stay().for_each(|peer| owed.wait_for(peer, now));
        self.tell_all(|| Message::Keys(vec![offer(&facts, now)]), actions);
        self.own.push(Own { facts, announced: now, owed, again: HashMap::new() });
        self.own.sort_by_key(Own::begins);
    }

    /// A new connection begins with all that was revoked, and then the node's own keys: nobody takes
    /// a key of this node's before it knows which have ended.
    fn up(&mut self, peer: NodeId, now: Time, actions: &mut Vec<Action<S>>) {
        self.down(peer, now);
        self.peers.insert(peer);
        let revoked = self.ended.tombstones(now);
        let all = now < self.revoking_all_until && !self.has_ended_all.contains(&peer);
        if all || !revoked.is_empty() {
            actions.push(send(peer, Message::Revoked { keys: revoked, all }));
        }
        let mut keys = Vec::new();
        for key in &mut self.own {
            key.owed.wait_for(peer, now);
            keys.push(offer(&key.facts, now));
        }
        actions.push(send(peer, Message::Keys(keys)));
        if self.peers.may_pull(peer, now) {
            actions.push(send(peer, Message::Pull));
        }
    }

    fn down(&mut self, peer: NodeId, now: Time) {
        self.peers.remove(peer, now);
        self.wait_no_longer_for(peer);
    }

    fn wait_no_longer_for(&mut self, peer: NodeId) {
        for key in &mut self.own {
            key.owed.settle(peer);
            key.again.remove(&peer);
        }
    }

    fn tell_all(&self, message: impl Fn() -> Message<()>, actions: &mut Vec<Action<S>>) {
        for peer in self.peers.all() {
            actions.push(send(peer, message()));
        }
    }
}

fn send<S>(to: NodeId, message: Message<()>) -> Action<S> {
    Action::Send { to, message }
}

fn offer(facts: &Facts, now: Time) -> Offer<()> {
    let Facts { name, origin, times, plain } = *facts;
    Offer { name, origin, left: Left::of(times, now), plain, secrets: () }
}
