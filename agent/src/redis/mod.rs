//! The fleet shares one key per rotation through Redis.
//!
//! What is stored, and when, is decided by [`tktrot_fleet::redis::RedisNode`]. This is the shell around it:
//! its actions are done to the ring and told to Redis, and whoever asked for something is answered.
//!
//! - [`client`]: the connection, kept up, with a Redis that does not write keys to disk
//! - [`groups`]: hosts with another rotation or secret
//! - [`junk`]: what is there and no agent wrote
//! - [`revocation`]: a revocation that somebody waits for
//! - [`script`]: what is asked of it
//! - [`target`]: where Redis is: an address, or Sentinels that know it

mod client;
mod groups;
mod junk;
mod revocation;
mod script;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::future;
use std::time::Duration;

use anyhow::{Context, Result};
use tktrot::clock::Time;
use tktrot::schedule::Policy;
use tktrot::secret::{KeyName, KeySecrets};
use tktrot_fleet::config::Redis;
use tktrot_fleet::message::{Facts, NodeId};
use tktrot_fleet::redis::RedisNode;
use tktrot_fleet::redis::clock::RedisTime;
use tktrot_fleet::redis::event::{Look, Memory, RedisAction, RedisEvent, RedisNote};
use tktrot_fleet::redis::stored::{Grave, Revoked as What, Slot, Stored, Terms};
use tktrot_fleet::redis::{Settings, longest_life};
use tktrot_fleet::wrap::Wrapping;
use tokio::sync::{mpsc, oneshot};

use crate::control::{Reply, Rotated};
use crate::figures::{self, Sharing, Told};
use crate::files::Files;
use crate::problems::{self, Problem};
use crate::ring::{Act, Arrival, Change, Changes, HostRing, Secrets};
use crate::secrets;
use crate::waiting::Waiting;
use client::{ClientEvent, Options, RedisClient, Request};
use groups::Group;
use revocation::Revocation;
use script::{Burial, Found, Names, Parcel, Polled};
use target::{CONNECTING, Target};
use tokio::time::Instant;

/// What is read and decided before the agent gives up its rights.
pub struct Prepared {
    target: Target,
    config: Redis,
    wrapping: Wrapping,
    ring: String,
}

impl Prepared {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    ///
    /// A file or a URL cannot be used.
    pub fn read(config: &Redis, ring: &str, files: &Files) -> Result<Prepared> {
        let secrets = secrets::read(&config.secrets, files)?;
        let keys = secrets.iter().map(|secret| secret.redis_wrapping_key());
        let keys = keys.collect::<Result<_, _>>().context("keys cannot be derived")?;
        Ok(Prepared {
            target: Target::read(config, files)?,
            config: config.clone(),
            wrapping: Wrapping::new(ring, keys)?,
            ring: ring.into(),
        })
    }
}

/// What is wrong with the files that these settings name.
pub fn flaws(config: &Redis, files: &Files) -> Vec<anyhow::Error> {
    let secrets = config.secrets.iter().filter_map(|file| secrets::read_one(file, files).err());
    let mut flaws: Vec<_> = secrets.collect();
    flaws.extend(target::flaws(config, files));
    flaws
}

/// Shares the keys of one ring through Redis.
pub struct ThroughRedis {
    node: RedisNode,
    id: NodeId,
    wrapping: Wrapping,
    client: RedisClient,
    events: mpsc::Receiver<ClientEvent>,
    began: Instant,
    /// Where Redis is, while it can be asked.
    address: Option<String>,
    /// Why it cannot, as was said.
    trouble: Option<String>,
    names: Names,
    group: Group,
    /// Who else uses these names, as the last poll found it, in words.
    others: Vec<Problem>,
    /// Something else is where they are listed.
    groups_are_junk: bool,
    /// What no agent wrote, as the last look found it.
    junk: Vec<String>,
    /// Who asked for a rotation that is not decided yet.
    rotations: Vec<oneshot::Sender<Reply>>,
    /// What was revoked and Redis may not have.
    revocations: Vec<Revocation>,
    revoked: usize,
    refused: u64,
    synced_at: Option<Time>,
    #[cfg(test)]
    notes: Vec<RedisNote>,
}

impl ThroughRedis {
    /// Begins to connect, in a `LocalSet`. The ring may hold so many keys.
    pub fn start(prepared: Prepared, ring: &HostRing, capacity: usize) -> Self {
        let Prepared { target, config, wrapping, ring: name } = prepared;
        let policy = ring.policy();
        let settings = Settings {
            lead: config.lead,
            poll: config.poll,
            plain: ring.makes_plain(),
            ahead: config.ahead,
            capacity,
            ..Settings::default()
        };
        let secret = wrapping.ids().next().expect("a secret wraps");
        let group = Group { secret, rotate_every: policy.rotate_every };
        let names = Names::new(&config.prefix, &name, group);
        let options = Options {
            target,
            names: names.clone(),
            allow_persistence: config.allow_persistence,
            poll: settings.poll(&policy),
            spread: settings.poll(&policy) / 2,
        };
        let (client, events) = RedisClient::start(options);
        let (period, epoch) = ring.fleet_seen();
        let memory = Memory { epoch, period: RedisTime(period) };
        ThroughRedis {
            node: RedisNode::new(ring.node(), settings, policy, memory),
            id: ring.node(),
            wrapping,
            client,
            events,
            began: Instant::now(),
            address: None,
            trouble: None,
            names,
            group,
            others: Vec::new(),
            groups_are_junk: false,
            junk: Vec::new(),
            rotations: Vec::new(),
            revocations: Vec::new(),
            revoked: 0,
            refused: 0,
            synced_at: None,
            #[cfg(test)]
            notes: Vec::new(),
        }
    }

    /// When [`ThroughRedis::tick`] is wanted.
    pub fn deadline(&self) -> Time {
        self.node.deadline()
    }

    /// The deadline has come, or may have.
    pub fn tick(&mut self, ring: &HostRing) {
        self.handle(RedisEvent::Tick, ring);
        self.answer_revocations();
    }

    /// What others changed in the ring.
    pub fn look(&mut self, ring: &HostRing) {
        let Changes { graves, keys } = ring.changes();
        if !graves.is_empty() {
            let graves = graves.iter().map(|grave| (grave.name, grave.until)).collect();
            self.handle(RedisEvent::Graves(graves), ring);
        }
        for change in keys {
            let event = match change {
                Change::Found(facts) => RedisEvent::Found(facts),
                Change::Lost(name) => RedisEvent::Lost(name),
            };
            self.handle(event, ring);
        }
    }

    /// Servers ask for other keys. Another R begins with the next start of the agent.
    pub fn adapt(&mut self, policy: Policy, ring: &HostRing) {
        if policy.rotate_every != self.group.rotate_every {
            tracing::warn!(
                asked = policy.rotate_every.as_secs(),
                fleet = self.group.rotate_every.as_secs(),
                "servers ask for a different rotation than the agent has; it takes effect when \
                 the agent is restarted. Set the same `rotate` on all hosts"
            );
        }
        let policy = Policy { rotate_every: self.group.rotate_every, ..policy };
        self.handle(RedisEvent::Policy(policy), ring);
    }

    /// True if all that Redis has was read and heeded since the start.
    pub fn is_synced(&self) -> bool {
        self.node.is_synced()
    }

    /// True if a key encrypts.
    pub fn has_active(&self, now: Time) -> bool {
        self.node.has_active(now)
    }

    /// Waits for something from Redis, and does what follows from it. Nothing is lost if this is not
    /// waited for to its end.
    pub async fn hear(&mut self, ring: &HostRing) {
        let Some(event) = self.events.recv().await else { return future::pending().await };
        let event = match event {
            ClientEvent::Up { address, warning } => {
                tracing::info!(address, "connected to Redis");
                if let Some(warning) = warning {
                    tracing::warn!(address, "Redis: {warning}");
                }
                (self.address, self.trouble) = (Some(address), None);
                RedisEvent::Up
            }
            ClientEvent::Down(why) => {
                if self.address.is_some() || self.trouble.as_ref() != Some(&why) {
                    tracing::warn!(why, "cannot use Redis");
                }
                self.fail(why);
                RedisEvent::Down
            }
            ClientEvent::Refused(why) => {
                if self.trouble.as_ref() != Some(&why) {
                    tracing::error!("Redis is not used: {why}");
                }
                self.fail(why);
                RedisEvent::Down
            }
            ClientEvent::Polled(reading, Polled { mark, groups, is_junk, .. }) => {
                self.meet(&groups);
                self.groups_are_junk = is_junk;
                RedisEvent::Polled(reading, mark)
            }
            ClientEvent::Looked(reading, found) => {
                let Found { mark, values, records, mut junk, .. } = found;
                let graves = records.iter().filter_map(|record| self.wrapping.recorded(record));
                let graves = graves.collect();
                let keys = values
                    .into_iter()
                    .map(|(slot, bytes)| (slot, self.wrapping.unwrap(slot, &bytes)));
                let keys = keys.collect();
                let look = Look { reading, mark, keys, graves };
                junk.wrong.extend(self.groups_are_junk.then(|| self.names.groups()));
                self.complain(junk::complaints(&self.names, &junk, records.len(), &look));
                RedisEvent::Looked(look)
            }
            ClientEvent::Written => RedisEvent::Written,
            ClientEvent::Heard => RedisEvent::Heard,
        };
        self.handle(event, ring);
        self.answer_revocations();
    }

    /// These use the ring's names.
    fn meet(&mut self, groups: &HashSet<Group>) {
        let secrets = self.wrapping.ids().collect();
        let problems = groups::problems(self.group, &secrets, groups);
        for problem in problems.iter().filter(|problem| !self.others.contains(problem)) {
            tracing::error!("{}", problem.what);
        }
        if problems.is_empty() && !self.others.is_empty() {
            tracing::info!("all hosts that use this ring's names in Redis have the same settings");
        }
        self.others = problems;
    }

    /// Logs what is new of it.
    fn complain(&mut self, junk: Vec<String>) {
        for what in junk.iter().filter(|what| !self.junk.contains(what)) {
            tracing::error!("{what}");
        }
        self.junk = junk;
    }

    fn fail(&mut self, why: String) {
        self.junk.clear();
        self.meet(&HashSet::new());
        self.revocations.iter_mut().for_each(|revocation| revocation.fail(&why));
        (self.address, self.trouble) = (None, Some(why));
    }

    /// Asks for a new key, which is to encrypt in the whole fleet; the answer comes when the fleet has
    /// decided on it.
    pub fn rotate(&mut self, answer: oneshot::Sender<Reply>, ring: &HostRing) {
        if self.address.is_none() {
            let why = self.trouble.as_deref().unwrap_or("no answer yet");
            let error = format!("cannot use Redis ({why}), which decides on the next key");
            // Who no longer waits does not want to know.
            let _ = answer.send(Reply::Error(error));
            return;
        }
        self.rotations.retain(|asker| !asker.is_closed());
        self.rotations.push(answer);
        self.handle(RedisEvent::Rotate, ring);
    }

    /// Ends these keys, or all, here at once, and elsewhere as soon as Redis tells; the answer comes
    /// when Redis has it, or was waited for.
    pub fn revoke(&mut self, names: Option<Vec<KeyName>>, waiting: Waiting, ring: &HostRing) {
        // What somebody on this host has ended does not end once more.
        self.look(ring);
        let of_names = names.iter().flatten().map(|name| What::Key(*name)).collect();
        let is_of_all = names.is_none();
        self.revoked = 0;
        self.handle(names.map_or(RedisEvent::RevokeAll, RedisEvent::Revoke), ring);
        let what = if is_of_all { vec![What::All(self.node.epoch())] } else { of_names };
        let trouble = self.trouble.as_ref();
        self.revocations.push(Revocation::new(self.revoked, what, trouble, waiting));
        self.answer_revocations();
    }

    fn answer_revocations(&mut self) {
        for revocation in self.revocations.extract_if(.., |one| one.is_over(&self.node)) {
            revocation.end(&self.node, self.address.clone(), &self.junk);
        }
    }

    /// A line for the service manager.
    pub fn summary(&self) -> String {
        if let (Some(address), Some(doubt)) = (&self.address, self.node.doubt()) {
            return format!("Redis at {address} is not believed: {doubt}");
        }
        match (&self.address, &self.trouble) {
            (Some(address), _) => format!("keys are shared through Redis at {address}"),
            (None, Some(why)) => format!("without Redis: {why}"),
            (None, None) => "Redis has not answered yet".into(),
        }
    }

    /// What `tktrot peers` and metrics tell of it.
    pub fn tell(&self, ring: &HostRing) -> Told {
        let now = ring.now();
        Told {
            sharing: Sharing::Redis,
            synced: self.is_synced(),
            synced_ago: self.synced_at.map(|then| then.until(now).as_secs_f64()),
            own_keys: ring.keys().saturating_sub(self.node.shared_keys()),
            other_keys: self.node.shared_keys(),
            refused: self.refused,
            refused_by_peers: 0,
            problems: self.problems(now),
            peers: Vec::new(),
            redis: Some(figures::Redis {
                address: self.address.clone(),
                error: self.error(),
                shared: self.node.turn(now).is_some(),
            }),
        }
    }

    /// Why Redis is not used. It has its time to answer in.
    fn error(&self) -> Option<String> {
        let known = self.trouble.clone().or_else(|| Some(self.node.doubt()?.to_string()));
        let silent = || {
            let is_late = self.address.is_none() && self.began.elapsed() > CONNECTING;
            is_late.then(|| format!("it has not answered within {} s", CONNECTING.as_secs()))
        };
        known.or_else(silent)
    }

    fn problems(&self, now: Time) -> Vec<Problem> {
        // Whose the keys are that a ring had at the start, the first look tells.
        let knows = self.node.is_synced();
        let alone = knows && self.has_active(now) && self.node.turn(now).is_none();
        let alone = alone.then(problems::encrypts_alone);
        let junk = self.junk.iter().cloned().map(problems::redis_has_junk);
        self.others.iter().cloned().chain(alone).chain(junk).collect()
    }

    /// An event, and those that follow from what is done about it.
    fn handle(&mut self, event: RedisEvent<Secrets>, ring: &HostRing) {
        let mut followers = VecDeque::from([event]);
        let mut notes = Vec::new();
        while let Some(event) = followers.pop_front() {
            let actions = self.node.handle(event, ring.now());
            self.perform(actions, ring, &mut followers, &mut notes);
        }
        notes.into_iter().for_each(|note| self.note(note));
        if self.is_synced() && self.address.is_some() {
            self.synced_at = Some(ring.now());
        }
    }

    fn perform(
        &mut self,
        actions: Vec<RedisAction<Secrets>>,
        ring: &HostRing,
        followers: &mut VecDeque<RedisEvent<Secrets>>,
        notes: &mut Vec<RedisNote>,
    ) {
        // One act for all of them: what belongs together, others see at once.
        let mut act: Option<Act<'_>> = None;
        let mut writes = Vec::new();
        for action in actions {
            match action {
                RedisAction::Make(times) => {
                    let made = ring.go_on(&mut act).make(times);
                    followers.push_back(made.map_or(RedisEvent::NotMade, RedisEvent::Made));
                }
                RedisAction::Take(stored, times) => {
                    let Stored { name, terms, secrets } = stored;
                    // One that this host encrypts with.
                    let facts = Facts { name, origin: self.id, times, plain: terms.plain };
                    let took = ring.go_on(&mut act).take(vec![Arrival { facts, secrets }]);
                    let took = took.into_iter().map(|(name, took)| RedisEvent::Took(name, took));
                    followers.extend(took);
                }
                RedisAction::Shorten(name, times) => ring.go_on(&mut act).shorten(name, &times),
                RedisAction::Erase(name) => ring.go_on(&mut act).erase(name),
                RedisAction::Poll => self.client.ask(Request::Poll),
                RedisAction::Look(turns) => self.client.ask(Request::Look(turns)),
                RedisAction::Note(note) => notes.push(note),
                RedisAction::Entomb(name, until) => ring.go_on(&mut act).bury(name, until),
                RedisAction::Remember(Memory { epoch, period }) => {
                    ring.go_on(&mut act).raise_fleet(period.0, epoch);
                }
                writing => writes.push(writing),
            }
        }
        drop(act);
        if !writes.is_empty() {
            self.write(writes, ring);
        }
    }

    fn write(&mut self, writes: Vec<RedisAction<Secrets>>, ring: &HostRing) {
        let (mut parcels, mut burial) = (Vec::new(), None);
        for write in writes {
            let result = match write {
                RedisAction::Offer(terms, keep) => self.make(&terms, keep).map(Some),
                RedisAction::PutBack(slot, name, terms, keep) => {
                    self.put_back(slot, name, &terms, keep, ring)
                }
                RedisAction::Bury(graves, slots) => self.bury(&graves, slots).map(|what| {
                    burial = Some(what);
                    None
                }),
                _ => Ok(None),
            };
            match result {
                Ok(parcel) => parcels.extend(parcel),
                Err(error) => tracing::error!("cannot store a key in Redis: {error:#}"),
            }
        }
        self.client.ask(Request::Write(parcels, burial));
    }

    /// A new key. It leaves this function wrapped only.
    fn make(&self, terms: &Terms, keep: Duration) -> Result<Parcel> {
        let mut secrets = Box::new(KeySecrets::zeroed());
        let mut name = KeyName([0; 16]);
        openssl::rand::rand_priv_bytes(secrets.aes.expose_mut())?;
        openssl::rand::rand_priv_bytes(secrets.hmac.expose_mut())?;
        openssl::rand::rand_bytes(&mut name.0)?;
        self.parcel(Slot::At(terms.turn), &name, terms, keep, &secrets)
    }

    fn parcel(
        &self,
        slot: Slot,
        name: &KeyName,
        terms: &Terms,
        keep: Duration,
        secrets: &KeySecrets,
    ) -> Result<Parcel> {
        let bytes = self.wrapping.wrap(name, terms, secrets)?;
        Ok(Parcel { slot, bytes, keep, ends: terms.ends })
    }

    fn put_back(
        &self,
        slot: Slot,
        name: KeyName,
        terms: &Terms,
        keep: Duration,
        ring: &HostRing,
    ) -> Result<Option<Parcel>> {
        let [Some(secrets)] = &ring.secrets([name])[..] else { return Ok(None) };
        self.parcel(slot, &name, terms, keep, secrets).map(Some)
    }

    fn bury(&self, graves: &[Grave], slots: Vec<Slot>) -> Result<Burial> {
        let records =
            graves.iter().map(|grave| Ok((self.wrapping.record(grave)?.to_vec(), grave.ends)));
        // No key lives longer, whoever made it.
        let keep = longest_life(self.group.rotate_every);
        Ok(Burial { records: records.collect::<Result<Vec<(_, RedisTime)>>>()?, keep, slots })
    }

    /// For the operator, and for who asked.
    fn note(&mut self, note: RedisNote) {
        tell(&note);
        match &note {
            RedisNote::Turns(key, _) => {
                for asker in self.rotations.drain(..) {
                    // Who no longer waits does not want to know.
                    let _ = asker.send(Reply::of(&Rotated { key: key.to_string(), peers: 0 }));
                }
            }
            RedisNote::Revoked(keys) => self.revoked += keys,
            RedisNote::Refused(..) | RedisNote::Flawed(..) => self.refused += 1,
            _ => {}
        }
        #[cfg(test)]
        self.notes.push(note);
    }
}

/// Logs what happened, for the operator.
fn tell(note: &RedisNote) {
    match note {
        RedisNote::Adopted(turn, key) => tracing::info!(%key, turn = %turn, "has the fleet's key"),
        RedisNote::Refused(key, why) => tracing::warn!(%key, %why, "the ring refused a key"),
        RedisNote::Flawed(slot, why) => {
            tracing::warn!("ignored what Redis has at {slot}: {why}")
        }
        RedisNote::Alone(left) => tracing::warn!(
            seconds = left.as_secs(),
            "continuing without Redis: the fleet's keys last this long, then this host uses keys \
             of its own"
        ),
        RedisNote::Back => tracing::info!("using the fleet's keys again"),
        RedisNote::OwnKey(key) => tracing::info!(%key, "made a key of this host's own"),
        RedisNote::PutBack(keys) => tracing::warn!(keys, "putting back keys that Redis lost"),
        RedisNote::ClockMoved(by) => tracing::warn!(
            seconds = *by as f64 / 1e9,
            "the clock of Redis was set, or another Redis has taken over"
        ),
        RedisNote::Doubted(doubt, left) => tracing::error!(
            seconds = left.as_secs(),
            "Redis is not believed: {doubt}; the fleet's keys last this long, then this host uses \
             keys of its own. Set the clocks (NTP)"
        ),
        RedisNote::Believed => tracing::info!("the clock of Redis is right again"),
        RedisNote::Implausible(key, _) => {
            tracing::warn!(%key, "refused a key that was made by another clock")
        }
        RedisNote::Turns(key, left) => {
            tracing::info!(%key, seconds = left.as_secs_f64(), "the fleet turns to a new key");
        }
        RedisNote::Revoked(keys) => tracing::info!(keys, "keys were revoked"),
        RedisNote::Buried(records) => tracing::info!(records, "telling the fleet what was revoked"),
    }
}
