//! The writer lock: one word that says whose turn it is. Each turn has a number that
//! no other one ever has, and a place where the thread whose turn it is shows that it
//! lives ([`super::mutex`]). So a holder that is dead is told from one that stands
//! still, in whatever container, and nobody takes the lock from a thread that may
//! yet write.
//!
//! Taking it: claim a place, show life there, put the number of the turn into the
//! word. Giving it back: the same in reverse. Who is killed in between leaves a place
//! that shows no life, and is used again once it is known that nobody is there. A
//! place that is free has no sign of life, so that the mark of a dead one is of who
//! has it; while that is being removed, nobody else comes near ([`RENEWED`]).

use std::sync::atomic::Ordering;

use super::Ring;
use super::layout::{TURNS, Turn};
use super::lock::Holder;
use super::mutex::Sign;
use super::stats::is_gone;
use super::writer::NotLocked;
use crate::process::{self, ProcessId};

/// The lock, taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    turn: u64,
    /// Its former holder died with it: what it protects needs repair.
    pub inherited: bool,
}

impl Ring {
    /// Takes the lock if it is free, or its holder is dead; never waits.
    pub(super) fn take_lock(&self) -> Result<Taken, NotLocked> {
        let word = &self.header().writer;
        let former = word.load(Ordering::Acquire);
        if former != 0 && self.lives(former) {
            return Err(NotLocked::Busy);
        }
        let (turn, place) = self.begin_turn()?;
        // Of those who found the same holder dead, one gets it.
        match word.compare_exchange(former, turn, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(Taken { turn, inherited: former != 0 }),
            Err(_) => {
                end_turn(place);
                Err(NotLocked::Busy)
            }
        }
    }

    /// Gives it back. Only for the thread that took it.
    pub(super) fn give_back(&self, taken: &Taken) {
        // Release: who has the lock next sees all that was written.
        self.header().writer.store(0, Ordering::Release);
        if let Some(place) = self.place_of(taken.turn) {
            end_turn(place);
        }
    }

    /// Looks who has the lock, without touching it.
    pub fn holder(&self) -> Holder {
        const LOOKS: usize = 100;
        let word = &self.header().writer;
        for _ in 0..LOOKS {
            let turn = word.load(Ordering::Acquire);
            if turn == 0 {
                return Holder::Nobody;
            }
            let seen = self
                .place_of(turn)
                .map(|place| (place.life.sign(), ProcessId(place.process.load(Ordering::Relaxed))));
            if let Some((Sign::Lives(thread), process)) = seen
                && self.lives(turn)
            {
                return Holder::Thread { process, thread };
            }
            // Unless it was given back meanwhile.
            if word.load(Ordering::Acquire) == turn {
                return Holder::Dead;
            }
        }
        Holder::Nobody
    }

    /// False if the thread whose turn that was is gone, or has given the lock back.
    fn lives(&self, turn: u64) -> bool {
        let Some(place) = self.place_of(turn) else { return false };
        let process = ProcessId(place.process.load(Ordering::Relaxed));
        let shows_life = matches!(place.life.sign(), Sign::Lives(_));
        // Not every thread's end is noticed: that of a child of a bare clone(2) is not.
        shows_life && place.number.load(Ordering::Acquire) == turn && !is_over(process)
    }

    /// Claims a place and shows there that the calling thread lives.
    fn begin_turn(&self) -> Result<(u64, &Turn), NotLocked> {
        let turns = self.turns();
        let next = self.header().turns.fetch_add(1, Ordering::Relaxed) + 1;
        // In the order of their use: a place that was left in the lurch is looked at last.
        let free = (0..TURNS).find_map(|step| {
            let at = (next as usize + step) % TURNS;
            let (turn, place) = (next << PLACE_BITS | at as u64, turns.get(at)?);
            self.claim(place, turn).then_some((turn, place))
        });
        let (turn, place) = free.ok_or(NotLocked::Busy)?;
        place.process.store(process::id().0, Ordering::Relaxed);
        // SAFETY: the place is this thread's alone, until it gives it back; and
        // who has the lock has the ring mapped.
        let taken = unsafe { place.life.take() };
        // Release: who sees that it is this turn's, sees the sign of this thread.
        place.number.store(if taken.is_ok() { turn } else { 0 }, Ordering::Release);
        taken.map(|()| (turn, place)).map_err(NotLocked::Broken)
    }

    fn claim(&self, place: &Turn, turn: u64) -> bool {
        let former = place.number.load(Ordering::Acquire);
        let claimed = match former {
            0 => turn,
            _ if former & RENEWED == 0 && self.is_left(place, former) => turn | RENEWED,
            _ => return false,
        };
        let (taken, not) = (Ordering::AcqRel, Ordering::Relaxed);
        place.number.compare_exchange(former, claimed, taken, not).is_ok()
    }

    /// True if nobody is there any more. That of a dead holder is kept until another one
    /// has the lock.
    fn is_left(&self, place: &Turn, turn: u64) -> bool {
        let process = ProcessId(place.process.load(Ordering::Relaxed));
        let is_gone = match place.life.sign() {
            Sign::Died => true,
            Sign::Lives(_) | Sign::None => process.is_some() && is_over(process),
        };
        is_gone && self.header().writer.load(Ordering::Acquire) != turn
    }

    fn place_of(&self, turn: u64) -> Option<&Turn> {
        let at = (turn & ((1 << PLACE_BITS) - 1)) as usize;
        self.turns().get(at)
    }
}

/// The low bits of a turn's number say at which place it is.
const PLACE_BITS: u32 = 8;
/// Beside the number of whose turn it is about to be: a former one's mark is still there.
const RENEWED: u64 = 1 << 63;
const _: () = assert!(TURNS <= 1 << PLACE_BITS);

fn end_turn(place: &Turn) {
    // SAFETY: `begin_turn` took it on this thread.
    unsafe { place.life.give_back() };
    place.process.store(0, Ordering::Relaxed);
    // Release: who claims the place next finds it given back.
    place.number.store(0, Ordering::Release);
}

/// True if that process is certainly gone: of another PID namespace nobody here can tell.
fn is_over(process: ProcessId) -> bool {
    process.namespace() == process::id().namespace() && is_gone(process.pid())
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use super::*;
    use crate::ring::layout::Geometry;

    fn ring() -> Ring {
        Ring::private(Geometry::new(8).unwrap()).unwrap()
    }

    /// Of another PID namespace, with the number of this process.
    fn elsewhere() -> u64 {
        process::id().0 ^ 1 << 40
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

    #[test]
    fn the_lock_of_a_dead_one_is_inherited_and_of_who_stands_still_is_not() {
        let ring = ring();
        child(|| std::mem::forget(ring.take_lock()));
        assert_eq!(ring.holder(), Holder::Dead);
        let taken = ring.take_lock().unwrap();
        assert!(taken.inherited);
        // As in another container, where the holder has this thread's number.
        ring.place_of(taken.turn).unwrap().process.store(elsewhere(), Ordering::Relaxed);
        child(|| {
            for _ in 0..100 {
                assert_eq!(ring.take_lock(), Err(NotLocked::Busy));
            }
        });
        assert_eq!(ring.take_lock(), Err(NotLocked::Busy));
        assert!(
            matches!(ring.holder(), Holder::Thread { process, .. } if process.0 == elsewhere())
        );
        ring.give_back(&taken);
        assert_eq!(ring.holder(), Holder::Nobody);
    }

    #[test]
    fn no_place_is_lost_to_those_that_are_killed_on_their_way() {
        let ring = ring();
        for _ in 0..3 * TURNS {
            child(|| drop(ring.begin_turn().is_ok()));
        }
        let taken = ring.take_lock().unwrap();
        assert!(!taken.inherited);
        ring.give_back(&taken);
        // Killed after the claim, before a sign of life: known to be gone by its process alone.
        for place in ring.turns() {
            place.number.store(7 << PLACE_BITS, Ordering::Relaxed);
            place.process.store(process::id().0 & !0xffff_ffff | 1 << 23, Ordering::Relaxed);
        }
        assert!(ring.take_lock().is_ok());
    }

    #[test]
    fn a_word_that_names_no_turn_is_a_lock_of_the_dead() {
        let ring = ring();
        for word in [u64::MAX, 1, TURNS as u64, 5 << PLACE_BITS] {
            ring.header().writer.store(word, Ordering::Relaxed);
            assert_eq!(ring.holder(), Holder::Dead);
            let taken = ring.take_lock().unwrap();
            assert!(taken.inherited);
            ring.give_back(&taken);
        }
    }
}
