//! From what lies in a file to a ring that can be used, or to a [`View`] of it. Nothing in it
//! is trusted before it was looked at.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use super::file::{Place, id_of, open_at, origin_of, remove_at, rename_at};
use super::layout::{Capacity, FIRST_SLOTS, Header, LOCK_ABI, SIZE, bytes_of};
use super::lock::PATIENCE;
use super::map::{Mapping, Memory};
use super::mutex::RobustMutex;
use super::refused::{Reason, Refused, Task};
use super::removal;
use super::ring::{Made, Ring, needed, needed_for_graves, random_number};
use super::versions::Older;
use super::view::View;
use super::writer::Writer;
use crate::clock::nanos;
use crate::schedule::{MAX_LIFETIME, MIN_ROTATE_EVERY};
use crate::secret::wipe_stack;

impl Place {
    /// Opens the ring, or creates it for up to `capacity` keys. Whoever opens it at the same
    /// time, in whatever container, has the same one in the end.
    ///
    /// The file must be regular, have one link, belong to this user or root,
    /// give nobody else any right, lie on tmpfs or ramfs, and hold a sound
    /// ring of this version that was made as this file. Where another version has the name, it
    /// is the file beside it: [`Place::of_this_version`].
    pub fn open(&self, capacity: Capacity) -> Result<Ring, Refused> {
        let mut dir_made = false;
        // Again and again, because another process may create or remove it meanwhile.
        for _ in 0..8 {
            let (dir, made) = self.open_dir()?;
            dir_made |= made;
            let place = self.of_this_version();
            let opened = match place.open_existing(&dir, libc::O_RDWR)? {
                Some(file) => place.verify(&file)?.map(|ring| (file, ring)),
                None => place.create(&dir, capacity)?.map(|(file, mut ring)| {
                    let facts = file.metadata().ok();
                    ring.made = facts.map(|facts| {
                        let (path, file) = (place.path(), id_of(&facts));
                        Made { path, file, dir: dir_made }
                    });
                    (file, ring)
                }),
            };
            let Some((file, mut ring)) = opened else { continue };
            if place.names(&file) && self.of_this_version() == place {
                ring.older = place.older();
                return Ok(ring);
            }
            // Another version came in between, and whoever comes now goes elsewhere.
            removal::remove_unused(&place, &ring);
        }
        Err(self.refused(Reason::Unsteady))
    }

    /// Opens the ring if there is one: for administrative commands.
    ///
    /// # Errors
    ///
    /// As for [`Place::open`].
    pub fn open_present(&self) -> Result<Option<Ring>, Refused> {
        match self.present(libc::O_RDWR)? {
            Some(file) => self.verify(&file),
            None => Ok(None),
        }
    }

    /// Maps the ring to look at it; `None` if there is none. Takes no lock, makes nothing and
    /// changes nothing. Root may look at everybody's rings.
    ///
    /// # Errors
    ///
    /// What lies there is not a ring that this version reads, or may not be read.
    pub fn look(&self) -> Result<Option<View>, Refused> {
        self.present(libc::O_RDONLY)?.map(|file| self.view(file)).transpose()
    }

    fn view(&self, file: File) -> Result<View, Refused> {
        self.check_head(&file)?;
        let mapping =
            Mapping::to_read(file.as_fd(), SIZE).map_err(|error| self.failed(Task::Map, error))?;
        Ok(View::new(mapping, file))
    }

    /// The ring in a file that was here, and was removed: for who reached it through a
    /// process that has it.
    ///
    /// # Errors
    ///
    /// As for [`Place::open`].
    pub fn open_file(&self, file: File) -> Result<Ring, Refused> {
        self.check(&file, libc::O_RDWR)?;
        let ring = self.map(&file)?;
        self.admit(&ring)?;
        Ok(ring)
    }

    /// As [`Place::look`], at such a file.
    ///
    /// # Errors
    ///
    /// As for [`Place::look`].
    pub fn look_into(&self, file: File) -> Result<View, Refused> {
        self.check(&file, libc::O_RDONLY)?;
        self.view(file)
    }

    /// Makes the ring under a name that nobody else has and moves it into place when it
    /// is complete; `None` if another process was faster, or removed the directory.
    fn create(&self, dir: &File, capacity: Capacity) -> Result<Option<(File, Ring)>, Refused> {
        let failed = |error| self.failed(Task::Create, error);
        let unfinished = format!(".{}.{:016x}.new", self.file, random_number().map_err(failed)?);
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let file = match open_at(dir, unfinished.as_ref(), flags) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let made = self.fill(&file, capacity).and_then(|ring| {
            match rename_at(dir, &unfinished, &self.file) {
                Ok(()) => Ok(Some((file, ring))),
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(None),
                Err(error) => Err(self.failed(Task::Move, error)),
            }
        });
        if !matches!(made, Ok(Some(_))) {
            let _ = remove_at(dir, &unfinished);
        }
        made
    }

    fn fill(&self, file: &File, capacity: Capacity) -> Result<Ring, Refused> {
        if !may_write(SIZE) {
            return Err(self.refused(Reason::FileSizeLimit));
        }
        file.set_len(SIZE as u64).map_err(|error| self.failed(Task::Reserve, error))?;
        self.reserve(file, 0, bytes_of(FIRST_SLOTS))?;
        let (from, len) = needed_for_graves(0);
        self.reserve(file, from, len)?;
        let mapping =
            Mapping::of_file(file.as_fd(), SIZE).map_err(|error| self.failed(Task::Map, error))?;
        let ring = Ring::new(Memory::new(mapping));
        let origin = origin_of(file).map_err(|error| self.failed(Task::Stat, error))?;
        ring.format(capacity, origin).map_err(|error| self.failed(Task::Format, error))?;
        Ok(ring)
    }

    /// The ring in a file; `None` if the file was removed meanwhile.
    fn verify(&self, file: &File) -> Result<Option<Ring>, Refused> {
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
    fn map(&self, file: &File) -> Result<Ring, Refused> {
        self.size_of(file)?;
        // The header's page first: it tells how much of the rest has memory.
        self.reserve(file, 0, size_of::<Header>())?;
        let (slots, graves) = self.check_head(file)?;
        self.reserve(file, 0, needed(slots))?;
        if let Some((from, len)) = graves.map(needed_for_graves) {
            self.reserve(file, from, len)?;
        }
        let mapping =
            Mapping::of_file(file.as_fd(), SIZE).map_err(|error| self.failed(Task::Map, error))?;
        Ok(Ring::new(Memory::new(mapping)))
    }

    /// Checks the contents, under the writer lock, which is returned.
    fn admit<'r>(&self, ring: &'r Ring) -> Result<Writer<'r>, Refused> {
        let header = ring.header();
        let lock_abi = header.lock_abi.load(Ordering::Relaxed);
        if lock_abi != LOCK_ABI {
            return Err(self.refused(Reason::Locks(lock_abi)));
        }
        if !ring.mutexes().all(RobustMutex::is_one) {
            return Err(self.refused(Reason::InvalidLock));
        }
        let writer =
            ring.write_within(PATIENCE).map_err(|why| self.refused(Reason::Locked(why)))?;
        let rotate_every = header.rotate_every.load(Ordering::Relaxed);
        let sensible = nanos(MIN_ROTATE_EVERY)..=nanos(MAX_LIFETIME);
        if rotate_every != 0 && !sensible.contains(&rotate_every) {
            return Err(self.refused(Reason::Rotation(rotate_every)));
        }
        let defect = writer.defect();
        wipe_stack();
        if let Some(defect) = defect {
            return Err(self.refused(Reason::Defect(defect)));
        }
        Ok(writer)
    }

    /// The ring of an older version that has the name, if this is the one beside it.
    pub(super) fn older(&self) -> Option<Older> {
        if !self.is_beside() {
            return None;
        }
        let file = self.of_whoever_was_first().present(libc::O_RDONLY).ok()?;
        Older::of(&file?)
    }
}

/// False if a file of that size would cost the process a signal (setrlimit(2)).
fn may_write(size: usize) -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
    // SAFETY: a valid buffer.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    rc != 0 || limit.rlim_cur >= size as libc::rlim_t
}
