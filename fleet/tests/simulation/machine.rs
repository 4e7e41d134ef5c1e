//! The state machine under test, or one that does a thing wrong: so that it shows whether the
//! simulation would notice.

use std::collections::HashSet;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;
use tktrot_fleet::message::{Facts, Message, NodeId};
use tktrot_fleet::node::Node;
use tktrot_fleet::node::event::{Action, Event};
use tktrot_fleet::node::limits::Limits;

/// What a node does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It encrypts with its first key as soon as it has made it.
    BeginsAtOnce,
    /// It says that it took keys, and does not.
    TakesNothing,
    /// It takes whoever is up for somebody who has acknowledged.
    WaitsForNobody,
    /// It takes messages for just said, however long they were on their way.
    IgnoresAge,
    /// It lets the keys of others live for a second more.
    Lengthens,
    /// It makes no key after its first ones.
    StopsMaking,
    /// It never ends an active key before its time.
    NeverRetires,
    /// It erases what was revoked, and takes it back when it is offered again.
    ForgetsTombstones,
    /// What was revoked before its agent started it does not know.
    ForgetsWithAgent,
    /// It does not listen to revocations.
    IgnoresRevocations,
    /// It makes two keys where one is wanted.
    MakesTwo,
    /// It asks nobody for what nodes that are gone have left.
    NeverPulls,
    /// It does not care if the maker of a key says that it ends earlier.
    NeverShortens,
}

/// A node, and its fault.
pub struct Machine {
    node: Node<()>,
    fault: Option<Fault>,
    started: bool,
    made: usize,
    own: HashSet<KeyName>,
    forgotten: HashSet<KeyName>,
}

impl Machine {
    /// A node that does everything right, but for `fault`.
    pub fn new(id: NodeId, limits: Limits, policy: Policy, fault: Option<Fault>) -> Self {
        let node = Node::new(id, limits, policy);
        Machine {
            node,
            fault,
            started: false,
            made: 0,
            own: HashSet::new(),
            forgotten: HashSet::new(),
        }
    }

    /// See [`Node::handle`].
    pub fn handle(&mut self, event: Event<()>, now: Time) -> Vec<Action<()>> {
        let Some(fault) = self.fault else { return self.node.handle(event, now) };
        let mut event = event;
        if !self.tamper_with_event(fault, &mut event) {
            return Vec::new();
        }
        let again = self.take_again(fault, &event, now);
        let made = match &event {
            Event::Made(facts) => Some(*facts),
            _ => None,
        };
        self.own.extend(made.map(|facts| facts.name));
        let begins = !self.node.has_active(now);
        let mut actions = self.node.handle(event, now);
        let mut more = Vec::new();
        if let Some(facts) = made {
            more.extend(self.begin_wrongly(fault, facts, begins, &actions, now));
        }
        actions.retain_mut(|action| self.does(fault, action));
        if fault == Fault::MakesTwo {
            let makes = |action: &&Action<()>| matches!(action, Action::Make(_));
            let again: Vec<_> = actions.iter().filter(makes).cloned().collect();
            actions.extend(again);
        }
        actions.extend(more);
        actions.extend(again);
        actions
    }

    /// Changes what the node is told; false if it is told nothing.
    fn tamper_with_event(&mut self, fault: Fault, event: &mut Event<()>) -> bool {
        self.started |= matches!(event, Event::Tick);
        if fault == Fault::ForgetsWithAgent && !self.started && matches!(event, Event::Buried(_)) {
            return false;
        }
        let Event::Received { message, age, .. } = event else { return true };
        match (fault, message) {
            (Fault::IgnoresAge, _) => *age = Duration::ZERO,
            (Fault::IgnoresRevocations, Message::Revoked { .. }) => return false,
            (Fault::ForgetsTombstones, Message::Revoked { keys, .. }) => {
                self.forgotten.extend(keys.iter().map(|key| key.name));
            }
            _ => {}
        }
        true
    }

    /// Takes what was revoked, past the node.
    fn take_again(&self, fault: Fault, event: &Event<()>, now: Time) -> Option<Action<()>> {
        let Event::Received { from, message, age } = event else { return None };
        let (Message::Keys(offers) | Message::Held { keys: offers, .. }) = message else {
            return None;
        };
        let forgotten = offers.iter().filter(|offer| self.forgotten.contains(&offer.name));
        let keys: Vec<_> =
            forgotten.map(|offer| (offer.clone(), offer.left.times(now, *age))).collect();
        let takes = fault == Fault::ForgetsTombstones && !keys.is_empty();
        takes.then_some(Action::Take { from: *from, keys })
    }

    /// Whether the node does what it wants to, perhaps in another way.
    fn does(&mut self, fault: Fault, action: &mut Action<()>) -> bool {
        match (fault, action) {
            (Fault::TakesNothing, Action::Take { keys, .. }) => keys.clear(),
            (Fault::Lengthens, Action::Take { keys, .. }) => {
                for (_, times) in keys {
                    times.decrypt_until = times.decrypt_until + Duration::from_secs(1);
                }
            }
            (Fault::StopsMaking, Action::Make(_)) => {
                self.made += 1;
                return self.made <= 2;
            }
            (Fault::NeverRetires, Action::Shorten(_, times)) => times.encrypt_until = Time::NEVER,
            (Fault::NeverShortens, Action::Shorten(name, _)) => return self.own.contains(name),
            (Fault::NeverPulls, Action::Send { message: Message::Pull, .. }) => return false,
            _ => {}
        }
        true
    }

    fn begin_wrongly(
        &mut self,
        fault: Fault,
        facts: Facts,
        begins: bool,
        announced: &[Action<()>],
        now: Time,
    ) -> Vec<Action<()>> {
        match fault {
            Fault::BeginsAtOnce if begins => {
                let times = KeyTimes { encrypt_from: now, ..KeyTimes::ENDLESS };
                vec![Action::Shorten(facts.name, times)]
            }
            Fault::WaitsForNobody => {
                let to = announced.iter().filter_map(|action| match action {
                    Action::Send { to, message: Message::Keys(_) } => Some(*to),
                    _ => None,
                });
                let taken = |from| Event::Received {
                    from,
                    message: Message::Taken(vec![facts.name]),
                    age: Duration::ZERO,
                };
                to.flat_map(|peer| self.node.handle(taken(peer), now)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// See [`Node::deadline`].
    pub fn deadline(&self, now: Time) -> Time {
        self.node.deadline(now)
    }

    /// See [`Node::is_synced`].
    pub fn is_synced(&self) -> bool {
        self.node.is_synced()
    }

    /// See [`Node::has_active`].
    pub fn has_active(&self, now: Time) -> bool {
        self.node.has_active(now)
    }
}
