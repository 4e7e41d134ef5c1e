//! A ring as this process has it: memory that processes share, with what this process
//! did to that. What it can do stands in a file for each concept; here is which.
//!
//! It takes memory for keys as they come: a page of slots at a time, under the writer
//! lock, and reserved before it is touched. On a full tmpfs, or in a file that somebody
//! truncated, the key is refused; a mere store would end the server (SIGBUS).

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::asks::{Ask, Asker, Asks, Settings, Traits};
use super::graves::Graves;
use super::key::Key;
use super::layout::{
    self, BUCKETS, Block, Capacity, FIRST_SLOTS, GRAVES_AT, Grave, Header, MAX_CAPACITY,
    MAX_GRAVES, MORE_GRAVES, MORE_SLOTS, SIZE, bytes_of,
};
use super::life::{Lives, Shown};
use super::lock::{Holder, Lock};
use super::map::Memory;
use super::mutex::RobustMutex;
use super::reader;
#[cfg(not(any(loom, miri)))]
use super::seqlock::put64;
use super::seqlock::{Identity, Located, put32};
use super::stats::{Blocks, Counter, Problem, Totals};
use super::versions::Older;
use crate::atomics::{AtomicU64, Ordering};
use crate::clock::{Time, nanos};
use crate::process::{self, ProcessId};
use crate::random;
use crate::secret::KeyName;

/// A ring in memory that processes share.
pub struct Ring {
    pub(super) memory: Memory,
    locked: Locked,
    /// The ring of an older version whose name it shares, and whose keys it takes.
    pub(super) older: Option<Older>,
    /// Set if its file was made when this process opened it.
    pub(super) made: Option<Made>,
}

/// What was made, rather than found, when a ring was opened.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The path of the file.
    pub path: PathBuf,
    /// Device and inode of the file.
    pub file: (u64, u64),
    /// Whether the directory was made as well.
    pub dir: bool,
}

/// What this process has locked of a ring, in bytes from its start.
#[derive(Default)]
struct Locked {
    is: AtomicUsize,
    tried: AtomicUsize,
}

/// The file that a ring was made as. Its times are of this machine's present run
/// only if it still lies in that file: tmpfs does not survive a reboot, and a copy,
/// a restored backup or another's file is another inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub(super) inode: u64,
    /// Nanoseconds since the epoch, by the clock of then (statx(2)); 0 where the kernel
    /// does not tell. Inode numbers alone begin anew with each boot.
    pub(super) born: u64,
}

impl Origin {
    /// That which a header tells.
    pub(super) fn told_by(header: &Header) -> Origin {
        let inode = header.inode.load(Ordering::Relaxed);
        Origin { inode, born: header.born.load(Ordering::Relaxed) }
    }

    /// False if the two are of different files, as far as both tell.
    pub(super) fn may_be(self, other: Origin) -> bool {
        let same_birth = self.born == other.born || self.born == 0 || other.born == 0;
        self.inode == other.inode && same_birth
    }
}

impl Ring {
    /// A ring in memory that nobody else can open: for a server that cannot
    /// have a file, and for tests. Children of this process share it.
    pub fn private(capacity: Capacity) -> io::Result<Self> {
        let ring = Ring::new(Memory::anonymous(capacity)?);
        ring.format(capacity, Origin::default())?;
        Ok(ring)
    }

    pub(super) fn new(memory: Memory) -> Self {
        Ring { memory, locked: Locked::default(), older: None, made: None }
    }

    /// Makes zeroed memory, which no one else maps yet, an empty ring. The
    /// error says what could not be had.
    pub(super) fn format(&self, capacity: Capacity, origin: Origin) -> io::Result<()> {
        let header = self.header();
        for mutex in self.mutexes() {
            mutex.init().map_err(|errno| {
                let why = io::Error::from_raw_os_error(errno);
                io::Error::other(format!("cannot create a lock in it: {why}"))
            })?;
        }
        header.version.store(layout::VERSION, Ordering::Relaxed);
        header.lock_abi.store(layout::LOCK_ABI, Ordering::Relaxed);
        header.size.store(SIZE as u64, Ordering::Relaxed);
        header.capacity.store(capacity.0, Ordering::Relaxed);
        header.buckets.store(BUCKETS as u32, Ordering::Relaxed);
        header.slots.store(FIRST_SLOTS, Ordering::Relaxed);
        header.inode.store(origin.inode, Ordering::Relaxed);
        header.born.store(origin.born, Ordering::Relaxed);
        // A node is whoever writes a ring: its id is random, and never 0.
        header.node.store(random_number()? | 1, Ordering::Relaxed);
        header.opened.store(1, Ordering::Relaxed);
        header.magic.store(layout::MAGIC, Ordering::Release);
        Ok(())
    }

    /// The fixed head of the ring, for tests that prepare one: what it says is read by methods.
    #[doc(hidden)]
    pub fn header(&self) -> &Header {
        self.memory.header()
    }

    /// All the mutexes in it.
    pub(super) fn mutexes(&self) -> impl Iterator<Item = &RobustMutex> {
        let lives = self.memory.members().iter().map(|member| &member.life);
        #[cfg(not(any(loom, miri)))]
        let lives = lives.chain(self.memory.gates().iter().map(|gate| &gate.mutex));
        lives
    }

    /// How many keys may be in it at most.
    pub fn capacity(&self) -> u32 {
        self.header().capacity.load(Ordering::Relaxed).min(MAX_CAPACITY)
    }

    /// The node whose keys encrypt here.
    pub fn node(&self) -> u64 {
        self.header().node.load(Ordering::Relaxed)
    }

    /// From this time on there is something for a writer to do.
    pub fn deadline(&self) -> Time {
        Time(self.header().deadline.load(Ordering::Relaxed))
    }

    /// What its header says of the keys that are made in it.
    pub fn settings(&self) -> Settings {
        Settings::of(self.header())
    }

    /// True if a context told a timeout that is as long.
    #[inline]
    pub(crate) fn has_seen_lifetime(&self, timeout: Duration) -> bool {
        self.header().seen_lifetime.load(Ordering::Relaxed) >= nanos(timeout)
    }

    /// A context told this timeout.
    pub(crate) fn note_lifetime(&self, timeout: Duration) {
        self.header().seen_lifetime.fetch_max(nanos(timeout), Ordering::Relaxed);
    }

    /// How many keys its node has published.
    pub fn rotations(&self) -> u64 {
        self.header().rotations.load(Ordering::Relaxed)
    }

    /// Its node has published one more key.
    pub(crate) fn note_rotation(&self) {
        self.header().rotations.fetch_add(1, Ordering::Relaxed);
    }

    /// How often its generator failed.
    pub fn generator_failures(&self) -> u64 {
        self.header().generator_failures.load(Ordering::Relaxed)
    }

    /// How many writers died with the lock and were repaired after.
    pub fn repairs(&self) -> u64 {
        self.header().repairs.load(Ordering::Relaxed)
    }

    /// How often it was opened so far, its making included.
    pub fn times_opened(&self) -> u32 {
        self.header().opened.load(Ordering::Relaxed)
    }

    /// From now on no keys are taken of a ring of an older version: what was revoked must not
    /// come back.
    pub(crate) fn sever(&self) {
        self.header().severed.store(1, Ordering::Relaxed);
    }

    /// Looks who has the writer lock, without touching it.
    pub fn holder(&self) -> Holder {
        Lock(&self.memory).holder()
    }

    /// How many slots have memory.
    #[inline]
    pub fn slots_with_memory(&self) -> u32 {
        self.memory.slots_with_memory()
    }

    /// Takes memory for some slots more: for a writer who found every slot taken.
    ///
    /// # Errors
    ///
    /// There is none; or this process may not ask for it any more, because a filter of
    /// system calls could end it for that.
    pub(super) fn grow(&self) -> io::Result<()> {
        let present = self.slots_with_memory();
        let wanted = (present + MORE_SLOTS).min(self.memory.all_slots().len() as u32);
        if wanted <= present {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if process::is_confined() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let more = &self.memory.all_slots()[present as usize..wanted as usize];
        reserve(more, |slot| &slot.seq)?;
        // Release: who finds a link to one of them (Acquire) finds them counted.
        put32(&self.header().slots, wanted, Ordering::Release);
        Ok(())
    }

    /// Takes memory for one more grave: for a writer who found every one taken. False if there
    /// is none, or no room: a ring of the first minor version has none at all.
    pub(super) fn grow_graves(&self) -> bool {
        let header = self.header();
        let used = header.graves.load(Ordering::Relaxed);
        let more = self.memory.all_graves().get(used as usize..).unwrap_or_default();
        if more.is_empty() || header.size.load(Ordering::Relaxed) < SIZE as u64 {
            return false;
        }
        // The first have memory since the ring was made.
        if used != 0 && used.is_multiple_of(MORE_GRAVES) {
            let page = &more[..MORE_GRAVES as usize];
            if process::is_confined() || reserve(page, |grave| &grave.seq).is_err() {
                return false;
            }
        }
        // Release: who counts it finds its memory taken.
        put32(&header.graves, used + 1, Ordering::Release);
        true
    }

    /// The names of keys that were revoked, and until when a copy of each may live somewhere: none
    /// of them may come back before. In no order.
    pub fn graves(&self) -> Vec<(KeyName, Time)> {
        Graves(&self.memory).all()
    }

    /// True if the key of that name was revoked, and a copy of it may still live somewhere.
    pub fn is_buried(&self, name: &KeyName) -> bool {
        Graves(&self.memory).of(name).is_some()
    }

    /// The latest period of its fleet that this ring has seen.
    pub fn fleet_period(&self) -> u64 {
        self.header().fleet_period.load(Ordering::Relaxed)
    }

    /// The latest epoch of its fleet that this ring has seen.
    pub fn fleet_epoch(&self) -> u64 {
        self.header().fleet_epoch.load(Ordering::Relaxed)
    }

    /// [`Ring::lock`] and [`Ring::hide`]; if one fails, the other is done all the same.
    pub fn protect(&self) -> io::Result<()> {
        let hidden = self.hide();
        self.lock().and(hidden)
    }

    /// See [`super::map::Mapping::hide`].
    pub fn hide(&self) -> io::Result<()> {
        self.memory.hide()
    }

    /// Keeps its keys out of swap for this process; each child has to ask for itself.
    ///
    /// # Errors
    ///
    /// The limit of memory that the process may lock (RLIMIT_MEMLOCK).
    pub fn lock(&self) -> io::Result<()> {
        let len = bytes_of(self.slots_with_memory());
        self.locked.tried.store(len, Ordering::Relaxed);
        self.memory.lock(len)?;
        self.locked.is.store(len, Ordering::Relaxed);
        Ok(())
    }

    /// As [`Ring::lock`], for slots that got memory since, whoever took it.
    ///
    /// # Errors
    ///
    /// As there; told once for each growth.
    pub fn lock_more(&self) -> io::Result<()> {
        let tried = self.locked.tried.load(Ordering::Relaxed);
        let is_all = tried == 0 || tried >= bytes_of(self.slots_with_memory());
        if is_all || process::is_confined() { Ok(()) } else { self.lock() }
    }

    /// True if the ring has a file, and that has no name any more: somebody removed it, or
    /// put another one in its place. Whoever has the ring goes on with it, and whoever comes later makes
    /// another one. So that this is not found out by full handshakes alone, it is noted in
    /// the ring, and said.
    pub fn lost_its_file(&self) -> bool {
        let has_file = Origin::told_by(self.header()) != Origin::default();
        let locked = self.locked.is.load(Ordering::Relaxed);
        // Where what is locked ends, the kernel begins another range of addresses.
        let lost = || [locked, SIZE].into_iter().any(|len| self.memory.lost_its_file(len));
        !process::is_confined() && has_file && lost()
    }

    /// Notes that it did; true for the one who is the first to.
    pub fn note_removed(&self) -> bool {
        self.header().removed.swap(1, Ordering::Relaxed) == 0
    }

    /// True if a process has noted that the file was removed.
    pub fn is_noted_removed(&self) -> bool {
        self.header().removed.load(Ordering::Relaxed) != 0
    }

    /// Finds the key of that name, whatever its state, and touches no secret;
    /// `None` if the ring has none. A name of equal bytes (zeroes above all)
    /// never matches.
    #[inline]
    pub fn locate(&self, name: &KeyName) -> Option<Located<'_>> {
        reader::locate(&self.memory, name)
    }

    /// Finds the node's key that encrypts at `now`, and touches no secret.
    #[inline]
    pub fn locate_encrypting(&self, now: Time) -> Option<Located<'_>> {
        reader::locate_encrypting(&self.memory, now)
    }

    /// Reads the key of that name, whatever its state; false if the ring has
    /// none, and then what is in `key` is none. A name of equal bytes (zeroes
    /// above all) never matches.
    pub fn find(&self, name: &KeyName, key: &mut Key) -> bool {
        reader::read(|| self.locate(name), key)
    }

    /// Reads the node's key that encrypts at `now`; false if there is none,
    /// and then what is in `key` is none.
    pub fn encrypting(&self, now: Time, key: &mut Key) -> bool {
        reader::read(|| self.locate_encrypting(now), key)
    }

    /// Tells a key that was found here from every other that this ring ever has.
    #[inline]
    pub fn identity(&self, located: &Located<'_>) -> Identity {
        located.identity_in(self.memory.slots())
    }

    /// Until when the key decrypts that was once found there; `None` if it is
    /// no longer in the ring.
    pub fn end_of(&self, identity: Identity) -> Option<Time> {
        reader::end_of(&self.memory, identity)
    }

    /// Gives this process a block to count in, unless it has one: a free one, else that of
    /// a process that is gone, else one to share. Lock-free; returns the index.
    pub fn claim_block(&self, process: ProcessId, program: &[u8], now: Time) -> usize {
        Blocks(&self.memory).claim(process, program, now)
    }

    /// A block in which only the calling thread counts, until it gives it back;
    /// `None` if all are taken. `process` is this one. Lock-free.
    pub fn claim_thread_block(&self, process: ProcessId, now: Time) -> Option<&Block> {
        Blocks(&self.memory).claim_for_thread(process, now)
    }

    /// Counts one event in this process's block.
    pub fn count(&self, block: usize, counter: Counter) {
        Blocks(&self.memory).count(block, counter);
    }

    /// The sums over all blocks.
    pub fn totals(&self) -> Totals {
        Blocks(&self.memory).totals()
    }

    /// True if a process other than that one lives and uses tickets.
    pub fn is_used_by_others(&self, process: ProcessId, now: Time) -> bool {
        Blocks(&self.memory).are_used_by_others(process, now)
    }

    /// Notes a problem where every process and `status` can see it.
    pub fn note_problem(&self, problem: Problem, now: Time) {
        problem.note(self.header(), now);
    }

    /// A block for a process that comes to use the ring, as
    /// [`Ring::claim_block`]; but it takes first what a process left behind that
    /// used no tickets, so that those that only open the ring use up nothing.
    pub fn claim_to_ask(&self, process: ProcessId, program: &[u8], now: Time) -> usize {
        Asks(&self.memory).claim(process, program, now)
    }

    /// Tells what a process asks for, in the block that it claimed; `uses_tickets`:
    /// that it uses tickets. Where it shares the block, both ask. Lock-free.
    pub fn tell(&self, block: usize, process: ProcessId, ask: &Ask, uses_tickets: bool, now: Time) {
        Asks(&self.memory).tell(block, process, ask, uses_tickets, now);
    }

    /// Tells what one more context binds its tickets to, in the block that the process
    /// claimed. Lock-free.
    pub fn tell_traits(&self, block: usize, traits: Traits) {
        Asks(&self.memory).tell_traits(block, traits);
    }

    /// What a process asked for no longer counts: it ends.
    pub fn forget(&self, process: ProcessId) {
        Asks(&self.memory).forget(process);
    }

    /// Makes a process look as if it had told nothing, for tests of what then holds.
    #[doc(hidden)]
    pub fn disown(&self, process: ProcessId) {
        Asks(&self.memory).disown(process);
    }

    /// The processes that use the ring and live, but for one.
    pub fn askers_but(&self, process: ProcessId, now: Time) -> Vec<Asker> {
        Asks(&self.memory).of_others(process, now)
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
        // SAFETY: passed on from the caller.
        unsafe { Lives(&self.memory).show(process) }
    }

    /// How much is left of the lease of an agent that governs the ring.
    pub fn governed(&self, now: Time) -> Option<Duration> {
        Lives(&self.memory).lease_left(now)
    }

    /// True if this process leads, by the thread that does the upkeep and calls: see
    /// [`super::life`]. Never waits.
    pub fn leads(&self, process: ProcessId, now: Time) -> bool {
        Lives(&self.memory).leads(process, now)
    }

    /// Leaves the lead to another process, at once.
    pub fn leave_lead(&self, process: ProcessId) {
        Lives(&self.memory).leave_lead(process);
    }
}

/// Bytes of a ring that must have memory before it is used.
pub(super) fn needed(slots: u32) -> usize {
    bytes_of(slots.clamp(FIRST_SLOTS, MAX_CAPACITY))
}

/// Where the graves are, and how many bytes of them must have memory before they are used: those
/// that have been in use, and the first page.
pub(super) fn needed_for_graves(used: u32) -> (usize, usize) {
    let graves = used.clamp(MORE_GRAVES, MAX_GRAVES).next_multiple_of(MORE_GRAVES);
    (GRAVES_AT, graves as usize * size_of::<Grave>())
}

/// Takes memory for slots or graves, each with a word in it. A page has no fewer bytes than these:
/// they are on one or two of them, on that of the first and that of the last.
#[cfg(not(any(loom, miri)))]
fn reserve<T>(parts: &[T], word: impl Fn(&T) -> &AtomicU64) -> io::Result<()> {
    const _: () = assert!(MORE_SLOTS as usize * size_of::<layout::Slot>() <= 4096);
    const _: () = assert!(MORE_GRAVES as usize * size_of::<Grave>() <= 4096);
    let ends = parts.first().into_iter().chain(parts.last());
    ends.map(word).try_for_each(touch)
}

#[cfg(any(loom, miri))]
fn reserve<T>(_: &[T], _: impl Fn(&T) -> &AtomicU64) -> io::Result<()> {
    Ok(())
}

/// Lets the kernel write to a word that nobody reads yet: where no memory is to be had,
/// the call fails, and no signal comes. (MADV_POPULATE_WRITE is for that, from Linux 5.14 on;
/// this is the same for all.)
#[cfg(not(any(loom, miri)))]
fn touch(word: &AtomicU64) -> io::Result<()> {
    const SIGNALS: usize = size_of::<u64>();
    // SAFETY: only asks for the signals that are blocked, which are as many bits as the
    // word has (rt_sigprocmask(2)); an address without memory is an error of the call.
    let rc = unsafe {
        let none = std::ptr::null::<u64>();
        let how = libc::SIG_BLOCK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, none, word.as_ptr(), SIGNALS)
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    put64(word, 0, Ordering::Relaxed);
    Ok(())
}

/// From the kernel, before there is a TLS library: nothing that is a secret.
pub(super) fn random_number() -> io::Result<u64> {
    let mut number = [0; 8];
    random::from_kernel(&mut number).map_err(|why| {
        io::Error::other(format!("cannot get a random number from the kernel: {why}"))
    })?;
    Ok(u64::from_le_bytes(number))
}
