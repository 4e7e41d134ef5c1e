//! Two versions of the format on one machine: a newer library and an older one, between two
//! reloads. Each has a ring of its own; the newer one beside the file that has the name
//! already, with its number behind it: `web.ring.2`. It takes the keys of the older ring as
//! they come, so that the tickets of servers that are not upgraded yet open in those that are.
//!
//! A *major* version changes what earlier ones rely on. A *minor* one, in the upper half of
//! the word, only puts more where they do not look.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{Header, MAGIC, MAX_CAPACITY, MIN_CAPACITY, Slot};
use super::map::Mapping;
use crate::clock::{BootClock, Clock, Time};
use crate::schedule::KeyState;

/// What of a version word says whether the ring can be used.
pub const fn major(version: u32) -> u32 {
    version & 0xffff
}

/// What the first bytes of a file say of it, which every version of the format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The major version of the format; `None`: the file is not a ring of any version.
    pub version: Option<u32>,
    /// The file's size in bytes, holes included.
    pub size: u64,
}

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

/// What a ring is called by everybody who knows its file, the hosts of a fleet among them: its name, or
/// where the file is not named as a ring is, all of the file's. `web.pay` and `web.public` are two.
pub fn called(path: &Path) -> &OsStr {
    ring_name(path).or(path.file_name()).unwrap_or_default()
}

/// A ring of version 1, mapped to be read. Its keys lie behind as many heads of lookup chains
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
    pub(super) fn of(file: &File) -> Option<Older> {
        const BUCKETS_AT: usize = 17 << 10;
        let claim = version_of(file).ok()?;
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

    pub(super) fn slots(&self) -> &[Slot] {
        // SAFETY: `of` has checked that as many slots, which are made of atomics, lie in the
        // mapping from there on, and `slots_at` is a multiple of their size.
        unsafe {
            let first = self.mapping.base().add(self.slots_at).cast::<Slot>();
            std::slice::from_raw_parts(first.as_ptr(), self.slots)
        }
    }

    /// The node whose keys encrypt there.
    pub(super) fn node(&self) -> u64 {
        self.header().node.load(Ordering::Relaxed)
    }

    /// Another one after each change to its slots: every store of a key, and every erasure,
    /// makes a sequence number higher.
    pub(super) fn state(&self) -> u64 {
        let numbers = self.slots().iter().map(|slot| slot.seq.load(Ordering::Acquire));
        numbers.fold(0, u64::wrapping_add)
    }

    /// True if it was written since its keys were taken last.
    pub fn has_changed(&self) -> bool {
        self.state() != self.seen.load(Ordering::Relaxed)
    }

    /// Its keys were taken when it was in that state.
    pub(super) fn note_seen(&self, state: u64) {
        self.seen.store(state, Ordering::Relaxed);
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn rings_of_other_files_are_called_something_else() {
        for (file, is_called) in [
            ("/x/web.ring", "web"),
            ("/x/web.ring.2", "web"),
            ("/x/web.pay", "web.pay"),
            ("/x/web.public", "web.public"),
            ("/x/web.2", "web.2"),
            ("/x/web", "web"),
        ] {
            assert_eq!(called(file.as_ref()), is_called, "{file}");
        }
    }
}
