//! Fleets whose rotation and lifetime are changed host by host, in any order: every ticket opens on
//! every host for as long as it promised.

use std::collections::{BTreeMap, HashSet, VecDeque};

use fastrand::Rng;

use super::*;
use crate::message::Refusal;
use crate::node::event::Note;

/// How often tickets are sealed, and presented to every host.
const EVERY: Duration = Duration::from_millis(250);
/// Tickets that clients keep.
const KEPT: usize = 2000;

/// One host: its agent, and its ring.
struct Site {
    node: Node<()>,
    policy: Policy,
    capacity: usize,
    ring: BTreeMap<[u8; 16], Facts>,
}

/// A ticket, and until when it promises to be of use.
struct Ticket {
    key: KeyName,
    until: Time,
}

struct Fleet {
    sites: Vec<Site>,
    now: Time,
    made: u32,
    tickets: Vec<Ticket>,
    rng: Rng,
    opened: u64,
    lost: u64,
    sealed: u64,
    refused: HashSet<Refusal>,
    cut: usize,
}

fn keys(rotate: f64, lifetime: f64) -> Policy {
    let rotate_every = secs(rotate);
    Policy { rotate_every, lifetime: secs(lifetime), lead: Policy::default_lead(rotate_every) }
}

fn id(site: usize) -> NodeId {
    NodeId(site as u64 + 1)
}

fn agent(site: usize, policy: Policy, capacity: usize) -> Node<()> {
    let longest = Limits::longest(
        &Policy { lead: policy.lead.max(Limits::LEAD_MAX), ..policy },
        Ahead::LEAST,
    );
    let limits = Limits { capacity, nodes: 8, longest, ..limits() };
    Node::new(id(site), limits, policy)
}

impl Fleet {
    fn new(sites: usize, policy: Policy, capacity: usize, seed: u64) -> Self {
        let site = |place| Site {
            node: agent(place, policy, capacity),
            policy,
            capacity,
            ring: BTreeMap::new(),
        };
        let mut fleet = Fleet {
            sites: (0..sites).map(site).collect(),
            now: Time(0) + HOUR,
            made: 0,
            tickets: Vec::new(),
            rng: Rng::with_seed(seed),
            opened: 0,
            lost: 0,
            sealed: 0,
            refused: HashSet::new(),
            cut: 0,
        };
        for site in 0..sites {
            fleet.begins(site);
        }
        fleet.pass(secs(5.0));
        fleet
    }

    /// An agent has just been made: it looks at its ring, and meets its peers.
    fn begins(&mut self, site: usize) {
        let found: Vec<_> = self.sites[site].ring.values().copied().collect();
        for facts in found {
            self.tell(site, Event::Found(facts));
        }
        self.tell(site, Event::Tick);
        for peer in (0..self.sites.len()).filter(|peer| *peer != site) {
            // Both ends know before either speaks.
            for (here, there) in [(site, peer), (peer, site)] {
                self.tell(here, Event::Down(id(there)));
            }
            let said = self.sites[site].node.handle(Event::Up(id(peer)), self.now);
            let answer = self.sites[peer].node.handle(Event::Up(id(site)), self.now);
            self.perform(site, said);
            self.perform(peer, answer);
        }
    }

    /// The agent of a host is restarted, for these settings.
    fn restart(&mut self, site: usize, policy: Policy) {
        let capacity = self.sites[site].capacity;
        self.sites[site].policy = policy;
        self.sites[site].node = agent(site, policy, capacity);
        self.begins(site);
    }

    fn tell(&mut self, site: usize, event: Event<()>) {
        let actions = self.sites[site].node.handle(event, self.now);
        self.perform(site, actions);
    }

    fn perform(&mut self, site: usize, actions: Vec<Action<()>>) {
        let mut events: VecDeque<(usize, Event<()>)> = VecDeque::new();
        let mut todo: VecDeque<_> = actions.into_iter().map(|action| (site, action)).collect();
        loop {
            while let Some((site, action)) = todo.pop_front() {
                events.extend(self.act(site, action));
            }
            let Some((site, event)) = events.pop_front() else { return };
            let actions = self.sites[site].node.handle(event, self.now);
            todo.extend(actions.into_iter().map(|action| (site, action)));
        }
    }

    fn act(&mut self, site: usize, action: Action<()>) -> Option<(usize, Event<()>)> {
        let this = &mut self.sites[site];
        match action {
            Action::Make(_) if this.ring.len() >= this.capacity => Some((site, Event::NotMade)),
            Action::Make(times) => {
                self.made += 1;
                let facts = Facts { name: name(self.made), origin: id(site), times, plain: false };
                this.ring.insert(facts.name.0, facts);
                Some((site, Event::Made(facts)))
            }
            Action::Take { from, keys } => {
                let (mut taken, mut refused) = (Vec::new(), Vec::new());
                for (Offer { name, origin, plain, .. }, times) in keys {
                    if this.ring.len() >= this.capacity {
                        refused.push((name, Refusal::Full));
                        continue;
                    }
                    this.ring.insert(name.0, Facts { name, origin, times, plain });
                    taken.push(name);
                }
                Some((site, Event::Took { from, taken, refused }))
            }
            Action::Shorten(name, times) => {
                this.ring.get_mut(&name.0).expect("the key shortened").times = times;
                None
            }
            Action::Erase(name) => {
                this.ring.remove(&name.0);
                None
            }
            Action::Send { to, message } => {
                let from = id(site);
                let age = Duration::ZERO;
                Some((to.0 as usize - 1, Event::Received { from, message, age }))
            }
            Action::Bury(graves) => panic!("nobody revokes: {graves:?}"),
            Action::Drop { peer, reason } => panic!("{peer} was dropped: {reason:?}"),
            Action::Note(Note::Refused(_, _, why, _)) => {
                self.refused.insert(why);
                None
            }
            Action::Note(Note::Cut(..)) => {
                self.cut += 1;
                None
            }
            Action::Note(_) => None,
        }
    }

    /// Lets time pass, in which clients come and go.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            let next = self.now + EVERY;
            loop {
                let deadlines = self.sites.iter().map(|site| site.node.deadline(self.now));
                let deadline = deadlines.min().unwrap();
                if deadline > next {
                    break;
                }
                self.now = deadline.max(self.now);
                for site in 0..self.sites.len() {
                    self.tell(site, Event::Tick);
                }
            }
            self.now = next;
            for site in 0..self.sites.len() {
                self.tell(site, Event::Tick);
                self.visit(site);
            }
        }
    }

    /// Clients come with tickets that they have, and one gets a new one.
    fn visit(&mut self, site: usize) {
        self.tickets.retain(|ticket| ticket.until > self.now);
        let ring = &self.sites[site].ring;
        for _ in 0..5.min(self.tickets.len()) {
            let ticket = &self.tickets[self.rng.usize(..self.tickets.len())];
            match ring.get(&ticket.key.0) {
                Some(key) if key.times.decrypt_until > self.now => self.opened += 1,
                _ => self.lost += 1,
            }
        }
        let active = |facts: &&Facts| {
            facts.origin == id(site) && facts.times.state(self.now) == KeyState::Active
        };
        // It promises what its key keeps.
        let Some(key) = ring.values().find(active) else { return };
        let ticket = Ticket { key: key.name, until: self.now + key.times.retention() };
        self.sealed += 1;
        if self.tickets.len() < KEPT {
            self.tickets.push(ticket);
        } else {
            let place = self.rng.usize(..KEPT);
            self.tickets[place] = ticket;
        }
    }

    /// Nothing was lost, and much was opened.
    fn is_sound(&self, what: &str) {
        let Fleet { opened, lost, sealed, refused, cut, .. } = self;
        assert_eq!((*lost, *cut), (0, 0), "{what}: {opened} opened, refused: {refused:?}");
        assert!(refused.iter().all(|why| *why == Refusal::Ended), "{what}: {refused:?}");
        assert!(*opened > 500 && *sealed > 100, "{what}: {opened} opened, {sealed} sealed");
    }
}

/// Every host goes from the one to the other, by a restart of its agent or because its servers ask
/// for it, in an order and at moments that the seed decides.
fn changed(from: Policy, to: Policy, seed: u64) -> Fleet {
    let mut fleet = Fleet::new(3, from, 16384, seed);
    // Long enough that a key of the longer kind is in every state.
    let settle = from.lifetime.min(secs(150.0));
    fleet.pass(settle);
    let mut order = [0, 1, 2];
    fleet.rng.shuffle(&mut order);
    for site in order {
        match fleet.rng.bool() {
            true => fleet.restart(site, to),
            false => {
                fleet.sites[site].policy = to;
                fleet.tell(site, Event::Policy(to));
            }
        }
        let pause = secs(fleet.rng.f64() * 60.0);
        fleet.pass(pause);
    }
    fleet.pass(to.lifetime.min(secs(150.0)));
    fleet
}

#[test]
fn rotation_and_lifetime_are_changed_host_by_host_and_no_ticket_is_lost() {
    let settings = [
        keys(1.0, 60.0),
        keys(30.0, 60.0),
        keys(100.0, 60.0),
        keys(1.0, 10.0),
        keys(1.0, 1000.0),
        keys(100.0, 1000.0),
        keys(10.0, 6000.0),
    ];
    let is_far = |from: &Policy, to: &Policy| from.lifetime * 100 < to.lifetime;
    for (number, from) in settings.iter().enumerate() {
        for (other, to) in settings.iter().enumerate().filter(|(other, _)| *other != number) {
            if is_far(from, to) || is_far(to, from) {
                continue;
            }
            let fleet = changed(*from, *to, (number * 100 + other) as u64);
            fleet.is_sound(&format!("{from:?} to {to:?}"));
        }
    }
}

#[test]
fn one_host_that_differs_for_good_costs_no_ticket() {
    for (one, others) in [
        (keys(1.0, 60.0), keys(100.0, 60.0)),
        (keys(100.0, 60.0), keys(1.0, 60.0)),
        (keys(1.0, 1000.0), keys(60.0, 10.0)),
        (keys(60.0, 10.0), keys(1.0, 1000.0)),
        (keys(2.0, 6000.0), keys(100.0, 60.0)),
    ] {
        let mut fleet = Fleet::new(3, others, 16384, 7);
        fleet.restart(0, one);
        fleet.pass(secs(400.0));
        fleet.is_sound(&format!("{one:?} among {others:?}"));
    }
}

#[test]
fn a_ring_that_is_too_small_says_so() {
    let mut fleet = Fleet::new(3, keys(1.0, 60.0), 16384, 7);
    fleet.sites[0].capacity = 16;
    fleet.restart(0, keys(1.0, 60.0));
    fleet.pass(secs(100.0));
    assert!(fleet.lost > 0);
    assert!(fleet.refused.iter().any(|why| matches!(why, Refusal::Full | Refusal::TooMany)));
}

#[test]
fn a_key_that_is_cut_is_told() {
    let mut fleet = Fleet::new(3, keys(1.0, 10.0), 16384, 7);
    fleet.restart(0, keys(3600.0, 36000.0));
    fleet.pass(secs(10.0));
    assert!(fleet.cut > 0, "longer by more than a hundred times");
}
