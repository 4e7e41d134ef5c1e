//! Why a ring is refused: every reason that there is, and what is said of it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::layout::{self, BUCKETS, MAJOR, SIZE};
use super::lock::NotLocked;
use super::writer::Defect;

/// A ring that cannot be used, and why.
#[derive(Debug)]
pub struct Refused {
    /// The path of the ring.
    pub path: PathBuf,
    /// Why it is refused.
    pub reason: Reason,
}

/// Why a ring cannot be used.
#[derive(Debug)]
pub enum Reason {
    /// The system did not do what was asked of it.
    Failed(Task, io::Error),
    /// Its directory belongs to a user who is not trusted.
    DirectoryOf(u32),
    /// Its directory can be written by others.
    DirectoryOpen,
    /// Its directory is on a disk.
    OnDisk,
    /// What lies there is a symbolic link.
    SymbolicLink,
    /// What lies there is a directory.
    Directory,
    /// What lies there is a FIFO.
    Fifo,
    /// What lies there is no regular file.
    NotAFile,
    /// The file has so many names.
    HardLinks(u64),
    /// The file belongs to a user who is not trusted.
    OfUser(u32),
    /// Others have rights to the file, which has this mode.
    Open(u32),
    /// The file does not begin as a ring.
    NotARing,
    /// It is of this major version.
    Version(u32),
    /// Nothing in it lies where it does here.
    Abi,
    /// Its locks are those of another C library.
    Locks(u32),
    /// It has so many heads of lookup chains.
    Chains(u32),
    /// Its capacity is this many keys, which is out of range.
    Capacity(u32),
    /// It has memory for so many keys.
    Slots(u32),
    /// The file has so many bytes, too few for a header.
    TooShort(u64),
    /// The file has so many bytes.
    Size(u64),
    /// So many names of revoked keys have been in it.
    Graves(u32),
    /// It was made as another file.
    Copy,
    /// One of its locks is not one.
    InvalidLock,
    /// Its writer lock is not to be had.
    Locked(NotLocked),
    /// It rotates every so many nanoseconds.
    Rotation(u64),
    /// What is in it is not what a writer leaves.
    Defect(Defect),
    /// Others make and remove it all the time.
    Unsteady,
    /// This process may not write files so large.
    FileSizeLimit,
}

/// What the system was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To make the directory.
    MakeDirectory,
    /// To open the directory.
    OpenDirectory,
    /// To tell what file system the directory is on.
    FileSystem,
    /// To open the file.
    Open,
    /// To tell of the file or the directory.
    Stat,
    /// To map the file.
    Map,
    /// To take memory for it.
    Reserve,
    /// To create the file.
    Create,
    /// To give it its name.
    Move,
    /// What a new ring needs: a lock, a random number. The error says which.
    Format,
}

impl Refused {
    /// True if another user, root above all, would not have been refused.
    pub fn is_a_right(&self) -> bool {
        match &self.reason {
            Reason::Failed(_, error) => error.raw_os_error() == Some(libc::EACCES),
            Reason::DirectoryOf(_) | Reason::OfUser(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What is to be done with what no server can use.
        const REMEDY: &str = "remove it if no server uses it";
        match self {
            Reason::Failed(Task::Format, error) => error.fmt(f),
            Reason::Failed(task, error) => write!(f, "{task}: {error}"),
            Reason::DirectoryOf(user) => write!(f, "its directory belongs to user {user}"),
            Reason::DirectoryOpen => f.write_str(
                "its directory can be written by others (run chmod go-w on it, or use a new \
                 directory inside it)",
            ),
            Reason::OnDisk => f.write_str(
                "its directory is not on tmpfs or ramfs, and keys must never reach a disk",
            ),
            Reason::SymbolicLink => f.write_str("it is a symbolic link"),
            Reason::Directory => f.write_str("it is a directory"),
            Reason::Fifo => f.write_str("it is a FIFO"),
            Reason::NotAFile => f.write_str("it is not a regular file"),
            Reason::HardLinks(links) => write!(f, "it has {links} hard links"),
            Reason::OfUser(user) => write!(f, "it belongs to user {user}"),
            Reason::Open(mode) => write!(f, "others have rights to it (mode {mode:04o})"),
            Reason::NotARing => f.write_str("it is not a ring (wrong magic number)"),
            Reason::Version(found) => write!(f, "it is a ring of version {found}, not {MAJOR}"),
            Reason::Abi => f.write_str("it was made for another processor or word size"),
            Reason::Locks(lock_abi) => write!(
                f,
                "its locks are those of {}, not of {}: it can be looked at, but used only by \
                 programs that have that C library; set another TKTROT_RING for the others",
                layout::libc_of(*lock_abi),
                layout::libc_of(layout::LOCK_ABI)
            ),
            Reason::Chains(chains) => {
                write!(f, "it has {chains} lookup chains, not {BUCKETS}; {REMEDY}")
            }
            Reason::Capacity(keys) => {
                write!(f, "it has a capacity of {keys} keys, which no ring has; {REMEDY}")
            }
            Reason::Slots(keys) => {
                write!(f, "it has memory for {keys} keys, which no ring has; {REMEDY}")
            }
            Reason::Graves(graves) => {
                write!(f, "it has room for {graves} revoked keys, which no ring has; {REMEDY}")
            }
            Reason::TooShort(size) => write!(f, "it has the wrong size ({size} bytes)"),
            Reason::Size(size) => write!(f, "it has the wrong size ({size} bytes, not {SIZE})"),
            Reason::Copy => write!(
                f,
                "it is a copy of a ring, or from before a reboot, so nobody knows when its keys end; \
                 {REMEDY}"
            ),
            Reason::InvalidLock => write!(f, "one of its locks is not a valid mutex; {REMEDY}"),
            Reason::Locked(why) => why.fmt(f),
            Reason::Rotation(nanos) => {
                write!(f, "it rotates every {nanos} ns, which no setting asks for; {REMEDY}")
            }
            Reason::Defect(defect) => write!(f, "{defect}; {REMEDY}"),
            Reason::Unsteady => {
                f.write_str("it keeps being created and removed while it is opened")
            }
            Reason::FileSizeLimit => {
                write!(f, "the file size limit (RLIMIT_FSIZE) is less than {SIZE} bytes: raise it")
            }
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::MakeDirectory => "its directory cannot be made",
            Task::OpenDirectory => "its directory cannot be opened",
            Task::FileSystem => "cannot determine whether its directory is on tmpfs",
            Task::Open => "it cannot be opened",
            Task::Stat => "cannot inspect it with fstat",
            Task::Map => "cannot map it with mmap",
            Task::Reserve => "no room for it",
            Task::Create => "it cannot be created",
            Task::Move => "it cannot be moved into place",
            Task::Format => "it cannot be made a ring",
        })
    }
}
