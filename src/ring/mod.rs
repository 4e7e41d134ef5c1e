//! The ring: the shared-memory keyring of one trust domain.
//!
//! - [`layout`]: the binary format, every offset asserted
//! - [`file`]: where a ring lies, and what is refused there
//! - [`origin`]: the file that a ring was made as
//! - [`verify`]: whether what lies there is a ring
//! - [`versions`]: rings of other versions of the format
//! - [`map`]: its memory, locked and undumpable
//! - [`memory`]: the parts of a ring in it
//! - `growth`: memory for keys as they come
//! - [`lock`], [`gates`]: the right to write
//! - [`mutex`]: what shows that a thread lives
//! - `modelled`: what stands for memory and mutex in a model (docs/models.md)
//! - [`reader`]: look-up without a lock
//! - [`writer`]: publish, erase, repair, under the writer lock
//! - [`lease`]: who leads the upkeep, and whether an agent governs the ring
//! - [`stats`]: counters, a cache line per process
//! - [`asks`]: what each process asks for
//! - [`traits`]: in what the contexts of processes differ
//! - [`view`]: what an onlooker sees, without a lock
//! - [`unused`]: rings that nobody uses are removed
//! - `removed`: a ring whose file is gone

pub mod asks;
pub mod file;
mod growth;
pub mod layout;
pub mod lease;
pub mod lock;
pub mod map;
#[cfg_attr(loom, path = "modelled/memory.rs")]
mod memory;
// Models and Miri have no C library.
#[cfg_attr(any(loom, miri), path = "modelled/mutex.rs")]
mod mutex;
pub mod origin;
pub mod reader;
mod removed;
pub mod stats;
#[cfg(all(test, not(loom)))]
mod tests;
pub mod traits;
// Models and Miri have no kernel that tells of a death: in them, the lock is one word.
#[cfg_attr(any(loom, miri), path = "modelled/gates.rs")]
mod gates;
pub mod unused;
pub mod verify;
pub mod versions;
pub mod view;
pub mod writer;

use std::io;

use crate::atomics::{AtomicU16, Ordering};
use crate::clock::Time;
use crate::secret::KeyName;
#[cfg(not(any(loom, miri)))]
use layout::Gate;
use layout::{BUCKETS, Block, Capacity, FIRST_SLOTS, Header, MAX_CAPACITY, Member, SIZE, Slot};
use memory::Memory;
use mutex::RobustMutex;
use origin::Origin;

/// A ring in memory that processes share.
pub struct Ring {
    memory: Memory,
    locked: growth::Locked,
    /// The ring of an older version whose name it shares.
    older: Option<versions::Older>,
    /// Set if its file was made when this process opened it.
    made: Option<unused::Made>,
}

impl Ring {
    /// A ring in memory that nobody else can open: for a server that cannot
    /// have a file, and for tests. Children of this process share it.
    pub fn private(capacity: Capacity) -> io::Result<Self> {
        let ring = Ring::new(Memory::anonymous(capacity)?);
        ring.format(capacity, Origin::default())?;
        Ok(ring)
    }

    fn new(memory: Memory) -> Self {
        Ring { memory, locked: growth::Locked::default(), older: None, made: None }
    }

    /// Makes zeroed memory, which no one else maps yet, an empty ring. The
    /// error says what could not be had.
    fn format(&self, capacity: Capacity, origin: Origin) -> io::Result<()> {
        let header = self.header();
        for mutex in self.mutexes() {
            mutex.init().map_err(|errno| {
                let why = io::Error::from_raw_os_error(errno);
                io::Error::other(format!("no lock can be made in it: {why}"))
            })?;
        }
        header.version.store(layout::VERSION, Ordering::Relaxed);
        header.lock_abi.store(layout::LOCK_ABI, Ordering::Relaxed);
        header.size.store(SIZE as u64, Ordering::Relaxed);
        header.capacity.store(capacity.0, Ordering::Relaxed);
        header.buckets.store(BUCKETS as u32, Ordering::Relaxed);
        header.slots.store(FIRST_SLOTS, Ordering::Relaxed);
        header.set_origin(origin);
        // A node is whoever writes a ring: its id is random, and never 0.
        header.node.store(random_number()? | 1, Ordering::Relaxed);
        header.opened.store(1, Ordering::Relaxed);
        header.magic.store(layout::MAGIC, Ordering::Release);
        Ok(())
    }

    /// The ring of an older version whose name it shares, and whose keys it takes.
    pub(crate) fn older(&self) -> Option<&versions::Older> {
        self.older.as_ref()
    }

    /// How many keys may be in it at most.
    pub fn capacity(&self) -> u32 {
        self.header().capacity.load(Ordering::Relaxed).min(MAX_CAPACITY)
    }

    /// Sets how many keys may be in it; those that are there stay.
    pub(crate) fn set_capacity(&self, _: &writer::Writer<'_>, capacity: Capacity) {
        self.header().capacity.store(capacity.0, Ordering::Relaxed);
    }

    /// From this time on there is something for a writer to do.
    pub fn deadline(&self) -> Time {
        Time(self.header().deadline.load(Ordering::Relaxed))
    }

    /// [`Ring::lock`] and [`Ring::hide`]; if one fails, the other is done all the same.
    pub fn protect(&self) -> io::Result<()> {
        let hidden = self.hide();
        self.lock().and(hidden)
    }

    /// See [`map::Mapping::hide`].
    pub fn hide(&self) -> io::Result<()> {
        self.memory.hide()
    }

    /// The fixed head of the ring.
    pub fn header(&self) -> &Header {
        self.memory.header()
    }

    fn blocks(&self) -> &[Block] {
        self.memory.blocks()
    }

    /// All there are in it.
    fn mutexes(&self) -> impl Iterator<Item = &RobustMutex> {
        let lives = self.members().iter().map(|member| &member.life);
        #[cfg(not(any(loom, miri)))]
        let lives = lives.chain(self.gates().iter().map(|gate| &gate.mutex));
        lives
    }

    fn members(&self) -> &[Member] {
        self.memory.members()
    }

    #[cfg(not(any(loom, miri)))]
    fn gates(&self) -> &[Gate] {
        self.memory.gates()
    }

    fn buckets(&self) -> &[AtomicU16] {
        self.memory.buckets()
    }

    /// Those that have memory.
    #[inline]
    fn slots(&self) -> &[Slot] {
        let slots = self.memory.slots();
        &slots[..slots.len().min(self.slots_with_memory() as usize)]
    }

    /// The head of the look-up chain that a name belongs to. Names are random,
    /// so their first bytes are the hash.
    fn bucket(&self, name: &KeyName) -> usize {
        let head = u32::from_le_bytes([name.0[0], name.0[1], name.0[2], name.0[3]]);
        head as usize & (BUCKETS - 1)
    }

    /// The slot that a chain or line word (slot + 1) refers to; `None` at the end.
    fn slot(&self, link: u32) -> Option<&Slot> {
        self.slots().get((link as usize).checked_sub(1)?)
    }
}

/// From the kernel, before there is a TLS library: nothing that is a secret.
fn random_number() -> io::Result<u64> {
    let mut number = [0; 8];
    // SAFETY: the buffer is valid for its length; so few bytes come whole (getrandom(2)).
    match unsafe { libc::getrandom(number.as_mut_ptr().cast(), number.len(), 0) } {
        8 => Ok(u64::from_le_bytes(number)),
        _ => {
            let why = io::Error::last_os_error();
            Err(io::Error::other(format!("the kernel gives no random number for it: {why}")))
        }
    }
}
