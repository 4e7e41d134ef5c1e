//! What a node does about what its peers say.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

use super::event::{Action, Note};
use super::held::Source;
use super::{Node, offer, send};
use crate::message::{Facts, Message, NodeId, Offer, Refusal};

impl<S> Node<S> {
    pub(super) fn hear(
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
            Message::Taken(names) => {
                for name in names {
                    self.answered(from, &name);
                }
            }
            Message::Refused(refused) => {
                for (name, why) in refused {
                    if self.answered(from, &name) {
                        actions.push(Action::Note(Note::RefusedBy(from, name, why)));
                    }
                }
            }
            Message::Revoked { keys, all } => self.hear_revoked(from, keys, all, age, now, actions),
            Message::Pull => self.tell_everything(from, now, actions),
            Message::Leaving => {
                self.peers.leaves(from);
                self.wait_no_longer_for(from);
                actions.push(Action::Note(Note::Left(from)));
            }
        }
    }

    /// A peer has answered for a key. False if that is none of this node's own.
    fn answered(&mut self, from: NodeId, name: &KeyName) -> bool {
        let own = self.own.iter_mut().find(|key| key.facts.name == *name);
        own.map(|key| key.owed.settle(from)).is_some()
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
            // Said twice at once: the first time counts. The ring does not have it yet.
            if keys.iter().any(|(taken, _): &(Offer<S>, _)| taken.name == name) {
                continue;
            }
            let held = self.held.get(&name);
            if held.is_some_and(|facts| facts.origin != from) {
                refused.push((name, Refusal::Unusable));
                continue;
            }
            if let Some(facts) = held {
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
            // Nearly all are known: so this comes first.
            if self.held.has(&offer.name) || offer.origin == self.id || self.peers.has(offer.origin)
            {
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

    /// The times that a key will have here which is not held, or why it is not wanted.
    fn judge(
        &self,
        offer: &Offer<S>,
        source: Source,
        age: Duration,
        now: Time,
    ) -> Result<KeyTimes, Refusal> {
        let times = self.times_here(offer, age, now);
        let own = self.own.iter().any(|key| key.facts.name == offer.name);
        if offer.name.is_constant() || own {
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

    pub(super) fn took(
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
        let own = self.own.iter().map(|key| key.facts);
        let theirs = |facts: &Facts| facts.origin != to;
        let keys = own.chain(self.held.all()).filter(theirs).map(|facts| offer(&facts, now));
        actions.push(send(to, Message::Held { keys: keys.collect(), last: true }));
    }
}
