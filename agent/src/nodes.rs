//! Every host makes its own keys, and all hosts hold all of them: the events and actions of the
//! state machine, between the ring and the peers. A host without peers works the same way.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future;
use std::mem::take;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::KeyName;
use tktrot_fleet::ahead::Ahead;
use tktrot_fleet::message::{Facts, Message, NodeId, Offer, Refusal};
use tktrot_fleet::node::Node;
use tktrot_fleet::node::event::{Action, DropReason, Event, Note};
use tktrot_fleet::node::limits::Limits;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::control::{Reply, Rotated};
use super::departed::{self, Departed};
use super::figures::{Peer, Record, Sharing, State, Told};
use super::journal::Once;
use super::mesh::about::{Settings, Theirs};
use super::mesh::{Link, Mesh, MeshEvent, PeerState, PeerStatus};
use super::problems::{self, By};
use super::revocation::Revocation;
use super::ring::{Act, Arrival, Change, Changes, HostRing, Secrets};
use super::waiting::Waiting;

/// What is still to be said at the end is said within this time.
const FLUSH_WITHIN: Duration = Duration::from_millis(1200);
/// What is said of peers once in a while, at most so many things.
const COMPLAINTS: usize = 1000;

/// This node, and the way to the others.
pub struct Nodes {
    node: Node<Secrets>,
    /// None if there can be no peers.
    mesh: Option<Mesh>,
    up: HashSet<NodeId>,
    record: Record,
    said: Once<(NodeId, &'static str)>,
    /// Every configured peer was tried.
    all_tried: bool,
    /// Who asked for a rotation that has not happened yet.
    rotations: Vec<oneshot::Sender<Reply>>,
    /// Revocations that somebody waits for.
    revocations: Vec<Revocation>,
    /// How far ahead peers have keys.
    ahead: Ahead,
    /// Who is gone, and may have keys.
    departed: Departed,
    /// Keys that an event has ended, and the graves that it has dug.
    revoked: usize,
    buried: Vec<KeyName>,
    /// What peers are still to be told that the ring knows: it does not know it yet.
    unconfirmed: Vec<(NodeId, KeyName)>,
}

impl Nodes {
    /// A node that has not looked at its ring yet. These hosts are gone, and may have keys.
    pub fn new(mesh: Option<Mesh>, limits: Limits, ring: &HostRing, departed: Departed) -> Self {
        if let Some(mesh) = &mesh {
            mesh.tells(settings(ring));
        }
        Nodes {
            node: Node::new(ring.node(), limits, ring.policy()),
            all_tried: mesh.is_none(),
            mesh,
            up: HashSet::new(),
            record: Record::default(),
            said: Once::of_at_most(COMPLAINTS),
            rotations: Vec::new(),
            revocations: Vec::new(),
            ahead: limits.ahead,
            departed,
            revoked: 0,
            buried: Vec::new(),
            unconfirmed: Vec::new(),
        }
    }

    /// When [`Nodes::tick`] is wanted.
    pub fn deadline(&self, now: Time) -> Time {
        self.node.deadline(now)
    }

    /// The deadline has come, or may have.
    pub fn tick(&mut self, ring: &HostRing) {
        self.handle(Event::Tick, ring);
    }

    /// What others changed in the ring.
    pub fn look(&mut self, ring: &HostRing) {
        let Changes { graves, keys } = ring.changes();
        if !graves.is_empty() {
            self.handle(Event::Buried(graves), ring);
        }
        for change in keys {
            let event = match change {
                Change::Found(facts) => Event::Found(facts),
                Change::Lost(name) => Event::Lost(name),
            };
            self.handle(event, ring);
        }
        self.confirm_what_is_buried(ring);
        self.forget_replaced();
        self.answer_revocations(ring.now());
        if let Some(mesh) = &self.mesh {
            mesh.tells(settings(ring));
        }
    }

    /// Tells peers what the ring has come to know since they asked.
    fn confirm_what_is_buried(&mut self, ring: &HostRing) {
        let up = &self.up;
        self.unconfirmed.retain(|(peer, _)| up.contains(peer));
        let (known, unknown) =
            take(&mut self.unconfirmed).into_iter().partition(|(_, name)| ring.has_grave(name));
        self.unconfirmed = unknown;
        let mut by_peer: HashMap<NodeId, Vec<KeyName>> = HashMap::new();
        for (peer, name) in known {
            by_peer.entry(peer).or_default().push(name);
        }
        for (peer, names) in by_peer {
            self.send(peer, Message::Buried(names), ring);
        }
    }

    fn forget_replaced(&mut self) {
        if let Some(mesh) = &self.mesh {
            self.departed.forget_replaced(|address| mesh.answering(address));
        }
    }

    /// Takes note that a host goes, with the keys that it has.
    fn departs(&mut self, link: &Link, ring: &HostRing) {
        let node = link.hello.node;
        let now = ring.now();
        let life = Limits::life(&ring.policy(), self.ahead);
        let host = departed::Host {
            node,
            address: link.address.ip().to_canonical(),
            answered: self.mesh.as_ref().map(|mesh| mesh.answered(node)).unwrap_or_default(),
            // Keys from before a change of settings, and those of peers, may live longer.
            until: (now + life).max(ring.last_end()),
        };
        self.departed.left(host, now);
    }

    /// Answers those who wait for peers that have it by now, or have been waited for.
    fn answer_revocations(&mut self, now: Time) {
        if self.revocations.is_empty() {
            return;
        }
        let peers = self.mesh.as_ref().map(Mesh::peers).unwrap_or_default();
        let departed: Vec<_> = self.departed.at(now).collect();
        let over: Vec<_> = self
            .revocations
            .extract_if(.., |revocation| revocation.is_over(&peers, &departed))
            .collect();
        over.into_iter().for_each(|revocation| revocation.end(&peers, &departed));
    }

    /// Servers ask for other keys.
    pub fn adapt(&mut self, policy: Policy, ring: &HostRing) {
        self.handle(Event::Policy(policy), ring);
    }

    /// True if every peer was tried, and all that are up have told what they hold.
    pub fn is_synced(&self) -> bool {
        self.all_tried && self.node.is_synced()
    }

    /// True if a key of this host's encrypts.
    pub fn has_active(&self, now: Time) -> bool {
        self.node.has_active(now)
    }

    /// Waits for what a peer says, or for one to come or go, and does what follows from it. Nothing is
    /// lost if this is not waited for to its end.
    pub async fn hear(&mut self, ring: &HostRing) {
        let event = match &mut self.mesh {
            Some(mesh) => mesh.recv().await,
            None => None,
        };
        let Some(event) = event else { return future::pending().await };
        let event = match event {
            MeshEvent::Up(link) => {
                tracing::debug!(peer = %link.hello.node, address = %link.address, "a peer is up");
                self.up.insert(link.hello.node);
                self.departed.came(link.hello.node);
                Event::Up(link.hello.node)
            }
            MeshEvent::Down(link, reason) => {
                let node = link.hello.node;
                tracing::debug!(peer = %node, reason, "a peer is down");
                self.up.remove(&node);
                self.record.forget(node);
                self.departs(&link, ring);
                Event::Down(node)
            }
            MeshEvent::Received { from, message, age, at } => {
                let now = ring.now();
                match &message {
                    Message::Taken(names) => {
                        self.record.answer(from, names, now);
                        self.record.refusals.taken(from, By::Peer, names);
                    }
                    Message::Buried(names) => {
                        let waiting = self.revocations.iter_mut();
                        waiting.for_each(|revocation| revocation.acknowledge(from, names));
                    }
                    _ => {}
                }
                Event::Received { from, message, age: age.saturating_add(at.until(now)) }
            }
            MeshEvent::FirstRound => {
                self.all_tried = true;
                return;
            }
        };
        self.handle(event, ring);
        self.answer_revocations(ring.now());
    }

    /// Asks for a new key; the answer comes when it encrypts.
    pub fn rotate(&mut self, answer: oneshot::Sender<Reply>, ring: &HostRing) {
        if !self.node.may_rotate() {
            let error = "this host has so many keys that its peers would refuse another; wait \
                         until some have expired, or set a higher capacity on all hosts";
            // Who no longer waits does not want to know.
            let _ = answer.send(Reply::Error(error.into()));
            return;
        }
        self.rotations.retain(|asker| !asker.is_closed());
        self.rotations.push(answer);
        self.handle(Event::Rotate, ring);
    }

    /// Ends these keys, or all, here and at all peers; the answer comes when all have said that they
    /// have it, or were waited for.
    pub fn revoke(&mut self, names: Option<Vec<KeyName>>, waiting: Waiting, ring: &HostRing) {
        // What was revoked before is asked for again: somebody may have been missing.
        let again = names.iter().flatten().copied().filter(|name| ring.has_grave(name));
        let mut graves: HashSet<_> = again.collect();
        (self.revoked, self.buried) = (0, Vec::new());
        let event = names.map_or(Event::RevokeAll, Event::Revoke);
        self.handle(event, ring);
        graves.extend(take(&mut self.buried));
        self.revocations.push(Revocation::new(self.revoked, graves, waiting));
        self.forget_replaced();
        self.answer_revocations(ring.now());
    }

    /// A line for the service manager.
    pub fn summary(&self) -> String {
        let Some(mesh) = &self.mesh else { return "no peers".into() };
        let peers = mesh.peers();
        let others = peers.iter().filter(|peer| peer.state != PeerState::Myself).count();
        format!("{} of {others} peers up", self.up.len())
    }

    /// What `tktrot peers` and metrics tell of it.
    pub fn tell(&self, ring: &HostRing) -> Told {
        let now = ring.now();
        let counts = self.node.keys_by_origin();
        let own_keys = counts.get(&ring.node()).copied().unwrap_or(0);
        let peers = self.mesh.as_ref().map(Mesh::peers).unwrap_or_default();
        Told {
            sharing: if self.mesh.is_some() { Sharing::Mesh } else { Sharing::Alone },
            synced: self.is_synced(),
            synced_ago: self.record.synced_at.map(|then| then.until(now).as_secs_f64()),
            own_keys,
            other_keys: counts.values().sum::<usize>() - own_keys,
            refused: self.record.refused,
            refused_by_peers: self.record.refused_by_peers,
            problems: ring.is_busy().then(problems::ring_is_busy).into_iter().collect(),
            peers: peers.into_iter().map(|peer| self.peer(peer, &counts, ring, now)).collect(),
            redis: None,
        }
    }

    fn peer(
        &self,
        peer: PeerStatus,
        keys: &HashMap<NodeId, usize>,
        ring: &HostRing,
        now: Time,
    ) -> Peer {
        let answered = peer.node.and_then(|node| self.record.of(node));
        let problems = problems::between(settings(ring), &peer, &self.record.refusals, now);
        let theirs = peer.told.as_ref().map(Theirs::settings);
        let failed_ago = peer.failure.as_ref().map(|failure| failure.at.until(now));
        Peer {
            address: peer.addresses.first().unwrap_or(&peer.name).clone(),
            name: peer.name,
            addresses: peer.addresses,
            node: peer.node.map(|node| node.to_string()),
            state: match peer.state {
                PeerState::Up => State::Up,
                PeerState::Down => State::Down,
                PeerState::Myself => State::Self_,
            },
            round_trip: peer.round_trip.map(|span| span.as_secs_f64()),
            keys: peer.node.and_then(|node| keys.get(&node).copied()).unwrap_or(0),
            acknowledged_ago: answered.map(|answered| answered.at.until(now).as_secs_f64()),
            acknowledgement: answered.map(|answered| answered.after.as_secs_f64()),
            rotate_every: theirs.map(|theirs| theirs.rotate_every.as_secs_f64()),
            lifetime: theirs.map(|theirs| theirs.lifetime.as_secs_f64()),
            clock_ahead: peer.told.as_ref().map(|told| told.ahead),
            release: peer.told.map(|told| told.about.release),
            last_error: peer.failure.map(|failure| failure.what),
            last_error_ago: failed_ago.map(|ago| ago.as_secs_f64()),
            problems,
        }
    }

    /// Tells the peers that this node stops. Returns the hosts that may have keys: those that are
    /// gone, and those that this node leaves.
    pub async fn leave(mut self, ring: &HostRing) -> Departed {
        self.handle(Event::Leave, ring);
        let links = self.mesh.as_ref().map(Mesh::links).unwrap_or_default();
        links.iter().for_each(|link| self.departs(link, ring));
        if let Some(mesh) = self.mesh
            && timeout(FLUSH_WITHIN, mesh.stop()).await.is_err()
        {
            tracing::warn!("could not tell every peer that this agent stops");
        }
        self.departed
    }

    /// An event, and those that follow from what is done about it.
    fn handle(&mut self, event: Event<Secrets>, ring: &HostRing) {
        let mut event = Some(event);
        let mut followers = VecDeque::new();
        while let Some(next) = event.take() {
            let actions = self.node.handle(next, ring.now());
            self.perform(actions, &mut followers, ring);
            event = followers.pop_front();
        }
        if self.node.is_synced() && self.all_tried {
            self.record.synced_at = Some(ring.now());
        }
    }

    fn perform(
        &mut self,
        actions: Vec<Action<Secrets>>,
        followers: &mut VecDeque<Event<Secrets>>,
        ring: &HostRing,
    ) {
        // One act for all of them: what belongs together, others see at once.
        let mut act: Option<Act<'_>> = None;
        let mut notes = Vec::new();
        for action in actions {
            match action {
                Action::Make(times) => {
                    let made = ring.go_on(&mut act).make(times);
                    followers.push_back(made.map_or(Event::NotMade, Event::Made));
                }
                Action::Take { from, keys } => {
                    let keys = keys.into_iter().map(|(offer, times)| arrival(offer, times));
                    let took = ring.go_on(&mut act).take(keys.collect());
                    followers.push_back(answered(from, took));
                }
                Action::Shorten(name, times) => ring.go_on(&mut act).shorten(name, &times),
                Action::Erase(name) => ring.go_on(&mut act).erase(name),
                Action::Bury(graves) => {
                    let names = graves.iter().map(|grave| grave.name);
                    for revocation in &mut self.revocations {
                        revocation.extend(names.clone());
                    }
                    self.buried.extend(names);
                    let act = ring.go_on(&mut act);
                    graves.iter().for_each(|grave| act.bury(grave.name, grave.until));
                }
                Action::Send { to, message: Message::Buried(names) } => {
                    // Only what is so: the ring may be somebody else's for the moment.
                    let (known, unknown): (Vec<_>, Vec<_>) =
                        names.into_iter().partition(|name| ring.has_grave(name));
                    self.unconfirmed.extend(unknown.into_iter().map(|name| (to, name)));
                    if !known.is_empty() {
                        self.send(to, Message::Buried(known), ring);
                    }
                }
                Action::Send { to, message } => {
                    if let Message::Keys(offers) = &message {
                        let now = ring.now();
                        offers.iter().for_each(|offer| self.record.tell(to, offer.name, now));
                    }
                    if let Message::Taken(names) = &message {
                        self.record.refusals.taken(to, By::This, names);
                    }
                    self.send(to, message, ring);
                }
                Action::Drop { peer, reason: DropReason::Silent(key) } => {
                    self.up.remove(&peer);
                    self.record.forget(peer);
                    if let Some(mesh) = &self.mesh {
                        let reason = format!("it has not acknowledged key {key} in time");
                        mesh.drop_peer(peer, &reason);
                    }
                }
                Action::Note(note) => notes.push(note),
            }
        }
        drop(act);
        let now = ring.now();
        notes.into_iter().for_each(|note| self.note(note, now));
    }

    fn send(&self, to: NodeId, message: Message<()>, ring: &HostRing) {
        if let Some(mesh) = &self.mesh {
            send(mesh, ring, to, message);
        }
    }

    fn note(&mut self, note: Note, now: Time) {
        match note {
            Note::Began { name, peers } => {
                tracing::info!(key = %name, peers, "a key begins to encrypt");
                for asker in self.rotations.drain(..) {
                    // Who no longer waits does not want to know.
                    let _ = asker.send(Reply::of(&Rotated { key: name.to_string(), peers }));
                }
            }
            Note::RefusedBy(peer, name, why, until) => {
                let is_news =
                    self.record.refusals.refused(peer, By::Peer, name, Some(why), until, now);
                self.record.refused_by_peers += u64::from(is_news);
                if self.said.is_news((peer, kind(&why, false))) {
                    tracing::warn!(%peer, key = %name, %why, "a peer refused a key");
                }
            }
            Note::Refused(peer, name, why, until) => {
                let is_news =
                    self.record.refusals.refused(peer, By::This, name, Some(why), until, now);
                self.record.refused += u64::from(is_news);
                if self.said.is_news((peer, kind(&why, true))) {
                    tracing::warn!(%peer, key = %name, %why, "refused a peer's key");
                }
            }
            Note::Cut(peer, name, until) => {
                self.record.refusals.refused(peer, By::Cut, name, None, until, now);
                if self.said.is_news((peer, "sent one that lives too long")) {
                    let ends_in = now.until(until).as_secs();
                    tracing::warn!(%peer, key = %name, ends_in, "cut short the life of a peer's key");
                }
            }
            Note::Revoked(keys, by) => {
                self.revoked += keys;
                let by = by.map_or("this host".into(), |peer| peer.to_string());
                tracing::info!(keys, by, "keys were revoked");
            }
            Note::Left(peer) => tracing::info!(%peer, "a peer stops"),
        }
    }
}

/// What peers are told of the keys that are made here.
fn settings(ring: &HostRing) -> Settings {
    let Policy { rotate_every, lifetime, .. } = ring.policy();
    Settings { rotate_every, lifetime, plain: ring.makes_plain() }
}

/// What is said of a peer once in a while.
fn kind(why: &Refusal, by_us: bool) -> &'static str {
    match (why, by_us) {
        (Refusal::Ended, true) => "sent one that has ended",
        (Refusal::TooMany, true) => "sent too many",
        (Refusal::Full, true) => "sent one more than the ring holds",
        (Refusal::Unusable, true) => "sent one that is unusable",
        (Refusal::Busy, true) => "sent one while the ring could not be written",
        (Refusal::Other, true) => "sent one that is not taken",
        (Refusal::Ended, false) => "found one ended",
        (Refusal::TooMany, false) => "found too many",
        (Refusal::Full, false) => "is full",
        (Refusal::Unusable, false) => "found one unusable",
        (Refusal::Busy, false) => "could not write its ring",
        (Refusal::Other, false) => "does not take one",
    }
}

/// A key of a peer, in the form in which it is put into the ring.
fn arrival(offer: Offer<Secrets>, times: KeyTimes) -> Arrival {
    let Offer { name, origin, plain, secrets, .. } = offer;
    Arrival { facts: Facts { name, origin, times, plain }, secrets }
}

/// What the node is told of the keys of a peer that the ring took or refused.
fn answered(from: NodeId, took: Vec<(KeyName, Result<(), Refusal>)>) -> Event<Secrets> {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for (name, result) in took {
        match result {
            Ok(()) => taken.push(name),
            Err(why) => refused.push((name, why)),
        }
    }
    Event::Took { from, taken, refused }
}

/// A message with its secrets, as of now.
fn send(mesh: &Mesh, ring: &HostRing, to: NodeId, message: Message<()>) {
    let said = ring.now();
    let message = match message {
        Message::Keys(offers) => Message::Keys(with_secrets(offers, ring)),
        Message::Held { keys, last } => Message::Held { keys: with_secrets(keys, ring), last },
        Message::Revoked { keys, all } => Message::Revoked { keys, all },
        Message::Taken(names) => Message::Taken(names),
        // An earlier release ends the connection over a reason that it does not know.
        Message::Refused(refused) if !mesh.has_told(to) => {
            let known = |(name, why)| match why {
                Refusal::Busy | Refusal::Other => (name, Refusal::Full),
                why => (name, why),
            };
            Message::Refused(refused.into_iter().map(known).collect())
        }
        Message::Refused(refused) => Message::Refused(refused),
        Message::Buried(names) => Message::Buried(names),
        Message::Pull => Message::Pull,
        Message::Leaving => Message::Leaving,
    };
    mesh.send(to, &message, said);
}

/// The same offers with their secrets. Left out are keys that the ring gives none of.
fn with_secrets(offers: Vec<Offer<()>>, ring: &HostRing) -> Vec<Offer<Secrets>> {
    let secrets = ring.secrets(offers.iter().map(|offer| offer.name));
    let full = offers.into_iter().zip(secrets).filter_map(|(offer, secrets)| {
        let Offer { name, origin, left, plain, secrets: () } = offer;
        Some(Offer { name, origin, left, plain, secrets: secrets? })
    });
    full.collect()
}
