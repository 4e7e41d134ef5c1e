//! Whether what lies in a file is a ring that can be used. Nothing in it is
//! trusted before it was looked at.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::file::{Place, Refused};
use super::layout::{Capacity, FIRST_SLOTS, Header, LOCK_ABI, MAGIC, MAX_CAPACITY, SIZE, VERSION};
use super::map::Mapping;
use super::memory::Memory;
use super::mutex::RobustMutex;
use super::origin::Origin;
use super::writer::{NotLocked, Writer};
use super::{Ring, growth};
use crate::clock::nanos;
use crate::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY};
use crate::secret::wipe_stack;

/// How long opening a ring waits for its writer, who needs microseconds.
const WRITER_PATIENCE: Duration = Duration::from_secs(2);

impl Place {
    /// The ring in a file; `None` if the file was removed meanwhile.
    pub(super) fn verify(&self, file: &File) -> Result<Option<Ring>, Refused> {
        let ring = self.map(file)?;
        // Under the lock of who removes what nobody used.
        let writer = self.admit(&ring)?;
        let is_there = file.metadata().is_ok_and(|facts| facts.nlink() != 0);
        if is_there {
            let header = ring.header();
            let opened = header.opened.load(Ordering::Relaxed).saturating_add(1);
            header.opened.store(opened, Ordering::Relaxed);
        }
        drop(writer);
        Ok(is_there.then_some(ring))
    }

    /// The ring in a file, of which nothing but its header was looked at.
    pub(super) fn map(&self, file: &File) -> Result<Ring, Refused> {
        self.size_of(file)?;
        // The header's page first: it tells how much of the rest has memory.
        self.reserve(file, size_of::<Header>())?;
        let slots = self.check_head(file)?;
        self.reserve(file, growth::needed(slots))?;
        let mapping =
            Mapping::of_file(file.as_fd(), SIZE).map_err(|error| self.failed("mmap", &error))?;
        Ok(Ring::new(Memory::new(mapping)))
    }

    /// The bytes of a file that is large enough for a header.
    fn size_of(&self, file: &File) -> Result<u64, Refused> {
        let size = file.metadata().map_err(|error| self.failed("fstat", &error))?.len();
        if size < size_of::<Header>() as u64 {
            return Err(self.refused(format!("it has the wrong size ({size} bytes)")));
        }
        Ok(size)
    }

    /// Whether the header of a file is that of a ring of this version, made as this file.
    /// Returns how many of its slots have memory.
    pub(super) fn check_head(&self, file: &File) -> Result<u32, Refused> {
        let size = self.size_of(file)?;
        let head = Mapping::to_read(file.as_fd(), size_of::<Header>())
            .map_err(|error| self.failed("mmap", &error))?;
        let head = Header::copy_of(&head);
        if head.magic != MAGIC {
            return Err(self.refused("it is not a ring (wrong magic number)"));
        }
        if head.version != VERSION {
            let found = head.version;
            return Err(self.refused(format!("it is a ring of version {found}, not {VERSION}")));
        }
        if head.lock_abi != LOCK_ABI {
            return Err(self.refused("it was made for another C library or word size"));
        }
        if Capacity::new(head.capacity).is_none() {
            return Err(self.refused(format!("it has a capacity of {} keys", head.capacity)));
        }
        if !(FIRST_SLOTS..=MAX_CAPACITY).contains(&head.slots) {
            return Err(self.refused(format!("it has memory for {} keys", head.slots)));
        }
        if size != SIZE as u64 || head.size != size {
            return Err(self.refused(format!("it has the wrong size ({size} bytes, not {SIZE})")));
        }
        let here = Origin::of(file).map_err(|error| self.failed("fstat", &error))?;
        if !head.origin.may_be(here) {
            return Err(self.refused(
                "it is a copy, and a ring is good only in the file that it was made as: its keys \
                 end by the clock of that run of the machine; remove it if no server uses it",
            ));
        }
        Ok(head.slots)
    }

    /// Checks the contents, under the writer lock, which is returned.
    pub(super) fn admit<'r>(&self, ring: &'r Ring) -> Result<Writer<'r>, Refused> {
        let header = ring.header();
        if !ring.mutexes().all(RobustMutex::is_one) {
            return Err(self.refused("a lock in it is none; remove it if no server uses it"));
        }
        let writer = ring.write_within(WRITER_PATIENCE).map_err(|error| match error {
            NotLocked::Busy => self.refused("its writer lock is held and not given back"),
            NotLocked::Broken(errno) => {
                self.failed("its writer lock does not work", &io::Error::from_raw_os_error(errno))
            }
        })?;
        let rotate_every = header.rotate_every.load(Ordering::Relaxed);
        let sensible = nanos(MIN_ROTATE_EVERY)..=nanos(MAX_LIFETIME);
        if rotate_every != 0 && !sensible.contains(&rotate_every) {
            return Err(self.refused(format!(
                "it rotates every {rotate_every} ns, which no setting asks for; remove it if no \
                 server uses it"
            )));
        }
        let defect = writer.defect();
        wipe_stack();
        if let Some(defect) = defect {
            return Err(self.refused(format!("{defect}; remove it if no server uses it")));
        }
        Ok(writer)
    }
}

/// The fields of a header that tell whether it is one, read before the rest is
/// mapped.
struct HeaderFacts {
    magic: u64,
    version: u32,
    lock_abi: u32,
    size: u64,
    capacity: u32,
    slots: u32,
    origin: Origin,
}

impl Header {
    fn copy_of(mapping: &Mapping) -> HeaderFacts {
        assert!(mapping.size() >= size_of::<Header>());
        // SAFETY: the mapping is page-aligned and holds a Header, which is
        // made of atomics: any bytes are valid.
        let header = unsafe { mapping.base().cast::<Header>().as_ref() };
        HeaderFacts {
            magic: header.magic.load(Ordering::Acquire),
            version: header.version.load(Ordering::Relaxed),
            lock_abi: header.lock_abi.load(Ordering::Relaxed),
            size: header.size.load(Ordering::Relaxed),
            capacity: header.capacity.load(Ordering::Relaxed),
            slots: header.slots.load(Ordering::Relaxed),
            origin: header.origin(),
        }
    }
}
