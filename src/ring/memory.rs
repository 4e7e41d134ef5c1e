//! The memory of a ring as its parts: where the layout says, in a mapping.

use std::io;

use super::layout::{
    BLOCKS, BLOCKS_AT, BUCKETS, BUCKETS_AT, Block, Capacity, Header, MAX_CAPACITY, MEMBERS,
    MEMBERS_AT, Member, SIZE, SLOTS_AT, Slot,
};
#[cfg(not(any(loom, miri)))]
use super::layout::{GATES, GATES_AT, Gate};
use super::map::Mapping;
use crate::atomics::AtomicU16;

/// The parts of a ring, in a mapping. All access to it is through the atomics
/// of [`super::layout`], whose references this type hands out.
pub struct Memory {
    mapping: Mapping,
}

impl Memory {
    /// Zeroed memory that only this process and its children share.
    pub fn anonymous(_: Capacity) -> io::Result<Self> {
        Ok(Memory::new(Mapping::anonymous(SIZE)?))
    }

    /// Takes a mapping of at least [`SIZE`] bytes as a ring's memory.
    pub fn new(mapping: Mapping) -> Self {
        assert!(mapping.size() >= SIZE, "a mapping shorter than a ring");
        Memory { mapping }
    }

    /// See [`Mapping::hide`].
    pub fn hide(&self) -> io::Result<()> {
        self.mapping.hide()
    }

    /// See [`Mapping::range`].
    pub fn range(&self, len: usize) -> (usize, usize) {
        self.mapping.range(len)
    }

    /// See [`Mapping::lock`].
    pub fn lock(&self, len: usize) -> io::Result<()> {
        self.mapping.lock(len)
    }

    /// The fixed head of the ring.
    #[inline]
    pub fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least `SIZE` long
        // (checked by `new`) and lives as long as `self`; a Header is made of
        // atomics, for which any bytes are valid and which other processes may
        // change at any time.
        unsafe { self.mapping.base().cast::<Header>().as_ref() }
    }

    /// What processes count.
    #[inline]
    pub fn blocks(&self) -> &[Block] {
        self.part(BLOCKS_AT, BLOCKS)
    }

    /// The heads of the look-up chains.
    #[inline]
    pub fn buckets(&self) -> &[AtomicU16] {
        self.part(BUCKETS_AT, BUCKETS)
    }

    /// The keys. Only those that have memory may be touched.
    #[inline]
    pub fn slots(&self) -> &[Slot] {
        self.part(SLOTS_AT, MAX_CAPACITY as usize)
    }

    /// What processes tell of themselves.
    #[inline]
    pub fn members(&self) -> &[Member] {
        self.part(MEMBERS_AT, MEMBERS)
    }

    /// The gates to the writer lock.
    #[cfg(not(any(loom, miri)))]
    #[inline]
    pub fn gates(&self) -> &[Gate] {
        self.part(GATES_AT, GATES)
    }

    /// `count` consecutive `T`s at `offset`, where the layout has them.
    #[inline]
    fn part<T>(&self, offset: usize, count: usize) -> &[T] {
        debug_assert!(offset + count * size_of::<T>() <= self.mapping.size());
        debug_assert_eq!(offset % align_of::<T>(), 0);
        // SAFETY: only called with the offset, count and type of one part of
        // the layout, which lies inside the mapping and is aligned; contents
        // as in `header`.
        unsafe {
            let first = self.mapping.base().add(offset).cast::<T>();
            std::slice::from_raw_parts(first.as_ptr(), count)
        }
    }
}
