//! Where a ring lies, and what is refused there. Nothing found at a path is
//! trusted: what is not plainly ours is refused with the reason, and left as it is.
//!
//! The directory and the file are checked here, what is in it in [`super::open`], where
//! `Place` has its second `impl`: so that what only needs to know where a ring lies does not
//! depend on what a ring is.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, Metadata};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::layout::{
    self, BUCKETS, Capacity, FIRST_SLOTS, GRAVES_AT, Header, MAGIC, MAJOR, MAX_CAPACITY,
    MAX_GRAVES, SIZE,
};
use super::map::Mapping;
use super::refused::{Reason, Refused, Task};
use super::ring::Origin;
use super::versions::{major, version_of};

/// Where a ring lies: a directory, and whether it may be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The directory; it must be on tmpfs or ramfs.
    pub dir: PathBuf,
    /// The file's name in it.
    pub file: String,
    /// The mode of the directory if it has to be made.
    pub dir_mode: u32,
}

impl Place {
    /// The path of the ring.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.file)
    }

    /// The directory for rings where none is configured: for root `/run/tktrot`,
    /// or `/dev/shm/tktrot` where neither that (a volume of a container) nor /run is on
    /// tmpfs. Else the directory that systemd made for the service (systemd.exec(5),
    /// `RuntimeDirectory=`), or that of the user's session with `tktrot` in it, where they are
    /// this user's and on tmpfs; at last `/dev/shm/tktrot-UID`, which logind removes when a
    /// user of an id from 1000 on has left (logind.conf(5), `RemoveIPC=`). With it the mode to
    /// create it with.
    pub fn default_dir() -> (PathBuf, u32) {
        let user = effective_user();
        let is_ours = |dir: &Path| is_memory_of(dir, Some(user));
        if user == 0 {
            // Another's is refused, and that is said: it was put there to be shared.
            let is_there = is_memory_of("/run/tktrot".as_ref(), None) || is_ours("/run".as_ref());
            return (if is_there { "/run/tktrot" } else { "/dev/shm/tktrot" }.into(), 0o755);
        }
        let of_service = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
        let first = of_service.as_bytes().split(|byte| *byte == b':').next();
        let of_service = PathBuf::from(OsStr::from_bytes(first.unwrap_or_default()));
        let of_session = PathBuf::from(format!("/run/user/{user}"));
        let dir = if of_service.is_absolute() && is_ours(&of_service) {
            of_service
        } else if is_ours(&of_session) {
            of_session.join("tktrot")
        } else {
            format!("/dev/shm/tktrot-{user}").into()
        };
        (dir, 0o700)
    }

    /// True if this is where the file lies, and no other does.
    pub(super) fn names(&self, file: &File) -> bool {
        let here = fs::symlink_metadata(self.path()).and_then(|here| Ok((here, file.metadata()?)));
        here.is_ok_and(|(here, file)| id_of(&here) == id_of(&file))
    }

    /// The file, opened and checked; `None` if it, or its directory, is not there.
    pub(super) fn present(&self, access: libc::c_int) -> Result<Option<File>, Refused> {
        if fs::symlink_metadata(&self.dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let dir = self.open_made_dir(access)?;
        self.open_existing(&dir, access)
    }

    /// The directory, and whether it was made for this.
    pub(super) fn open_dir(&self) -> Result<(File, bool), Refused> {
        let made = fs::DirBuilder::new().mode(self.dir_mode).create(&self.dir);
        let is_made = match made {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(self.failed(Task::MakeDirectory, error)),
        };
        let dir = self.open_made_dir(libc::O_RDWR)?;
        let refused = match is_memory(&dir) {
            Ok(true) => None,
            Ok(false) => Some(self.refused(Reason::OnDisk)),
            Err(error) => Some(self.failed(Task::FileSystem, error)),
        };
        if let Some(refused) = refused {
            if is_made {
                // Ours, and of no use here.
                let _ = fs::remove_dir(&self.dir);
            }
            return Err(refused);
        }
        Ok((dir, is_made))
    }

    /// The directory, checked, for a file that is opened with this access.
    fn open_made_dir(&self, access: libc::c_int) -> Result<File, Refused> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let dir = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&self.dir)
            .map_err(|error| self.failed(Task::OpenDirectory, error))?;
        let facts = dir.metadata().map_err(|error| self.failed(Task::Stat, error))?;
        if !is_trusted(facts.uid(), access) {
            return Err(self.refused(Reason::DirectoryOf(facts.uid())));
        }
        let sticky = facts.mode() & libc::S_ISVTX != 0;
        if facts.mode() & 0o022 != 0 && !sticky {
            return Err(self.refused(Reason::DirectoryOpen));
        }
        Ok(dir)
    }

    /// The file, opened for this access and checked; `None` if there is none.
    pub(super) fn open_existing(
        &self,
        dir: &File,
        access: libc::c_int,
    ) -> Result<Option<File>, Refused> {
        // O_NONBLOCK: opening a FIFO must not wait for its other end.
        let flags = access | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = match open_at(dir, self.file.as_ref(), flags) {
            Ok(file) => file,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ENOENT) => Ok(None),
                    Some(libc::ELOOP) => Err(self.refused(Reason::SymbolicLink)),
                    Some(libc::EISDIR) => Err(self.refused(Reason::Directory)),
                    _ => Err(self.failed(Task::Open, error)),
                };
            }
        };
        let links = self.check(&file, access)?;
        Ok((links != 0).then_some(file))
    }

    /// The file, to look what it is; `None` if it cannot be opened.
    fn open_to_read(&self, dir: &File) -> Option<File> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        open_at(dir, self.file.as_ref(), flags).ok()
    }

    /// What may not be is refused; returns how many names the file has.
    pub(super) fn check(&self, file: &File, access: libc::c_int) -> Result<u64, Refused> {
        let facts = file.metadata().map_err(|error| self.failed(Task::Stat, error))?;
        let kind = facts.file_type();
        if kind.is_fifo() {
            return Err(self.refused(Reason::Fifo));
        }
        if !kind.is_file() {
            return Err(self.refused(Reason::NotAFile));
        }
        if facts.nlink() > 1 {
            return Err(self.refused(Reason::HardLinks(facts.nlink())));
        }
        if !is_trusted(facts.uid(), access) {
            return Err(self.refused(Reason::OfUser(facts.uid())));
        }
        if facts.mode() & 0o077 != 0 {
            return Err(self.refused(Reason::Open(facts.mode() & 0o7777)));
        }
        Ok(facts.nlink())
    }

    /// The bytes of a file that is large enough for a header.
    pub(super) fn size_of(&self, file: &File) -> Result<u64, Refused> {
        let size = file.metadata().map_err(|error| self.failed(Task::Stat, error))?.len();
        if size < size_of::<Header>() as u64 {
            return Err(self.refused(Reason::TooShort(size)));
        }
        Ok(size)
    }

    /// Whether the header of a file is that of a ring of this version, made as this file.
    /// Returns how many of its slots have memory, and how many graves have been in use, if it has
    /// room for graves.
    pub(super) fn check_head(&self, file: &File) -> Result<(u32, Option<u32>), Refused> {
        let size = self.size_of(file)?;
        let head = Mapping::to_read(file.as_fd(), size_of::<Header>())
            .map_err(|error| self.failed(Task::Map, error))?;
        let head = HeaderFacts::read(&head);
        if head.magic != MAGIC {
            return Err(self.refused(Reason::NotARing));
        }
        let found = major(head.version);
        if found != MAJOR {
            return Err(self.refused(Reason::Version(found)));
        }
        if !layout::lies_as_here(head.lock_abi) {
            return Err(self.refused(Reason::Abi));
        }
        if head.buckets != BUCKETS as u32 {
            return Err(self.refused(Reason::Chains(head.buckets)));
        }
        if Capacity::new(head.capacity).is_none() {
            return Err(self.refused(Reason::Capacity(head.capacity)));
        }
        if !(FIRST_SLOTS..=MAX_CAPACITY).contains(&head.slots) {
            return Err(self.refused(Reason::Slots(head.slots)));
        }
        // The first minor version had nothing behind the slots; a later one may have more at its
        // end.
        let has_graves = size >= SIZE as u64;
        if !(has_graves || size == GRAVES_AT as u64) || head.size != size {
            return Err(self.refused(Reason::Size(size)));
        }
        if head.graves > if has_graves { MAX_GRAVES } else { 0 } {
            return Err(self.refused(Reason::Graves(head.graves)));
        }
        let here = origin_of(file).map_err(|error| self.failed(Task::Stat, error))?;
        if !head.origin.may_be(here) {
            return Err(self.refused(Reason::Copy));
        }
        Ok((head.slots, has_graves.then_some(head.graves)))
    }

    /// Takes the memory now, holes of a sparse copy included: on a full tmpfs
    /// the access to a page that is not there would be a SIGBUS.
    pub(super) fn reserve(&self, file: &File, from: usize, len: usize) -> Result<(), Refused> {
        // tmpfs gives up as soon as a signal is pending, and servers get signals.
        let taken = uninterrupted(|| {
            // SAFETY: fallocate only takes a descriptor of ours and numbers.
            unsafe { libc::fallocate(file.as_raw_fd(), 0, from as libc::off_t, len as libc::off_t) }
        });
        taken.map(drop).map_err(|error| self.failed(Task::Reserve, error))
    }

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
    pub(super) fn of_whoever_was_first(&self) -> Place {
        let file = self.file.strip_suffix(&*suffix(MAJOR)).unwrap_or(&self.file);
        Place { file: file.to_owned(), ..self.clone() }
    }

    /// The file beside that one.
    fn beside(&self, major: u32) -> Place {
        Place { file: format!("{}{}", self.file, suffix(major)), ..self.clone() }
    }

    pub(super) fn is_beside(&self) -> bool {
        self.file.ends_with(&*suffix(MAJOR))
    }

    /// The major version of what lies here; `None` if that is no ring, or cannot be read.
    fn version(&self) -> Option<u32> {
        let dir = self.open_made_dir(libc::O_RDONLY).ok()?;
        let file = self.open_to_read(&dir)?;
        version_of(&file).ok()?.version
    }

    pub(super) fn refused(&self, reason: Reason) -> Refused {
        Refused { path: self.path(), reason }
    }

    pub(super) fn failed(&self, task: Task, error: io::Error) -> Refused {
        self.refused(Reason::Failed(task, error))
    }
}

/// Makes a call that returns -1 when it fails, and makes it anew if a signal kept it from working.
fn uninterrupted(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    loop {
        let result = call();
        if result != -1 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Device and inode.
pub(super) fn id_of(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
}

/// The file that a ring is made as, of an open one.
pub(super) fn origin_of(file: &File) -> io::Result<Origin> {
    Ok(Origin { inode: file.metadata()?.ino(), born: born(file) })
}

/// Makes a ring's bytes in another file pass for a ring that was made there, for
/// tests of what is not a copy's fault.
#[doc(hidden)]
pub fn adopt(file: &File) -> io::Result<()> {
    let origin = origin_of(file)?;
    let words = [origin.inode, origin.born].map(u64::to_ne_bytes);
    file.write_all_at(&words.concat(), offset_of!(Header, inode) as u64)
}

fn born(file: &File) -> u64 {
    // SAFETY: zero is a valid statx, and the call fills it.
    let mut facts: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a descriptor of ours, an empty name and a valid buffer.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BTIME,
            &raw mut facts,
        )
    };
    if rc != 0 || facts.stx_mask & libc::STATX_BTIME == 0 {
        return 0;
    }
    (facts.stx_btime.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(facts.stx_btime.tv_nsec.into())
}

fn suffix(major: u32) -> String {
    format!(".{major}")
}

fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whose files are used: one's own and root's. Root may look at everybody's,
/// but writes to nobody else's: a lock in it could make him wait.
fn is_trusted(owner: u32, access: libc::c_int) -> bool {
    let user = effective_user();
    owner == user || owner == 0 || (user == 0 && access == libc::O_RDONLY)
}

/// True for a directory in memory that belongs to that user, or to whomever.
fn is_memory_of(dir: &Path, user: Option<u32>) -> bool {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(dir);
    let belongs =
        |dir: &File| user.is_none_or(|user| dir.metadata().is_ok_and(|facts| facts.uid() == user));
    opened.is_ok_and(|dir| on_memory(&dir) && belongs(&dir))
}

/// True if a file lies on tmpfs or ramfs, which is memory; false if that cannot be told.
pub fn on_memory(file: &File) -> bool {
    is_memory(file).unwrap_or(false)
}

fn is_memory(file: &File) -> io::Result<bool> {
    // SAFETY: zero is a valid statfs, and the call fills it.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a descriptor of ours and a valid buffer.
    uninterrupted(|| unsafe { libc::fstatfs(file.as_raw_fd(), &mut facts) })?;
    /// statfs(2).
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&(facts.f_type as u64)))
}

pub(super) fn open_at(dir: &File, name: &OsStr, flags: libc::c_int) -> io::Result<File> {
    let name = c_name(name)?;
    let mode: libc::mode_t = 0o600;
    let fd = uninterrupted(|| {
        // SAFETY: a descriptor of ours and a NUL-terminated name.
        unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, mode) }
    })?;
    // SAFETY: it was opened just now, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

pub(super) fn remove_at(dir: &File, name: &str) -> io::Result<()> {
    let name = c_name(name.as_ref())?;
    // SAFETY: a descriptor of ours and a NUL-terminated name.
    match unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Renames unless the new name exists (renameat2(2)); one link all the time.
pub(super) fn rename_at(dir: &File, from: &str, to: &str) -> io::Result<()> {
    let (from, to) = (c_name(from.as_ref())?, c_name(to.as_ref())?);
    let fd = dir.as_raw_fd();
    // SAFETY: a descriptor of ours and NUL-terminated names.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            fd,
            from.as_ptr(),
            fd,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_name(name: &OsStr) -> io::Result<CString> {
    Ok(CString::new(Path::new(name).as_os_str().as_bytes())?)
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
    graves: u32,
    origin: Origin,
}

impl HeaderFacts {
    fn read(mapping: &Mapping) -> HeaderFacts {
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
            graves: header.graves.load(Ordering::Relaxed),
            origin: Origin::told_by(header),
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
            let claim = version_of(&File::open(dir.path().join("other")).unwrap()).unwrap();
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
