//! What each process asks of a ring: how often keys rotate, how long they are
//! kept, and what its contexts bind their tickets to. The ring does what is the
//! shortest, or the strictest, of what its living processes ask for.
//!
//! A process that has told nothing is taken to ask for what the ring does already.
//!
//! So that contexts whose tickets do not open at one another's can be told apart, a process
//! also tells some bits of a hash of each part that its tickets are bound to ([`Traits`]).
//! They are enough to say "these two have other certificates" to an operator, and nothing to go by:
//! equal bits may be of different contexts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use super::layout::{Block, Header, Member};
use super::life::Lives;
use super::map::Memory;
use super::stats::Blocks;
use crate::atomics;
use crate::clock::{Time, nanos};
use crate::process::ProcessId;
use crate::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY};

/// Bits of [`Member::told`], above those of [`Binds`].
const USES_TICKETS: u64 = 1 << 8;
const ASKS: u64 = 1 << 9;

/// What the contexts of a process bind their tickets to: one bit for each
/// [`crate::config::Bind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binds(pub u8);

impl Binds {
    /// Of a context that binds its tickets to nothing.
    pub const UNBOUND: Binds = Binds::of(false, false, false);

    /// Of a context that binds its tickets to those parts.
    pub const fn of(cert: bool, verify: bool, sni: bool) -> Binds {
        Binds(1 << (cert as u8 | (verify as u8) << 1 | (sni as u8) << 2))
    }

    /// The union of the two.
    pub fn with(self, other: Binds) -> Binds {
        Binds(self.0 | other.0)
    }

    /// True if there is a context that binds its tickets.
    pub fn bind(self) -> bool {
        self.0 & !Binds::UNBOUND.0 != 0
    }

    /// True if there is a context that does not.
    pub fn have_none(self) -> bool {
        self.0 & Binds::UNBOUND.0 != 0
    }

    /// Each of them, as `TKTROT_BIND` names it; the strictest first.
    pub fn names(self) -> Vec<String> {
        let parts = [(1, "cert"), (2, "verify"), (4, "sni")];
        let name = |code: u8| match code {
            0 => "none".to_owned(),
            7 => "all".to_owned(),
            code => {
                let named = parts.iter().filter(|(bit, _)| code & bit != 0);
                named.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
            }
        };
        (0..8).rev().filter(|code| self.0 & 1 << code != 0).map(name).collect()
    }
}

/// A part of what a ticket is bound to that belongs to a context, not to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trait {
    /// The service's label.
    Label,
    /// The leaf certificates.
    Certificates,
    /// The demand for client certificates, with the trusted CAs.
    Verification,
}

impl Trait {
    /// Every trait, in the order of their numbers.
    pub const ALL: [Trait; 3] = [Trait::Label, Trait::Certificates, Trait::Verification];
}

/// 16 bits for each [`Trait`]; all zeroes: nothing was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits(u64);

/// The contexts of a process differ in it.
const SEVERAL: u16 = u16::MAX;
/// Tickets are not bound to it.
const UNBOUND: u16 = 1;

impl Traits {
    /// Those of a context; a part is what the ticket is bound to, or none if it is not.
    pub fn of(part: impl Fn(Trait) -> Option<Vec<u8>>) -> Traits {
        let lanes = Trait::ALL.map(|one| part(one).map_or(UNBOUND, |bytes| hash(&bytes)));
        Traits::from_lanes(lanes)
    }

    fn from_lanes(lanes: [u16; 3]) -> Traits {
        let at = |place: usize| u64::from(lanes[place]) << (16 * place);
        Traits(at(0) | at(1) | at(2))
    }

    fn lane(self, one: Trait) -> u16 {
        (self.0 >> (16 * one as u32)) as u16
    }

    /// Of two contexts of one process.
    fn with(self, other: Traits) -> Traits {
        Traits::from_lanes(Trait::ALL.map(|one| match (self.lane(one), other.lane(one)) {
            (0, lane) | (lane, 0) => lane,
            (one, other) if one == other => one,
            _ => SEVERAL,
        }))
    }

    /// True if contexts of the one differ from those of the other, or among themselves.
    pub fn differ(self, other: Traits, one: Trait) -> bool {
        let (own, other) = (self.lane(one), other.lane(one));
        let told = own != 0 && other != 0;
        told && (own != other || own == SEVERAL)
    }
}

/// FNV-1a, folded: neither 0, [`UNBOUND`] nor [`SEVERAL`].
fn hash(bytes: &[u8]) -> u16 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619);
    let hash = bytes.iter().fold(2_166_136_261, step);
    let folded = (hash >> 16) as u16 ^ hash as u16;
    folded.clamp(UNBOUND + 1, SEVERAL - 1)
}

/// What the header of a ring says of the keys that are made in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// R; `None`: the default.
    pub rotate_every: Option<Duration>,
    /// L; `None`: the longest timeout of a context.
    pub lifetime: Option<Duration>,
    /// Keys are kept no longer than the longest timeout of a context, whatever `lifetime` is:
    /// a process leaves L to its contexts.
    pub own_lifetimes: bool,
    /// The longest timeout of a context so far.
    pub seen_lifetime: Option<Duration>,
    /// The lead; `None`: the default for R.
    pub lead: Option<Duration>,
    /// New keys are plain.
    pub plain: bool,
}

impl Settings {
    pub(super) fn of(header: &Header) -> Settings {
        let span = |word: &atomics::AtomicU64| match word.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        };
        Settings {
            rotate_every: span(&header.rotate_every),
            lifetime: span(&header.lifetime),
            own_lifetimes: header.own_lifetimes.load(Ordering::Relaxed) != 0,
            seen_lifetime: span(&header.seen_lifetime),
            lead: span(&header.lead),
            plain: header.plain.load(Ordering::Relaxed) != 0,
        }
    }
}

/// What a process asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// R; `None`: it leaves that to the others, or to the default.
    pub rotate_every: Option<Duration>,
    /// L; `None`: as long as its contexts' own timeouts.
    pub lifetime: Option<Duration>,
    /// Of its contexts; none if it has none, as an agent.
    pub binds: Binds,
}

impl Ask {
    /// What is asked for where both are.
    pub fn with(self, other: Ask) -> Ask {
        Ask {
            rotate_every: shorter(self.rotate_every, other.rotate_every),
            lifetime: shorter(self.lifetime, other.lifetime),
            binds: self.binds.with(other.binds),
        }
    }
}

/// The shorter of those that there are.
pub fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// A process that uses a ring, and what it asks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The process.
    pub process: ProcessId,
    /// The name of its executable, cut to 16 bytes.
    pub program: String,
    /// `None`: it has told nothing.
    pub ask: Option<Ask>,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elsewhere = match self.process.is_of_this_namespace() {
            true => "",
            false => ", in another container",
        };
        write!(f, "process {} ({}{elsewhere})", self.process.pid(), self.program)
    }
}

/// What the processes of a ring ask of it.
pub(super) struct Asks<'m>(pub &'m Memory);

impl Asks<'_> {
    /// A block for a process that comes to use the ring, as
    /// [`super::Ring::claim_block`]; but it takes first what a process left behind that
    /// used no tickets, so that those that only open the ring use up nothing.
    pub fn claim(&self, process: ProcessId, program: &[u8], now: Time) -> usize {
        let blocks = Blocks(self.0).of_processes();
        let owner_of = |block: &Block| ProcessId(block.owner.load(Ordering::Relaxed));
        if !blocks.iter().any(|block| owner_of(block) == process) {
            for (block, member) in blocks.iter().zip(self.0.members()) {
                let owner = owner_of(block);
                let idle = member.told_by(owner).is_some_and(|told| told & USES_TICKETS == 0);
                if owner.is_some() && idle && Lives(self.0).is_over(owner, now) {
                    // Who comes first, takes it; another one finds it free, or taken.
                    let (relaxed, owner) = (Ordering::Relaxed, owner.0);
                    let _ = block.owner.compare_exchange(owner, 0, relaxed, relaxed);
                }
            }
        }
        Blocks(self.0).claim(process, program, now)
    }

    /// Tells what a process asks for, in the block that it claimed; `uses_tickets`:
    /// that it uses tickets. Where it shares the block, both ask. Lock-free.
    pub fn tell(&self, block: usize, process: ProcessId, ask: &Ask, uses_tickets: bool, now: Time) {
        let Some(member) = self.0.members().get(block) else { return };
        let owner = self.owner_of(block);
        let (told, ask) = match self.ask_in(block) {
            Some(other) if owner != process => {
                (member.told_by(owner).unwrap_or(0), ask.with(other))
            }
            None if owner != process => return,
            _ => (member.told_by(process).unwrap_or(0) & USES_TICKETS, *ask),
        };
        let word = |span: Option<Duration>| span.map_or(0, nanos);
        member.told_at.store(now.0, Ordering::Relaxed);
        member.rotate_every.store(word(ask.rotate_every), Ordering::Relaxed);
        member.lifetime.store(word(ask.lifetime), Ordering::Relaxed);
        let told =
            told | u64::from(ask.binds.0) | ASKS | if uses_tickets { USES_TICKETS } else { 0 };
        member.told.store(told, Ordering::Relaxed);
        // Release: who sees that it asks, sees what for.
        member.process.store(owner.0, Ordering::Release);
        // Pairs with that of who sets the ring's policy: either he sees this, or
        // who told it sees the policy that he set.
        fence(Ordering::SeqCst);
    }

    /// Tells those of one more context, in the block that the process claimed. Lock-free.
    pub fn tell_traits(&self, block: usize, traits: Traits) {
        let Some(member) = self.0.members().get(block) else { return };
        let relaxed = Ordering::Relaxed;
        let _ = member.traits.fetch_update(relaxed, relaxed, |told| {
            let both = Traits(told).with(traits).0;
            (both != told).then_some(both)
        });
    }

    /// What a process asked for no longer counts: it ends.
    pub fn forget(&self, process: ProcessId) {
        for (block, member) in Blocks(self.0).of_processes().iter().zip(self.0.members()) {
            if block.owner.load(Ordering::Relaxed) == process.0
                && let Some(told) = member.told_by(process)
            {
                let used_tickets = told & USES_TICKETS;
                member.told.store(used_tickets, Ordering::Relaxed);
                if used_tickets == 0 {
                    // Nobody needs to know that it was here.
                    block.owner.store(0, Ordering::Release);
                }
            }
        }
    }

    /// Makes a process look as if it had told nothing, for tests of what then holds.
    #[doc(hidden)]
    pub fn disown(&self, process: ProcessId) {
        for member in self.0.members() {
            if member.process.load(Ordering::Relaxed) == process.0 {
                member.process.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The processes that use the ring and live, but for one.
    pub fn of_others(&self, process: ProcessId, now: Time) -> Vec<Asker> {
        let asker = |(index, block): (usize, &Block)| {
            let owner = self.owner_of(index);
            let told = self.0.members().get(index)?.told_by(owner);
            // One that counted, and asks for nothing: it ended, or opened no ring.
            let nothing = told.is_some_and(|told| told & ASKS == 0);
            if !owner.is_some() || owner == process || nothing || Lives(self.0).is_over(owner, now)
            {
                return None;
            }
            Some(Asker { process: owner, program: block.program(), ask: self.ask_in(index) })
        };
        Blocks(self.0).of_processes().iter().enumerate().filter_map(asker).collect()
    }

    /// What is asked for in a block; `None` if nothing is told there.
    fn ask_in(&self, block: usize) -> Option<Ask> {
        let member = self.0.members().get(block)?;
        let told = member.told_by(self.owner_of(block))?;
        if told & ASKS == 0 {
            return None;
        }
        // What no setting asks for, a ring that somebody prepared may have.
        let span = |word: &AtomicU64, least: Duration| {
            let span = Duration::from_nanos(word.load(Ordering::Relaxed));
            (least..=MAX_LIFETIME).contains(&span).then_some(span)
        };
        let rotate_every = span(&member.rotate_every, MIN_ROTATE_EVERY);
        let lifetime = span(&member.lifetime, Duration::from_nanos(1));
        Some(Ask { rotate_every, lifetime, binds: Binds(told as u8) })
    }

    fn owner_of(&self, block: usize) -> ProcessId {
        let block = Blocks(self.0).of_processes().get(block);
        ProcessId(block.map_or(0, |block| block.owner.load(Ordering::Relaxed)))
    }
}

impl Member {
    /// True if that process has used tickets. One that does not tell has a block for
    /// nothing else.
    pub(super) fn uses_tickets(&self, process: ProcessId) -> bool {
        self.told_by(process).is_none_or(|told| told & USES_TICKETS != 0)
    }

    /// What the contexts of that process bind to; `None` if it does not tell.
    pub(super) fn binds(&self, process: ProcessId) -> Option<Binds> {
        self.told_by(process).filter(|told| told & ASKS != 0).map(|told| Binds(told as u8))
    }

    /// What tells its contexts from those of others.
    pub(super) fn traits(&self) -> Traits {
        Traits(self.traits.load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::Bind;
    use crate::process;
    use crate::ring::Ring;
    use crate::ring::layout::Capacity;
    use crate::ring::life::UNSEEN;
    use crate::ring::stats::OF_PROCESSES;

    /// No process has these numbers: Linux' largest is 2^22.
    fn nobody(number: u32) -> ProcessId {
        ProcessId::new(process::id().namespace(), (1 << 22) + number)
    }

    /// Lives as long as the host does.
    fn init() -> ProcessId {
        ProcessId::new(process::id().namespace(), 1)
    }

    /// The same number, in another PID namespace.
    fn elsewhere(process: ProcessId) -> ProcessId {
        ProcessId(process.0 ^ 1 << 40)
    }

    const NOW: Time = Time(1 << 40);

    fn ring() -> Ring {
        Ring::private(Capacity::new(8).unwrap()).unwrap()
    }

    fn ask(rotate: u64, bind: Bind) -> Ask {
        let rotate_every = Some(Duration::from_secs(rotate));
        Ask { rotate_every, lifetime: None, binds: Binds::from(bind) }
    }

    fn come(ring: &Ring, process: ProcessId, ask: &Ask) -> usize {
        let block = ring.claim_to_ask(process, b"some", NOW);
        ring.tell(block, process, ask, false, NOW);
        block
    }

    #[test]
    fn bindings_are_named_as_they_are_set() {
        let some = Bind { cert: true, verify: true, sni: false };
        let binds = Binds::from(Bind::ALL).with(Binds::from(some)).with(Binds::from(Bind::NONE));
        assert_eq!(binds.names(), ["all", "cert,verify", "none"]);
        assert!(binds.bind() && binds.have_none());
        assert!(Binds::from(Bind::NONE).have_none() && !Binds::from(Bind::NONE).bind());
        assert!(!Binds::default().bind() && !Binds::default().have_none());
    }

    #[test]
    fn only_the_living_ask() {
        let ring = ring();
        let own = process::id();
        come(&ring, init(), &ask(60, Bind::ALL));
        come(&ring, own, &ask(30, Bind::NONE));
        let dead = come(&ring, nobody(0), &ask(10, Bind::ALL));
        let asked = |but| {
            let askers = ring.askers_but(but, NOW);
            askers.iter().map(|asker| (asker.process, asker.ask)).collect::<Vec<_>>()
        };
        let (of_init, of_own) = (ask(60, Bind::ALL), ask(30, Bind::NONE));
        assert_eq!(asked(ProcessId(0)), [(init(), Some(of_init)), (own, Some(of_own))]);
        assert_eq!(asked(own), [(init(), Some(of_init))]);
        assert_eq!(ring.askers_but(own, NOW)[0].to_string(), "process 1 (some)");
        ring.forget(init());
        assert_eq!(asked(own), []);
        // The dead one used no tickets, so its block is the next one's.
        let next = come(&ring, nobody(1), &ask(9, Bind::ALL));
        assert!(next <= dead, "{next}");
    }

    #[test]
    fn what_a_former_process_told_is_not_its_successors() {
        let ring = ring();
        let block = come(&ring, nobody(0), &ask(10, Bind::ALL));
        Blocks(&ring.memory).of_processes()[block].owner.store(init().0, Ordering::Relaxed);
        let askers = ring.askers_but(ProcessId(0), NOW);
        assert_eq!((askers[0].process, askers[0].ask), (init(), None));
        assert!(ring.memory.members()[block].uses_tickets(init()));
        assert_eq!(ring.memory.members()[block].binds(init()), None);
    }

    #[test]
    fn what_no_setting_asks_for_is_not_asked_for() {
        let ring = ring();
        let block = come(&ring, init(), &ask(60, Bind::ALL));
        let member = &ring.memory.members()[block];
        for word in [&member.rotate_every, &member.lifetime] {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        let prepared = Asks(&ring.memory).ask_in(block).unwrap();
        assert_eq!((prepared.rotate_every, prepared.lifetime), (None, None));
        member.rotate_every.store(1, Ordering::Relaxed);
        assert_eq!(Asks(&ring.memory).ask_in(block).unwrap().rotate_every, None);
    }

    #[test]
    fn one_of_another_pid_namespace_is_another_one_and_believed_for_a_while() {
        let ring = ring();
        let (here, there) = (process::id(), elsewhere(process::id()));
        let block = come(&ring, there, &ask(10, Bind::ALL));
        assert_ne!(come(&ring, here, &ask(60, Bind::ALL)), block);
        let askers = |now| ring.askers_but(here, now);
        assert_eq!(askers(NOW + UNSEEN / 2).len(), 1);
        assert_eq!(
            askers(NOW)[0].to_string(),
            format!("process {} (some, in another container)", here.pid())
        );
        assert_eq!(askers(NOW + UNSEEN), []);
        ring.tell(block, there, &ask(10, Bind::ALL), true, NOW + UNSEEN);
        assert_eq!(askers(NOW + UNSEEN).len(), 1);
    }

    #[cfg(not(miri))]
    #[test]
    fn who_shows_life_lives_until_the_kernel_says_otherwise() {
        let ring = ring();
        let there = elsewhere(nobody(0));
        come(&ring, there, &ask(10, Bind::ALL));
        let later = NOW + UNSEEN + UNSEEN;
        let lives = || !ring.askers_but(process::id(), later).is_empty();
        assert!(!lives());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the ring is there until the thread has ended.
                let show = || unsafe { ring.show_life(there) };
                let shown = show();
                assert!(shown.is_some() && show().is_none() && lives());
                drop(shown);
                assert!(!lives());
                std::mem::forget(show());
                assert!(lives());
            });
            thread.join().unwrap();
        });
        assert!(!lives());
        assert!(Lives(&ring.memory).is_over(there, NOW));
        // One with its number, in a container that was started again.
        let _ = ring.claim_thread_block(there, NOW).unwrap();
        let block = ring.claim_to_ask(there, b"again", NOW);
        ring.tell(block, there, &ask(10, Bind::ALL), true, NOW);
        assert!(
            !Lives(&ring.memory).is_over(there, NOW) && ring.is_used_by_others(process::id(), NOW)
        );
        let taken = |block: &&Block| block.owner.load(Ordering::Relaxed) == there.0;
        assert_eq!(ring.memory.blocks().iter().filter(taken).count(), 1);
    }

    #[test]
    fn processes_that_share_a_block_ask_together() {
        let ring = ring();
        for number in 0..OF_PROCESSES as u32 {
            // None of them can be told to be dead.
            come(&ring, elsewhere(nobody(number)), &ask(60, Bind::ALL));
        }
        let shared = come(&ring, init(), &ask(30, Bind::NONE));
        assert_ne!(Asks(&ring.memory).owner_of(shared), init());
        let both = ask(30, Bind::ALL).with(ask(30, Bind::NONE));
        assert_eq!(Asks(&ring.memory).ask_in(shared), Some(both));
    }

    fn context(label: &str, certificates: Option<&str>) -> Traits {
        Traits::of(|one| match one {
            Trait::Label => Some(label.into()),
            Trait::Certificates => certificates.map(Into::into),
            Trait::Verification => Some(b"none".to_vec()),
        })
    }

    #[test]
    fn contexts_differ_in_what_they_differ_in() {
        let (one, other) = (context("web", Some("a")), context("web", Some("b")));
        let differ = |one: Traits, other: Traits| Trait::ALL.map(|each| one.differ(other, each));
        assert_eq!(differ(one, one), [false; 3]);
        assert_eq!(differ(one, other), [false, true, false]);
        assert_eq!(differ(one, context("mail", None)), [true, true, false]);
        // Who has told nothing differs from nobody.
        assert_eq!(differ(one, Traits::default()), [false; 3]);
        // Two contexts of one process.
        let both = one.with(other);
        assert_eq!(differ(both, one), [false, true, false]);
        assert_eq!(differ(both, both), [false, true, false]);
        assert_eq!(one.with(Traits::default()), one);
    }
}
