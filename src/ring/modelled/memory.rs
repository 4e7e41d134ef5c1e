//! The parts of a ring in a model: loom's atomics are objects that cannot lie
//! in a mapping, so each part is made as what it is.

use std::io;

use crate::atomics::{AtomicU16, AtomicU32, AtomicU64};
use crate::ring::layout::{BUCKETS, Block, Capacity, Grave, Header, Member, Slot};
use crate::ring::map::Mapping;

/// The parts of a ring.
pub struct Memory {
    header: Box<Header>,
    buckets: Vec<AtomicU16>,
    slots: Vec<Slot>,
}

impl Memory {
    /// A ring of zeroes.
    pub fn anonymous(capacity: Capacity) -> io::Result<Self> {
        Ok(Memory {
            header: Box::new(Header::zeroed()),
            buckets: (0..BUCKETS).map(|_| AtomicU16::new(0)).collect(),
            slots: (0..capacity.0).map(|_| Slot::zeroed()).collect(),
        })
    }

    /// Models have no files.
    pub fn new(_: Mapping) -> Self {
        unreachable!("a mapping in a model");
    }

    /// Nothing to do.
    pub fn hide(&self) -> io::Result<()> {
        Ok(())
    }

    /// Models have no file that could be removed.
    pub fn lost_its_file(&self, _: usize) -> bool {
        false
    }

    /// Nothing to do.
    pub fn lock(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    /// The fixed head of the ring.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Nobody counts.
    pub fn blocks(&self) -> &[Block] {
        &[]
    }

    /// Nobody tells anything.
    pub fn members(&self) -> &[Member] {
        &[]
    }

    /// The heads of the lookup chains.
    pub fn buckets(&self) -> &[AtomicU16] {
        &self.buckets
    }

    /// Nobody is buried.
    pub fn all_graves(&self) -> &[Grave] {
        &[]
    }

    /// Room for keys.
    pub fn all_slots(&self) -> &[Slot] {
        &self.slots
    }
}

fn words<const COUNT: usize>() -> [AtomicU64; COUNT] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

impl Header {
    pub(in crate::ring) fn zeroed() -> Self {
        Header {
            magic: AtomicU64::new(0),
            version: AtomicU32::new(0),
            lock_abi: AtomicU32::new(0),
            size: AtomicU64::new(0),
            capacity: AtomicU32::new(0),
            buckets: AtomicU32::new(0),
            inode: AtomicU64::new(0),
            born: AtomicU64::new(0),
            node: AtomicU64::new(0),
            rotate_every: AtomicU64::new(0),
            lifetime: AtomicU64::new(0),
            seen_lifetime: AtomicU64::new(0),
            lead: AtomicU64::new(0),
            plain: AtomicU32::new(0),
            opened: AtomicU32::new(0),
            own_lifetimes: AtomicU32::new(0),
            removed: AtomicU32::new(0),
            severed: AtomicU32::new(0),
            slots: AtomicU32::new(0),
            graves: AtomicU32::new(0),
            _pad0: AtomicU32::new(0),
            line: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            governed_until: AtomicU64::new(0),
            fleet_period: AtomicU64::new(0),
            fleet_epoch: AtomicU64::new(0),
            _pad1: words(),
            rotations: AtomicU64::new(0),
            generator_failures: AtomicU64::new(0),
            repairs: AtomicU64::new(0),
            last_error: AtomicU64::new(0),
            last_error_at: AtomicU64::new(0),
            _pad2: words(),
            writer: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            _pad3: words(),
            leader: AtomicU64::new(0),
            led_at: AtomicU64::new(0),
            _pad4: words(),
            _pad5: words(),
        }
    }
}

impl Slot {
    pub(in crate::ring) fn zeroed() -> Self {
        Slot {
            seq: AtomicU64::new(0),
            flags: AtomicU32::new(0),
            next: AtomicU32::new(0),
            name: words(),
            node: AtomicU64::new(0),
            encrypt_from: AtomicU64::new(0),
            encrypt_until: AtomicU64::new(0),
            decrypt_until: AtomicU64::new(0),
            aes: words(),
            hmac: words(),
        }
    }
}
