//! The ring: the shared-memory keyring of one trust domain.
//!
//! - [`layout`]: the binary format, every offset asserted
//! - [`file`]: where a ring lies, and what is refused there
//! - [`verify`]: whether what lies there is a ring
//! - [`map`]: its memory, locked and undumpable
//! - [`lock`]: the robust mutexes in its header
//! - [`reader`]: look-up without a lock
//! - [`writer`]: publish, erase, repair, under the writer lock
//! - [`lease`]: whether an agent governs the ring
//! - [`stats`]: counters, a cache line per process
//! - [`view`]: what an onlooker sees, without a lock
//! - [`unused`]: a ring that nobody had a use for leaves no trace

pub mod file;
pub mod layout;
pub mod lease;
pub mod lock;
pub mod map;
pub mod reader;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod unused;
pub mod verify;
pub mod view;
pub mod writer;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::clock::Time;
use crate::secret::KeyName;
use layout::{BLOCKS, Block, Geometry, Header, Slot};
use map::Mapping;

/// A mapped ring. All access to its memory is through the atomics of
/// [`layout`], whose references this type hands out.
pub struct Ring {
    mapping: Mapping,
    geometry: Geometry,
    /// Set if its file was made when this process opened it.
    made: Option<unused::Made>,
}

impl Ring {
    /// A ring in memory that nobody else can open: for a server that cannot
    /// have a file, and for tests. Children of this process share it.
    pub fn private(geometry: Geometry) -> std::io::Result<Self> {
        let ring = Ring::new(Mapping::anonymous(geometry.size())?, geometry);
        ring.format([0; 2]).map_err(std::io::Error::from_raw_os_error)?;
        Ok(ring)
    }

    /// Takes a mapping of at least `geometry.size()` bytes as a ring.
    fn new(mapping: Mapping, geometry: Geometry) -> Self {
        assert!(mapping.size() >= geometry.size(), "a mapping shorter than its geometry");
        Ring { mapping, geometry, made: None }
    }

    /// Makes zeroed memory, which no one else maps yet, an empty ring. `Err`
    /// is the errno value.
    fn format(&self, boot_id: [u64; 2]) -> Result<(), i32> {
        let header = self.header();
        header.writer.init()?;
        header.leader.init()?;
        header.version.store(layout::VERSION, Ordering::Relaxed);
        header.lock_abi.store(layout::LOCK_ABI, Ordering::Relaxed);
        header.size.store(self.geometry.size() as u64, Ordering::Relaxed);
        header.capacity.store(self.geometry.capacity, Ordering::Relaxed);
        header.buckets.store(self.geometry.buckets, Ordering::Relaxed);
        for (word, value) in header.boot_id.iter().zip(boot_id) {
            word.store(value, Ordering::Relaxed);
        }
        header.node.store(random_node()?, Ordering::Relaxed);
        header.opened.store(1, Ordering::Relaxed);
        header.magic.store(layout::MAGIC, Ordering::Release);
        Ok(())
    }

    /// How many keys fit.
    pub fn capacity(&self) -> u32 {
        self.geometry.capacity
    }

    /// From this time on there is something for a writer to do.
    pub fn deadline(&self) -> Time {
        Time(self.header().deadline.load(Ordering::Relaxed))
    }

    /// See [`Mapping::protect`].
    pub fn protect(&self) -> std::io::Result<()> {
        self.mapping.protect()
    }

    /// See [`Mapping::lock`].
    pub fn lock(&self) -> std::io::Result<()> {
        self.mapping.lock()
    }

    /// The fixed head of the ring.
    pub fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least `geometry.size()` long
        // (checked by `new` and `private`) and lives as long as `self`; a
        // Header is made of atomics, for which any bytes are valid and which
        // other processes may change at any time.
        unsafe { self.mapping.base().cast::<Header>().as_ref() }
    }

    fn blocks(&self) -> &[Block] {
        self.part(self.geometry.blocks_at(), BLOCKS)
    }

    fn buckets(&self) -> &[AtomicU32] {
        self.part(self.geometry.buckets_at(), self.geometry.buckets as usize)
    }

    fn slots(&self) -> &[Slot] {
        self.part(self.geometry.slots_at(), self.geometry.capacity as usize)
    }

    /// `count` consecutive `T`s at `offset`, where the geometry put them.
    fn part<T>(&self, offset: usize, count: usize) -> &[T] {
        debug_assert!(offset + count * size_of::<T>() <= self.mapping.size());
        debug_assert_eq!(offset % align_of::<T>(), 0);
        // SAFETY: only called with the offset, count and type of one part of
        // the geometry, which lies inside the mapping and is aligned (tested
        // for every capacity class); contents as in `header`.
        unsafe {
            let first = self.mapping.base().add(offset).cast::<T>();
            std::slice::from_raw_parts(first.as_ptr(), count)
        }
    }

    /// The head of the look-up chain that a name belongs to. Names are random,
    /// so their first bytes are the hash.
    fn bucket(&self, name: &KeyName) -> usize {
        let head = u32::from_le_bytes([name.0[0], name.0[1], name.0[2], name.0[3]]);
        (head & (self.geometry.buckets - 1)) as usize
    }

    /// The slot that a chain or line word (slot + 1) refers to; `None` at the end.
    fn slot(&self, link: u32) -> Option<&Slot> {
        self.slots().get((link as usize).checked_sub(1)?)
    }
}

/// A node is whoever writes a ring: its id is random, and never 0. Not a
/// secret, so it comes from the kernel, before there is a TLS library.
fn random_node() -> Result<u64, i32> {
    let mut id = [0; 8];
    // SAFETY: the buffer is valid for its length; so few bytes come whole (getrandom(2)).
    match unsafe { libc::getrandom(id.as_mut_ptr().cast(), id.len(), 0) } {
        8 => Ok(u64::from_le_bytes(id) | 1),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
    }
}
