//! The memory of a ring as its parts: where the geometry says, in a mapping.

use std::io;

use super::layout::{BLOCKS, Block, Geometry, Header, MEMBERS, Member, Slot};
#[cfg(not(any(loom, miri)))]
use super::layout::{GATES, Gate};
use super::map::Mapping;
use crate::atomics::AtomicU32;

/// The parts of a ring, in a mapping. All access to it is through the atomics
/// of [`super::layout`], whose references this type hands out.
pub struct Memory {
    mapping: Mapping,
    geometry: Geometry,
}

impl Memory {
    /// Zeroed memory that only this process and its children share.
    pub fn anonymous(geometry: Geometry) -> io::Result<Self> {
        Ok(Memory::new(Mapping::anonymous(geometry.size())?, geometry))
    }

    /// Takes a mapping of at least `geometry.size()` bytes as a ring's memory.
    pub fn new(mapping: Mapping, geometry: Geometry) -> Self {
        assert!(mapping.size() >= geometry.size(), "a mapping shorter than its geometry");
        Memory { mapping, geometry }
    }

    /// How many of everything there are.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// See [`Mapping::hide`].
    pub fn hide(&self) -> io::Result<()> {
        self.mapping.hide()
    }

    /// The addresses of its first page, and after its last.
    pub fn range(&self) -> (usize, usize) {
        self.mapping.range()
    }

    /// See [`Mapping::lock`].
    pub fn lock(&self) -> io::Result<()> {
        self.mapping.lock()
    }

    /// The fixed head of the ring.
    #[inline]
    pub fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least `geometry.size()` long
        // (checked by `new`) and lives as long as `self`; a Header is made of
        // atomics, for which any bytes are valid and which other processes may
        // change at any time.
        unsafe { self.mapping.base().cast::<Header>().as_ref() }
    }

    /// What processes count.
    #[inline]
    pub fn blocks(&self) -> &[Block] {
        self.part(self.geometry.blocks_at(), BLOCKS)
    }

    /// The heads of the look-up chains.
    #[inline]
    pub fn buckets(&self) -> &[AtomicU32] {
        self.part(self.geometry.buckets_at(), self.geometry.buckets as usize)
    }

    /// The keys.
    #[inline]
    pub fn slots(&self) -> &[Slot] {
        self.part(self.geometry.slots_at(), self.geometry.capacity as usize)
    }

    /// What processes tell of themselves.
    #[inline]
    pub fn members(&self) -> &[Member] {
        self.part(self.geometry.members_at(), MEMBERS)
    }

    /// The gates to the writer lock.
    #[cfg(not(any(loom, miri)))]
    #[inline]
    pub fn gates(&self) -> &[Gate] {
        self.part(self.geometry.gates_at(), GATES)
    }

    /// `count` consecutive `T`s at `offset`, where the geometry put them.
    #[inline]
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
}
