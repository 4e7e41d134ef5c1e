//! A ring as an onlooker has it: mapped to read, without a lock, whatever its
//! writers are doing or have died at. What `tktrot status` shows.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::asks::{Binds, Settings, Traits};
use super::key::{Key, KeyFacts};
use super::layout::{Block, Header, Member, Slot};
use super::life::Lives;
use super::lock::Holder;
use super::map::{Mapping, Memory};
use super::ring::Ring;
use super::stats::{Blocks, Problem, Totals};
use crate::atomics::Ordering;
use crate::clock::Time;
use crate::process::ProcessId;
use crate::secret::KeyName;

/// A ring that can only be looked at.
pub struct View {
    ring: Ring,
    file: File,
}

/// What a process that uses tickets told the ring of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The process that counts, or did so last.
    pub process: ProcessId,
    /// The name of its executable, cut to 16 bytes.
    pub program: String,
    /// True if it has used tickets.
    pub uses_tickets: bool,
    /// What its contexts bind their tickets to; `None` if it does not tell.
    pub binds: Option<Binds>,
    /// What those bind to, as far as contexts are told apart by it.
    pub traits: Traits,
    /// True if it is known to be gone.
    pub is_over: bool,
}

impl View {
    pub(super) fn new(mapping: Mapping, file: File) -> View {
        View { ring: Ring::new(Memory::new(mapping)), file }
    }

    /// The fixed head of the ring. It cannot be stored to: that is a fault.
    fn header(&self) -> &Header {
        self.ring.header()
    }

    /// The file, for who wants to know its owner or inode.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// True if the file has no name any more.
    pub fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.nlink() == 0)
    }

    /// How many keys may be in it at most.
    pub fn capacity(&self) -> u32 {
        self.ring.capacity()
    }

    /// The last thing that went wrong at run time, and when.
    pub fn last_problem(&self) -> Option<(Problem, Time)> {
        let header = self.header();
        let problem = Problem::of(header.last_error.load(Ordering::Relaxed))?;
        Some((problem, Time(header.last_error_at.load(Ordering::Relaxed))))
    }

    /// How many keys this node has published.
    pub fn rotations(&self) -> u64 {
        self.ring.rotations()
    }

    /// The node whose keys encrypt here.
    pub fn node(&self) -> u64 {
        self.ring.node()
    }

    /// What its header says of the keys that are made in it.
    pub fn settings(&self) -> Settings {
        self.ring.settings()
    }

    /// How often its generator failed.
    pub fn generator_failures(&self) -> u64 {
        self.ring.generator_failures()
    }

    /// How many writers died with the lock and were repaired after.
    pub fn repairs(&self) -> u64 {
        self.ring.repairs()
    }

    /// How much is left of the lease of an agent that governs the ring.
    pub fn governed(&self, now: Time) -> Option<Duration> {
        self.ring.governed(now)
    }

    /// For how long its agent has given no sign of life, though it did not release the ring.
    pub fn forsaken_for(&self, now: Time) -> Option<Duration> {
        Lives(&self.ring.memory).lease_over_for(now)
    }

    /// The keys there are, first those that end first. One that is being written is left out.
    pub fn keys(&self) -> Vec<KeyFacts> {
        let mut keys: Vec<_> = self.ring.memory.slots().iter().filter_map(Slot::facts).collect();
        keys.sort_by_key(|key| (key.times.decrypt_until, key.times.encrypt_from));
        keys
    }

    /// As [`Ring::graves`].
    pub fn graves(&self) -> Vec<(KeyName, Time)> {
        self.ring.graves()
    }

    /// As [`Ring::is_buried`].
    pub fn is_buried(&self, name: &KeyName) -> bool {
        self.ring.is_buried(name)
    }

    /// Reads the key of that name, secrets included; false if there is none. For export.
    pub fn read(&self, name: &KeyName, key: &mut Key) -> bool {
        self.ring.find(name, key)
    }

    /// Reads the node's key that encrypts at `now`; false if there is none.
    pub fn encrypting(&self, now: Time, key: &mut Key) -> bool {
        self.ring.encrypting(now, key)
    }

    /// The processes that have told of themselves, or counted.
    pub fn users(&self, now: Time) -> Vec<User> {
        let memory = &self.ring.memory;
        let user = |(block, member): (&Block, &Member)| {
            let process = ProcessId(block.owner.load(Ordering::Relaxed));
            process.is_some().then(|| User {
                process,
                program: block.program(),
                uses_tickets: member.uses_tickets(process),
                binds: member.binds(process),
                traits: member.traits(),
                is_over: Lives(&self.ring.memory).is_over(process, now),
            })
        };
        Blocks(memory).of_processes().iter().zip(memory.members()).filter_map(user).collect()
    }

    /// The sums of all that was counted.
    pub fn totals(&self) -> Totals {
        self.ring.totals()
    }

    /// Who has the writer lock.
    pub fn writer(&self) -> Holder {
        self.ring.holder()
    }

    /// The process that leads the upkeep, or did so last and is not known to be gone.
    pub fn leader(&self, now: Time) -> Option<ProcessId> {
        let leader = ProcessId(self.header().leader.load(Ordering::Relaxed));
        (leader.is_some() && !Lives(&self.ring.memory).is_over(leader, now)).then_some(leader)
    }

    /// The moment up to which the ring needs no writer.
    pub fn deadline(&self) -> Time {
        self.ring.deadline()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::process;
    use crate::ring::file::{Place, adopt};
    use crate::ring::layout::Capacity;
    use crate::ring::stats::Counter;
    use crate::ring::tests::numbered;

    fn place() -> (tempfile::TempDir, Place) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
        (dir, place)
    }

    fn ring(place: &Place) -> Ring {
        place.open(Capacity::new(8).unwrap()).unwrap()
    }

    fn key(number: u8, ends: u64) -> Key {
        let mut key = numbered(number);
        key.times.decrypt_until = Time(ends);
        key.node = 9;
        key
    }

    #[test]
    fn nothing_is_seen_and_nothing_made_where_there_is_no_ring() {
        let (dir, place) = place();
        assert!(place.look().unwrap().is_none());
        drop(dir);
        assert!(place.look().unwrap().is_none());
        assert!(!place.dir.exists());
    }

    #[test]
    fn keys_and_counters_are_seen_while_a_writer_holds_the_lock() {
        let (_dir, place) = place();
        let ring = ring(&place);
        let writer = ring.try_write().unwrap();
        let (late, early) = (key(1, 200), key(2, 100));
        writer.publish(&late).unwrap();
        writer.publish(&early).unwrap();
        let block = ring.claim_block(process::id(), b"a program", Time(1));
        ring.count(block, Counter::Issued);

        let view = place.look().unwrap().unwrap();
        let names: Vec<_> = view.keys().iter().map(|key| key.name).collect();
        assert_eq!(names, [early.name, late.name]);
        let users = view.users(Time(1));
        assert_eq!(
            (users.len(), users[0].process, &*users[0].program),
            (1, process::id(), "a program")
        );
        assert_eq!(view.totals().of(Counter::Issued), 1);
        assert!(
            matches!(view.writer(), Holder::Thread { process, .. } if process == process::id())
        );
        drop(writer);
        assert_eq!(view.writer(), Holder::Nobody);
        let now = Time(1 << 40);
        assert_eq!(view.leader(now), None);
        assert!(ring.leads(process::id(), now));
        assert_eq!(view.leader(now), Some(process::id()));
    }

    #[test]
    fn a_writer_that_died_is_seen_dead_and_left_to_the_next_writer() {
        let (_dir, place) = place();
        let ring = ring(&place);
        // SAFETY: the child takes the lock and dies with it.
        let child = unsafe { libc::fork() };
        if child == 0 {
            std::mem::forget(ring.try_write());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
        let view = place.look().unwrap().unwrap();
        assert_eq!((view.writer(), view.keys().len()), (Holder::Dead, 0));
        assert_eq!(view.writer(), Holder::Dead);
        drop(ring.try_write().unwrap());
        assert_eq!(view.writer(), Holder::Nobody);
    }

    #[test]
    fn the_last_problem_is_seen() {
        let (_dir, place) = place();
        let ring = ring(&place);
        let view = place.look().unwrap().unwrap();
        assert_eq!(view.last_problem(), None);
        ring.note_problem(Problem::Full, Time(5));
        assert_eq!(view.last_problem(), Some((Problem::Full, Time(5))));
    }

    #[test]
    fn a_copy_is_refused_and_so_is_what_takes_the_place_of_a_ring() {
        let (_dir, place) = place();
        assert!(ring(&place).try_write().unwrap().publish(&key(1, u64::MAX / 2)).is_ok());
        let copy = Place { file: "copy.ring".into(), ..place.clone() };
        fs::copy(place.path(), copy.path()).unwrap();
        let is_copy = |text: String| assert!(text.contains("it is a copy"), "{text}");
        is_copy(copy.look().err().unwrap().to_string());
        is_copy(copy.open(Capacity::new(8).unwrap()).err().unwrap().to_string());
        fs::rename(copy.path(), place.path()).unwrap();
        is_copy(place.open_present().err().unwrap().to_string());
        // What was refused is as it was.
        assert!(fs::read(place.path()).unwrap().len() > 1024);
        let file = fs::OpenOptions::new().write(true).open(place.path()).unwrap();
        adopt(&file).unwrap();
        assert_eq!(place.look().unwrap().unwrap().keys().len(), 1);
    }

    #[test]
    fn what_is_no_ring_is_refused_with_file_and_reason() {
        let (_dir, place) = place();
        fs::write(place.path(), [7; 4096]).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
        let refused = place.look().err().unwrap().to_string();
        assert!(refused.contains("some.ring: it is not a ring"), "{refused}");
    }
}
