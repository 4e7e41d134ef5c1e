//! Keys that end before their time: on this host, in the whole fleet, for good.

use std::time::Duration;

use tktrot::clock::Time;
use tktrot::secret::KeyName;

use super::event::{Action, Note};
use super::{Node, send};
use crate::message::{Message, NodeId, Tombstone};

/// A node passes a revocation on to so many peers.
const NEWS: usize = 8;

impl<S> Node<S> {
    /// Ends keys here, and tells everybody.
    pub(super) fn revoke(
        &mut self,
        names: Vec<KeyName>,
        heard_from: Option<NodeId>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let mut revoked = Vec::new();
        for name in names {
            if let (true, until) = self.bury(&name, None, now) {
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
    pub(super) fn revoke_all(
        &mut self,
        heard_from: Option<NodeId>,
        now: Time,
        actions: &mut Vec<Action<S>>,
    ) {
        let own: Vec<_> = self.own.iter().map(|key| key.facts.name).collect();
        let held: Vec<_> = self.held.all().map(|facts| facts.name).collect();
        let mut revoked = Vec::new();
        for name in own.into_iter().chain(held) {
            if let (true, until) = self.bury(&name, None, now) {
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

    pub(super) fn hear_revoked(
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
            let known = self.ended.has_revoked(&name);
            let (here, until) = self.bury(&name, Some(until), now);
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
        // Whoever revoked may not reach everybody; nor do those who have such a key have to be among
        // those who hear of it first.
        if !news.is_empty() {
            let keys: Vec<_> = news.into_iter().map(|(tombstone, _)| tombstone).collect();
            let next = self.peers.after(self.id, NEWS);
            for peer in next.into_iter().filter(|peer| *peer != from) {
                actions.push(send(peer, Message::Revoked { keys: keys.clone(), all: false }));
            }
        }
        if all {
            self.revoke_all(Some(from), now, actions);
        }
    }

    /// A key was revoked on this host, past its agent: it does not come back here. The others keep
    /// it.
    pub(super) fn lose(&mut self, name: &KeyName, now: Time) {
        if let Some(until) = self.take_out(name).filter(|until| *until > now) {
            self.ended.lose(*name, until);
        }
    }

    /// Takes a key out, for good: until every copy of it has ended, or `until` if somebody says so.
    /// Whether it was here, and until when it is remembered.
    fn bury(&mut self, name: &KeyName, until: Option<Time>, now: Time) -> (bool, Time) {
        let end = self.take_out(name);
        // A copy lives longer if its host has not heard that the key began early, as a host that
        // was away then. A key begins so much earlier at most as it is announced ahead.
        let ahead = self.policy.rotate_every + self.policy.lead;
        let until = end.map(|end| end + ahead).max(until).unwrap_or(now);
        if until > now {
            self.ended.revoke(*name, until);
        }
        (end.is_some(), until)
    }

    /// When the key would have ended, if it was here.
    fn take_out(&mut self, name: &KeyName) -> Option<Time> {
        let own = self.own.iter().position(|key| key.facts.name == *name);
        let own = own.map(|place| self.own.remove(place).facts);
        let facts = own.or_else(|| self.held.remove(name).map(|(facts, _)| facts));
        facts.map(|facts| facts.times.decrypt_until)
    }
}
