//! Embedded rotation: whoever finds that the time has come, the callback of a
//! handshake or the upkeep thread, brings the ring up to date.

pub mod govern;

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::{BootClock, Clock, Time, nanos};
use crate::config::Config;
use crate::config::values::Written;
use crate::log::OnceOnly;
use crate::ring::Ring;
use crate::ring::asks::Traits;
use crate::ring::graves::Burial;
use crate::ring::key::Key;
use crate::ring::lock::{NotLocked, PATIENCE};
use crate::ring::seqlock::Located;
use crate::ring::stats::{Counter, Problem};
use crate::ring::writer::{Entry, NotPublished, Writer};
use crate::schedule::{self, KeyState, KeyTimes, MAX_LIFETIME, Policy, Step};
use crate::secret::{KeyName, Secret, wipe_stack};
use crate::terms::{self, Overruled, OwnAsk, Party};
use crate::{atomics, error, notice, process, program, warning};

/// How long after a failure of the generator it is tried again, at most.
const RETRY: Duration = Duration::from_secs(1);
/// More steps than any state of a ring needs: capacity many stale keys.
const STEPS: usize = 20_000;

/// Where keys, names and IVs come from: the TLS library's generator.
pub trait Generator: Sync {
    /// Fills `bytes`; with an error they are not random.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom>;
}

/// Why there were no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRandom {
    /// The generator failed, or gave what no sound one gives.
    Failed,
    /// Somebody else is at it, who must not be waited for.
    NotNow,
}

/// Why a deliberate act on the keys did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The writer lock was not to be had: [`NotLocked`].
    Lock(NotLocked),
    /// The generator failed.
    Generator,
    /// The generator is not to be had at the moment: [`NotRandom::NotNow`].
    NotNow,
    /// There are as many keys as may be.
    Full,
    /// The ring has no memory for one more.
    NoMemory,
    /// The clock cannot be read.
    Clock,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Lock(NotLocked::Busy) => {
                f.write_str("another process is writing the ring and does not finish; try again")
            }
            Failure::Lock(NotLocked::Broken(errno)) => {
                let why = std::io::Error::from_raw_os_error(*errno);
                write!(f, "the ring's writer lock does not work: {why}")
            }
            Failure::Generator => f.write_str("the random number generator fails"),
            Failure::NotNow => f.write_str("the random number generator is in use; try again"),
            Failure::Full => f.write_str("the ring holds as many keys as it may (TKTROT_CAPACITY)"),
            Failure::NoMemory => f.write_str(
                "the ring cannot get memory for another key: its tmpfs is full, or the process may \
                 no longer ask for memory",
            ),
            Failure::Clock => f.write_str("the clock (CLOCK_BOOTTIME) cannot be read"),
        }
    }
}

impl std::error::Error for Failure {}

/// One trust domain in this process: a ring, a clock and a generator.
pub struct Keyring<C: Clock = BootClock> {
    ring: Ring,
    clock: C,
    /// For who has no other at hand.
    generator: &'static dyn Generator,
    /// The [`process::generation`] that has its block.
    settled: AtomicU32,
    block: AtomicUsize,
    /// The last context timeout that was found too long, so that it is said once.
    clamped: AtomicU64,
    generator_failing: OnceOnly,
    evicting: OnceOnly,
    lock_broken: OnceOnly,
    no_memory: OnceOnly,
    forgetting: OnceOnly,
    /// How many slots had memory then.
    short_with: AtomicU32,
    unlocked: OnceOnly,
    clock_failing: OnceOnly,
    own_ask: OwnAsk,
}

impl<C: Clock> Keyring<C> {
    /// A keyring on an open ring. Generates nothing yet.
    pub fn new(ring: Ring, clock: C, generator: &'static dyn Generator) -> Self {
        Keyring {
            ring,
            clock,
            generator,
            settled: AtomicU32::new(0),
            block: AtomicUsize::new(0),
            clamped: AtomicU64::new(0),
            generator_failing: OnceOnly::new(),
            evicting: OnceOnly::new(),
            lock_broken: OnceOnly::new(),
            no_memory: OnceOnly::new(),
            forgetting: OnceOnly::new(),
            short_with: AtomicU32::new(0),
            unlocked: OnceOnly::new(),
            clock_failing: OnceOnly::new(),
            own_ask: OwnAsk::default(),
        }
    }

    /// The ring whose keys this rotates.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The time by the clock of this keyring.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Counts an event of this process.
    pub fn count(&self, counter: Counter) {
        self.ring.count(self.block.load(Ordering::Relaxed), counter);
    }

    /// Counts an event of a process that may use no tickets: so it is not
    /// settled by that, which would keep it without an upkeep thread when it does.
    pub fn count_unsettled(&self, counter: Counter) {
        let block = self.claim_block();
        self.ring.count(block, counter);
    }

    /// True if this process has used tickets, as [`Keyring::settle`] has it.
    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed) == process::generation()
    }

    /// Once per process: a block to count in. True if this call was the one.
    pub fn settle(&self) -> bool {
        let generation = process::generation();
        let settled = self.settled.load(Ordering::Relaxed);
        let relaxed = Ordering::Relaxed;
        if settled == generation {
            if self.own_ask.is_loose() {
                self.party().tighten();
            }
            return false;
        }
        if self.settled.compare_exchange(settled, generation, relaxed, relaxed).is_err() {
            return false;
        }
        let block = self.claim_block();
        self.block.store(block, relaxed);
        self.party().tell(block);
        true
    }

    /// The block of this process.
    fn claim_block(&self) -> usize {
        self.ring.claim_block(process::id(), program::name().as_bytes(), self.now())
    }

    /// Tells what tickets of a context of this process are bound to.
    pub fn tell_traits(&self, traits: Traits) {
        self.ring.tell_traits(self.block.load(Ordering::Relaxed), traits);
    }

    /// What the ring's header asks for.
    pub fn policy(&self) -> Policy {
        terms::policy_of(&self.ring.settings(), self.ring.capacity())
    }

    fn party(&self) -> Party<'_> {
        let Keyring { ring, clock, own_ask, .. } = self;
        Party { ring, clock, own_ask, is_settled: self.is_settled() }
    }

    /// Tells the ring what the configuration of one of this process's contexts
    /// asks for, and lets it do what is the shortest and the strictest of what its
    /// living processes ask for. Takes effect at once. Returns what does not
    /// apply as it was asked for.
    pub fn configure(&self, config: &Config) -> Result<Vec<Overruled>, Failure> {
        self.party().configure(config).map_err(Failure::Lock)
    }

    /// Lets what processes asked for that have ended no longer count. Where none that
    /// lives has told anything, all stays: there may be one that is yet to tell.
    pub fn reconsider(&self) -> Result<(), Failure> {
        self.party().reconsider().map_err(Failure::Lock)
    }

    /// True while an agent governs the ring.
    pub fn is_governed(&self) -> bool {
        self.ring.governed(self.now()).is_some()
    }

    /// Tells the timeout of a context whose tickets are about to be sealed.
    /// With no lifetime configured, keys are kept as long as the longest
    /// timeout; a longer one than before rotates early. Never waits.
    pub fn expect_lifetime(&self, timeout: Duration) {
        self.expect_lifetime_with(timeout, self.generator);
    }

    /// As [`Keyring::expect_lifetime`], with keys from that generator.
    pub fn expect_lifetime_with(&self, timeout: Duration, generator: &dyn Generator) {
        let timeout = timeout.min(MAX_LIFETIME);
        if self.ring.has_seen_lifetime(timeout) {
            return;
        }
        let is_set = || {
            let settings = self.ring.settings();
            settings.lifetime.is_some() && !settings.own_lifetimes
        };
        if is_set() {
            // For who wants to know whether that is enough.
            self.ring.note_lifetime(timeout);
            return;
        }
        let Some(writer) = self.enter(self.ring.try_write()) else { return };
        self.ring.note_lifetime(timeout);
        self.tend_with(&writer, self.now(), generator);
        drop(writer);
        let kept = self.policy().lifetime;
        if kept < timeout
            && !is_set()
            && self.clamped.swap(nanos(timeout), Ordering::Relaxed) != nanos(timeout)
        {
            warning!(
                "sessions live {}, but the ring keeps keys, and so tickets, for only {}; set \
                 TKTROT_ROTATE longer, the server's session timeout shorter, or \
                 TKTROT_CAPACITY, which is {}, higher",
                Written(timeout),
                Written(Duration::from_secs(kept.as_secs())),
                self.ring.capacity()
            );
        }
    }

    /// For every handshake: one load where nothing is due, and where something
    /// is, a try at it. Never waits.
    pub fn tick(&self, now: Time) {
        self.tick_with(now, self.generator);
    }

    /// As [`Keyring::tick`], with keys from that generator.
    #[inline]
    pub fn tick_with(&self, now: Time, generator: &dyn Generator) {
        if now == Time::NEVER {
            self.clock_failed();
        } else if now >= self.ring.deadline()
            && let Some(writer) = self.enter(self.ring.try_write())
        {
            self.tend_with(&writer, now.max(self.now()), generator);
        }
    }

    /// For a caller that has time (`tkt_upkeep`, a context that is attached): as
    /// [`Keyring::tick`], but may wait for another writer. Returns when it wants to be called next.
    pub fn tick_patiently(&self) -> Time {
        self.tick_patiently_with(self.generator)
    }

    /// As [`Keyring::tick_patiently`], with keys from that generator.
    pub fn tick_patiently_with(&self, generator: &dyn Generator) -> Time {
        let now = self.now();
        if now >= self.ring.deadline()
            && let Some(writer) = self.enter(self.ring.write_within(PATIENCE))
        {
            self.tend_with(&writer, self.now(), generator);
        }
        self.ring.deadline()
    }

    /// Finds the key that seals a ticket now, and touches no secret; `None` if
    /// there is none. If the ring has none because nobody came by for a whole
    /// rotation, it is made; if somebody else is making it, that takes
    /// microseconds, so it is looked for a few times.
    pub fn sealing(&self, now: Time) -> Option<Located<'_>> {
        self.sealing_with(now, self.generator)
    }

    /// As [`Keyring::sealing`], with keys from that generator.
    pub fn sealing_with(&self, now: Time, generator: &dyn Generator) -> Option<Located<'_>> {
        self.tick_with(now, generator);
        const LOOKS: usize = if cfg!(loom) { 3 } else { 1000 };
        let mut in_vain = 0;
        let mut present = now;
        for _ in 0..LOOKS {
            // Asked before the look: a writer sets the deadline last.
            let nobody_at_it = self.ring.deadline() > now;
            if let Some(located) = self.ring.locate_encrypting(present) {
                return Some(located);
            }
            // Once is not enough: a rotation between the clock and the look
            // leaves a key that begins after the time that was read.
            in_vain += u32::from(nobody_at_it);
            if in_vain == 2 {
                break;
            }
            present = now.max(self.now());
            atomics::spin_loop();
        }
        None
    }

    /// Makes a new key that encrypts from now on. The old one decrypts on.
    pub fn rotate(&self) -> Result<(), Failure> {
        self.rotate_with(self.generator)
    }

    /// As [`Keyring::rotate`], with keys from that generator.
    pub fn rotate_with(&self, generator: &dyn Generator) -> Result<(), Failure> {
        let writer = self.ring.write_within(PATIENCE).map_err(Failure::Lock)?;
        let now = self.now();
        let times = schedule::rotation(&self.policy(), now);
        let newest = self.make(&writer, (times, generator), now)?;
        if self.ring.governed(now).is_some() {
            self.align(&writer, now, &[]);
            self.retire_all_but(&writer, &newest, now);
        }
        self.tend_with(&writer, now, generator);
        Ok(())
    }

    /// Erases every key there is: no ticket issued before opens any more. New
    /// keys take over at once; where the generator fails, none do.
    pub fn revoke(&self) -> Result<(), Failure> {
        self.revoke_with(self.generator)
    }

    /// As [`Keyring::revoke`], with keys from that generator.
    pub fn revoke_with(&self, generator: &dyn Generator) -> Result<(), Failure> {
        let revoked = self.revoke_those_with(|_| true, generator)?;
        notice!("revoked {} ticket keys", revoked.len());
        Ok(())
    }

    /// Erases the keys whose names are `meant`, in every process that has the
    /// ring: no ticket of theirs opens any more. If no key encrypts then, a new one
    /// takes over at once. Returns the names of those erased.
    pub fn revoke_those(&self, meant: impl Fn(&KeyName) -> bool) -> Result<Vec<KeyName>, Failure> {
        self.revoke_those_with(meant, self.generator)
    }

    fn revoke_those_with(
        &self,
        meant: impl Fn(&KeyName) -> bool,
        generator: &dyn Generator,
    ) -> Result<Vec<KeyName>, Failure> {
        let writer = self.ring.write_within(PATIENCE).map_err(Failure::Lock)?;
        let now = self.now();
        let entries = writer.entries();
        let full = entries.len() as u32 == self.ring.capacity();
        let (old, kept): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| meant(&entry.name));
        let node = self.ring.node();
        let seals =
            |entry: &Entry| entry.node == node && entry.times.state(now) == KeyState::Active;
        let goes_on = kept.iter().any(seals);
        if old.is_empty() && goes_on {
            return Ok(Vec::new());
        }
        let new = schedule::rotation(&self.policy(), now);
        let make = || match goes_on {
            true => Ok(()),
            false => self.make(&writer, (new, generator), now).map(drop),
        };
        // New before old, so that sealing goes on meanwhile.
        let made = (!full).then(make);
        self.ring.sever();
        self.align(&writer, now, &old);
        for entry in &old {
            self.bury(&writer, &entry.name, self.policy().last_copy(entry.times.decrypt_until));
            writer.erase(entry.index);
        }
        let made = made.unwrap_or_else(make);
        self.tend_with(&writer, now, generator);
        made.map(|()| old.iter().map(|entry| entry.name).collect())
    }

    /// Lets the ring remember that a key was revoked, for as long as a copy of it may live. False if
    /// it has no room for that.
    fn bury(&self, writer: &Writer<'_>, name: &KeyName, until: Time) -> bool {
        let (forgotten, is_done) = match writer.bury(name, until) {
            Burial::Done => return true,
            Burial::InPlaceOf(other) => (other, true),
            Burial::NoRoom => (*name, false),
        };
        if self.forgetting.first() {
            warning!(
                "the ring has no room to remember more revoked keys: whoever has a copy of key \
                 {forgotten} can bring it back, until it ends; revoke it again then"
            );
        }
        is_done
    }

    /// For when this process has no more use for the ring: erases every key,
    /// unless another process uses tickets with it, or an agent governs it,
    /// for which they are those of a fleet. New ones are made when somebody asks
    /// for one. What it asked of the ring no longer counts.
    pub fn abandon(&self) -> Result<(), Failure> {
        self.own_ask.clear();
        self.ring.forget(process::id());
        if self.ring.is_used_by_others(process::id(), self.now()) {
            return Ok(());
        }
        let writer = self.ring.write_within(PATIENCE).map_err(Failure::Lock)?;
        if !self.is_governed() {
            writer.clear();
        }
        Ok(())
    }

    /// Erases what is over and, where no agent sees to the rest, takes steps
    /// until the schedule is content. `now` was read under the lock: to an older
    /// one, keys that others have retired since would seem to encrypt, and the
    /// line would name them.
    fn tend(&self, writer: &Writer<'_>, now: Time) {
        self.tend_with(writer, now, self.generator);
    }

    fn tend_with(&self, writer: &Writer<'_>, now: Time, generator: &dyn Generator) {
        if now == Time::NEVER {
            // To other processes, whose clock works, no key is over.
            return;
        }
        self.party().hold_terms(writer);
        if writer.inherit(now) {
            wipe_stack();
        }
        self.align(writer, now, &[]);
        for entry in writer.entries() {
            if entry.times.state(now) == KeyState::Expired {
                writer.erase(entry.index);
            }
        }
        writer.sweep_graves(now);
        let deadline = match self.ring.governed(now) {
            Some(left) => self.governed_deadline(writer, now + left),
            None => self.step(writer, now, generator),
        };
        self.align(writer, now, &[]);
        writer.set_deadline(deadline);
        self.lock_more();
    }

    /// Locks what the ring has got of memory since this process last did.
    pub(crate) fn lock_more(&self) {
        if let Err(error) = self.ring.lock_more()
            && self.unlocked.first()
        {
            warning!(
                "the ring has grown, and keys may be swapped out: {error}; raise RLIMIT_MEMLOCK"
            );
        }
    }

    /// Takes steps until the schedule is content. Returns when it no longer is.
    fn step(&self, writer: &Writer<'_>, mut now: Time, generator: &dyn Generator) -> Time {
        let policy = self.policy();
        let mut retry = None;
        for _ in 0..STEPS {
            let own = self.own(writer, &[]);
            match schedule::next_step(&times(&own), &policy, now) {
                None => break,
                Some(Step::Retire(place)) => writer.retire(own[place].index, now),
                Some(Step::Discard(place)) => {
                    let (index, times) = (own[place].index, own[place].times);
                    self.align(writer, now, &own[place..=place]);
                    // It was found until just now. If its time has come meanwhile, it
                    // may have sealed a ticket.
                    let present = self.now();
                    if present != Time::NEVER {
                        now = now.max(present);
                    }
                    match times.encrypt_from <= now {
                        true => writer.retire(index, now),
                        false => writer.erase(index),
                    }
                }
                Some(Step::Publish(times)) => match self.make(writer, (times, generator), now) {
                    Ok(_) => self.align(writer, now, &[]),
                    Err(_) => {
                        retry = Some(now + RETRY.min(policy.rotate_every / 8));
                        break;
                    }
                },
            }
        }
        retry.unwrap_or_else(|| {
            let own = times(&self.own(writer, &[]));
            schedule::next_deadline(&own, &times(&writer.entries()), &policy, now)
        })
    }

    /// When a governed ring needs a writer: to erase a key, or to take over.
    fn governed_deadline(&self, writer: &Writer<'_>, lease_end: Time) -> Time {
        let ends = writer.entries().into_iter().map(|entry| entry.times.decrypt_until);
        ends.min().unwrap_or(Time::NEVER).min(lease_end)
    }

    /// After a deliberate rotation: where nobody else may change the line, the
    /// keys that the new one takes over from are at least retired.
    fn retire_all_but(&self, writer: &Writer<'_>, newest: &KeyName, now: Time) {
        for entry in self.own(writer, &[]) {
            if entry.name != *newest && entry.times.state(now) == KeyState::Active {
                writer.retire(entry.index, now);
            }
        }
    }

    /// Makes the line name the keys that encrypt from now on, without those in `but`.
    fn align(&self, writer: &Writer<'_>, now: Time, but: &[Entry]) {
        let own = self.own(writer, but);
        let line = match self.ring.governed(now) {
            Some(_) => schedule::whole_line(&times(&own), now),
            None => schedule::line(&times(&own), &self.policy(), now),
        };
        let slots: Vec<_> = line.into_iter().map(|place| own[place].index).collect();
        writer.set_line(&slots);
    }

    /// This node's keys, without those in `but`.
    fn own(&self, writer: &Writer<'_>, but: &[Entry]) -> Vec<Entry> {
        let excluded = |entry: &Entry| but.iter().any(|other| other.index == entry.index);
        writer.own_entries().into_iter().filter(|entry| !excluded(entry)).collect()
    }

    /// [`Keyring::make`] for who has no other generator at hand.
    fn make_own(
        &self,
        writer: &Writer<'_>,
        times: KeyTimes,
        now: Time,
    ) -> Result<KeyName, Failure> {
        self.make(writer, (times, self.generator), now)
    }

    /// Generates a key with these times and publishes it. Nothing of it stays
    /// outside the ring.
    fn make(
        &self,
        writer: &Writer<'_>,
        (times, generator): (KeyTimes, &dyn Generator),
        now: Time,
    ) -> Result<KeyName, Failure> {
        if now == Time::NEVER {
            // Its times would be none: it would never end.
            return Err(Failure::Clock);
        }
        let made = self.make_one(writer, (times, generator), now);
        // The generator may keep the last block that it gave (OpenSSL's does,
        // where AES is in portable code): let that be one which nobody uses.
        let _ = generator.fill(Secret::<64>::zeroed().expose_mut());
        wipe_stack();
        made
    }

    /// Not inlined, so that its frame is below [`wipe_stack`]'s caller.
    #[inline(never)]
    fn make_one(
        &self,
        writer: &Writer<'_>,
        (times, generator): (KeyTimes, &dyn Generator),
        now: Time,
    ) -> Result<KeyName, Failure> {
        let mut key = Key::blank();
        match self.generate((times, generator), &mut key) {
            Ok(()) => {}
            Err(NotRandom::NotNow) => return Err(Failure::NotNow),
            Err(NotRandom::Failed) => return Err(self.generator_failed(now)),
        }
        let mut published = writer.publish(&key);
        let slots = self.ring.slots_with_memory();
        let makes_room = match published {
            Err(NotPublished::Full) => self.evict(writer, Problem::Full, now),
            // There may be some before this one is needed.
            Err(NotPublished::NoMemory) if self.ring.locate_encrypting(now).is_none() => {
                self.evict(writer, Problem::NoMemory, now)
            }
            _ => false,
        };
        if makes_room {
            published = writer.publish(&key);
        }
        match published {
            Ok(_) => {
                self.ring.note_rotation();
                let has_grown = slots > self.short_with.load(Ordering::Relaxed);
                if has_grown && self.no_memory.reset() {
                    notice!("the ring has memory for more keys again");
                }
                if self.generator_failing.reset() {
                    notice!("the random number generator works again; rotation goes on");
                }
                Ok(key.name)
            }
            // A repeated or constant draw: as bad as none.
            Err(NotPublished::Unusable | NotPublished::Revoked) => Err(self.generator_failed(now)),
            Err(NotPublished::Full) => {
                self.ring.note_problem(Problem::Full, now);
                Err(Failure::Full)
            }
            Err(NotPublished::NoMemory) => {
                self.ring.note_problem(Problem::NoMemory, now);
                self.tell_short_of_memory();
                Err(Failure::NoMemory)
            }
        }
    }

    fn generate(
        &self,
        (times, generator): (KeyTimes, &dyn Generator),
        key: &mut Key,
    ) -> Result<(), NotRandom> {
        key.times = times;
        key.node = self.ring.node();
        key.plain = self.ring.settings().plain;
        generator.fill(&mut key.name.0)?;
        generator.fill(key.secrets.aes.expose_mut())?;
        generator.fill(key.secrets.hmac.expose_mut())
    }

    /// Frees a slot of a full ring, or of one without memory: the retired key that would end
    /// first. Its tickets become full handshakes; otherwise no key could be made.
    fn evict(&self, writer: &Writer<'_>, why: Problem, now: Time) -> bool {
        let retired =
            writer.entries().into_iter().filter(|e| e.times.state(now) == KeyState::Retired);
        let Some(first) = retired.min_by_key(|entry| entry.times.decrypt_until) else {
            return false;
        };
        writer.erase(first.index);
        self.ring.note_problem(why, now);
        if why == Problem::NoMemory {
            self.tell_short_of_memory();
        } else if self.evicting.first() {
            warning!(
                "the ring is full at {} keys (TKTROT_CAPACITY): key {} ends {}s early, and others \
                 will",
                self.ring.capacity(),
                first.name,
                now.until(first.times.decrypt_until).as_secs()
            );
        }
        true
    }

    fn tell_short_of_memory(&self) {
        self.short_with.store(self.ring.slots_with_memory(), Ordering::Relaxed);
        if self.no_memory.first() {
            warning!(
                "{}; where no other key encrypts any more, a new one takes the place of an old one, \
                 which ends early",
                Failure::NoMemory
            );
        }
    }

    fn generator_failed(&self, now: Time) -> Failure {
        self.ring.note_problem(Problem::Generator, now);
        if self.generator_failing.first() {
            error!(
                "the TLS library's random number generator fails; the current keys serve to \
                 their end, then handshakes go on without tickets until it works again"
            );
        }
        Failure::Generator
    }

    #[cold]
    fn clock_failed(&self) {
        if self.clock_failing.first() {
            error!(
                "the clock (CLOCK_BOOTTIME) cannot be read; handshakes go on without tickets in \
                 this process until it can"
            );
        }
    }

    /// The writer, or `None` after telling why if it is not just busy.
    fn enter<'w>(&self, attempt: Result<Writer<'w>, NotLocked>) -> Option<Writer<'w>> {
        match attempt {
            Ok(writer) => Some(writer),
            Err(NotLocked::Busy) => None,
            Err(NotLocked::Broken(errno)) => {
                self.ring.note_problem(Problem::Lock, self.now());
                if self.lock_broken.first() {
                    let why = std::io::Error::from_raw_os_error(errno);
                    error!("the ring's writer lock does not work, keys no longer rotate: {why}");
                }
                None
            }
        }
    }
}

fn times(entries: &[Entry]) -> Vec<KeyTimes> {
    entries.iter().map(|entry| entry.times).collect()
}
