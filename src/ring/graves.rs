//! Graves: the names of keys that were revoked, each until no copy of the key can live
//! anywhere. They lie in the ring, so they outlive every agent and every server, and whoever
//! asks the ring to take such a key again is refused.
//!
//! A grave is a seqlock like a slot ([`super::seqlock`]): read without a lock, written by
//! whoever has the writer lock. There is no lookup table: it is looked at when a key is
//! published, never for a ticket.

use super::layout::Grave;
use super::map::Memory;
use super::seqlock::{copy_words, put_bytes, put64};
use crate::atomics::{Ordering, fence};
use crate::clock::Time;
use crate::secret::KeyName;

/// How often a grave is read again that a writer is at: it needs nanoseconds, unless it died
/// there.
const RETRIES: usize = 1000;

/// What became of a name that was to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burial {
    /// It is remembered.
    Done,
    /// It is; this one, which ends sooner, no longer is: there is room for no more.
    InPlaceOf(KeyName),
    /// It is not: all that are remembered end later, and there is room for no more.
    NoRoom,
}

/// The graves of a ring, for whoever has the writer lock, but where it says otherwise.
pub(super) struct Graves<'m>(pub &'m Memory);

impl Grave {
    fn name(&self) -> KeyName {
        let mut bytes = [0; 16];
        copy_words(&self.name, &mut bytes);
        KeyName(bytes)
    }

    fn until(&self) -> Time {
        Time(self.until.load(Ordering::Relaxed))
    }

    /// Who is in it; `None` if nobody is. Without a lock.
    fn facts(&self) -> Option<(KeyName, Time)> {
        let look = || {
            // As a slot is read: Acquire pairs with the Release at the end of `write`, and the
            // fence with the one at its beginning.
            let seq = self.seq.load(Ordering::Acquire);
            let facts = (self.name(), self.until());
            fence(Ordering::Acquire);
            let is_whole = seq.is_multiple_of(2) && self.seq.load(Ordering::Relaxed) == seq;
            is_whole.then_some(facts)
        };
        let (name, until) = (0..RETRIES).find_map(|_| look())?;
        (!is_nameless(&name)).then_some((name, until))
    }

    fn is_empty(&self) -> bool {
        is_nameless(&self.name())
    }

    /// True if a writer is at it, or died at it.
    pub(super) fn is_being_written(&self) -> bool {
        !self.seq.load(Ordering::Relaxed).is_multiple_of(2)
    }

    fn write(&self, name: &KeyName, until: Time) {
        let odd = self.seq.load(Ordering::Relaxed) | 1;
        put64(&self.seq, odd, Ordering::Relaxed);
        fence(Ordering::Release);
        put_bytes(&self.name, &name.0);
        put64(&self.until, until.0, Ordering::Relaxed);
        put64(&self.seq, odd.wrapping_add(1), Ordering::Release);
    }

    fn clear(&self) {
        self.write(&KeyName([0; 16]), Time(0));
    }
}

fn is_nameless(name: &KeyName) -> bool {
    name.0 == [0; 16]
}

impl Graves<'_> {
    /// All of them, in no order. Without a lock.
    pub fn all(&self) -> Vec<(KeyName, Time)> {
        self.0.graves().iter().filter_map(Grave::facts).collect()
    }

    /// Until when the key of that name is not to come back; `None` if it was not revoked.
    /// Without a lock.
    pub fn of(&self, name: &KeyName) -> Option<Time> {
        let mut graves = self.0.graves().iter().filter_map(Grave::facts);
        graves.find(|(buried, _)| buried == name).map(|(_, until)| until)
    }

    /// Remembers a name until then; one that is remembered already, no shorter than before.
    /// `grow` takes memory for one more; false if there is none.
    pub fn bury(&self, name: &KeyName, until: Time, grow: impl FnOnce() -> bool) -> Burial {
        if name.is_constant() {
            // It is that of no key, and no ring takes one of that name.
            return Burial::Done;
        }
        let graves = self.0.graves();
        // Nearly all differ here already.
        let head = u64::from_le_bytes(*name.0.first_chunk().expect("16 bytes"));
        let (mut empty, mut first) = (None, None::<(u64, &Grave)>);
        for grave in graves {
            let present = grave.name[0].load(Ordering::Relaxed);
            if present == head && grave.name() == *name {
                if grave.until() < until {
                    // One store: who dies before it or after it leaves a grave.
                    put64(&grave.until, until.0, Ordering::Relaxed);
                }
                return Burial::Done;
            }
            let until = grave.until.load(Ordering::Relaxed);
            if present == 0 && grave.is_empty() {
                empty = empty.or(Some(grave));
            } else if first.is_none_or(|(earliest, _)| until < earliest) {
                first = Some((until, grave));
            }
        }
        let new = || if grow() { self.0.graves().last() } else { None };
        if let Some(grave) = empty.or_else(new) {
            grave.write(name, until);
            return Burial::Done;
        }
        match first.filter(|(end, _)| *end < until.0) {
            Some((_, grave)) => {
                let other = grave.name();
                grave.write(name, until);
                Burial::InPlaceOf(other)
            }
            None => Burial::NoRoom,
        }
    }

    /// Forgets those of which no copy can live any more.
    pub fn sweep(&self, now: Time) {
        let over = |grave: &&Grave| !grave.is_empty() && grave.until() <= now;
        self.0.graves().iter().filter(over).for_each(Grave::clear);
    }

    /// Empties what a dead writer left unfinished.
    pub fn repair(&self) {
        let unfinished = |grave: &&Grave| grave.is_being_written();
        self.0.graves().iter().filter(unfinished).for_each(Grave::clear);
    }

    /// True if one is being written.
    pub fn are_being_written(&self) -> bool {
        self.0.graves().iter().any(Grave::is_being_written)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use crate::ring::layout::{Capacity, MAX_GRAVES};
    use crate::ring::tests::numbered;
    use crate::ring::writer::NotPublished;

    fn ring() -> Ring {
        Ring::private(Capacity::new(8).unwrap()).unwrap()
    }

    fn name(number: u32) -> KeyName {
        let mut name = KeyName([7; 16]);
        name.0[..4].copy_from_slice(&number.to_le_bytes());
        name
    }

    #[test]
    fn a_revoked_key_is_not_taken_again_until_no_copy_lives() {
        let ring = ring();
        let writer = ring.try_write().unwrap();
        let key = numbered(1);
        let index = writer.publish(&key).unwrap();
        assert_eq!(writer.bury(&key.name, Time(100)), Burial::Done);
        writer.erase(index);
        assert_eq!(writer.publish(&key), Err(NotPublished::Revoked));
        assert!(writer.publish(&numbered(2)).is_ok());
        writer.sweep_graves(Time(99));
        assert_eq!(ring.graves(), [(key.name, Time(100))]);
        assert_eq!(writer.publish(&key), Err(NotPublished::Revoked));
        writer.sweep_graves(Time(100));
        assert!(ring.graves().is_empty() && !ring.is_buried(&key.name));
        assert!(writer.publish(&key).is_ok());
        assert_eq!(writer.defect(), None);
    }

    #[test]
    fn a_grave_stays_for_the_longest_that_anybody_says() {
        let ring = ring();
        let writer = ring.try_write().unwrap();
        for until in [50, 100, 70] {
            assert_eq!(writer.bury(&name(1), Time(until)), Burial::Done);
        }
        assert_eq!(ring.graves(), [(name(1), Time(100))]);
    }

    #[test]
    fn the_name_of_no_key_needs_no_grave() {
        let ring = ring();
        let writer = ring.try_write().unwrap();
        assert_eq!(writer.bury(&name(1), Time(100)), Burial::Done);
        writer.sweep_graves(Time(200));
        for byte in [0, 255] {
            assert_eq!(writer.bury(&KeyName([byte; 16]), Time(300)), Burial::Done);
        }
        assert!(ring.graves().is_empty());
    }

    #[test]
    fn what_ends_first_gives_way_to_what_ends_later_and_to_nothing_else() {
        let ring = ring();
        let writer = ring.try_write().unwrap();
        for number in 0..MAX_GRAVES {
            let until = Time(1000 + u64::from(number));
            assert_eq!(writer.bury(&name(number), until), Burial::Done);
        }
        assert_eq!(writer.bury(&name(90_000), Time(1000)), Burial::NoRoom);
        assert!(!ring.is_buried(&name(90_000)));
        assert_eq!(writer.bury(&name(90_001), Time(5000)), Burial::InPlaceOf(name(0)));
        assert!(ring.is_buried(&name(90_001)) && !ring.is_buried(&name(0)));
        // What is known needs no room.
        assert_eq!(writer.bury(&name(1), Time(9000)), Burial::Done);
        assert_eq!(ring.graves().len(), MAX_GRAVES as usize);
        writer.sweep_graves(Time(2000));
        assert_eq!(writer.bury(&name(90_000), Time(2001)), Burial::Done);
    }

    #[test]
    fn the_fleet_never_goes_back() {
        let ring = ring();
        let writer = ring.try_write().unwrap();
        for (period, epoch) in [(7, 2), (3, 1), (5, 3)] {
            writer.raise_fleet_period(period);
            writer.raise_fleet_epoch(epoch);
        }
        assert_eq!((ring.fleet_period(), ring.fleet_epoch()), (7, 3));
    }

    /// As a writer leaves it that was killed after it buried a key and before it erased it, and
    /// another one in the middle of a grave.
    #[test]
    fn who_comes_after_the_dead_erases_what_they_buried() {
        let ring = ring();
        let key = numbered(1);
        // SAFETY: the child writes into memory that it shares, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let writer = ring.try_write().unwrap();
            writer.publish(&key).unwrap();
            writer.bury(&key.name, Time(100));
            writer.bury(&name(2), Time(100));
            let grave = &ring.memory.graves()[1];
            grave.seq.store(grave.seq.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
            std::mem::forget(writer);
            // SAFETY: ends the child at once, with the lock.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
        assert!(ring.locate(&key.name).is_some());
        assert_eq!(ring.graves(), [(key.name, Time(100))], "a torn grave");
        let writer = ring.try_write().unwrap();
        assert_eq!(writer.defect(), None);
        assert!(ring.locate(&key.name).is_none(), "it was revoked");
        assert_eq!(writer.publish(&key), Err(NotPublished::Revoked));
    }
}
