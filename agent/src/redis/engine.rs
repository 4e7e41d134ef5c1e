//! The state machine's actions, done to the ring and told to Redis.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tktrot::clock::Time;
use tktrot::schedule::Policy;
use tktrot::secret::{KeyName, KeySecrets};
use tktrot_fleet::config::Redis;
use tktrot_fleet::message::{NodeId, Offer};
use tktrot_fleet::node::event::Event as RingEvent;
use tktrot_fleet::shared::Shared;
use tktrot_fleet::shared::clock::RedisTime;
use tktrot_fleet::shared::event::{Action, Event, Look, Note};
use tktrot_fleet::shared::place::{Place, Slot};
use tktrot_fleet::shared::settings::Settings;
use tktrot_fleet::shared::stored::{Grave, Stored, Terms};
use tktrot_fleet::wrap::Wrapping;
use tokio::sync::mpsc;

use super::link::{Link, News, Options, Question};
use super::script::{Burial, Found, Names, Parcel};
use super::target::Target;
use crate::ring::{Act, HostRing, Secrets};
use crate::secrets;

/// What there is to hear from Redis: to be passed to [`Engine::hear`].
pub struct Heard(News);

/// Where [`Heard`] comes from.
pub struct Ear(mpsc::Receiver<News>);

impl Ear {
    /// Waits for something to hear. `None` when the engine was dropped.
    pub async fn next(&mut self) -> Option<Heard> {
        self.0.recv().await.map(Heard)
    }
}

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
    pub fn read(config: &Redis, ring: &str) -> Result<Prepared> {
        let secrets = secrets::read(&config.secrets)?;
        let keys = secrets.iter().map(|secret| secret.redis_wrapping_key());
        let keys = keys.collect::<Result<_, _>>().context("keys cannot be derived")?;
        Ok(Prepared {
            target: Target::read(config)?,
            config: config.clone(),
            wrapping: Wrapping::new(ring, keys)?,
            ring: ring.into(),
        })
    }
}

/// Shares the keys of one ring through Redis.
pub struct Engine {
    node: Shared,
    id: NodeId,
    rotate_every: Duration,
    wrapping: Wrapping,
    link: Link,
    /// As it was found last.
    found: HashMap<Slot, (Vec<u8>, Stored<()>)>,
    /// Where Redis is, while it can be asked.
    address: Option<String>,
    /// Why it cannot, as was said.
    trouble: Option<String>,
}

impl Engine {
    /// Begins to connect. To be called inside a `LocalSet`. Calls of the agent's loop then follow:
    /// [`Engine::look`] every now and then, [`Engine::hear`] with what comes out of the [`Ear`],
    /// [`Engine::tick`] at [`Engine::deadline`].
    pub fn start(prepared: Prepared, ring: &HostRing, plain: bool) -> (Engine, Ear) {
        let Prepared { target, config, wrapping, ring: name } = prepared;
        let policy = ring.policy();
        let settings =
            Settings { lead: config.lead, poll: config.poll, plain, ..Settings::default() };
        let options = Options {
            target,
            names: Names::new(&config.prefix, &name, policy.rotate_every),
            allow_persistence: config.allow_persistence,
            spread: settings.poll(&policy) / 2,
        };
        let (link, news) = Link::start(options);
        let engine = Engine {
            node: Shared::new(ring.node(), settings, policy),
            id: ring.node(),
            rotate_every: policy.rotate_every,
            wrapping,
            link,
            found: HashMap::new(),
            address: None,
            trouble: None,
        };
        (engine, Ear(news))
    }

    /// When [`Engine::tick`] is wanted.
    pub fn deadline(&self) -> Time {
        self.node.deadline()
    }

    /// True if all that Redis has was read and heeded since the start.
    pub fn is_synced(&self) -> bool {
        self.node.is_synced()
    }

    /// True if a key encrypts.
    pub fn has_active(&self, now: Time) -> bool {
        self.node.has_active(now)
    }

    /// The fleet's key that encrypts; `None` if it is one of this host's own.
    pub fn turn(&self, now: Time) -> Option<(Place, KeyName)> {
        self.node.turn(now)
    }

    /// Where Redis is, if it can be asked.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// Why it cannot.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The deadline has come.
    pub fn tick(&mut self, ring: &HostRing) -> Vec<Note> {
        self.handle(Event::Tick, ring)
    }

    /// What others changed in the ring, and what they ask of it.
    pub fn look(&mut self, ring: &HostRing) -> Vec<Note> {
        let mut notes = Vec::new();
        for event in ring.changes::<Secrets>() {
            match event {
                RingEvent::Found(facts) => notes.extend(self.handle(Event::Found(facts), ring)),
                RingEvent::Lost(name) => notes.extend(self.handle(Event::Lost(name), ring)),
                _ => {}
            }
        }
        notes
    }

    /// Servers ask for other keys. Another R begins with the next start of the agent: all hosts of
    /// a fleet have the same one.
    pub fn adapt(&mut self, policy: Policy, ring: &HostRing) -> Vec<Note> {
        if policy.rotate_every != self.rotate_every {
            tracing::warn!(
                asked = policy.rotate_every.as_secs(),
                fleet = self.rotate_every.as_secs(),
                "servers ask for another rotation than the fleet has; it begins when the agents of \
                 all hosts are started again, with the same `rotate`"
            );
        }
        let policy = Policy { rotate_every: self.rotate_every, ..policy };
        self.handle(Event::Policy(policy), ring)
    }

    /// A new key is to encrypt in the whole fleet: [`Note::Turns`] says which.
    ///
    /// # Errors
    ///
    /// Redis cannot be asked.
    pub fn rotate(&mut self, ring: &HostRing) -> Result<Vec<Note>> {
        if self.address.is_none() {
            let why = self.trouble().unwrap_or("no answer yet");
            return Err(anyhow!("Redis cannot be asked ({why}), and it decides on the next key"));
        }
        Ok(self.handle(Event::Rotate, ring))
    }

    /// These keys are to end everywhere: here they do at once, elsewhere as soon as Redis tells.
    pub fn revoke(&mut self, names: Vec<KeyName>, ring: &HostRing) -> Vec<Note> {
        self.handle(Event::Revoke(names), ring)
    }

    /// The same for all keys.
    ///
    /// # Errors
    ///
    /// The generator fails.
    pub fn revoke_all(&mut self, ring: &HostRing) -> Result<Vec<Note>> {
        let mut id = [0; 16];
        openssl::rand::rand_bytes(&mut id)?;
        Ok(self.handle(Event::RevokeAll(id), ring))
    }

    /// Something came from Redis.
    pub fn hear(&mut self, Heard(news): Heard, ring: &HostRing) -> Vec<Note> {
        let event = match news {
            News::Up { address, warning } => {
                tracing::info!(address, "Redis can be asked");
                if let Some(warning) = warning {
                    tracing::warn!(address, "Redis: {warning}");
                }
                (self.address, self.trouble) = (Some(address), None);
                Event::Up
            }
            News::Down(why) => {
                if self.address.is_some() || self.trouble.as_ref() != Some(&why) {
                    tracing::warn!(why, "Redis cannot be asked");
                }
                (self.address, self.trouble) = (None, Some(why));
                Event::Down
            }
            News::Refused(why) => {
                if self.trouble.as_ref() != Some(&why) {
                    tracing::error!("Redis is not used: {why}");
                }
                (self.address, self.trouble) = (None, Some(why));
                Event::Down
            }
            News::Polled(reading, mark) => Event::Polled(reading, mark),
            News::Looked(reading, found) => {
                let Found { mark, values, records, .. } = found;
                let graves = records.iter().filter_map(|record| self.wrapping.recorded(record));
                let graves = graves.collect();
                let keys = self.unwrap(values);
                Event::Looked(Look { reading, mark, keys, graves })
            }
            News::Written => Event::Written,
            News::Heard => Event::Heard,
        };
        self.handle(event, ring)
    }

    fn unwrap(
        &mut self,
        values: Vec<(Slot, Vec<u8>)>,
    ) -> Vec<(Slot, Result<Stored<Secrets>, tktrot_fleet::shared::stored::Flaw>)> {
        self.found.clear();
        let mut keys = Vec::new();
        for (slot, bytes) in values {
            let stored = self.wrapping.unwrap(slot, &bytes, self.rotate_every);
            if let Ok(Stored { name, terms, .. }) = stored {
                let (name, terms) = (name, terms);
                self.found.insert(slot, (bytes, Stored { name, terms, secrets: () }));
            }
            keys.push((slot, stored));
        }
        keys
    }

    /// An event, and those that follow from what is done about it.
    fn handle(&mut self, event: Event<Secrets>, ring: &HostRing) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.node.handle(event, ring.now());
            self.perform(actions, ring, &mut events, &mut notes);
        }
        notes.iter().for_each(tell);
        notes
    }

    fn perform(
        &mut self,
        actions: Vec<Action<Secrets>>,
        ring: &HostRing,
        events: &mut VecDeque<Event<Secrets>>,
        notes: &mut Vec<Note>,
    ) {
        // One act for all of them: what belongs together, others see at once.
        let mut act: Option<Act<'_>> = None;
        let mut writes = Vec::new();
        for action in actions {
            match action {
                Action::Make(times) => {
                    events.push_back(match ring.go_on(&mut act).make::<Secrets>(times) {
                        RingEvent::Made(facts) => Event::Made(facts),
                        _ => Event::NotMade,
                    });
                }
                Action::Take(stored, times) => {
                    let name = stored.name;
                    let offer = offer(stored, self.id);
                    let took = ring.go_on(&mut act).take(self.id, vec![(offer, times)]);
                    let refusal = match took {
                        RingEvent::Took { refused, .. } => refused.first().map(|(_, why)| *why),
                        _ => None,
                    };
                    events.push_back(Event::Took(name, refusal.map_or(Ok(()), Err)));
                }
                Action::Shorten(name, times) => ring.go_on(&mut act).shorten(name, &times),
                Action::Erase(name) => ring.go_on(&mut act).erase(name),
                Action::Poll => self.link.ask(Question::Poll),
                Action::Look(places) => self.link.ask(Question::Look(places)),
                Action::Note(note) => notes.push(note),
                writing => writes.push(writing),
            }
        }
        drop(act);
        if !writes.is_empty() {
            self.write(writes, ring);
        }
    }

    fn write(&mut self, writes: Vec<Action<Secrets>>, ring: &HostRing) {
        let (mut parcels, mut burial) = (Vec::new(), None);
        for write in writes {
            let result = match write {
                Action::Offer(terms, keep) => self.make(&terms, keep).map(Some),
                Action::PutBack(slot, name, terms, keep) => {
                    self.put_back(slot, name, &terms, keep, ring)
                }
                Action::Amend(slot, terms, keep) => self.amend(slot, &terms, keep, ring),
                Action::Bury(graves, slots) => self.bury(&graves, slots).map(|what| {
                    burial = Some(what);
                    None
                }),
                _ => Ok(None),
            };
            match result {
                Ok(parcel) => parcels.extend(parcel),
                Err(error) => tracing::error!("a key cannot be stored: {error:#}"),
            }
        }
        self.link.ask(Question::Write(parcels, burial));
    }

    /// A new key. It leaves this function wrapped only.
    fn make(&self, terms: &Terms, keep: Duration) -> Result<Parcel> {
        let mut secrets = Box::new(KeySecrets::zeroed());
        let mut name = KeyName([0; 16]);
        openssl::rand::rand_priv_bytes(secrets.aes.expose_mut())?;
        openssl::rand::rand_priv_bytes(secrets.hmac.expose_mut())?;
        openssl::rand::rand_bytes(&mut name.0)?;
        self.parcel(Slot::At(terms.place), &name, terms, keep, &secrets)
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
        Ok(Parcel { slot, bytes, keep, ends: terms.ends, instead_of: None })
    }

    fn put_back(
        &self,
        slot: Slot,
        name: KeyName,
        terms: &Terms,
        keep: Duration,
        ring: &HostRing,
    ) -> Result<Option<Parcel>> {
        let found = ring.with_secrets(vec![offer_of(name, terms.plain, self.id)]);
        let Some(key) = found.first() else { return Ok(None) };
        self.parcel(slot, &name, terms, keep, &key.secrets).map(Some)
    }

    fn amend(
        &self,
        slot: Slot,
        terms: &Terms,
        keep: Duration,
        ring: &HostRing,
    ) -> Result<Option<Parcel>> {
        let Some((bytes, stored)) = self.found.get(&slot) else { return Ok(None) };
        let parcel = self.put_back(slot, stored.name, terms, keep, ring)?;
        Ok(parcel.map(|parcel| Parcel { instead_of: Some(bytes.clone()), ..parcel }))
    }

    fn bury(&self, graves: &[Grave], slots: Vec<Slot>) -> Result<Burial> {
        let records =
            graves.iter().map(|grave| Ok((self.wrapping.record(grave)?.to_vec(), grave.ends)));
        // No key lives longer, whoever made it.
        let keep = 2 * self.rotate_every + tktrot::schedule::MAX_LIFETIME;
        Ok(Burial { records: records.collect::<Result<Vec<(_, RedisTime)>>>()?, keep, slots })
    }
}

/// As the ring takes it: one that this host encrypts with.
fn offer(stored: Stored<Secrets>, id: NodeId) -> Offer<Secrets> {
    let Offer { name, origin, left, plain, .. } = offer_of(stored.name, stored.terms.plain, id);
    Offer { name, origin, left, plain, secrets: stored.secrets }
}

fn offer_of(name: KeyName, plain: bool, origin: NodeId) -> Offer<()> {
    let none = Duration::ZERO;
    let left = tktrot_fleet::message::Left { begins: none, encrypts: none, decrypts: none };
    Offer { name, origin, left, plain, secrets: () }
}

/// For the operator.
fn tell(note: &Note) {
    match note {
        Note::Adopted(place, key) => tracing::info!(%key, turn = %place, "has the fleet's key"),
        Note::Refused(key, why) => tracing::warn!(%key, %why, "the ring does not take a key"),
        Note::Flawed(slot, why) => tracing::warn!("Redis has at {slot} what is not used: {why}"),
        Note::OtherRotation(theirs) => tracing::error!(
            "the other hosts rotate every {} s, and rotate must be the same on all of them; this \
             host goes on with keys of its own, which no other host has",
            theirs.as_secs_f64()
        ),
        Note::Joined => tracing::info!("all hosts rotate alike again"),
        Note::Alone(left) => tracing::warn!(
            seconds = left.as_secs(),
            "goes on without Redis: the fleet's keys last for this time, then come keys of this \
             host's own"
        ),
        Note::Back => tracing::info!("returns to the fleet's keys"),
        Note::OwnKey(key) => tracing::info!(%key, "made a key of this host's own"),
        Note::PutBack(keys) => tracing::warn!(keys, "puts back what Redis has lost"),
        Note::ClockMoved(by) => tracing::warn!(
            seconds = *by as f64 / 1e9,
            "the clock of Redis was set, or another Redis has taken over"
        ),
        Note::Implausible(key, _) => {
            tracing::warn!(%key, "a key is not taken: another clock made it")
        }
        Note::Turns(key, left) => {
            tracing::info!(%key, seconds = left.as_secs_f64(), "the fleet turns to a new key");
        }
        Note::Revoked(keys) => tracing::info!(keys, "keys were revoked"),
        Note::Buried(records) => tracing::info!(records, "tells the fleet what was revoked"),
    }
}
