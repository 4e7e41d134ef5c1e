//! The writer lock: who may write a ring. For threads of whatever PID namespaces, it is a
//! gate for each namespace, and one word behind them.
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

use std::fmt;
use std::io;
use std::time::Duration;

#[cfg(not(any(loom, miri)))]
use super::layout::{GATES, Gate};
use super::map::Memory;
#[cfg(not(any(loom, miri)))]
use super::mutex::{Sign, Taking};
#[cfg(not(any(loom, miri)))]
use crate::atomics::Ordering;
#[cfg(not(any(loom, miri)))]
use crate::clock::{BootClock, Clock, Time};
#[cfg(not(any(loom, miri)))]
use crate::process;
use crate::process::ProcessId;

// Models and Miri have no kernel that tells of a death: in them, the lock is one word.
#[cfg(any(loom, miri))]
#[path = "modelled/lock.rs"]
mod modelled;
#[cfg(any(loom, miri))]
pub use modelled::Taken;

/// How long something that may wait (a deliberate rotation, a start, the opening of a ring)
/// waits for the lock: a writer needs microseconds.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How long a waiter sleeps before it looks again, at first and at last.
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(2);

/// Who has the writer lock, as far as the ring tells an onlooker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The lock is free.
    Nobody,
    /// A live thread holds it.
    Thread {
        /// Its process.
        process: ProcessId,
        /// Its number (gettid(2)), in its own PID namespace.
        thread: u32,
    },
    /// Its holder died with it; who takes it next repairs what it protects.
    Dead,
}

/// Why a ring cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLocked {
    /// Another writer is at work.
    Busy,
    /// The lock does not work: the errno value.
    Broken(i32),
}

impl fmt::Display for NotLocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotLocked::Busy => f.write_str("its writer lock is held and not released"),
            NotLocked::Broken(errno) => {
                let why = io::Error::from_raw_os_error(*errno);
                write!(f, "its writer lock does not work: {why}")
            }
        }
    }
}

/// The lock, taken.
#[cfg(not(any(loom, miri)))]
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    number: u64,
    /// Its former holder died with it: what it protects needs repair.
    pub inherited: bool,
}

/// The writer lock of a ring.
pub(super) struct Lock<'m>(pub &'m Memory);

impl Lock<'_> {
    /// Waits for the lock, but no longer than `limit` by a clock that nobody sets:
    /// who has it has it for microseconds.
    pub fn take_within(&self, limit: Duration) -> Result<Taken, NotLocked> {
        let began = monotonic();
        let mut nap = SHORTEST;
        // By this, too, should the clock fail.
        let mut slept = Duration::ZERO;
        loop {
            let attempt = self.take();
            let waited = began.zip(monotonic()).map_or(slept, |(then, now)| now - then).max(slept);
            if attempt != Err(NotLocked::Busy) || waited >= limit {
                return attempt;
            }
            sleep(nap.min(limit - waited));
            slept += nap;
            nap = (2 * nap).min(LONGEST);
        }
    }
}

/// How long at least a gate is kept for a namespace from which nobody comes: much longer
/// than the moment between finding it and asking for it.
#[cfg(not(any(loom, miri)))]
const KEPT: u64 = 1_000_000_000;

/// The low bits of the number in the word: which gate.
#[cfg(not(any(loom, miri)))]
const GATE_BITS: u32 = 8;
#[cfg(not(any(loom, miri)))]
const _: () = assert!(GATES <= 1 << GATE_BITS);

#[cfg(not(any(loom, miri)))]
impl<'m> Lock<'m> {
    /// Takes the lock if it is free, or its holder is dead; never waits.
    pub fn take(&self) -> Result<Taken, NotLocked> {
        self.take_at(BootClock.now())
    }

    fn take_at(&self, now: Time) -> Result<Taken, NotLocked> {
        let word = &self.0.header().writer;
        // Before anything is stored: most that come in vain, come for this.
        let former = word.load(Ordering::Acquire);
        let own = process::id();
        if former != 0 && self.is_passed(former) {
            return Err(NotLocked::Busy);
        }
        let (at, gate) = self.pass_gate(own, now)?;
        let former = word.load(Ordering::Acquire);
        let next = self.0.header().turns.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
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
    pub fn give_back(&self, taken: &Taken) {
        // Release: who has the lock next sees all that was written.
        self.0.header().writer.store(0, Ordering::Release);
        if let Some(gate) = self.gate_of(taken.number) {
            // SAFETY: this thread has passed it.
            unsafe { gate.mutex.give_back() };
        }
    }

    /// Looks who has the lock, without touching it.
    pub fn holder(&self) -> Holder {
        const LOOKS: usize = 100;
        let word = &self.0.header().writer;
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
    fn pass_gate(&self, own: ProcessId, now: Time) -> Result<(usize, &'m Gate), NotLocked> {
        let at = self.find_gate(own, now).ok_or(NotLocked::Busy)?;
        let gate = &self.0.gates()[at];
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
        let (gates, wanted) = (self.0.gates(), u64::from(own.namespace()));
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

    fn gate_of(&self, number: u64) -> Option<&'m Gate> {
        self.0.gates().get(gate_in(number))
    }
}

/// Which gate a number names.
#[cfg(not(any(loom, miri)))]
fn gate_in(number: u64) -> usize {
    (number & ((1 << GATE_BITS) - 1)) as usize
}

/// The time since some moment; `None` if the clock fails.
fn monotonic() -> Option<Duration> {
    // A model has no time, and its threads let others go on as they wait.
    if cfg!(loom) {
        return None;
    }
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (rc == 0).then(|| Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
}

/// A shorter sleep than asked for is one more look.
fn sleep(span: Duration) {
    #[cfg(loom)]
    loom::thread::yield_now();
    let span = libc::timespec { tv_sec: span.as_secs() as _, tv_nsec: span.subsec_nanos().into() };
    if cfg!(not(loom)) {
        // SAFETY: a valid span; what is left of it is not asked for.
        unsafe { libc::nanosleep(&span, std::ptr::null_mut()) };
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use crate::ring::layout::Capacity;

    const NOW: Time = Time(1 << 50);

    fn ring() -> Ring {
        Ring::private(Capacity::new(8).unwrap()).unwrap()
    }

    fn lock(ring: &Ring) -> Lock<'_> {
        Lock(&ring.memory)
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
        let gate =
            ring.memory.gates().iter().find(|gate| gate.namespace.load(Ordering::Relaxed) == own);
        gate.unwrap().namespace.store(to, Ordering::Relaxed);
    }

    #[test]
    fn the_lock_of_a_dead_one_is_inherited_within_its_namespace_and_without() {
        for elsewhere in [false, true] {
            let ring = ring();
            child(|| assert!(lock(&ring).take_at(NOW).is_ok()));
            assert_eq!(lock(&ring).holder(), Holder::Dead);
            if elsewhere {
                rename_own_gate(&ring, 7);
            }
            let taken = lock(&ring).take_at(NOW).unwrap();
            assert!(taken.inherited);
            lock(&ring).give_back(&taken);
            assert_eq!(lock(&ring).holder(), Holder::Nobody);
            let taken = lock(&ring).take_at(NOW).unwrap();
            assert!(!taken.inherited);
            lock(&ring).give_back(&taken);
        }
    }

    #[test]
    fn the_lock_of_one_that_stands_still_is_nobody_elses() {
        let ring = ring();
        let taken = lock(&ring).take_at(NOW).unwrap();
        assert_eq!(lock(&ring).take_at(NOW), Err(NotLocked::Busy));
        // In another container it would be one of another number, or of the same.
        rename_own_gate(&ring, 7);
        for _ in 0..100 {
            assert_eq!(lock(&ring).take_at(NOW), Err(NotLocked::Busy));
        }
        let holder = Holder::Thread { process: process::id(), thread: thread() };
        assert_eq!(lock(&ring).holder(), holder);
        lock(&ring).give_back(&taken);
        assert_eq!(lock(&ring).holder(), Holder::Nobody);
        let again = lock(&ring).take_at(NOW).unwrap();
        lock(&ring).give_back(&again);
    }

    fn thread() -> u32 {
        // SAFETY: takes nothing and cannot fail.
        unsafe { libc::syscall(libc::SYS_gettid) as u32 }
    }

    #[test]
    fn gates_of_containers_that_are_gone_are_used_again() {
        let ring = ring();
        let come = |namespace: u32, now: Time| {
            lock(&ring).pass_gate(ProcessId::new(namespace, 1), now).map(|(at, gate)| {
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
            assert_eq!(lock(&ring).holder(), Holder::Dead);
            let taken = lock(&ring).take_at(NOW).unwrap();
            assert!(taken.inherited);
            lock(&ring).give_back(&taken);
        }
    }

    #[test]
    fn a_wait_ends_with_its_limit_or_with_the_lock() {
        let ring = Ring::private(Capacity::new(8).unwrap()).unwrap();
        let limit = Duration::from_millis(30);
        std::thread::scope(|scope| {
            let held = lock(&ring).take().unwrap();
            let began = std::time::Instant::now();
            let waiter = scope.spawn(|| lock(&ring).take_within(limit).err());
            assert_eq!(waiter.join().unwrap(), Some(NotLocked::Busy));
            assert!(began.elapsed() >= limit);

            let waiter = scope.spawn(|| {
                let taken = lock(&ring).take_within(Duration::from_secs(100));
                lock(&ring).give_back(taken.as_ref().unwrap());
                taken.is_ok()
            });
            std::thread::sleep(limit);
            lock(&ring).give_back(&held);
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn who_waits_inherits_from_a_thread_that_ends() {
        let ring = Ring::private(Capacity::new(8).unwrap()).unwrap();
        std::thread::scope(|scope| {
            let owner = scope.spawn(|| lock(&ring).take().is_ok_and(|taken| !taken.inherited));
            assert!(owner.join().unwrap());
        });
        assert_eq!(lock(&ring).holder(), Holder::Dead);
        let taken = lock(&ring).take_within(Duration::from_secs(100)).unwrap();
        assert!(taken.inherited);
        lock(&ring).give_back(&taken);
        assert_eq!(lock(&ring).holder(), Holder::Nobody);
        let again = lock(&ring).take().unwrap();
        assert!(!again.inherited);
        // A thread that ends looks at what it has (musl), and the ring is gone by then.
        lock(&ring).give_back(&again);
    }
}
