//! What a ring does with the keys that are made in it: of all that its living
//! processes ask for, the shortest and the strictest.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use crate::clock::{Clock, Time, nanos};
use crate::config::values::Written;
use crate::config::{Bind, Config, DEFAULT_LIFETIME, DEFAULT_ROTATE_EVERY};
use crate::process::ProcessId;
use crate::ring::Ring;
use crate::ring::asks::{Ask, Asker, Binds, Settings, shorter};
use crate::ring::layout::Capacity;
use crate::ring::lock::{NotLocked, PATIENCE};
use crate::ring::writer::{Entry, Writer};
use crate::schedule::{KeyState, Policy};
use crate::{atomics, process, program};

/// What the header of a ring says that processes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    rotate_every: Option<Duration>,
    /// `None`: the longest timeout of a context.
    lifetime: Option<Duration>,
    /// No longer than the longest timeout of a context, whatever `lifetime` is.
    own_lifetimes: bool,
    plain: bool,
}

impl Terms {
    /// Where nobody asks for anything.
    const FREE: Terms =
        Terms { rotate_every: None, lifetime: None, own_lifetimes: false, plain: true };

    fn of(ring: &Ring) -> Terms {
        let Settings { rotate_every, lifetime, own_lifetimes, plain, .. } = ring.settings();
        Terms { rotate_every, lifetime, own_lifetimes, plain }
    }

    /// With one more process. One that sets no R asks for the default, and one
    /// that sets no L for its contexts' timeouts; but in a governed ring they leave
    /// that to the agent, and one without contexts always does.
    fn with(self, ask: &Ask, governed: bool) -> Terms {
        let decides = !governed && ask.binds != Binds::default();
        let rotate_every = ask.rotate_every.or(decides.then_some(DEFAULT_ROTATE_EVERY));
        Terms {
            rotate_every: shorter(self.rotate_every, rotate_every),
            lifetime: shorter(self.lifetime, ask.lifetime),
            own_lifetimes: self.own_lifetimes || (decides && ask.lifetime.is_none()),
            plain: self.plain && !ask.binds.bind(),
        }
    }

    /// With a process that has told nothing: as it is now.
    fn with_present(self, present: Terms) -> Terms {
        Terms {
            rotate_every: shorter(self.rotate_every, present.rotate_every),
            lifetime: shorter(self.lifetime, present.lifetime),
            own_lifetimes: self.own_lifetimes || present.lifetime.is_none(),
            // It binds its tickets, or it does not; with plain keys it would not.
            plain: false,
        }
    }
}

/// What this process asks for: all its contexts together, however many keyrings of
/// this ring come and go.
#[derive(Default)]
pub(crate) struct OwnAsk {
    rotate_every: AtomicU64,
    lifetime: AtomicU64,
    binds: AtomicU32,
    /// The [`process::generation`] that told it, as one that opens the ring.
    told_by: AtomicU32,
    /// True if the ring is looser than this process asks for, and was not to be had.
    is_loose: AtomicBool,
}

impl OwnAsk {
    pub(crate) fn get(&self) -> Ask {
        let span = |word: &AtomicU64| match word.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        };
        let binds = Binds(self.binds.load(Ordering::Relaxed) as u8);
        Ask { rotate_every: span(&self.rotate_every), lifetime: span(&self.lifetime), binds }
    }

    /// Adds to what this process asks for.
    fn add(&self, more: Ask) -> Added {
        let (before, generation) = (self.get(), process::generation());
        let ask = before.with(more);
        let word = |span: Option<Duration>| span.map_or(0, nanos);
        self.rotate_every.store(word(ask.rotate_every), Ordering::Relaxed);
        self.lifetime.store(word(ask.lifetime), Ordering::Relaxed);
        self.binds.store(ask.binds.0.into(), Ordering::Relaxed);
        let told_by = self.told_by.swap(generation, Ordering::Relaxed);
        match told_by {
            _ if ask != before => Added::More,
            0 => Added::More,
            same if same == generation => Added::Nothing,
            _ => Added::AsParent,
        }
    }

    /// True if a ticket is to try again what [`Party::tighten`] could not.
    #[inline]
    pub(crate) fn is_loose(&self) -> bool {
        self.is_loose.load(Ordering::Relaxed)
    }

    /// Asks for nothing any more.
    pub(crate) fn clear(&self) {
        self.told_by.store(0, Ordering::Relaxed);
        self.rotate_every.store(0, Ordering::Relaxed);
        self.lifetime.store(0, Ordering::Relaxed);
        self.binds.store(0, Ordering::Relaxed);
    }
}

/// What is new in what a process asks for.
enum Added {
    Nothing,
    /// That it asks, which the process told that it was forked from.
    AsParent,
    More,
}

/// A setting that does not apply as it was asked for, because another process, or
/// another context of this one, asks for what is shorter, or stricter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overruled {
    /// Keys rotate more often than was asked for (R).
    Rotate {
        /// The duration that was asked for.
        asked: Duration,
        /// The shorter one that applies.
        applies: Duration,
        /// Who asks for it, in words.
        by: String,
    },
    /// Keys are kept for less long than was asked for (L).
    Lifetime {
        /// The duration that was asked for.
        asked: Duration,
        /// The shorter one that applies.
        applies: Duration,
        /// Who asks for it, in words.
        by: String,
    },
    /// Keys are not plain, though nothing here is bound.
    NotPlain {
        /// Who binds tickets, in words.
        by: String,
    },
    /// Keys were plain until now, and others that live want them so.
    NoLongerPlain,
}

impl fmt::Display for Overruled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const THEN: &str = "the shorter one applies to all servers of a ring. Set the same for all of \
                            them and restart them, or `tktrot rotate` once those that ask for less \
                            have ended; or give this one a ring of its own (TKTROT_RING)";
        match self {
            Overruled::Rotate { asked, applies, by } => write!(
                f,
                "keys rotate every {}, not every {} (TKTROT_ROTATE), because of {by}: {THEN}",
                Written(*applies),
                Written(*asked)
            ),
            Overruled::Lifetime { asked, applies, by } => write!(
                f,
                "keys are kept for {}, not for {} (TKTROT_LIFETIME), because of {by}: {THEN}",
                Written(*applies),
                Written(*asked)
            ),
            Overruled::NotPlain { by } => {
                write!(f, "keys are not plain, and cannot be exported, because of {by}")
            }
            Overruled::NoLongerPlain => f.write_str(
                "the ring's keys were plain (bind=none in all its processes) and are no longer, \
                 because this one binds its tickets: they cannot be exported any more",
            ),
        }
    }
}

/// A process that has a ring, and may ask something of it.
pub(crate) struct Party<'k> {
    pub(crate) ring: &'k Ring,
    pub(crate) clock: &'k dyn Clock,
    pub(crate) own_ask: &'k OwnAsk,
    /// It has used tickets.
    pub(crate) is_settled: bool,
}

impl Party<'_> {
    /// Tells the ring what the configuration of one of this process's contexts
    /// asks for, and lets it do what is the shortest and the strictest of what its
    /// living processes ask for. Takes effect at once. Returns what does not
    /// apply as it was asked for.
    pub(crate) fn configure(&self, config: &Config) -> Result<Vec<Overruled>, NotLocked> {
        let ask = asked(config, Some(config.bind.unwrap_or(Bind::ALL)));
        match self.own_ask.add(ask) {
            Added::Nothing => return Ok(self.overruled(config, false)),
            Added::AsParent => {
                // It may be confined: who else lives is not asked.
                let program = program::name().as_bytes();
                let block = self.ring.claim_block(process::id(), program, self.clock.now());
                self.tell_as(block, false);
                self.tighten();
                return Ok(self.overruled(config, false));
            }
            Added::More => {}
        }
        let writer = self.ring.write_within(PATIENCE)?;
        let overruled = self.settle_terms(&writer, config, false);
        writer.set_deadline(Time(0));
        Ok(overruled)
    }

    /// The same for an agent, which has no contexts. For who holds the writer lock.
    pub(crate) fn configure_agent(&self, writer: &Writer<'_>, config: &Config) -> Vec<Overruled> {
        // It has no other contexts that asked before, and may ask for more than it did.
        self.own_ask.clear();
        self.own_ask.add(asked(config, config.bind));
        self.settle_terms(writer, config, true)
    }

    /// Lets what processes asked for that have ended no longer count. Where none that
    /// lives has told anything, all stays: there may be one that is yet to tell.
    pub(crate) fn reconsider(&self) -> Result<(), NotLocked> {
        let writer = self.ring.write_within(PATIENCE)?;
        if !self.ring.askers_but(ProcessId(0), self.clock.now()).is_empty() {
            self.set_terms(&writer, None);
            writer.set_deadline(Time(0));
        }
        Ok(())
    }

    /// For a process that begins to use tickets: tells what it asks for, which
    /// the process it was forked from may have told, and ended.
    pub(crate) fn tell(&self, block: usize) {
        self.tell_as(block, true);
        self.tighten();
    }

    fn tell_as(&self, block: usize, uses_tickets: bool) {
        self.ring.tell(block, process::id(), &self.own_ask.get(), uses_tickets, self.clock.now());
    }

    /// If others made the ring looser since than this process asks for, which is so
    /// only while none that had told it was there: tightens it. Waits for no more
    /// than the moment that a writer needs: if that is not enough, it is for the
    /// next ticket to do.
    pub(crate) fn tighten(&self) {
        const TRIES: usize = 1000;
        let (ask, governed) = (self.own_ask.get(), self.is_governed());
        let are_strict = |terms: Terms| terms.with(&ask, governed) == terms;
        for _ in 0..TRIES {
            if are_strict(Terms::of(self.ring)) {
                self.own_ask.is_loose.store(false, Ordering::Relaxed);
                return;
            }
            match self.ring.try_write() {
                Ok(writer) => {
                    self.store(&writer, Terms::of(self.ring).with(&ask, governed));
                    writer.set_deadline(Time(0));
                }
                Err(_) => atomics::spin_loop(),
            }
        }
        self.own_ask.is_loose.store(true, Ordering::Relaxed);
    }

    /// For who tends the ring: others may have thought that this process is gone. What it
    /// does not set it leaves as it is.
    pub(crate) fn hold_terms(&self, writer: &Writer<'_>) {
        let (terms, ask) = (Terms::of(self.ring), self.own_ask.get());
        let held = terms.with(&ask, true);
        if held != terms {
            self.store(writer, held);
        }
    }

    /// Returns what of this configuration does not apply.
    fn settle_terms(&self, writer: &Writer<'_>, config: &Config, is_agent: bool) -> Vec<Overruled> {
        let was_plain = Terms::of(self.ring).plain;
        let program = program::name();
        let block = self.ring.claim_to_ask(process::id(), program.as_bytes(), self.clock.now());
        self.tell_as(block, false);
        if let Some(capacity) = config.capacity.and_then(Capacity::new)
            && (is_agent || !self.is_governed() || capacity.0 > self.ring.capacity())
        {
            // How much room a fleet's keys need its servers do not know.
            writer.set_capacity(capacity);
        }
        self.set_terms(writer, config.rotate_every.map(|_| config.lead));
        self.overruled(config, was_plain)
    }

    /// `lead` is that of a configuration with an R.
    fn set_terms(&self, writer: &Writer<'_>, lead: Option<Option<Duration>>) {
        let own = process::id();
        let before = Terms::of(self.ring);
        let mut others = self.ring.askers_but(own, self.clock.now());
        if others.is_empty() && !self.is_settled {
            // Nobody lives whose contexts told their timeouts.
            writer.forget_seen_lifetime();
        }
        // Who comes to use tickets meanwhile tells it first, and looks then.
        for _ in 0..3 {
            let terms = self.wanted(&others, before);
            self.store(writer, terms);
            fence(Ordering::SeqCst);
            others = self.ring.askers_but(own, self.clock.now());
            if self.wanted(&others, before) == terms {
                break;
            }
        }
        let after = Terms::of(self.ring);
        let own = self.own_ask.get().rotate_every;
        match lead {
            Some(lead) if own == after.rotate_every => {
                writer.set_lead(lead);
            }
            _ if after.rotate_every != before.rotate_every => {
                writer.set_lead(None);
            }
            _ => {}
        }
    }

    fn wanted(&self, others: &[Asker], before: Terms) -> Terms {
        let own = self.own_ask.get();
        let governed = self.is_governed();
        let one = |terms: Terms, asker: &Asker| match &asker.ask {
            Some(ask) => terms.with(ask, governed),
            None => terms.with_present(before),
        };
        let all = others.iter().fold(Terms::FREE.with(&own, governed), one);
        let asks = others.iter().filter_map(|asker| asker.ask).chain([own]);
        let some_want_plain =
            asks.fold(Binds::default(), |all, ask| all.with(ask.binds)).have_none();
        Terms {
            rotate_every: all.rotate_every.or(Some(DEFAULT_ROTATE_EVERY)),
            plain: all.plain && some_want_plain,
            ..all
        }
    }

    /// A key that encrypts and is kept for longer than keys are from now on, or plain where they are
    /// to be that no longer, encrypts no longer: nothing is sealed with it for who asks for less.
    fn store(&self, writer: &Writer<'_>, terms: Terms) {
        let kept = self.policy().lifetime;
        let Terms { rotate_every, lifetime, own_lifetimes, plain } = terms;
        let was_plain = writer.set_terms(rotate_every, lifetime, own_lifetimes, plain);
        let now = self.clock.now();
        if now == Time::NEVER || self.is_governed() {
            return;
        }
        let longest = self.policy().lifetime;
        let is_too_long = |entry: &Entry| longest < kept && entry.times.retention() > longest;
        let is_plain = |entry: &Entry| was_plain && !terms.plain && entry.plain;
        for entry in writer.own_entries() {
            let is_active = entry.times.state(now) == KeyState::Active;
            if is_active && (is_too_long(&entry) || is_plain(&entry)) {
                writer.retire(entry.index, now);
            }
        }
    }

    fn policy(&self) -> Policy {
        policy_of(&self.ring.settings(), self.ring.capacity())
    }

    fn is_governed(&self) -> bool {
        self.ring.governed(self.clock.now()).is_some()
    }

    fn overruled(&self, config: &Config, was_plain: bool) -> Vec<Overruled> {
        let terms = Terms::of(self.ring);
        let others = || self.ring.askers_but(process::id(), self.clock.now());
        let mut found = Vec::new();
        let longer = |asked: &Duration, applies: Duration| *asked > applies;
        if let Some(applies) = terms.rotate_every
            && let Some(asked) = config.rotate_every.filter(|asked| longer(asked, applies))
        {
            let by = who(
                &others(),
                |ask| ask.rotate_every == Some(applies),
                |ask| ask.rotate_every.is_none(),
            );
            found.push(Overruled::Rotate { asked, applies, by });
        }
        if let Some(asked) = config.lifetime {
            let applies = self.policy().lifetime;
            let own = self.ring.settings().seen_lifetime.unwrap_or(DEFAULT_LIFETIME);
            // Else the ring is too small for more.
            let by_others = terms.lifetime.is_some_and(|lifetime| asked > lifetime)
                || (terms.own_lifetimes && asked > own);
            if longer(&asked, applies) && by_others {
                let by = who(
                    &others(),
                    |ask| ask.lifetime == Some(applies),
                    |ask| ask.lifetime.is_none(),
                );
                found.push(Overruled::Lifetime { asked, applies, by });
            }
        }
        let bind = config.bind.unwrap_or(Bind::ALL);
        if bind == Bind::NONE && !terms.plain {
            let binds = |other: &Asker| other.ask.is_none_or(|ask| ask.binds.bind());
            let by = match others().into_iter().find(binds) {
                Some(other) if other.ask.is_some() => format!("{other}, which binds its tickets"),
                Some(other) => format!("{other}, whose settings are not known"),
                None => "another context of this process".into(),
            };
            found.push(Overruled::NotPlain { by });
        }
        // Where nobody wants plain keys any more, nobody misses them.
        let some_want_plain = || {
            let asks = others().into_iter().filter_map(|other| other.ask);
            asks.chain([self.own_ask.get()]).any(|ask| ask.binds.have_none())
        };
        if was_plain && !terms.plain && bind != Bind::NONE && some_want_plain() {
            found.push(Overruled::NoLongerPlain);
        }
        found
    }
}

/// What a ring with these settings, and room for so many keys, is asked for.
pub fn policy_of(settings: &Settings, capacity: u32) -> Policy {
    let rotate_every = settings.rotate_every.unwrap_or(DEFAULT_ROTATE_EVERY);
    let own = settings.seen_lifetime.unwrap_or(DEFAULT_LIFETIME);
    let lifetime = match settings.lifetime {
        Some(set) if !settings.own_lifetimes => set,
        Some(set) => set.min(own),
        None => own,
    };
    let longest = Policy::longest_lifetime(rotate_every, capacity);
    Policy {
        rotate_every,
        lifetime: lifetime.min(longest),
        lead: settings.lead.unwrap_or_else(|| Policy::default_lead(rotate_every)),
    }
}

fn asked(config: &Config, bind: Option<Bind>) -> Ask {
    let binds = bind.map_or(Binds::default(), Binds::from);
    Ask { rotate_every: config.rotate_every, lifetime: config.lifetime, binds }
}

/// Who asks for less: who says so, or who leaves it open.
fn who(
    others: &[Asker],
    says_so: impl Fn(&Ask) -> bool,
    leaves_it: impl Fn(&Ask) -> bool,
) -> String {
    let find = |is_it: &dyn Fn(&Ask) -> bool| {
        others.iter().find(|other| other.ask.as_ref().is_some_and(is_it))
    };
    if let Some(other) = find(&says_so) {
        return format!("{other}, which asks for that");
    }
    if let Some(other) = find(&leaves_it) {
        return format!("{other}, which sets nothing");
    }
    match others.iter().find(|other| other.ask.is_none()) {
        Some(other) => format!("{other}, whose settings are not known"),
        None => "another context of this process".into(),
    }
}
