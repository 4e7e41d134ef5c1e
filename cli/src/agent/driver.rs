//! Events to the node, its actions to the ring and to the peers, until the agent is told to stop.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::unistd::Uid;
use tktrot::clock::Time;
use tktrot::govern::LEASE;
use tktrot::ring::file::Place;
use tktrot::schedule::Policy;
use tktrot_fleet::message::{Message, NodeId};
use tktrot_fleet::node::Node;
use tktrot_fleet::node::event::{Action, DropReason, Event, Note};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::ask::{self, Question, Reply, Revoked, Rotated, Which};
use super::control::{self, Asked};
use super::export::status::StatusHandle;
use super::figures::{Figures, Peer, Record, Sharing, State};
use super::journal::Once;
use super::mesh::{MeshEvent, PeerState, PeerStatus};
use super::metrics;
use super::notify::Manager;
use super::peers::Carrier;
use super::ring::{Act, HostRing, Secrets};
use super::start::Started;
use crate::settings::Settings;

/// How often the ring is looked at for what others change in it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
const _: () = assert!(RENEW_EVERY.as_millis() * 2 < LEASE.as_millis());
/// A host must be able to start without its peers.
const READY_WITHIN: Duration = Duration::from_millis(1900);
/// What is still to be said at the end is said within this time.
const FLUSH_WITHIN: Duration = Duration::from_millis(1200);
/// The node is asked no more often, whatever it wants.
const LEAST_PAUSE: Duration = Duration::from_millis(2);

struct Driver {
    place: Place,
    ring: HostRing,
    node: Node<Secrets>,
    sharing: Sharing,
    exports: StatusHandle,
    carrier: Carrier,
    manager: Manager,
    up: HashSet<NodeId>,
    record: Record,
    said: Once<(NodeId, &'static str)>,
    policy: Policy,
    /// Every configured peer was tried.
    all_tried: bool,
    /// Who asked for a rotation that has not happened yet.
    rotations: Vec<oneshot::Sender<Reply>>,
    revoked: usize,
}

/// Runs the agent until it is told to stop.
pub async fn run(started: Started, settings: &Settings, user: Uid, began: Instant) -> Result<()> {
    let stop = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(terminate), Ok(interrupt)] = stop else { bail!("signals cannot be awaited") };
    let (asks, asked) = mpsc::channel(16);
    tokio::task::spawn_local(control::serve(started.control, user, asks.clone()));
    if let Some((observer, listener)) = started.metrics {
        tokio::task::spawn_local(metrics::serve(listener, observer, asks));
    }
    // Dropped at the end: another agent may govern the ring then.
    let _lock = started.lock;
    let exports = started.exporter.status();
    tokio::task::spawn_local(started.exporter.run());
    let policy = started.ring.policy();
    let node = Node::new(started.ring.node(), started.limits, policy);
    tracing::info!(
        ring = %started.place.path().display(),
        node = %started.ring.node(),
        sharing = ?started.sharing,
        settings = settings.variables.len(),
        "governs the ring"
    );
    let ring = started.place.path();
    let ring = ring.file_stem().unwrap_or_default().to_string_lossy();
    let carrier = started.way.open(started.ring.node(), &ring)?;
    let driver = Driver {
        all_tried: !carrier.has_peers(),
        place: started.place,
        ring: started.ring,
        node,
        sharing: started.sharing,
        exports,
        carrier,
        manager: Manager::new(),
        up: HashSet::new(),
        record: Record::default(),
        said: Once::new(),
        policy,
        rotations: Vec::new(),
        revoked: 0,
    };
    driver.run(asked, [terminate, interrupt], began).await
}

impl Driver {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<Asked>,
        [mut terminate, mut interrupt]: [Signal; 2],
        began: Instant,
    ) -> Result<()> {
        let mut renewed = Instant::now();
        drop(self.ring.act());
        self.look();
        loop {
            self.handle(Event::Tick);
            self.tell_manager(began);
            let now = self.ring.now();
            let due = now.until(self.node.deadline(now)).clamp(LEAST_PAUSE, LOOK_EVERY);
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                news = self.carrier.next() => self.hear(news),
                Some((question, answer)) = asked.recv() => self.answer(question, answer),
                () = sleep(due) => {}
            }
            if renewed.elapsed() >= RENEW_EVERY {
                renewed = Instant::now();
                drop(self.ring.act());
                if !self.ring.is_there() {
                    let path = self.place.path();
                    bail!(
                        "{}: the ring was removed, and servers that start now make another one; \
                         start the agent again",
                        path.display()
                    );
                }
            }
            self.look();
        }
        self.leave().await;
        Ok(())
    }

    /// Peers are told, and servers rotate themselves again.
    async fn leave(mut self) {
        tracing::info!("stops");
        self.manager.stopping();
        self.handle(Event::Leave);
        if timeout(FLUSH_WITHIN, self.carrier.stop()).await.is_err() {
            tracing::warn!("not every peer was told");
        }
        self.ring.release();
        // May be impossible by now: then the next agent does it.
        let _ = std::fs::remove_file(ask::socket(&self.place));
    }

    /// What others changed in the ring.
    fn look(&mut self) {
        for event in self.ring.changes() {
            self.handle(event);
        }
        let policy = self.ring.policy();
        if policy != self.policy {
            tracing::info!(
                rotate = policy.rotate_every.as_secs(),
                lifetime = policy.lifetime.as_secs(),
                "servers ask for other keys"
            );
            self.policy = policy;
            self.handle(Event::Policy(policy));
        }
    }

    fn hear(&mut self, news: MeshEvent) {
        match news {
            MeshEvent::Up { node, address } => {
                tracing::debug!(peer = %node, %address, "a peer is up");
                self.up.insert(node);
                self.handle(Event::Up(node));
            }
            MeshEvent::Down { node, reason } => {
                tracing::debug!(peer = %node, reason, "a peer is down");
                self.up.remove(&node);
                self.record.forget(node);
                self.handle(Event::Down(node));
            }
            MeshEvent::Received { from, message, age } => {
                if let Message::Taken(names) = &message {
                    self.record.answer(from, names, self.ring.now());
                }
                self.handle(Event::Received { from, message, age });
            }
            MeshEvent::FirstRound => self.all_tried = true,
        }
    }

    /// An event, and those that follow from what is done about it.
    fn handle(&mut self, event: Event<Secrets>) {
        let mut event = Some(event);
        let mut followers = VecDeque::new();
        while let Some(next) = event.take() {
            let actions = self.node.handle(next, self.ring.now());
            self.perform(actions, &mut followers);
            event = followers.pop_front();
        }
        if self.node.is_synced() && self.all_tried {
            self.record.synced_at = Some(self.ring.now());
        }
    }

    fn perform(&mut self, actions: Vec<Action<Secrets>>, followers: &mut VecDeque<Event<Secrets>>) {
        // One act for all of them: what belongs together, others see at once.
        let mut act: Option<Act<'_>> = None;
        let mut notes = Vec::new();
        for action in actions {
            match action {
                Action::Make(times) => followers.push_back(self.ring.go_on(&mut act).make(times)),
                Action::Take { from, keys } => {
                    followers.push_back(self.ring.go_on(&mut act).take(from, keys))
                }
                Action::Shorten(name, times) => self.ring.go_on(&mut act).shorten(name, &times),
                Action::Erase(name) => self.ring.go_on(&mut act).erase(name),
                Action::Send { to, message } => {
                    if let Message::Keys(offers) = &message {
                        let now = self.ring.now();
                        offers.iter().for_each(|offer| self.record.tell(to, offer.name, now));
                    }
                    send(&self.carrier, &self.ring, to, message);
                }
                Action::Drop { peer, reason: DropReason::Silent(key) } => {
                    self.up.remove(&peer);
                    self.record.forget(peer);
                    let reason = format!("it has not acknowledged key {key} in time");
                    self.carrier.drop_peer(peer, &reason);
                }
                Action::Note(note) => notes.push(note),
            }
        }
        drop(act);
        notes.into_iter().for_each(|note| self.note(note));
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Began { name, peers } => {
                tracing::info!(key = %name, peers, "a key begins to encrypt");
                for asker in self.rotations.drain(..) {
                    // Who no longer waits does not want to know.
                    let _ = asker.send(Reply::of(&Rotated { key: name.to_string(), peers }));
                }
            }
            Note::RefusedBy(peer, name, why) => {
                self.record.refused_by_peers += 1;
                if self.said.is_news((peer, kind(&why, false))) {
                    tracing::warn!(%peer, key = %name, %why, "a peer does not take a key");
                }
            }
            Note::Refused(peer, name, why) => {
                self.record.refused += 1;
                if self.said.is_news((peer, kind(&why, true))) {
                    tracing::warn!(%peer, key = %name, %why, "a key of a peer is not taken");
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

    fn answer(&mut self, question: Question, answer: oneshot::Sender<Reply>) {
        let reply = match question {
            Question::Peers {} => Reply::of(&self.figures()),
            Question::Rotate {} => {
                if self.node.may_rotate() {
                    self.rotations.retain(|asker| !asker.is_closed());
                    self.rotations.push(answer);
                    return self.handle(Event::Rotate);
                }
                let error = "this host has so many keys that its peers would refuse one more; \
                             wait until some have ended, or make rings with a higher capacity";
                Reply::Error(error.into())
            }
            Question::Revoke { keys } => self.revoke(keys),
        };
        let _ = answer.send(reply);
    }

    fn revoke(&mut self, which: Which) -> Reply {
        self.revoked = 0;
        match which {
            Which::All(_) => self.handle(Event::RevokeAll),
            Which::These(names) => {
                let names: Option<Vec<_>> = names.iter().map(|hex| ask::name(hex)).collect();
                let Some(names) = names else {
                    return Reply::Error("a key's name is 32 hex digits".into());
                };
                self.handle(Event::Revoke(names));
            }
        }
        Reply::of(&Revoked { keys: self.revoked, peers: self.up.len() })
    }

    fn tell_manager(&mut self, began: Instant) {
        self.manager.alive();
        let now = self.ring.now();
        let is_synced = self.all_tried && self.node.is_synced() && self.node.has_active(now);
        if !self.manager.is_ready() && (is_synced || began.elapsed() >= READY_WITHIN) {
            self.manager.ready();
            tracing::info!(synced = is_synced, "ready");
        }
        self.manager.status(match self.carrier.has_peers() {
            true => {
                let peers = self.carrier.peers();
                let others = peers.iter().filter(|peer| peer.state != PeerState::Myself).count();
                format!("{} of {others} peers up", self.up.len())
            }
            false => "no peers".into(),
        });
    }

    fn figures(&self) -> Figures {
        let now = self.ring.now();
        let counts = self.node.keys_by_origin();
        let own = counts.get(&self.ring.node()).copied().unwrap_or(0);
        let since = |then: Time| then.until(now).as_secs_f64();
        let peers = self.carrier.peers().into_iter().map(|peer: PeerStatus| {
            let answered = peer.node.and_then(|node| self.record.of(node));
            let is_other = peer.state != PeerState::Myself;
            let node = peer.node.filter(|_| is_other);
            Peer {
                address: peer.address,
                node: peer.node.map(|node| node.to_string()),
                state: match peer.state {
                    PeerState::Up => State::Up,
                    PeerState::Down => State::Down,
                    PeerState::Myself => State::Self_,
                },
                round_trip: peer.round_trip.map(|span| span.as_secs_f64()),
                keys: node.and_then(|node| counts.get(&node).copied()).unwrap_or(0),
                acknowledged_ago: answered.map(|answered| since(answered.at)),
                acknowledgement: answered.map(|answered| answered.after.as_secs_f64()),
                last_error: peer.error,
            }
        });
        let path = self.place.path();
        Figures {
            version: 1,
            ring: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            node: self.ring.node().to_string(),
            sharing: self.sharing,
            synced: self.node.is_synced() && self.all_tried,
            synced_ago: self.record.synced_at.map(since),
            own_keys: own,
            other_keys: counts.values().sum::<usize>() - own,
            refused: self.record.refused,
            refused_by_peers: self.record.refused_by_peers,
            peers: peers.collect(),
            exports: self.exports.get(),
        }
    }
}

/// What is said of a peer once in a while.
fn kind(why: &tktrot_fleet::message::Refusal, by_us: bool) -> &'static str {
    use tktrot_fleet::message::Refusal;
    match (why, by_us) {
        (Refusal::Ended, true) => "sent one that has ended",
        (Refusal::TooMany, true) => "sent too many",
        (Refusal::Full, true) => "sent one more than the ring holds",
        (Refusal::Unusable, true) => "sent one that is none",
        (Refusal::Ended, false) => "found one ended",
        (Refusal::TooMany, false) => "found too many",
        (Refusal::Full, false) => "is full",
        (Refusal::Unusable, false) => "found one unusable",
    }
}

/// A message with its secrets, as of now.
fn send(carrier: &Carrier, ring: &HostRing, to: NodeId, message: Message<()>) {
    let said = ring.now();
    let message = match message {
        Message::Keys(offers) => Message::Keys(ring.with_secrets(offers)),
        Message::Held { keys, last } => Message::Held { keys: ring.with_secrets(keys), last },
        Message::Revoked { keys, all } => Message::Revoked { keys, all },
        Message::Taken(names) => Message::Taken(names),
        Message::Refused(refused) => Message::Refused(refused),
        Message::Pull => Message::Pull,
        Message::Leaving => Message::Leaving,
    };
    carrier.send(to, &message, said);
}
