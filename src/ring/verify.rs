//! Whether what lies in a file is a ring that can be used. Nothing in it is
//! trusted before it was looked at.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::file::{Place, Refused};
use super::layout::{
    BUCKETS, Capacity, FIRST_SLOTS, Header, LOCK_ABI, MAGIC, MAJOR, MAX_CAPACITY, SIZE,
};
use super::map::Mapping;
use super::memory::Memory;
use super::mutex::RobustMutex;
use super::origin::Origin;
use super::versions::major;
use super::writer::Writer;
use super::{Ring, growth};
use crate::clock::nanos;
use crate::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY};
use crate::secret::wipe_stack;

/// How long opening a ring waits for its writer, who needs microseconds.
pub(super) const WRITER_PATIENCE: Duration = Duration::from_secs(2);

/// What the first bytes of a file say of it, which every version of the format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The major version of the format; `None`: the file is not a ring of any version.
    pub version: Option<u32>,
    /// The file's size in bytes, holes included.
    pub size: u64,
}

impl Place {
    /// What a file claims to be. Nothing is mapped, checked or refused: for who tells of
    /// files that this version does not read.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn version_of(file: &File) -> io::Result<Claim> {
        const VERSION_AT: usize = offset_of!(Header, version);
        let size = file.metadata()?.len();
        let mut head = [0; VERSION_AT + size_of::<u32>()];
        match file.read_exact_at(&mut head, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Claim { version: None, size });
            }
            read => read?,
        }
        // The last byte of the magic number is another one in rings that old readers must not touch.
        let is_ring = head[..7] == MAGIC.to_le_bytes()[..7];
        let version = u32::from_ne_bytes(head[VERSION_AT..].try_into().expect("4 bytes"));
        Ok(Claim { version: is_ring.then_some(major(version)), size })
    }

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
        let found = major(head.version);
        if found != MAJOR {
            return Err(self.refused(format!("it is a ring of version {found}, not {MAJOR}")));
        }
        if head.lock_abi != LOCK_ABI {
            return Err(self.refused("it was made for another C library or word size"));
        }
        if head.buckets != BUCKETS as u32 {
            return Err(self.refused(format!("it has {} look-up chains", head.buckets)));
        }
        if Capacity::new(head.capacity).is_none() {
            return Err(self.refused(format!("it has a capacity of {} keys", head.capacity)));
        }
        if !(FIRST_SLOTS..=MAX_CAPACITY).contains(&head.slots) {
            return Err(self.refused(format!("it has memory for {} keys", head.slots)));
        }
        // A later minor version may have more at its end.
        if size < SIZE as u64 || head.size != size {
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
        let writer =
            ring.write_within(WRITER_PATIENCE).map_err(|why| self.refused(why.to_string()))?;
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
    buckets: u32,
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
            buckets: header.buckets.load(Ordering::Relaxed),
            slots: header.slots.load(Ordering::Relaxed),
            origin: header.origin(),
        }
    }
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_tells_its_version_whatever_that_is() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
        drop(place.open(Capacity::new(8).unwrap()).unwrap());
        let version = |bytes: &[u8]| {
            fs::write(dir.path().join("other"), bytes).unwrap();
            let claim = Place::version_of(&File::open(dir.path().join("other")).unwrap()).unwrap();
            assert_eq!(claim.size, bytes.len() as u64);
            claim.version
        };
        let sound = fs::read(place.path()).unwrap();
        assert_eq!(version(&sound), Some(MAJOR));
        assert_eq!(version(b"tktrot\0\x01\x01\0\0\0"), Some(1));
        assert_eq!(version(b"tktrot\0\x02\x09\0\0\0 and more"), Some(9));
        assert_eq!(version(b"tktrot\0\x01\x01\0\0"), None);
        assert_eq!(version(&[7; 4096]), None);
        assert_eq!(version(b""), None);
    }
}
