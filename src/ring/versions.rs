//! Two versions of the format on one machine: a newer library and an older one, between two
//! reloads. Each has a ring of its own; the newer one beside the file that has the name
//! already, with its number behind it: `web.ring.2`. It takes the keys of the older ring as
//! they come, so that the tickets of servers that are not upgraded yet open in those that are.
//!
//! A *major* version changes what earlier ones rely on. A *minor* one, in the upper half of
//! the word, only puts more where they do not look.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Ring;
use super::file::Place;
use super::layout::{Header, MAJOR, MAX_CAPACITY, MIN_CAPACITY, Slot};
use super::map::Mapping;
use super::reader::Key;
use super::writer::Writer;
use crate::clock::{BootClock, Clock, Time};
use crate::schedule::KeyState;
use crate::secret::{KeyName, wipe_stack};

/// What of a version word says whether the ring can be used.
pub const fn major(version: u32) -> u32 {
    version & 0xffff
}

/// The name of the ring that a file of this name is, of whatever version: `web` of `web.ring`
/// and of `web.ring.2`. `None` if it is not named as a ring is.
pub fn ring_name(path: &Path) -> Option<&OsStr> {
    let file = Path::new(path.file_name()?);
    let is_number = |end: &OsStr| end.as_bytes().iter().all(u8::is_ascii_digit);
    let plain = match file.extension().filter(|end| is_number(end)) {
        Some(_) => Path::new(file.file_stem()?),
        None => file,
    };
    plain.extension().filter(|end| *end == "ring")?;
    plain.file_stem()
}

impl Place {
    /// Where a library of this version has the ring of that name.
    pub fn of_this_version(&self) -> Place {
        if self.is_beside() {
            return self.clone();
        }
        let beside = self.beside(MAJOR);
        let is_anothers = || self.version().is_some_and(|version| version != MAJOR);
        if beside.holds_a_ring() || is_anothers() { beside } else { self.clone() }
    }

    /// True if what lies here is a ring of this version, that this user may use and that was made as
    /// this file; false for what only has such a name.
    pub fn holds_a_ring(&self) -> bool {
        let file = self.present(libc::O_RDONLY).ok().flatten();
        file.is_some_and(|file| self.check_head(&file).is_ok())
    }

    /// The other rings that there are of that name, of whatever version.
    pub fn others_of_that_name(&self) -> Vec<Place> {
        /// Nobody has so many releases between two reloads.
        const MOST: u32 = 9;
        let first = self.of_whoever_was_first();
        let all = std::iter::once(first.clone()).chain((1..=MOST).map(|major| first.beside(major)));
        let is_other = |place: &Place| place.file != self.file && place.version().is_some();
        all.filter(is_other).collect()
    }

    /// The file that has the name, of whatever version.
    fn of_whoever_was_first(&self) -> Place {
        let file = self.file.strip_suffix(&*suffix(MAJOR)).unwrap_or(&self.file);
        Place { file: file.to_owned(), ..self.clone() }
    }

    /// The file beside that one.
    fn beside(&self, major: u32) -> Place {
        Place { file: format!("{}{}", self.file, suffix(major)), ..self.clone() }
    }

    fn is_beside(&self) -> bool {
        self.file.ends_with(&*suffix(MAJOR))
    }

    /// The major version of what lies here; `None` if that is no ring, or cannot be read.
    fn version(&self) -> Option<u32> {
        let dir = self.open_made_dir(libc::O_RDONLY).ok()?;
        let file = self.open_to_read(&dir)?;
        Place::version_of(&file).ok()?.version
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

fn suffix(major: u32) -> String {
    format!(".{major}")
}

/// A ring of version 1, mapped to be read. Its keys lie behind as many heads of look-up chains
/// as its header says; a slot was what it is today.
pub struct Older {
    mapping: Mapping,
    slots_at: usize,
    slots: usize,
    /// [`Older::state`] when its keys were taken last.
    seen: AtomicU64,
}

impl Older {
    /// `None` if it is none whose keys can be taken: of a version that is not known here, or of
    /// another boot of this machine.
    fn of(file: &File) -> Option<Older> {
        const BUCKETS_AT: usize = 17 << 10;
        let claim = Place::version_of(file).ok()?;
        if claim.version != Some(1) {
            return None;
        }
        let len = usize::try_from(claim.size).ok()?;
        // A hole could be a SIGBUS.
        let has_holes = file.metadata().ok()?.blocks() * 512 < claim.size;
        if len < size_of::<Header>() || has_holes {
            return None;
        }
        let mapping = Mapping::to_read(file.as_fd(), len).ok()?;
        let mut older = Older { mapping, slots_at: 0, slots: 0, seen: AtomicU64::new(u64::MAX) };
        let header = older.header();
        let capacity = header.capacity.load(Ordering::Relaxed);
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) {
            return None;
        }
        let buckets = capacity.next_power_of_two().max(32) as usize;
        let slots_at = BUCKETS_AT + buckets * size_of::<u32>();
        let is_whole = len == slots_at + capacity as usize * size_of::<Slot>();
        let boot = [&header.inode, &header.born].map(|word| word.load(Ordering::Relaxed));
        if !is_whole || !may_be_same_boot(boot, boot_id()) {
            return None;
        }
        (older.slots_at, older.slots) = (slots_at, capacity as usize);
        if !older.has_keys(BootClock.now()) {
            return None;
        }
        // As its own servers do; where this one may not, its keys are no worse off than there.
        let _ = older.mapping.hide();
        let _ = older.mapping.lock(len);
        Some(older)
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned and at least a header long (checked by `of`);
        // a header is made of atomics, for which any bytes are valid. What of it is looked
        // at lies where it did in version 1.
        unsafe { self.mapping.base().cast::<Header>().as_ref() }
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: `of` has checked that as many slots, which are made of atomics, lie in the
        // mapping from there on, and `slots_at` is a multiple of their size.
        unsafe {
            let first = self.mapping.base().add(self.slots_at).cast::<Slot>();
            std::slice::from_raw_parts(first.as_ptr(), self.slots)
        }
    }

    /// Another one after each change to its slots: every store of a key, and every erasure,
    /// makes a sequence number higher.
    fn state(&self) -> u64 {
        let numbers = self.slots().iter().map(|slot| slot.seq.load(Ordering::Acquire));
        numbers.fold(0, u64::wrapping_add)
    }

    /// True if it was written since its keys were taken last.
    pub fn has_changed(&self) -> bool {
        self.state() != self.seen.load(Ordering::Relaxed)
    }

    /// True if one of its keys is not over yet. What had none when a server of this version
    /// came is not looked at: it may be removed.
    fn has_keys(&self, now: Time) -> bool {
        let is_live = |slot: &Slot| {
            !slot.name().is_constant() && slot.times().state(now) != KeyState::Expired
        };
        self.slots().iter().any(is_live)
    }
}

impl Ring {
    /// Takes the keys that the older ring has got since it was looked at last, if there is one.
    /// Never waits.
    pub fn follow_older(&self, now: Time) {
        if self.older().is_some_and(Older::has_changed)
            && now != Time::NEVER
            && let Ok(writer) = self.try_write()
            && writer.inherit(now)
        {
            wipe_stack();
            // Whoever comes next sees to their ends.
            writer.set_deadline(Time(0));
        }
    }
}

impl Writer<'_> {
    /// Takes the keys of an older ring that are not here yet, and erases those of its node that
    /// it has no longer, because they were revoked. They keep node and times, and encrypt
    /// nothing here. Not after a revocation here: what that ended must not come back. True if
    /// it looked: then the stack is the caller's to wipe.
    pub(crate) fn inherit(&self, now: Time) -> bool {
        let older = self.ring().older().filter(|older| older.has_changed());
        let Some(older) = older else { return false };
        let state = older.state();
        let node = older.header().node.load(Ordering::Relaxed);
        let is_severed = self.ring().header().severed.load(Ordering::Relaxed) != 0;
        if !is_severed && node != self.ring().header().node.load(Ordering::Relaxed) {
            let there: Vec<KeyName> = older.slots().iter().map(Slot::name).collect();
            for entry in self.entries() {
                if entry.node == node && !there.contains(&entry.name) {
                    self.erase(entry.index);
                }
            }
            let is_new = |slot: &&Slot| self.ring().locate(&slot.name()).is_none();
            for slot in older.slots().iter().filter(is_new) {
                self.inherit_one(slot, now);
            }
        }
        older.seen.store(state, Ordering::Relaxed);
        true
    }

    /// Not inlined, so that the copy of a key is in a frame below the one whose stack is wiped.
    #[inline(never)]
    fn inherit_one(&self, slot: &Slot, now: Time) {
        let mut key = Key::blank();
        let lives = |key: &Key| key.times.state(now) != KeyState::Expired;
        if slot.read(&mut key) && key.times.are_ordered() && lives(&key) {
            // What is here already, or finds no memory, is not taken.
            let _ = self.publish(&key);
        }
    }
}

/// False if the two are known, and differ.
fn may_be_same_boot(one: [u64; 2], other: [u64; 2]) -> bool {
    one == other || one == [0; 2] || other == [0; 2]
}

/// The id of this boot (random(4)), as a ring of version 1 has it; zeroes where /proc does
/// not tell.
fn boot_id() -> [u64; 2] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let id = u128::from_str_radix(&digits, 16).unwrap_or(0);
    [id as u64, (id >> 64) as u64]
}
