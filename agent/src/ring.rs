//! The ring of this host, as the agent changes it, and what others changed in it. It knows nothing
//! of how keys are shared: whoever shares them translates what it says.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tktrot::clock::Time;
use tktrot::config::Config;
use tktrot::ring::key::Key;
use tktrot::ring::layout::Capacity;
use tktrot::ring::view::View;
use tktrot::ring::writer::NotPublished;
use tktrot::rotate::Keyring;
use tktrot::rotate::govern::Governed;
use tktrot::schedule::{KeyTimes, Policy};
use tktrot::secret::{KeyName, KeySecrets, wipe_stack};
use tktrot_fleet::message::{Facts, Grave, NodeId, Refusal};

/// Secrets on their way; wiped when dropped, and never moved but as this pointer.
pub type Secrets = Box<KeySecrets>;

/// If somebody else holds the ring's lock and does not end, not every moment is spent on waiting:
/// the peers must go on hearing of this node.
const PAUSE: Duration = Duration::from_secs(5);

/// The ring that the agent governs.
pub struct HostRing {
    keyring: Keyring,
    view: Arc<View>,
    node: NodeId,
    /// What the node knows of.
    known: RefCell<HashMap<KeyName, KeyTimes>>,
    /// The graves that it knows of, each until when.
    graves: RefCell<HashMap<KeyName, Time>>,
    /// What was to be done and could not: no key lives longer because of that, if it can be helped.
    owed: RefCell<Vec<Owed>>,
    /// Since when the lock has not been had.
    refused_at: Cell<Option<Instant>>,
    /// How many keys it may hold at least, whatever servers ask for.
    least: Cell<Option<Capacity>>,
}

/// What others changed in the ring.
pub struct Changes {
    /// What was revoked: to be known before the keys are.
    pub graves: Vec<Grave>,
    pub keys: Vec<Change>,
}

/// What became of a key.
pub enum Change {
    /// This key is new, or has other times.
    Found(Facts),
    /// This key is gone before its end.
    Lost(KeyName),
}

/// A key that is to be put into the ring.
pub struct Arrival {
    pub facts: Facts,
    pub secrets: Secrets,
}

/// The ring cannot be written now.
#[derive(Clone, Copy, Debug)]
pub struct NotWritten;

enum Owed {
    Shorten(KeyName, KeyTimes),
    Erase(KeyName),
    Bury(KeyName, Time),
    RaiseFleet(u64, u64),
}

/// One act on the ring; the writer lock is held as long as it lives, if it could be had.
pub struct Act<'r> {
    ring: &'r HostRing,
    governed: Option<Governed<'r>>,
}

impl HostRing {
    /// Both are of the same ring, which may hold `least` keys, whatever servers ask for.
    pub fn new(keyring: Keyring, view: Arc<View>, least: Option<Capacity>) -> Self {
        let node = keyring.ring().node();
        // The last server that ends erases the keys of a ring that nobody else deals with.
        keyring.settle();
        HostRing {
            keyring,
            view,
            node: NodeId(node),
            known: RefCell::default(),
            graves: RefCell::default(),
            owed: RefCell::default(),
            refused_at: Cell::default(),
            least: Cell::new(least),
        }
    }

    /// Whose keys encrypt here.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The present.
    pub fn now(&self) -> Time {
        self.keyring.now()
    }

    /// What its keys should be like.
    pub fn policy(&self) -> Policy {
        self.keyring.policy()
    }

    /// How many keys it may hold.
    pub fn capacity(&self) -> u32 {
        self.keyring.ring().capacity()
    }

    /// Whether keys that are made here are plain.
    pub fn makes_plain(&self) -> bool {
        self.view.settings().plain
    }

    /// When the last key that it has, or that was revoked in it, can live no more.
    pub fn last_end(&self) -> Time {
        let (known, graves) = (self.known.borrow(), self.graves.borrow());
        let keys = known.values().map(|times| times.decrypt_until);
        keys.chain(graves.values().copied()).max().unwrap_or_default()
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.known.borrow().len()
    }

    /// Whether it could not be written when that was last tried.
    pub fn is_busy(&self) -> bool {
        self.refused_at.get().is_some()
    }

    /// Whether servers leave its rotation to this agent.
    pub fn is_governed(&self) -> bool {
        self.view.governed(self.now()).is_some()
    }

    /// Whether its file still has a name: servers that start now would make another one.
    pub fn is_there(&self) -> bool {
        self.view.file().metadata().is_ok_and(|facts| facts.nlink() > 0)
    }

    /// For other settings of the agent: it may hold `least` keys from now on.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn configure(&self, config: &Config, least: Option<Capacity>) -> Result<(), NotWritten> {
        if least.is_some() {
            self.least.set(least);
        }
        let act = self.act();
        let governed = act.governed.as_ref().ok_or(NotWritten)?;
        for overruled in governed.configure(config) {
            tracing::warn!("{overruled}");
        }
        Ok(())
    }

    /// Whoever shares its keys from now on knows nothing of what is in it.
    pub fn forget_what_is_known(&self) {
        self.known.borrow_mut().clear();
        self.graves.borrow_mut().clear();
    }

    /// Begins to act, and renews the lease. Does what is still to be done from former acts.
    pub fn act(&self) -> Act<'_> {
        let paused = self.refused_at.get().is_some_and(|then| then.elapsed() < PAUSE);
        let attempt = (!paused).then(|| self.keyring.govern());
        let governed = match attempt {
            None => None,
            Some(Ok(governed)) => {
                if self.refused_at.take().is_some() {
                    tracing::info!("can write the ring again");
                }
                Some(governed)
            }
            Some(Err(failure)) => {
                if self.refused_at.replace(Some(Instant::now())).is_none() {
                    tracing::error!(%failure, "cannot write the ring");
                }
                None
            }
        };
        let act = Act { ring: self, governed };
        if let Some(governed) = &act.governed {
            // A server of an earlier version may have lowered it.
            if let Some(least) = self.least.get() {
                governed.raise_capacity(least);
            }
            for owed in self.owed.take() {
                match owed {
                    Owed::Shorten(name, times) => act.shorten(name, &times),
                    Owed::Erase(name) => act.erase(name),
                    Owed::Bury(name, until) => act.bury(name, until),
                    Owed::RaiseFleet(period, epoch) => act.raise_fleet(period, epoch),
                }
            }
        }
        act
    }

    /// The act that was begun, or one that begins.
    pub fn go_on<'a, 'r>(&'r self, act: &'a mut Option<Act<'r>>) -> &'a Act<'r> {
        act.get_or_insert_with(|| self.act())
    }

    /// True if the ring knows that this key was revoked, and that was seen in it.
    pub fn has_grave(&self, name: &KeyName) -> bool {
        name.is_constant() || self.graves.borrow().contains_key(name)
    }

    /// The latest period and epoch of its fleet that the ring has seen. With Redis, a period is said by
    /// its beginning: R may change.
    pub fn fleet_seen(&self) -> (u64, u64) {
        (self.keyring.ring().fleet_period(), self.keyring.ring().fleet_epoch())
    }

    /// What others changed: keys that servers made or an operator ended.
    pub fn changes(&self) -> Changes {
        let graves = self.new_graves();
        Changes { graves, keys: self.changed_keys() }
    }

    /// The graves that others have dug, and at the start all there are.
    fn new_graves(&self) -> Vec<Grave> {
        let graves = self.view.graves();
        let mut known = self.graves.borrow_mut();
        let news = graves.iter().filter(|(name, until)| known.get(name) < Some(until));
        let news = news.map(|&(name, until)| Grave { name, until }).collect();
        *known = graves.into_iter().collect();
        news
    }

    fn changed_keys(&self) -> Vec<Change> {
        let keys = self.view.keys();
        // After the look: a key that ended meanwhile was erased, not revoked.
        let now = self.now();
        let mut known = self.known.borrow_mut();
        // What is new comes first: a rotation by hand has ended one key because there is another,
        // and nothing is to be begun in its place.
        let (mut changes, mut changed) = (Vec::new(), Vec::new());
        let mut missing = std::mem::take(&mut *known);
        for key in keys.iter().filter(|key| key.times.decrypt_until > now) {
            let before = missing.remove(&key.name);
            known.insert(key.name, key.times);
            let origin = NodeId(key.node);
            let facts = Facts { name: key.name, origin, times: key.times, plain: key.plain };
            match before {
                None if self.is_to_go(&key.name) => {}
                None => changes.push(Change::Found(facts)),
                // Of its own keys, the node also knows what an operator made earlier.
                Some(times) if times != key.times && origin == self.node => {
                    changed.push(Change::Found(facts));
                }
                Some(_) => {}
            }
        }
        changes.append(&mut changed);
        let lost = missing.into_iter().filter(|(_, times)| times.decrypt_until > now);
        changes.extend(lost.map(|(name, _)| Change::Lost(name)));
        changes
    }

    fn is_to_go(&self, name: &KeyName) -> bool {
        let goes = |owed: &Owed| match owed {
            Owed::Erase(other) | Owed::Bury(other, _) => other == name,
            Owed::Shorten(..) | Owed::RaiseFleet(..) => false,
        };
        self.owed.borrow().iter().any(goes)
    }

    /// The secrets of these keys, in memory that is wiped when they are dropped. There are none of
    /// keys that are gone, nor of those of 16 bytes: they came out of a file on this host.
    pub fn secrets(&self, names: impl IntoIterator<Item = KeyName>) -> Vec<Option<Secrets>> {
        let mut key = Box::new(Key::blank());
        let secrets = names.into_iter().map(|name| self.secrets_of(&name, &mut key)).collect();
        wipe_stack();
        secrets
    }

    /// Not inlined, so that its frame is below [`wipe_stack`]'s caller.
    #[inline(never)]
    fn secrets_of(&self, name: &KeyName, key: &mut Key) -> Option<Secrets> {
        if !self.keyring.ring().find(name, key) || key.aes_128 {
            return None;
        }
        let mut secrets = Box::new(KeySecrets::zeroed());
        copy(&key.secrets, &mut secrets);
        Some(secrets)
    }

    /// Servers rotate themselves again, from now on.
    pub fn release(&self) {
        self.refused_at.set(None);
        let mut act = self.act();
        if let Some(governed) = act.governed.take() {
            governed.release();
        }
    }
}

impl Act<'_> {
    /// Makes a key of this node's own; none if that fails.
    pub fn make(&self, times: KeyTimes) -> Option<Facts> {
        let governed = self.governed.as_ref()?;
        let name = governed
            .make(times)
            .inspect_err(|failure| tracing::error!(%failure, "cannot make a key"))
            .ok()?;
        let entry = governed.entries().into_iter().find(|entry| entry.name == name)?;
        self.ring.known.borrow_mut().insert(name, entry.times);
        Some(Facts { name, origin: self.ring.node, times: entry.times, plain: entry.plain })
    }

    /// Puts keys into the ring.
    pub fn take(&self, keys: Vec<Arrival>) -> Vec<(KeyName, Result<(), Refusal>)> {
        let mut key = Box::new(Key::blank());
        let took = keys.into_iter().map(|arrival| {
            let took = self.take_one(&arrival, &mut key);
            let Facts { name, times, .. } = arrival.facts;
            if took.is_ok() {
                self.ring.known.borrow_mut().insert(name, times);
            }
            (name, took)
        });
        let took = took.collect();
        wipe_stack();
        took
    }

    /// Not inlined, so that its frame is below [`wipe_stack`]'s caller.
    #[inline(never)]
    fn take_one(&self, arrival: &Arrival, key: &mut Key) -> Result<(), Refusal> {
        let governed = self.governed.as_ref().ok_or(Refusal::Busy)?;
        let Facts { name, origin, times, plain } = arrival.facts;
        (key.name, key.times, key.node) = (name, times, origin.0);
        (key.plain, key.aes_128) = (plain, false);
        copy(&arrival.secrets, &mut key.secrets);
        governed.take(key).map_err(|error| match error {
            NotPublished::Full => Refusal::Full,
            NotPublished::NoMemory => Refusal::Busy,
            NotPublished::Unusable => Refusal::Unusable,
            NotPublished::Revoked => Refusal::Ended,
        })
    }

    /// Makes times of a key earlier.
    pub fn shorten(&self, name: KeyName, times: &KeyTimes) {
        if let Some(known) = self.ring.known.borrow_mut().get_mut(&name) {
            *known = known.shortened(times);
        }
        match &self.governed {
            Some(governed) => drop(governed.shorten(&name, times)),
            None => self.ring.owed.borrow_mut().push(Owed::Shorten(name, *times)),
        }
    }

    /// Ends a key.
    pub fn erase(&self, name: KeyName) {
        self.ring.known.borrow_mut().remove(&name);
        match &self.governed {
            Some(governed) => drop(governed.erase(&name)),
            None => self.ring.owed.borrow_mut().push(Owed::Erase(name)),
        }
    }

    /// Ends a key that was revoked, and lets the ring remember that until then.
    pub fn bury(&self, name: KeyName, until: Time) {
        let was_known = self.ring.known.borrow_mut().remove(&name).is_some();
        let grave = self.ring.graves.borrow().get(&name).copied();
        if !was_known && grave >= Some(until) {
            return;
        }
        let Some(governed) = &self.governed else {
            return self.ring.owed.borrow_mut().push(Owed::Bury(name, until));
        };
        if governed.bury(&name, until) {
            self.ring.graves.borrow_mut().insert(name, until);
        }
    }

    /// The fleet has come to this period and this epoch.
    pub fn raise_fleet(&self, period: u64, epoch: u64) {
        match &self.governed {
            Some(governed) => governed.raise_fleet(period, epoch),
            None => self.ring.owed.borrow_mut().push(Owed::RaiseFleet(period, epoch)),
        }
    }
}

fn copy(from: &KeySecrets, to: &mut KeySecrets) {
    to.aes.expose_mut().copy_from_slice(from.aes.expose());
    to.hmac.expose_mut().copy_from_slice(from.hmac.expose());
}
