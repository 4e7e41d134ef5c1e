//! What each process asks of a ring: how often keys rotate, how long they are
//! kept, and what its contexts bind their tickets to. The ring does what is the
//! shortest, or the strictest, of what its living processes ask for.
//!
//! A process tells it in its block, and in the words of a thread's block that
//! only processes need. One of an earlier version tells nothing: then it is
//! taken to ask for what the ring does already.

use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use super::Ring;
use super::layout::Block;
use super::stats::{OF_PROCESSES, is_gone};
use crate::clock::nanos;
use crate::config::Bind;
use crate::process;
use crate::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY};

/// Bits of [`Block::told`], above those of [`Binds`].
const DEALS: u32 = 1 << 8;
const ASKS: u32 = 1 << 9;
/// Above these is the process, so that what a former one told is not taken for its own.
const BELOW_PID: u32 = 10;

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
    /// Its id, in its own PID namespace.
    pub pid: u32,
    /// The name of its executable, cut to 16 bytes.
    pub program: String,
    /// `None`: it is of an earlier version, and tells nothing.
    pub ask: Option<Ask>,
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.program)
    }
}

impl Ring {
    /// A block for a process that comes to use the ring, as
    /// [`Ring::claim_block`]; but it takes first what a process left behind that
    /// dealt in no tickets, so that those that only open the ring use up nothing.
    pub fn claim_to_ask(&self, pid: u32, program: &[u8]) -> usize {
        let blocks = self.process_blocks();
        let of_pid = |block: &Block| block.pid.load(Ordering::Relaxed) == pid;
        if !blocks.iter().any(of_pid) {
            for (index, block) in blocks.iter().enumerate() {
                let owner = block.pid.load(Ordering::Relaxed);
                let idle = told_by(block, owner).is_some_and(|told| told & DEALS == 0);
                if owner != 0 && idle && self.is_over(index, owner) {
                    // Who comes first, takes it; another one finds it free, or taken.
                    let _ =
                        block.pid.compare_exchange(owner, 0, Ordering::Relaxed, Ordering::Relaxed);
                }
            }
        }
        self.claim_block(pid, program)
    }

    /// Tells what a process asks for, in the block that it claimed; `deals`:
    /// that it deals in tickets. Where it shares the block, both ask. Lock-free.
    pub fn tell(&self, block: usize, pid: u32, ask: &Ask, deals: bool) {
        let (Some(own), Some(more)) = self.pair(block) else { return };
        let owner = own.pid.load(Ordering::Relaxed);
        let (told, ask) = match self.ask_in(block) {
            Some(other) if owner != pid => (told_by(own, owner).unwrap_or(0), ask.with(other)),
            None if owner != pid => return,
            _ => (told_by(own, pid).unwrap_or(0) & DEALS, *ask),
        };
        let word = |span: Option<Duration>| span.map_or(0, nanos);
        more.told.store(process::pid_namespace(), Ordering::Relaxed);
        more.program[0].store(word(ask.rotate_every), Ordering::Relaxed);
        more.program[1].store(word(ask.lifetime), Ordering::Relaxed);
        let told = told | u32::from(ask.binds.0) | ASKS | if deals { DEALS } else { 0 };
        // Release: who sees that it asks, sees what for.
        own.told.store(owner << BELOW_PID | told, Ordering::Release);
        // Pairs with that of who sets the ring's policy: either he sees this, or
        // who told it sees the policy that he set.
        fence(Ordering::SeqCst);
    }

    /// What a process asked for no longer counts: it ends.
    pub fn forget(&self, pid: u32) {
        for (index, block) in self.process_blocks().iter().enumerate() {
            if block.pid.load(Ordering::Relaxed) == pid
                && self.is_of_this_namespace(index)
                && let Some(told) = told_by(block, pid)
            {
                let dealt = told & DEALS;
                block.told.store(pid << BELOW_PID | dealt, Ordering::Relaxed);
                if dealt == 0 {
                    // Nobody needs to know that it was here.
                    block.pid.store(0, Ordering::Release);
                }
            }
        }
    }

    /// Makes a process look like one of an earlier version, for tests of what then
    /// holds.
    #[doc(hidden)]
    pub fn disown(&self, pid: u32) {
        for block in self.process_blocks() {
            if block.pid.load(Ordering::Relaxed) == pid {
                block.told.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The processes that use the ring and live, but for one.
    pub fn askers_but(&self, pid: u32) -> Vec<Asker> {
        let blocks = self.process_blocks().iter().enumerate();
        let asker = |(index, block): (usize, &Block)| {
            let user = block.user().filter(|user| user.pid != pid)?;
            let told = told_by(block, user.pid);
            // One that counted, and asks for nothing: it ended, or opened no ring.
            let nothing = told.is_some_and(|told| told & ASKS == 0);
            if nothing || self.is_over(index, user.pid) {
                return None;
            }
            Some(Asker { pid: user.pid, program: user.program, ask: self.ask_in(index) })
        };
        blocks.filter_map(asker).collect()
    }

    /// What is asked for in a block; `None` if nothing is told there.
    fn ask_in(&self, block: usize) -> Option<Ask> {
        let (own, more) = self.pair(block);
        let (own, more) = (own?, more?);
        let told = told_by(own, own.pid.load(Ordering::Relaxed))?;
        if told & ASKS == 0 {
            return None;
        }
        // What no setting asks for, a ring that somebody prepared may have.
        let span = |word: usize, least: Duration| {
            let span = Duration::from_nanos(more.program[word].load(Ordering::Relaxed));
            (least..=MAX_LIFETIME).contains(&span).then_some(span)
        };
        let (rotate_every, lifetime) =
            (span(0, MIN_ROTATE_EVERY), span(1, Duration::from_nanos(1)));
        Some(Ask { rotate_every, lifetime, binds: Binds(told as u8) })
    }

    /// True if the process of a block is certainly gone: in another PID namespace
    /// nobody here can tell.
    pub(super) fn is_over(&self, block: usize, owner: u32) -> bool {
        self.is_of_this_namespace(block) && is_gone(owner)
    }

    fn is_of_this_namespace(&self, block: usize) -> bool {
        let (Some(own), Some(more)) = self.pair(block) else { return true };
        let told = told_by(own, own.pid.load(Ordering::Relaxed));
        let asks = told.is_some_and(|told| told & ASKS != 0);
        !asks || more.told.load(Ordering::Relaxed) == process::pid_namespace()
    }

    /// The block of a process, and that which has the rest of what it tells.
    fn pair(&self, block: usize) -> (Option<&Block>, Option<&Block>) {
        let blocks = self.blocks();
        (blocks.get(block), blocks.get(block + OF_PROCESSES))
    }
}

/// What the process told in its block; `None` if it is of an earlier version.
pub(super) fn told_by(block: &Block, pid: u32) -> Option<u32> {
    let told = block.told.load(Ordering::Acquire);
    let whose = told >> BELOW_PID;
    (pid != 0 && whose == pid << BELOW_PID >> BELOW_PID).then_some(told & ((1 << BELOW_PID) - 1))
}

/// A process of this version that has claimed a block has told nothing yet.
pub(super) fn told_nothing(pid: u32) -> u32 {
    pid << BELOW_PID
}

/// True if the process of that block has dealt in tickets. One of an earlier
/// version has a block for nothing else.
pub(super) fn deals(block: &Block, pid: u32) -> bool {
    told_by(block, pid).is_none_or(|told| told & DEALS != 0)
}

/// What the contexts of that process bind to; `None` if it does not tell.
pub(super) fn binds(block: &Block, pid: u32) -> Option<Binds> {
    told_by(block, pid).filter(|told| told & ASKS != 0).map(|told| Binds(told as u8))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::layout::Geometry;

    /// No process has these numbers: Linux' largest is 2^22.
    const NOBODY: u32 = 1 << 22;
    /// Lives as long as the host does.
    const INIT: u32 = 1;

    fn ring() -> Ring {
        Ring::private(Geometry::new(8).unwrap()).unwrap()
    }

    fn ask(rotate: u64, bind: Bind) -> Ask {
        let rotate_every = Some(Duration::from_secs(rotate));
        Ask { rotate_every, lifetime: None, binds: Binds::of(bind) }
    }

    fn come(ring: &Ring, pid: u32, ask: &Ask) -> usize {
        let block = ring.claim_to_ask(pid, b"some");
        ring.tell(block, pid, ask, false);
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
        let own = std::process::id();
        come(&ring, INIT, &ask(60, Bind::ALL));
        come(&ring, own, &ask(30, Bind::NONE));
        let dead = come(&ring, NOBODY, &ask(10, Bind::ALL));
        let asked = |but| {
            let askers = ring.askers_but(but);
            askers.iter().map(|asker| (asker.pid, asker.ask)).collect::<Vec<_>>()
        };
        assert_eq!(asked(0), [(INIT, Some(ask(60, Bind::ALL))), (own, Some(ask(30, Bind::NONE)))]);
        assert_eq!(asked(own), [(INIT, Some(ask(60, Bind::ALL)))]);
        assert_eq!(ring.askers_but(own)[0].to_string(), "process 1 (some)");
        ring.forget(INIT);
        assert_eq!(asked(own), []);
        // The dead one dealt in no tickets, so its block is the next one's.
        let next = come(&ring, NOBODY - 1, &ask(9, Bind::ALL));
        assert!(next <= dead, "{next}");
    }

    #[test]
    fn an_earlier_version_tells_nothing_even_in_a_block_that_one_of_this_had() {
        let ring = ring();
        let block = come(&ring, NOBODY, &ask(10, Bind::ALL));
        // As it takes the block of the dead.
        ring.blocks()[block].pid.store(INIT, Ordering::Relaxed);
        let askers = ring.askers_but(0);
        assert_eq!((askers[0].pid, askers[0].ask), (INIT, None));
        assert!(deals(&ring.blocks()[block], INIT));
        assert_eq!(binds(&ring.blocks()[block], INIT), None);
    }

    #[test]
    fn what_no_setting_asks_for_is_not_asked_for() {
        let ring = ring();
        let block = come(&ring, INIT, &ask(60, Bind::ALL));
        for word in &ring.blocks()[block + OF_PROCESSES].program {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        let prepared = ring.ask_in(block).unwrap();
        assert_eq!((prepared.rotate_every, prepared.lifetime), (None, None));
        ring.blocks()[block + OF_PROCESSES].program[0].store(1, Ordering::Relaxed);
        assert_eq!(ring.ask_in(block).unwrap().rotate_every, None);
    }

    #[test]
    fn who_is_in_another_pid_namespace_lives_until_it_says_otherwise() {
        let ring = ring();
        let block = come(&ring, NOBODY, &ask(10, Bind::ALL));
        assert_eq!(ring.askers_but(0), []);
        ring.blocks()[block + OF_PROCESSES].told.fetch_xor(1, Ordering::Relaxed);
        assert_eq!(ring.askers_but(0).len(), 1);
        assert_ne!(come(&ring, NOBODY - 1, &ask(9, Bind::ALL)), block);
    }

    #[test]
    fn processes_that_share_a_block_ask_together() {
        let ring = ring();
        for pid in 0..OF_PROCESSES as u32 {
            // None of them can be told to be dead.
            let block = come(&ring, NOBODY + 1 + pid, &ask(60, Bind::ALL));
            ring.blocks()[block + OF_PROCESSES].told.fetch_xor(1, Ordering::Relaxed);
        }
        let shared = come(&ring, INIT, &ask(30, Bind::NONE));
        let owner = ring.blocks()[shared].pid.load(Ordering::Relaxed);
        assert_ne!(owner, INIT);
        let both = ask(30, Bind::ALL).with(ask(30, Bind::NONE));
        assert_eq!(ring.ask_in(shared), Some(both));
    }
}
