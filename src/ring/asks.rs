//! What each process asks of a ring: how often keys rotate, how long they are
//! kept, and what its contexts bind their tickets to. The ring does what is the
//! shortest, or the strictest, of what its living processes ask for.
//!
//! A process that has told nothing is taken to ask for what the ring does already.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use super::Ring;
use super::layout::{Block, Member};
use super::lock::{Sign, Taking};
use super::stats::is_gone;
use crate::clock::{Time, nanos};
use crate::config::Bind;
use crate::process::ProcessId;
use crate::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY};

/// Bits of [`Member::told`], above those of [`Binds`].
const DEALS: u64 = 1 << 8;
const ASKS: u64 = 1 << 9;

/// How long a process of another PID namespace counts that shows no sign of life, as
/// one without an upkeep thread: it may have been killed.
const UNSEEN: Duration = Duration::from_secs(60);

/// What the contexts of a process bind their tickets to: one bit for each [`Bind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binds(pub u8);

impl Binds {
    /// That of one context.
    pub fn of(bind: Bind) -> Binds {
        let bit = |part: bool, place: u32| u32::from(part) << place;
        Binds(1 << (bit(bind.cert, 0) | bit(bind.verify, 1) | bit(bind.sni, 2)))
    }

    /// Those of both.
    pub fn with(self, other: Binds) -> Binds {
        Binds(self.0 | other.0)
    }

    /// True if there is a context that binds its tickets.
    pub fn bind(self) -> bool {
        self.0 & !Binds::of(Bind::NONE).0 != 0
    }

    /// True if there is a context that does not.
    pub fn have_none(self) -> bool {
        self.0 & Binds::of(Bind::NONE).0 != 0
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
    /// Which.
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

impl Ring {
    /// A block for a process that comes to use the ring, as
    /// [`Ring::claim_block`]; but it takes first what a process left behind that
    /// dealt in no tickets, so that those that only open the ring use up nothing.
    pub fn claim_to_ask(&self, process: ProcessId, program: &[u8], now: Time) -> usize {
        let blocks = self.process_blocks();
        let owner_of = |block: &Block| ProcessId(block.owner.load(Ordering::Relaxed));
        if !blocks.iter().any(|block| owner_of(block) == process) {
            for (block, member) in blocks.iter().zip(self.members()) {
                let owner = owner_of(block);
                let idle = member.told_by(owner).is_some_and(|told| told & DEALS == 0);
                if owner.is_some() && idle && self.is_over(owner, now) {
                    // Who comes first, takes it; another one finds it free, or taken.
                    let (relaxed, owner) = (Ordering::Relaxed, owner.0);
                    let _ = block.owner.compare_exchange(owner, 0, relaxed, relaxed);
                }
            }
        }
        self.claim_block(process, program, now)
    }

    /// Tells what a process asks for, in the block that it claimed; `deals`:
    /// that it deals in tickets. Where it shares the block, both ask. Lock-free.
    pub fn tell(&self, block: usize, process: ProcessId, ask: &Ask, deals: bool, now: Time) {
        let Some(member) = self.members().get(block) else { return };
        let owner = self.owner_of(block);
        let (told, ask) = match self.ask_in(block) {
            Some(other) if owner != process => {
                (member.told_by(owner).unwrap_or(0), ask.with(other))
            }
            None if owner != process => return,
            _ => (member.told_by(process).unwrap_or(0) & DEALS, *ask),
        };
        let word = |span: Option<Duration>| span.map_or(0, nanos);
        member.told_at.store(now.0, Ordering::Relaxed);
        member.rotate_every.store(word(ask.rotate_every), Ordering::Relaxed);
        member.lifetime.store(word(ask.lifetime), Ordering::Relaxed);
        let told = told | u64::from(ask.binds.0) | ASKS | if deals { DEALS } else { 0 };
        member.told.store(told, Ordering::Relaxed);
        // Release: who sees that it asks, sees what for.
        member.process.store(owner.0, Ordering::Release);
        // Pairs with that of who sets the ring's policy: either he sees this, or
        // who told it sees the policy that he set.
        fence(Ordering::SeqCst);
    }

    /// What a process asked for no longer counts: it ends.
    pub fn forget(&self, process: ProcessId) {
        for (block, member) in self.process_blocks().iter().zip(self.members()) {
            if block.owner.load(Ordering::Relaxed) == process.0
                && let Some(told) = member.told_by(process)
            {
                let dealt = told & DEALS;
                member.told.store(dealt, Ordering::Relaxed);
                if dealt == 0 {
                    // Nobody needs to know that it was here.
                    block.owner.store(0, Ordering::Release);
                }
            }
        }
    }

    /// Makes a process look as if it had told nothing, for tests of what then holds.
    #[doc(hidden)]
    pub fn disown(&self, process: ProcessId) {
        for member in self.members() {
            if member.process.load(Ordering::Relaxed) == process.0 {
                member.process.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The processes that use the ring and live, but for one.
    pub fn askers_but(&self, process: ProcessId, now: Time) -> Vec<Asker> {
        let asker = |(index, block): (usize, &Block)| {
            let owner = self.owner_of(index);
            let told = self.members().get(index)?.told_by(owner);
            // One that counted, and asks for nothing: it ended, or opened no ring.
            let nothing = told.is_some_and(|told| told & ASKS == 0);
            if !owner.is_some() || owner == process || nothing || self.is_over(owner, now) {
                return None;
            }
            Some(Asker { process: owner, program: block.program(), ask: self.ask_in(index) })
        };
        self.process_blocks().iter().enumerate().filter_map(asker).collect()
    }

    /// What is asked for in a block; `None` if nothing is told there.
    fn ask_in(&self, block: usize) -> Option<Ask> {
        let member = self.members().get(block)?;
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

    /// Shows that this process lives, for as long as the calling thread does or until
    /// what is returned is dropped: for a thread that forks no child. `None` if
    /// another thread shows it already, or it cannot be shown: such a process is
    /// believed for a while.
    ///
    /// # Safety
    ///
    /// The ring stays mapped for as long as the thread lives.
    pub unsafe fn show_life(&self, process: ProcessId) -> Option<Shown<'_>> {
        let member = self.member(process)?;
        // SAFETY: passed on from the caller.
        let is_shown = unsafe { member.take_life(0) };
        is_shown.then(|| Shown { member, _same_thread: PhantomData })
    }

    /// True if that process is gone. Of another PID namespace the kernel tells only of one
    /// that showed life; any other is believed for [`UNSEEN`] after it told anything.
    pub(super) fn is_over(&self, process: ProcessId, now: Time) -> bool {
        let member = self.member(process);
        match member.map(|member| (member, member.life.sign())) {
            Some((_, Sign::Died)) => true,
            _ if process.is_of_this_namespace() => is_gone(process.pid()),
            Some((_, Sign::Lives(_))) => false,
            Some((member, Sign::None)) => {
                Time(member.told_at.load(Ordering::Relaxed)) + UNSEEN <= now
            }
            // One of more than have a place here.
            None => false,
        }
    }

    fn member(&self, process: ProcessId) -> Option<&Member> {
        let is_its = |member: &&Member| member.process.load(Ordering::Acquire) == process.0;
        self.members().iter().find(is_its)
    }

    fn owner_of(&self, block: usize) -> ProcessId {
        let block = self.process_blocks().get(block);
        ProcessId(block.map_or(0, |block| block.owner.load(Ordering::Relaxed)))
    }
}

/// That a process lives; given up by the thread that shows it.
pub struct Shown<'r> {
    member: &'r Member,
    _same_thread: PhantomData<*const ()>,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        // SAFETY: `show_life` took it on this thread.
        unsafe { self.member.leave_life() };
    }
}

impl Member {
    /// What that process told; `None` if it has told nothing here.
    pub(super) fn told_by(&self, process: ProcessId) -> Option<u64> {
        let is_its = self.process.load(Ordering::Acquire) == process.0;
        (process.is_some() && is_its).then(|| self.told.load(Ordering::Relaxed))
    }

    /// Makes it that of a process that has claimed the block, and told nothing yet.
    /// True if one of the same number had it, and is dead: in a new container numbers
    /// of a former one come again.
    pub(super) fn begin(&self, process: ProcessId, now: Time) -> bool {
        let is_new = self.told_by(process).is_none();
        let is_of_the_dead = self.life.sign() == Sign::Died;
        if !is_new && !is_of_the_dead {
            return false;
        }
        let former = self.shown_by.load(Ordering::Relaxed);
        // One of several threads removes what is left of the dead one.
        // SAFETY: it lives no more; and this thread leaves at once.
        if (is_of_the_dead || former != 0) && unsafe { self.take_life(former) } {
            // SAFETY: taken just now.
            unsafe { self.leave_life() };
        }
        self.told.store(0, Ordering::Relaxed);
        self.traits.store(0, Ordering::Relaxed);
        self.told_at.store(now.0, Ordering::Relaxed);
        self.process.store(process.0, Ordering::Release);
        !is_new
    }

    /// # Safety
    ///
    /// `former`, if not 0, is of one that is dead; the rest is as for
    /// [`super::mutex::RobustMutex::try_take`].
    unsafe fn take_life(&self, former: u64) -> bool {
        let own = former.wrapping_add(1).max(1);
        let (taken, not) = (Ordering::Acquire, Ordering::Relaxed);
        if self.shown_by.compare_exchange(former, own, taken, not).is_err() {
            return false;
        }
        // SAFETY: nobody else's, by the exchange; passed on from the caller.
        let shows = unsafe { self.life.try_take() } == Taking::Taken;
        if !shows {
            self.shown_by.store(0, Ordering::Release);
        }
        shows
    }

    /// # Safety
    ///
    /// The calling thread took it.
    unsafe fn leave_life(&self) {
        // SAFETY: passed on from the caller.
        unsafe { self.life.give_back() };
        self.shown_by.store(0, Ordering::Release);
    }

    /// True if that process has dealt in tickets. One that does not tell has a block for
    /// nothing else.
    pub(super) fn deals(&self, process: ProcessId) -> bool {
        self.told_by(process).is_none_or(|told| told & DEALS != 0)
    }

    /// What the contexts of that process bind to; `None` if it does not tell.
    pub(super) fn binds(&self, process: ProcessId) -> Option<Binds> {
        self.told_by(process).filter(|told| told & ASKS != 0).map(|told| Binds(told as u8))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::process;
    use crate::ring::layout::Capacity;
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
        Ask { rotate_every, lifetime: None, binds: Binds::of(bind) }
    }

    fn come(ring: &Ring, process: ProcessId, ask: &Ask) -> usize {
        let block = ring.claim_to_ask(process, b"some", NOW);
        ring.tell(block, process, ask, false, NOW);
        block
    }

    #[test]
    fn bindings_are_named_as_they_are_set() {
        let some = Bind { cert: true, verify: true, sni: false };
        let binds = Binds::of(Bind::ALL).with(Binds::of(some)).with(Binds::of(Bind::NONE));
        assert_eq!(binds.names(), ["all", "cert,verify", "none"]);
        assert!(binds.bind() && binds.have_none());
        assert!(Binds::of(Bind::NONE).have_none() && !Binds::of(Bind::NONE).bind());
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
        // The dead one dealt in no tickets, so its block is the next one's.
        let next = come(&ring, nobody(1), &ask(9, Bind::ALL));
        assert!(next <= dead, "{next}");
    }

    #[test]
    fn what_a_former_process_told_is_not_its_successors() {
        let ring = ring();
        let block = come(&ring, nobody(0), &ask(10, Bind::ALL));
        ring.process_blocks()[block].owner.store(init().0, Ordering::Relaxed);
        let askers = ring.askers_but(ProcessId(0), NOW);
        assert_eq!((askers[0].process, askers[0].ask), (init(), None));
        assert!(ring.members()[block].deals(init()));
        assert_eq!(ring.members()[block].binds(init()), None);
    }

    #[test]
    fn what_no_setting_asks_for_is_not_asked_for() {
        let ring = ring();
        let block = come(&ring, init(), &ask(60, Bind::ALL));
        let member = &ring.members()[block];
        for word in [&member.rotate_every, &member.lifetime] {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        let prepared = ring.ask_in(block).unwrap();
        assert_eq!((prepared.rotate_every, prepared.lifetime), (None, None));
        member.rotate_every.store(1, Ordering::Relaxed);
        assert_eq!(ring.ask_in(block).unwrap().rotate_every, None);
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
        assert!(ring.is_over(there, NOW));
        // One with its number, in a container that was started again.
        let _ = ring.claim_thread_block(there, NOW).unwrap();
        let block = ring.claim_to_ask(there, b"again", NOW);
        ring.tell(block, there, &ask(10, Bind::ALL), true, NOW);
        assert!(!ring.is_over(there, NOW) && ring.is_used_by_others(process::id(), NOW));
        let taken = |block: &&Block| block.owner.load(Ordering::Relaxed) == there.0;
        assert_eq!(ring.blocks().iter().filter(taken).count(), 1);
    }

    #[test]
    fn processes_that_share_a_block_ask_together() {
        let ring = ring();
        for number in 0..OF_PROCESSES as u32 {
            // None of them can be told to be dead.
            come(&ring, elsewhere(nobody(number)), &ask(60, Bind::ALL));
        }
        let shared = come(&ring, init(), &ask(30, Bind::NONE));
        assert_ne!(ring.owner_of(shared), init());
        let both = ask(30, Bind::ALL).with(ask(30, Bind::NONE));
        assert_eq!(ring.ask_in(shared), Some(both));
    }
}
