//! The writer lock, for threads of whatever PID namespaces: a gate for each namespace,
//! and one word behind them.
//!
//! A gate is a robust mutex: when its holder dies the kernel marks it, and the next one
//! of that namespace gets it. But the kernel knows threads by their numbers in their own
//! namespace. Of a waiter of another one that is killed it would free a lock that a
//! thread of the same number holds, as in containers many do. So nobody ever asks for
//! the gate of another namespace; all only look at it.
//!
//! Who has passed his gate puts a number that was never there before into the word,
//! unless that of a living one is there: one whose gate is held. So a holder that is dead
//! is told from one that stands still, and nobody takes the lock from a thread that may
//! yet write.

use std::sync::atomic::Ordering;

use super::Ring;
use super::layout::{GATES, Gate};
use super::lock::{Holder, Sign, Taking};
use super::writer::NotLocked;
use crate::clock::{BootClock, Clock, Time};
use crate::process::{self, ProcessId};

/// The lock, taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    number: u64,
    /// Its former holder died with it: what it protects needs repair.
    pub inherited: bool,
}

/// How long at least a gate is kept for a namespace from which nobody comes: much longer
/// than the moment between finding it and asking for it.
const KEPT: u64 = 1_000_000_000;

/// The low bits of the number in the word: which gate.
const GATE_BITS: u32 = 8;
const _: () = assert!(GATES <= 1 << GATE_BITS);

impl Ring {
    /// Takes the lock if it is free, or its holder is dead; never waits.
    pub(super) fn take_lock(&self) -> Result<Taken, NotLocked> {
        self.take_lock_at(BootClock.now())
    }

    fn take_lock_at(&self, now: Time) -> Result<Taken, NotLocked> {
        let word = &self.header().writer;
        // Before anything is stored: most that come in vain, come for this.
        let former = word.load(Ordering::Acquire);
        let own = process::id();
        if former != 0 && self.is_passed(former) {
            return Err(NotLocked::Busy);
        }
        let (at, gate) = self.pass_gate(own, now)?;
        let former = word.load(Ordering::Acquire);
        let next = self.header().turns.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let number = next << GATE_BITS | at as u64;
        // Whose number is that of this gate is dead: the gate is this thread's now.
        let is_free = former == 0 || gate_in(former) == at || !self.is_passed(former);
        // Of those who found the same holder dead, one gets it.
        let (taken, not) = (Ordering::AcqRel, Ordering::Relaxed);
        if is_free && word.compare_exchange(former, number, taken, not).is_ok() {
            return Ok(Taken { number, inherited: former != 0 });
        }
        // SAFETY: this thread has it.
        unsafe { gate.mutex.give_back() };
        Err(NotLocked::Busy)
    }

    /// Gives it back. Only for the thread that took it.
    pub(super) fn give_back(&self, taken: &Taken) {
        // Release: who has the lock next sees all that was written.
        self.header().writer.store(0, Ordering::Release);
        if let Some(gate) = self.gate_of(taken.number) {
            // SAFETY: this thread has passed it.
            unsafe { gate.mutex.give_back() };
        }
    }

    /// Looks who has the lock, without touching it.
    pub fn holder(&self) -> Holder {
        const LOOKS: usize = 100;
        let word = &self.header().writer;
        for _ in 0..LOOKS {
            let number = word.load(Ordering::Acquire);
            if number == 0 {
                return Holder::Nobody;
            }
            let seen = self
                .gate_of(number)
                .map(|gate| (gate.mutex.sign(), ProcessId(gate.process.load(Ordering::Relaxed))));
            // Unless it was given back meanwhile.
            if word.load(Ordering::Acquire) == number {
                return match seen {
                    Some((Sign::Lives(thread), process)) => Holder::Thread { process, thread },
                    _ => Holder::Dead,
                };
            }
        }
        Holder::Nobody
    }

    /// True if somebody who lives has passed the gate that this number names.
    fn is_passed(&self, number: u64) -> bool {
        let gate = self.gate_of(number);
        gate.is_some_and(|gate| matches!(gate.mutex.sign(), Sign::Lives(_)))
    }

    /// Passes the gate of this process' namespace, if nobody is in it.
    fn pass_gate(&self, own: ProcessId, now: Time) -> Result<(usize, &Gate), NotLocked> {
        let at = self.find_gate(own, now).ok_or(NotLocked::Busy)?;
        let gate = &self.gates()[at];
        // SAFETY: who has the lock has the ring mapped.
        match unsafe { gate.mutex.try_take() } {
            Taking::Taken => {}
            Taking::Busy => return Err(NotLocked::Busy),
            Taking::Broken(errno) => return Err(NotLocked::Broken(errno)),
        }
        if gate.namespace.load(Ordering::Acquire) != u64::from(own.namespace()) {
            // Another's by now.
            // SAFETY: taken just now.
            unsafe { gate.mutex.give_back() };
            return Err(NotLocked::Busy);
        }
        gate.process.store(own.0, Ordering::Relaxed);
        gate.used_at.store(now.0, Ordering::Relaxed);
        Ok((at, gate))
    }

    /// The gate of this process' namespace; if it has none, a free one, or that through
    /// which nobody has come for the longest time.
    fn find_gate(&self, own: ProcessId, now: Time) -> Option<usize> {
        let (gates, wanted) = (self.gates(), u64::from(own.namespace()));
        let of = |gate: &Gate| gate.namespace.load(Ordering::Acquire);
        let claim = |at: &usize, former: u64| {
            let (taken, not) = (Ordering::AcqRel, Ordering::Relaxed);
            let gate = &gates[*at];
            // Before the claim, so that nobody takes it for a forgotten one.
            gate.used_at.store(now.0, Ordering::Relaxed);
            gate.namespace.compare_exchange(former, wanted, taken, not).is_ok()
        };
        for _ in 0..GATES {
            if let Some(at) = gates.iter().position(|gate| of(gate) == wanted) {
                return Some(at);
            }
            // All of a namespace claim the first one that is free, and so the same.
            let free = gates.iter().position(|gate| of(gate) == 0);
            let Some(at) = free else { break };
            if claim(&at, 0) {
                return Some(at);
            }
        }
        let is_forgotten = |gate: &Gate| {
            let used_at = gate.used_at.load(Ordering::Relaxed);
            let is_old = now != Time::NEVER && used_at.saturating_add(KEPT) <= now.0;
            is_old && !matches!(gate.mutex.sign(), Sign::Lives(_))
        };
        let used_at = |at: &usize| gates[*at].used_at.load(Ordering::Relaxed);
        let forgotten = (0..GATES).filter(|at| is_forgotten(&gates[*at])).min_by_key(used_at)?;
        let former = of(&gates[forgotten]);
        claim(&forgotten, former).then_some(forgotten)
    }

    fn gate_of(&self, number: u64) -> Option<&Gate> {
        self.gates().get(gate_in(number))
    }
}

/// Which gate a number names.
fn gate_in(number: u64) -> usize {
    (number & ((1 << GATE_BITS) - 1)) as usize
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;
    use crate::ring::layout::Capacity;

    const NOW: Time = Time(1 << 50);

    fn ring() -> Ring {
        Ring::private(Capacity::new(8).unwrap()).unwrap()
    }

    fn child(work: impl FnOnce()) {
        // SAFETY: the child works alone and ends without returning.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            work();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
    }

    /// Makes the gate of this namespace that of another one.
    fn rename_own_gate(ring: &Ring, to: u64) {
        let own = u64::from(process::id().namespace());
        let gate = ring.gates().iter().find(|gate| gate.namespace.load(Ordering::Relaxed) == own);
        gate.unwrap().namespace.store(to, Ordering::Relaxed);
    }

    #[test]
    fn the_lock_of_a_dead_one_is_inherited_within_its_namespace_and_without() {
        for elsewhere in [false, true] {
            let ring = ring();
            child(|| assert!(ring.take_lock_at(NOW).is_ok()));
            assert_eq!(ring.holder(), Holder::Dead);
            if elsewhere {
                rename_own_gate(&ring, 7);
            }
            let taken = ring.take_lock_at(NOW).unwrap();
            assert!(taken.inherited);
            ring.give_back(&taken);
            assert_eq!(ring.holder(), Holder::Nobody);
            let taken = ring.take_lock_at(NOW).unwrap();
            assert!(!taken.inherited);
            ring.give_back(&taken);
        }
    }

    #[test]
    fn the_lock_of_one_that_stands_still_is_nobody_elses() {
        let ring = ring();
        let taken = ring.take_lock_at(NOW).unwrap();
        assert_eq!(ring.take_lock_at(NOW), Err(NotLocked::Busy));
        // In another container it would be one of another number, or of the same.
        rename_own_gate(&ring, 7);
        for _ in 0..100 {
            assert_eq!(ring.take_lock_at(NOW), Err(NotLocked::Busy));
        }
        let holder = Holder::Thread { process: process::id(), thread: thread() };
        assert_eq!(ring.holder(), holder);
        ring.give_back(&taken);
        assert_eq!(ring.holder(), Holder::Nobody);
        let again = ring.take_lock_at(NOW).unwrap();
        ring.give_back(&again);
    }

    fn thread() -> u32 {
        // SAFETY: takes nothing and cannot fail.
        unsafe { libc::syscall(libc::SYS_gettid) as u32 }
    }

    #[test]
    fn gates_of_containers_that_are_gone_are_used_again() {
        let ring = ring();
        let come = |namespace: u32, now: Time| {
            ring.pass_gate(ProcessId::new(namespace, 1), now).map(|(at, gate)| {
                // SAFETY: passed just now.
                unsafe { gate.mutex.give_back() };
                at
            })
        };
        for namespace in 1..=GATES as u32 {
            let now = Time(NOW.0 + u64::from(namespace));
            assert_eq!(come(namespace, now), Ok(namespace as usize - 1));
        }
        let soon = Time(NOW.0 + KEPT - 1);
        assert_eq!(come(2, soon), Ok(1));
        assert_eq!(come(1000, soon), Err(NotLocked::Busy));
        let later = Time(NOW.0 + KEPT + 100);
        assert_eq!(come(1, later), Ok(0));
        assert_eq!(come(1000, later), Ok(2));
        assert_eq!(come(1000, later), Ok(2));
        assert_eq!(come(3, later), Ok(3));
    }

    #[test]
    fn a_word_that_names_nobody_is_a_lock_of_the_dead() {
        let ring = ring();
        for word in [u64::MAX, 1, GATES as u64, 5 << GATE_BITS] {
            ring.header().writer.store(word, Ordering::Relaxed);
            assert_eq!(ring.holder(), Holder::Dead);
            let taken = ring.take_lock_at(NOW).unwrap();
            assert!(taken.inherited);
            ring.give_back(&taken);
        }
    }
}
