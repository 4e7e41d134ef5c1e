//! A node of the fleet as a state machine: `(event, now) -> actions`. No socket, no thread, no
//! clock, no secret.
//!
//! - [`event`]: what happens to it, and what it wants done
//! - [`limits`]: what it waits for, and what it takes at most
//! - [`own`]: the keys it encrypts with
//! - [`held`]: the keys of others
//! - [`ended`]: keys that nobody brings back
//! - [`peers`]: who is up, and what each has yet to answer

mod ended;
pub mod event;
mod held;
pub mod limits;
mod own;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;

use crate::message::{Left, Message, NodeId, Offer, Refusal, Tombstone};
use ended::Ended;
use event::{Action, DropReason, Event, Facts, Note};
use held::{Held, Room, Source};
use limits::Limits;
use own::{Line, Own, Step};
use peers::Peers;

/// After a failure to make a key.
const RETRY: Duration = Duration::from_secs(1);
/// Revocations that a new connection begins with, at most. All of them come with a pull.
const TOMBSTONES_AT_START: usize = 1000;
/// A node passes a revocation on to so many peers.
const NEWS: usize = 8;

/// One host's writer.
pub struct Node<S> {
    id: NodeId,
    limits: Limits,
    policy: Policy,
    own: Vec<Own>,
    held: Held,
    ended: Ended,
    peers: Peers,
    /// [`Event::Tick`] has come: all that the ring had before is known.
    started: bool,
    /// A rotation was asked for, and has not happened yet.
    turn: bool,
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
            held: Held::default(),
            ended: Ended::new(limits.capacity * 4),
            peers: Peers::default(),
            started: false,
            turn: false,
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
            true => self.line().deadline(now).max(self.make_at),
            false => Time::NEVER,
        };
        let own_end = self.own.iter().map(|key| key.facts.times.decrypt_until).min();
        line.min(own_end.unwrap_or(Time::NEVER))
            .min(self.held.next_end())
            .min(self.peers.overdue_at())
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
        self.own.len() + 2 < self.room().of_a_node
    }

    /// How many keys are here of each node, this one included.
    pub fn keys_by_origin(&self) -> HashMap<NodeId, usize> {
        let mut counts = HashMap::new();
        let own = self.own.iter().map(|key| &key.facts);
        for facts in own.chain(self.held.all()) {
            *counts.entry(facts.origin).or_default() += 1;
        }
        counts
    }

    fn line(&self) -> Line<'_> {
        Line { own: &self.own, policy: &self.policy, limits: &self.limits, turn: self.turn }
    }

    fn room(&self) -> Room {
        let kept = self.limits.keys_of_a_node(&self.policy);
        // Room for its own first: its next key is more than anybody's.
        let of_all = self.limits.capacity.saturating_sub(kept);
        let for_makers = kept * self.limits.nodes.saturating_sub(1);
        Room { of_a_node: kept, of_others: of_all.saturating_sub(for_makers).max(kept), of_all }
    }

    fn take_in(&mut self, event: Event<S>, now: Time, actions: &mut Vec<Action<S>>) {
        match event {
            Event::Tick => self.started = true,
            Event::Found(facts) if facts.origin == self.id => self.announce(facts, now, actions),
            Event::Found(facts) => self.held.insert(facts, Source::Other),
            Event::Lost(name) => drop(self.bury(&name, None, now)),
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
            Event::Down(peer) => self.down(peer),
            Event::Received { from, message, age } => {
                if self.peers.has(from) {
                    self.hear(from, message, age, now, actions);
                }
            }
            Event::Policy(policy) => self.policy = self.limits.fitting(policy),
            Event::Rotate => self.turn = true,
            Event::Revoke(names) => self.revoke(names, None, now, actions),
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
        let (over, own): (Vec<_>, Vec<_>) = std::mem::take(&mut self.own)
            .into_iter()
            .partition(|key| key.facts.times.decrypt_until <= now);
        self.own = own;
        for key in over {
            self.peers.forget(&key.facts.name);
            actions.push(Action::Erase(key.facts.name));
        }
        for (peer, key) in self.peers.overdue(now, self.limits.lead_max) {
            actions.push(Action::Drop { peer, reason: DropReason::Silent(key) });
            self.down(peer);
        }
        if self.started && now >= self.make_at {
            self.take_steps(now, actions);
        }
        self.notice_switch(now, actions);
    }

    fn take_steps(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        // Each step leaves fewer to take; what is made comes back as an event.
        while !self.making
            && let Some(step) = self.line().next_step(now)
        {
            match step {
                Step::Make(times) => {
                    self.making = true;
                    actions.push(Action::Make(times));
                }
                Step::Begin(name) => {
                    self.turn = false;
                    let times = self.policy.times_from(now);
                    self.shorten(&name, times, actions);
                    // It began as if it had been made for now; so it ends earlier, everywhere.
                    self.tell_times(&name, now, actions);
                }
                Step::Retire(name) => {
                    let until = KeyTimes { encrypt_until: now, ..KeyTimes::ENDLESS };
                    self.shorten(&name, until, actions);
                }
                Step::Discard(name) => {
                    self.own.retain(|key| key.facts.name != name);
                    self.peers.forget(&name);
                    actions.push(Action::Erase(name));
                }
            }
        }
    }

    /// Makes times of a key of this node's own earlier.
    fn shorten(&mut self, name: &KeyName, limit: KeyTimes, actions: &mut Vec<Action<S>>) {
        if let Some(key) = self.own.iter_mut().find(|key| key.facts.name == *name) {
            key.facts.times = key.facts.times.shortened(&limit);
            actions.push(Action::Shorten(*name, key.facts.times));
        }
    }

    /// Says to all peers what is left of a key that they know already.
    fn tell_times(&self, name: &KeyName, now: Time, actions: &mut Vec<Action<S>>) {
        if let Some(key) = self.own.iter().find(|key| key.facts.name == *name) {
            self.tell_all(|| Message::Keys(vec![offer(&key.facts, now)]), actions);
        }
    }

    fn notice_switch(&mut self, now: Time, actions: &mut Vec<Action<S>>) {
        let active = self.line().active(now).map(|key| (key.facts.name, key.waiting));
        let name = active.map(|(name, _)| name);
        if name != self.active {
            self.active = name;
            if let Some((name, waiting)) = active {
                let peers = self.peers.len().saturating_sub(waiting);
                actions.push(Action::Note(Note::Began { name, peers }));
            }
        }
    }

    /// A key of this node's own is in the ring: the peers have to know.
    fn announce(&mut self, facts: Facts, now: Time, actions: &mut Vec<Action<S>>) {
        if self.own.iter().any(|key| key.facts.name == facts.name) {
            return self.shorten(&facts.name, facts.times, actions);
        }
        // Who rotated by hand on this host got what a rotation here was to bring.
        let begins = self.line().active(now).map(|key| key.facts.times.encrypt_from);
        self.turn &= !(facts.times.encrypt_from <= now && begins < Some(facts.times.encrypt_from));
        let mut waiting = 0;
        for peer in self.peers.all().collect::<Vec<_>>() {
            waiting += usize::from(self.peers.owes(peer, facts.name, now, self.limits.lead_max));
            actions.push(send(peer, Message::Keys(vec![offer(&facts, now)])));
        }
        self.own.push(Own { facts, announced: now, waiting });
    }

    /// A new connection begins with the node's own keys and with what was revoked.
    fn up(&mut self, peer: NodeId, now: Time, actions: &mut Vec<Action<S>>) {
        self.down(peer);
        self.peers.insert(peer);
        let mut keys = Vec::new();
        for key in &mut self.own {
            if self.peers.owes(peer, key.facts.name, now, self.limits.lead_max) {
                key.waiting += 1;
            }
            keys.push(offer(&key.facts, now));
        }
        actions.push(send(peer, Message::Keys(keys)));
        let revoked = self.ended.tombstones(TOMBSTONES_AT_START, now);
        if !revoked.is_empty() {
            actions.push(send(peer, Message::Revoked { keys: revoked, all: false }));
        }
        if self.peers.may_pull(peer, now) {
            actions.push(send(peer, Message::Pull));
        }
    }

    fn down(&mut self, peer: NodeId) {
        let owed = self.peers.remove(peer);
        self.settle(&owed);
    }

    /// Nobody waits any longer for one peer to answer for these.
    fn settle(&mut self, names: &[KeyName]) {
        for key in self.own.iter_mut().filter(|key| names.contains(&key.facts.name)) {
            key.waiting = key.waiting.saturating_sub(1);
        }
    }

    fn hear(
        &mut self,
        from: NodeId,
        message: Message<S>,
        age: Duration,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        match message {
            Message::Keys(offers) => {
                self.peers.greeted(from);
                self.consider(from, offers, age, now, actions);
            }
            Message::Held { keys, last } => {
                self.consider_others(from, keys, age, now, actions);
                if last {
                    self.peers.pulled(from);
                }
            }
            Message::Taken(names) => self.answered(from, &names),
            Message::Refused(refused) => {
                let names: Vec<_> = refused.iter().map(|(name, _)| *name).collect();
                self.answered(from, &names);
                for (name, why) in refused {
                    if self.own.iter().any(|key| key.facts.name == name) {
                        actions.push(Action::Note(Note::RefusedBy(from, name, why)));
                    }
                }
            }
            Message::Revoked { keys, all } => self.hear_revoked(from, keys, all, age, now, actions),
            Message::Pull => self.tell_everything(from, now, actions),
            Message::Leaving => {
                let owed = self.peers.leaves(from);
                self.settle(&owed);
                actions.push(Action::Note(Note::Left(from)));
            }
        }
    }

    fn answered(&mut self, from: NodeId, names: &[KeyName]) {
        let owed: Vec<_> =
            names.iter().filter(|name| self.peers.answers(from, name)).copied().collect();
        self.settle(&owed);
    }

    /// Keys out of the mouth of the node that made them.
    fn consider(
        &mut self,
        from: NodeId,
        offers: Vec<Offer<S>>,
        age: Duration,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let (mut keys, mut taken, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for offer in offers {
            let name = offer.name;
            if offer.origin != from {
                refused.push((name, Refusal::Unusable));
                continue;
            }
            if let Some(facts) = self.held.get(&name).filter(|facts| facts.origin == from) {
                let times = facts.times.shortened(&self.times_here(&offer, age, now));
                if times != facts.times {
                    actions.push(Action::Shorten(name, times));
                }
                self.held.confirm(&name, times);
                taken.push(name);
                continue;
            }
            match self.judge(&offer, Source::Maker, age, now) {
                Ok(times) => {
                    self.expect(&offer, times, Source::Maker);
                    keys.push((offer, times));
                }
                Err(why) => refused.push((name, why)),
            }
        }
        if !keys.is_empty() {
            actions.push(Action::Take { from, keys });
        }
        self.answer(from, taken, refused, actions);
    }

    /// Keys of whomever. What a node that is up has made it tells itself.
    fn consider_others(
        &mut self,
        from: NodeId,
        offers: Vec<Offer<S>>,
        age: Duration,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let mut keys = Vec::new();
        for offer in offers {
            let elsewhere = offer.origin == self.id || self.peers.has(offer.origin);
            if elsewhere || self.held.get(&offer.name).is_some() {
                continue;
            }
            if let Ok(times) = self.judge(&offer, Source::Other, age, now) {
                self.expect(&offer, times, Source::Other);
                keys.push((offer, times));
            }
        }
        if !keys.is_empty() {
            actions.push(Action::Take { from, keys });
        }
    }

    /// The times that a key has here: in order, and bounded.
    fn times_here(&self, offer: &Offer<S>, age: Duration, now: Time) -> KeyTimes {
        let mut times = offer.left.times(now, age);
        times.decrypt_until = times.decrypt_until.min(now + self.limits.longest);
        times.encrypt_until = times.encrypt_until.min(times.decrypt_until);
        times.encrypt_from = times.encrypt_from.min(times.encrypt_until);
        times
    }

    /// The times that a key will have here, or why it is not wanted.
    fn judge(
        &self,
        offer: &Offer<S>,
        source: Source,
        age: Duration,
        now: Time,
    ) -> Result<KeyTimes, Refusal> {
        let times = self.times_here(offer, age, now);
        let known = self.own.iter().any(|key| key.facts.name == offer.name)
            || self.held.get(&offer.name).is_some();
        if offer.name.is_constant() || known {
            Err(Refusal::Unusable)
        } else if times.decrypt_until <= now || self.ended.has(&offer.name) {
            Err(Refusal::Ended)
        } else {
            self.held.check(offer.origin, source, &self.room()).map(|()| times)
        }
    }

    /// Counts a key from the moment on at which the ring is asked to take it.
    fn expect(&mut self, offer: &Offer<S>, times: KeyTimes, source: Source) {
        let (name, origin, plain) = (offer.name, offer.origin, offer.plain);
        self.held.insert(Facts { name, origin, times, plain }, source);
    }

    fn took(
        &mut self,
        from: NodeId,
        mut taken: Vec<KeyName>,
        refused: Vec<(KeyName, Refusal)>,
        actions: &mut Vec<Action<S>>,
    ) {
        // Only what its maker told has to be answered for.
        let mut answers = Vec::new();
        for (name, why) in refused {
            if let Some((_, Source::Maker)) = self.held.remove(&name) {
                answers.push((name, why));
            }
        }
        taken.retain(|name| self.held.source(name) == Some(Source::Maker));
        self.answer(from, taken, answers, actions);
    }

    fn answer(
        &self,
        to: NodeId,
        taken: Vec<KeyName>,
        refused: Vec<(KeyName, Refusal)>,
        actions: &mut Vec<Action<S>>,
    ) {
        for (name, why) in &refused {
            actions.push(Action::Note(Note::Refused(to, *name, *why)));
        }
        if !taken.is_empty() {
            actions.push(send(to, Message::Taken(taken)));
        }
        if !refused.is_empty() {
            actions.push(send(to, Message::Refused(refused)));
        }
    }

    /// All keys there are, for a peer that asked, and all that were revoked.
    fn tell_everything(&mut self, to: NodeId, now: Time, actions: &mut Vec<Action<S>>) {
        if !self.peers.may_answer(to, now) {
            return;
        }
        let revoked = self.ended.tombstones(usize::MAX, now);
        if !revoked.is_empty() {
            actions.push(send(to, Message::Revoked { keys: revoked, all: false }));
        }
        let own = self.own.iter().map(|key| &key.facts);
        let theirs = |facts: &&Facts| facts.origin != to;
        let keys = own.chain(self.held.all()).filter(theirs).map(|facts| offer(facts, now));
        actions.push(send(to, Message::Held { keys: keys.collect(), last: true }));
    }

    /// Ends keys here, and tells everybody.
    fn revoke(
        &mut self,
        names: Vec<KeyName>,
        heard_from: Option<NodeId>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let mut revoked = Vec::new();
        for name in names {
            if let Some(until) = self.bury(&name, None, now) {
                actions.push(Action::Erase(name));
                revoked.push(Tombstone { name, left: now.until(until) });
            }
        }
        if !revoked.is_empty() {
            actions.push(Action::Note(Note::Revoked(revoked.len(), heard_from)));
            self.tell_all(|| Message::Revoked { keys: revoked.clone(), all: false }, actions);
        }
    }

    /// Ends every key here; the peers end every key that they know.
    fn revoke_all(&mut self, heard_from: Option<NodeId>, now: Time, actions: &mut Vec<Action<S>>) {
        let own: Vec<_> = self.own.iter().map(|key| key.facts.name).collect();
        let held: Vec<_> = self.held.all().map(|facts| facts.name).collect();
        let mut revoked = Vec::new();
        for name in own.into_iter().chain(held) {
            if let Some(until) = self.bury(&name, None, now) {
                actions.push(Action::Erase(name));
                revoked.push(Tombstone { name, left: now.until(until) });
            }
        }
        actions.push(Action::Note(Note::Revoked(revoked.len(), heard_from)));
        // What is gone here beside what the peer named: its maker has to know.
        let all = heard_from.is_none();
        if all || !revoked.is_empty() {
            self.tell_all(|| Message::Revoked { keys: revoked.clone(), all }, actions);
        }
    }

    fn hear_revoked(
        &mut self,
        from: NodeId,
        keys: Vec<Tombstone>,
        all: bool,
        age: Duration,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let mut news = Vec::new();
        for Tombstone { name, left } in keys {
            let until = now + left.saturating_sub(age).min(self.limits.longest);
            let known = self.ended.has(&name);
            let here = self.bury(&name, Some(until), now).is_some();
            if here {
                actions.push(Action::Erase(name));
            }
            if here || (!known && until > now) {
                news.push((Tombstone { name, left: now.until(until) }, here));
            }
        }
        let ended = news.iter().filter(|(_, here)| *here).count();
        if ended > 0 {
            actions.push(Action::Note(Note::Revoked(ended, Some(from))));
        }
        if all {
            return self.revoke_all(Some(from), now, actions);
        }
        // Whoever revoked may not reach everybody.
        if ended > 0 {
            let keys: Vec<_> = news.into_iter().map(|(tombstone, _)| tombstone).collect();
            for peer in
                self.peers.after(self.id, NEWS).filter(|peer| *peer != from).collect::<Vec<_>>()
            {
                actions.push(send(peer, Message::Revoked { keys: keys.clone(), all: false }));
            }
        }
    }

    /// Takes a key out, for good: until its own end here, and `until` if somebody says so.
    /// `None` if it was not here.
    fn bury(&mut self, name: &KeyName, until: Option<Time>, now: Time) -> Option<Time> {
        let own = self.own.iter().position(|key| key.facts.name == *name);
        let own = own.map(|place| self.own.remove(place).facts);
        if own.is_some() {
            self.peers.forget(name);
        }
        let facts = own.or_else(|| self.held.remove(name).map(|(facts, _)| facts));
        let end = facts.map(|facts| facts.times.decrypt_until);
        if let Some(until) = end.max(until).filter(|until| *until > now) {
            self.ended.revoke(*name, until);
        }
        end
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
