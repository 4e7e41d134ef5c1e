//! What a node does about what its peers say; and keys that end before their time, in the whole fleet,
//! whether a peer says so or somebody on this host. The rest of [`Node`], which is too long for one file:
//! the module above has what happens on this host.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

use super::event::{Action, Note};
use super::held::ToldBy;
use super::limits::LONGEST;
use super::{Node, REVOKING, offer, send};
use crate::message::{Facts, Grave, Message, NodeId, Offer, Refusal, Tombstone};

/// What there is to do about a key that was revoked.
struct Burial {
    /// It was here until now.
    is_here: bool,
    /// What the ring has to be told, and the peers.
    grave: Option<Grave>,
}

/// A node passes a revocation on to so many peers.
const NEWS: usize = 8;
/// A peer that could not write its ring is offered the key again after this time.
const BUSY: Duration = Duration::from_secs(1);
/// One that had no room, after this: keys have to end first.
const NO_ROOM: Duration = Duration::from_secs(10);

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
                    if let Some(key) = self.own.iter_mut().find(|key| key.facts.name == name) {
                        key.owed.settle(from);
                        key.again.remove(&from);
                    }
                }
            }
            Message::Refused(refused) => {
                for (name, why) in refused {
                    if let Some(until) = self.refused(from, &name, why, now) {
                        actions.push(Action::Note(Note::RefusedBy(from, name, why, until)));
                    }
                }
            }
            Message::Revoked { keys, all } => self.hear_revoked(from, keys, all, age, now, actions),
            // Beside that, it is for whoever waits for the peers of a revocation.
            Message::Buried(_) => drop(self.has_ended_all.insert(from)),
            Message::Pull => self.tell_everything(from, now, actions),
            Message::Leaving => {
                self.peers.leaves(from);
                self.wait_no_longer_for(from);
                actions.push(Action::Note(Note::Left(from)));
            }
        }
    }

    /// A peer has not taken a key, which lives until then. None if it is none of this node's own.
    fn refused(&mut self, from: NodeId, name: &KeyName, why: Refusal, now: Time) -> Option<Time> {
        let key = self.own.iter_mut().find(|key| key.facts.name == *name)?;
        if why == Refusal::Busy {
            // It is there, and answers: no reason to end its connection.
            key.owed.wait_again_for(from, now);
        } else {
            key.owed.settle(from);
        }
        if why.may_pass() {
            key.again.insert(from, now + if why == Refusal::Busy { BUSY } else { NO_ROOM });
        }
        Some(key.facts.times.decrypt_until)
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
            let until = self.times_here(&offer, age, now).decrypt_until;
            if offer.origin != from {
                refused.push((name, Refusal::Unusable, until));
                continue;
            }
            // Said twice at once: the first time counts. The ring does not have it yet.
            if keys.iter().any(|(taken, _): &(Offer<S>, _)| taken.name == name) {
                continue;
            }
            let held = self.held.get(&name);
            // Both have it from elsewhere: from a Redis that they shared before. It opens here.
            let is_own = self.own.iter().any(|key| key.facts.name == name);
            if is_own || held.is_some_and(|facts| facts.origin != from) {
                taken.push(name);
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
            match self.judge(&offer, ToldBy::Maker, age, now) {
                Ok(times) => {
                    if times.decrypt_until < offer.left.times(now, age).decrypt_until {
                        actions.push(Action::Note(Note::Cut(from, name, times.decrypt_until)));
                    }
                    self.expect(&offer, times, ToldBy::Maker, age, now);
                    keys.push((offer, times));
                }
                Err(why) => refused.push((name, why, until)),
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
            if let Ok(times) = self.judge(&offer, ToldBy::Other, age, now) {
                self.expect(&offer, times, ToldBy::Other, age, now);
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
        told_by: ToldBy,
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
            self.held
                .check(offer.origin, told_by, &self.limits.room(self.own.len()))
                .map(|()| times)
        }
    }

    /// Counts a key from the moment on at which the ring is asked to take it.
    fn expect(
        &mut self,
        offer: &Offer<S>,
        times: KeyTimes,
        told_by: ToldBy,
        age: Duration,
        now: Time,
    ) {
        let copies_end = offer.left.times(now, age).decrypt_until.min(now + LONGEST);
        let (name, origin, plain) = (offer.name, offer.origin, offer.plain);
        self.held.insert(Facts { name, origin, times, plain }, told_by, copies_end);
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
            if let Some((facts, ToldBy::Maker, _)) = self.held.remove(&name) {
                answers.push((name, why, facts.times.decrypt_until));
            }
        }
        taken.retain(|name| self.held.told_by(name) == Some(ToldBy::Maker));
        self.answer(from, taken, answers, actions);
    }

    fn answer(
        &self,
        to: NodeId,
        taken: Vec<KeyName>,
        refused: Vec<(KeyName, Refusal, Time)>,
        actions: &mut Vec<Action<S>>,
    ) {
        for (name, why, until) in &refused {
            actions.push(Action::Note(Note::Refused(to, *name, *why, *until)));
        }
        if !taken.is_empty() {
            actions.push(send(to, Message::Taken(taken)));
        }
        if !refused.is_empty() {
            let refused = refused.into_iter().map(|(name, why, _)| (name, why)).collect();
            actions.push(send(to, Message::Refused(refused)));
        }
    }

    /// All keys there are, for a peer that asked, and all that were revoked.
    fn tell_everything(&mut self, to: NodeId, now: Time, actions: &mut Vec<Action<S>>) {
        if !self.peers.may_answer(to, now) {
            return;
        }
        let revoked = self.ended.tombstones(now);
        if !revoked.is_empty() {
            actions.push(send(to, Message::Revoked { keys: revoked, all: false }));
        }
        let own = self.own.iter().map(|key| key.facts);
        let theirs = |facts: &Facts| facts.origin != to;
        let keys = own.chain(self.held.all()).filter(theirs).map(|facts| offer(&facts, now));
        actions.push(send(to, Message::Held { keys: keys.collect(), last: true }));
    }

    /// Ends keys here, and tells everybody.
    pub(super) fn revoke(&mut self, names: Vec<KeyName>, now: Time, actions: &mut Vec<Action<S>>) {
        self.revoking_until = now + REVOKING;
        let burials: Vec<_> = names.iter().map(|name| self.bury(name, None, now)).collect();
        self.perform(burials, None, now, actions);
        // What was revoked before, too: whoever asks again wants to know who has it.
        let graves = names.iter().filter_map(|name| self.ended.grave(name));
        let revoked: Vec<_> = graves.map(|grave| tombstone(&grave, now)).collect();
        if !revoked.is_empty() {
            self.tell_all(|| Message::Revoked { keys: revoked.clone(), all: false }, actions);
        }
    }

    /// Ends every key here; the peers end every key that they know.
    pub(super) fn revoke_all(
        &mut self,
        heard_from: Option<NodeId>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let own: Vec<_> = self.own.iter().map(|key| key.facts.name).collect();
        let held: Vec<_> = self.held.all().map(|facts| facts.name).collect();
        let names = own.into_iter().chain(held);
        let burials: Vec<_> = names.map(|name| self.bury(&name, None, now)).collect();
        let revoked = self.perform(burials, heard_from, now, actions);
        // What is gone here beside what the peer named: its maker has to know.
        let all = heard_from.is_none();
        if all {
            (self.revoking_until, self.revoking_all_until) = (now + REVOKING, now + REVOKING);
            self.has_ended_all.clear();
        }
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
        let names: Vec<_> = keys.iter().map(|key| key.name).collect();
        let burials = keys.into_iter().map(|Tombstone { name, left }| {
            let until = now + left.saturating_sub(age).min(LONGEST);
            self.bury(&name, Some(until), now)
        });
        let burials: Vec<_> = burials.collect();
        let news = self.perform(burials, Some(from), now, actions);
        // Whoever revoked may not reach everybody; nor do those who have such a key have to be among
        // those who hear of it first.
        if !news.is_empty() {
            let next = match now < self.revoking_until {
                // Its own answer, too, is waited for.
                true => self.peers.all(),
                false => {
                    let next = self.peers.after(self.id, NEWS);
                    next.into_iter().filter(|peer| *peer != from).collect()
                }
            };
            for peer in next {
                actions.push(send(peer, Message::Revoked { keys: news.clone(), all: false }));
            }
        }
        if all {
            self.revoke_all(Some(from), now, actions);
        }
        // After what else ended by it: who waits for this answer has to know of that, too.
        if !names.is_empty() {
            actions.push(send(from, Message::Buried(names)));
        }
    }

    /// Keys were revoked on this host, past its agent, now or before it started: the others have to
    /// know.
    pub(super) fn find_graves(
        &mut self,
        graves: Vec<Grave>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let burials = graves.into_iter();
        let burials: Vec<_> =
            burials.map(|grave| self.bury(&grave.name, Some(grave.until), now)).collect();
        let revoked = self.perform(burials, None, now, actions);
        if !revoked.is_empty() {
            self.tell_all(|| Message::Revoked { keys: revoked.clone(), all: false }, actions);
        }
    }

    /// A key is gone on this host, and nobody says why: it does not come back here. The others keep
    /// it.
    pub(super) fn lose(&mut self, name: &KeyName, now: Time) {
        if let Some(until) = self.take_out(name).filter(|until| *until > now) {
            self.ended.lose(*name, until);
        }
    }

    /// Has the ring do what is news of these burials; returns what there is to tell of them.
    fn perform(
        &self,
        burials: Vec<Burial>,
        heard_from: Option<NodeId>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) -> Vec<Tombstone> {
        let ended = burials.iter().filter(|burial| burial.is_here).count();
        let graves: Vec<_> = burials.into_iter().filter_map(|burial| burial.grave).collect();
        let news = graves.iter().map(|grave| tombstone(grave, now)).collect();
        if !graves.is_empty() {
            actions.push(Action::Bury(graves));
        }
        if ended > 0 {
            actions.push(Action::Note(Note::Revoked(ended, heard_from)));
        }
        news
    }

    /// Takes a key out, for good: until every copy of it has ended, or `until` if somebody says so.
    fn bury(&mut self, name: &KeyName, until: Option<Time>, now: Time) -> Burial {
        let end = self.take_out(name);
        let last = end.map(|end| self.policy.last_copy(end));
        let until = last.max(until).unwrap_or(now).min(now + LONGEST);
        let is_here = end.is_some();
        let is_news = until > now && self.ended.revoke(*name, until);
        // What is here the ring still has, whatever is known of it.
        let grave = (is_news || is_here)
            .then(|| self.ended.grave(name).unwrap_or(Grave { name: *name, until }));
        Burial { is_here, grave }
    }

    /// When the last copy of the key would have ended anywhere, if it was here.
    fn take_out(&mut self, name: &KeyName) -> Option<Time> {
        let own = self.own.iter().position(|key| key.facts.name == *name);
        let own = own.map(|place| self.own.remove(place).facts.times.decrypt_until);
        own.or_else(|| self.held.remove(name).map(|(_, _, copies_end)| copies_end))
    }
}

fn tombstone(grave: &Grave, now: Time) -> Tombstone {
    Tombstone { name: grave.name, left: now.until(grave.until) }
}
