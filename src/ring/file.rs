//! Where a ring lies, and what is refused there. Nothing found at a path is
//! trusted: what is not plainly ours is refused with the reason, and left as it is.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Ring;
use super::layout::{Capacity, FIRST_SLOTS, SIZE, bytes_of};
use super::map::Mapping;
use super::memory::Memory;
use super::origin::Origin;
use super::random_number;
use super::unused::Made;
use super::view::View;

/// A ring that cannot be used, and why.
#[derive(Debug)]
pub struct Refused {
    path: PathBuf,
    reason: String,
    is_a_right: bool,
}

impl Refused {
    /// True if another user, root above all, would not have been refused.
    pub fn is_a_right(&self) -> bool {
        self.is_a_right
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

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
            place.remove_unused(&ring);
        }
        Err(self.refused("it appears and disappears while it is opened"))
    }

    /// True if this is where the file lies, and no other does.
    fn names(&self, file: &File) -> bool {
        let here = fs::symlink_metadata(self.path()).and_then(|here| Ok((here, file.metadata()?)));
        here.is_ok_and(|(here, file)| id_of(&here) == id_of(&file))
    }

    /// Opens the ring if there is one: for who has something to do to it, not with it.
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

    /// The file, opened and checked; `None` if it, or its directory, is not there.
    pub(super) fn present(&self, access: libc::c_int) -> Result<Option<File>, Refused> {
        if fs::symlink_metadata(&self.dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let dir = self.open_made_dir(access)?;
        self.open_existing(&dir, access)
    }

    /// The directory, and whether it was made for this.
    fn open_dir(&self) -> Result<(File, bool), Refused> {
        let made = fs::DirBuilder::new().mode(self.dir_mode).create(&self.dir);
        if let Err(error) = &made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(self.failed("its directory cannot be made", error));
        }
        let dir = self.open_made_dir(libc::O_RDWR)?;
        let refused = match is_memory(&dir) {
            Ok(true) => None,
            Ok(false) => Some(self.refused(
                "its directory is not on tmpfs or ramfs, and keys must never reach a disk",
            )),
            Err(error) => {
                Some(self.failed("whether its directory is on tmpfs is not told", &error))
            }
        };
        if let Some(refused) = refused {
            if made.is_ok() {
                // Ours, and of no use here.
                let _ = fs::remove_dir(&self.dir);
            }
            return Err(refused);
        }
        Ok((dir, made.is_ok()))
    }

    /// The directory, checked, for a file that is opened with this access.
    pub(super) fn open_made_dir(&self, access: libc::c_int) -> Result<File, Refused> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let dir = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&self.dir)
            .map_err(|error| self.failed("its directory cannot be opened", &error))?;
        let facts = dir.metadata().map_err(|error| self.failed("fstat", &error))?;
        if !is_trusted(facts.uid(), access) {
            return Err(self.of_somebody_else("its directory", facts.uid()));
        }
        let sticky = facts.mode() & libc::S_ISVTX != 0;
        if facts.mode() & 0o022 != 0 && !sticky {
            let remedy = "run chmod go-w on it, or use a new directory inside it";
            return Err(self.refused(format!("its directory can be written by others ({remedy})")));
        }
        Ok(dir)
    }

    /// The file, opened for this access and checked; `None` if there is none.
    fn open_existing(&self, dir: &File, access: libc::c_int) -> Result<Option<File>, Refused> {
        // O_NONBLOCK: opening a FIFO must not wait for its other end.
        let flags = access | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = match open_at(dir, self.file.as_ref(), flags) {
            Ok(file) => file,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ENOENT) => Ok(None),
                    Some(libc::ELOOP) => Err(self.refused("it is a symbolic link")),
                    Some(libc::EISDIR) => Err(self.refused("it is a directory")),
                    _ => Err(self.failed("it cannot be opened", &error)),
                };
            }
        };
        let links = self.check(&file, access)?;
        Ok((links != 0).then_some(file))
    }

    /// The file, to look what it is; `None` if it cannot be opened.
    pub(super) fn open_to_read(&self, dir: &File) -> Option<File> {
        let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        open_at(dir, self.file.as_ref(), flags).ok()
    }

    /// What may not be is refused; returns how many names the file has.
    fn check(&self, file: &File, access: libc::c_int) -> Result<u64, Refused> {
        let facts = file.metadata().map_err(|error| self.failed("fstat", &error))?;
        let kind = facts.file_type();
        if kind.is_fifo() {
            return Err(self.refused("it is a FIFO"));
        }
        if !kind.is_file() {
            return Err(self.refused("it is not a regular file"));
        }
        if facts.nlink() > 1 {
            return Err(self.refused(format!("it has {} hard links", facts.nlink())));
        }
        if !is_trusted(facts.uid(), access) {
            return Err(self.of_somebody_else("it", facts.uid()));
        }
        if facts.mode() & 0o077 != 0 {
            let mode = facts.mode() & 0o7777;
            return Err(self.refused(format!("others have rights to it (mode {mode:04o})")));
        }
        Ok(facts.nlink())
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
        let failed = |error| self.failed("it cannot be created", &error);
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
                Err(error) => Err(self.failed("it cannot be moved into place", &error)),
            }
        });
        if !matches!(made, Ok(Some(_))) {
            let _ = remove_at(dir, &unfinished);
        }
        made
    }

    fn fill(&self, file: &File, capacity: Capacity) -> Result<Ring, Refused> {
        if !may_write(SIZE) {
            let limit = format!("the limit of file sizes (RLIMIT_FSIZE) is less than {SIZE} bytes");
            return Err(self.refused(limit));
        }
        file.set_len(SIZE as u64).map_err(|error| self.failed("no room for it", &error))?;
        self.reserve(file, bytes_of(FIRST_SLOTS))?;
        let mapping =
            Mapping::of_file(file.as_fd(), SIZE).map_err(|error| self.failed("mmap", &error))?;
        let ring = Ring::new(Memory::new(mapping));
        let origin = Origin::of(file).map_err(|error| self.failed("fstat", &error))?;
        ring.format(capacity, origin).map_err(|failure| self.refused(failure.to_string()))?;
        Ok(ring)
    }

    /// Takes the memory now, holes of a sparse copy included: on a full tmpfs
    /// the access to a page that is not there would be a SIGBUS.
    pub(super) fn reserve(&self, file: &File, len: usize) -> Result<(), Refused> {
        // tmpfs gives up as soon as a signal is pending, and servers get signals.
        let taken = uninterrupted(|| {
            // SAFETY: fallocate only takes a descriptor of ours and numbers.
            unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len as libc::off_t) }
        });
        taken.map(drop).map_err(|error| self.failed("no room for it", &error))
    }

    pub(super) fn refused(&self, reason: impl Into<String>) -> Refused {
        Refused { path: self.path(), reason: reason.into(), is_a_right: false }
    }

    fn of_somebody_else(&self, what: &str, owner: u32) -> Refused {
        let refused = self.refused(format!("{what} belongs to user {owner}"));
        Refused { is_a_right: true, ..refused }
    }

    pub(super) fn failed(&self, what: &str, error: &io::Error) -> Refused {
        let refused = self.refused(format!("{what}: {error}"));
        Refused { is_a_right: error.raw_os_error() == Some(libc::EACCES), ..refused }
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

/// False if a file of that size would cost the process a signal (setrlimit(2)).
fn may_write(size: usize) -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
    // SAFETY: a valid buffer.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    rc != 0 || limit.rlim_cur >= size as libc::rlim_t
}

/// Device and inode.
pub(super) fn id_of(facts: &Metadata) -> (u64, u64) {
    (facts.dev(), facts.ino())
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

fn open_at(dir: &File, name: &OsStr, flags: libc::c_int) -> io::Result<File> {
    let name = c_name(name)?;
    let mode: libc::mode_t = 0o600;
    let fd = uninterrupted(|| {
        // SAFETY: a descriptor of ours and a NUL-terminated name.
        unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, mode) }
    })?;
    // SAFETY: it was opened just now, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn remove_at(dir: &File, name: &str) -> io::Result<()> {
    let name = c_name(name.as_ref())?;
    // SAFETY: a descriptor of ours and a NUL-terminated name.
    match unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Renames unless the new name exists (renameat2(2)); one link all the time.
fn rename_at(dir: &File, from: &str, to: &str) -> io::Result<()> {
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
