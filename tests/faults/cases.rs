//! What fails, when, and what is to be seen then.

use libc::{
    EACCES, EAGAIN, EBUSY, EINTR, EINVAL, EIO, EMFILE, ENFILE, ENODATA, ENOMEM, ENOSPC, ENOSYS,
    ENOTRECOVERABLE, EOPNOTSUPP, EPERM, ERANGE, EROFS,
};

use crate::control::Fault;
use crate::journey::When::{self, Later, Start};

/// How far the server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is as if nothing had failed: the ring is there, keys rotate, every ticket resumes.
    AsEver,
    /// As ever, but in a private ring that all workers share, which the one line says.
    PrivateRing,
    /// No ring at all: the server's own keys serve, and no worker makes a ring of its own.
    OwnKeys,
    /// The ring is there and every ticket resumes; its schedule is ours with the first ticket.
    NotConfigured,
    /// The ring is there, but connections get the server's own keys, as without us.
    NotAttached,
    /// Workers rotate nothing: present keys serve to their end, which may come soon; then there
    /// are no tickets, unless a reload has made keys.
    NotRotated,
    /// Handshakes go on without tickets, and nobody's keys are lost.
    NoTickets,
}

/// A line of the table.
pub struct Case {
    pub fault: Fault,
    pub when: When,
    pub outcome: Outcome,
    /// What the one line says, each process at most once; empty: nothing is said.
    pub says: &'static [&'static str],
}

/// What a wait of two seconds for a lock comes to where neither lock nor sleep is to be had: see
/// `take_lock_within` in src/ring/lock.rs.
const LOOKS_AND_NAPS: u32 = 1007 + 1006;

/// All calls fail, from the first on.
const fn all(functions: &'static str, error: i32) -> Fault {
    Fault { functions, error, from: 1, times: 0 }
}

/// One call fails.
const fn one(functions: &'static str, error: i32, from: u32) -> Fault {
    Fault { functions, error, from, times: 1 }
}

const fn case(when: When, fault: Fault, outcome: Outcome, says: &'static [&'static str]) -> Case {
    Case { fault, when, outcome, says }
}

use Outcome::{AsEver, NoTickets, NotAttached, NotConfigured, NotRotated, OwnKeys, PrivateRing};

const PRIVATE: &str = "a private ring serves instead";
const OWN: &str = "the server's own ticket keys stay";
const NO_RING: &str = "nor can a private ring be made";

/// The TLS library's generator: how keys and IVs are drawn. For `error`: it says that it fails, or
/// gives zeroes and says that all is well.
pub const GENERATOR: &str = "RAND_bytes RAND_priv_bytes";
pub const FAILS: i32 = EIO;
pub const ZEROES: i32 = ENODATA;

/// Functions that the shim imports, and that cannot fail in a way that matters to it, or that are
/// left to other tests; each with the reason.
pub const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "touch no more than memory that the caller gives",
        &[
            "bcmp",
            "memcmp",
            "memcpy",
            "memmove",
            "memset",
            "strlen",
            "environ",
            "getenv",
            "__errno_location",
            "__xpg_strerror_r",
            "sigfillset",
            "pthread_self",
            "__tls_get_addr",
            "getauxval",
        ],
    ),
    (
        "cannot fail",
        &[
            "getpid",
            "geteuid",
            "gettid",
            "_exit",
            "abort",
            "pause",
            "munmap",
            "sysconf",
            "pthread_setcancelstate",
        ],
    ),
    (
        "where they fail Rust ends the process, as servers do with theirs",
        &["malloc", "calloc", "realloc", "posix_memalign", "free"],
    ),
    (
        "the loader's: without dlsym not even the server's own function is found: see docs",
        &["dlsym", "dlclose", "dl_iterate_phdr"],
    ),
    (
        "fail only for lack of memory, at the start, and are not looked at",
        &[
            "__cxa_atexit",
            "__register_atfork",
            "__cxa_thread_atexit_impl",
            "__cxa_finalize",
            "pthread_key_create",
            "pthread_key_delete",
            "pthread_setspecific",
        ],
    ),
    (
        "cannot fail with the arguments that they get",
        &[
            "pthread_attr_destroy",
            "pthread_attr_setdetachstate",
            "pthread_attr_setstacksize",
            "pthread_mutexattr_destroy",
            "pthread_mutexattr_setpshared",
            "pthread_mutex_lock",
            "pthread_mutex_unlock",
            "pthread_mutex_consistent",
        ],
    ),
    (
        "tell what is wrong, and have nobody to tell that they cannot",
        &[
            "write",
            "fstat",
            "socket",
            "connect",
            "send",
            "fcntl",
            "isatty",
            "getsockopt",
            "sigemptyset",
            "sigaddset",
            "sigismember",
            "sigpending",
            "sigtimedwait",
        ],
    ),
    ("undoes what another call made that then failed", &["unlinkat"]),
    (
        "not called in a server, or only to look which processes and threads still live",
        &["lstat64", "kill", "stat"],
    ),
    (
        "unwinding, backtraces and registration by the compiler",
        &[
            "_Unwind_*",
            "_ITM_*",
            "__gmon_start__",
            "getcwd",
            "lseek64",
            "realpath",
            "stat64",
            "mmap64",
            "unlink",
            "rmdir",
            "writev",
            "pthread_mutex_*",
        ],
    ),
];

/// Everything.
pub const CASES: &[Case] = &[
    // The offset of the time namespace.
    case(Start, all("open", EMFILE), AsEver, &[]),
    // The directory.
    case(
        Start,
        one("open64", EACCES, 1),
        PrivateRing,
        &["its directory cannot be opened", "denied"],
    ),
    case(
        Start,
        all("open64", EMFILE),
        PrivateRing,
        &["its directory cannot be opened", "Too many"],
    ),
    case(Start, all("read", EIO), AsEver, &[]),
    case(Start, all("openat", ENFILE), PrivateRing, &["it cannot be opened", "Too many"]),
    case(Start, one("openat", ENOSPC, 4), PrivateRing, &["it cannot be created", "No space"]),
    case(Start, one("openat", EROFS, 4), PrivateRing, &["it cannot be created", "Read-only"]),
    case(Start, one("openat", EINTR, 1), AsEver, &[]),
    case(Start, one("openat", EINTR, 2), AsEver, &[]),
    // To see of which version it is: who cannot takes it for his own.
    case(Start, one("openat", EIO, 1), AsEver, &[]),
    case(Start, one("openat", EIO, 2), AsEver, &[]),
    case(Start, all("pread64", EIO), AsEver, &[]),
    case(Start, all("statx", ENOSYS), AsEver, &[]),
    case(Start, all("statx fstat64", EIO), PrivateRing, &["fstat: Input/output error"]),
    case(
        Start,
        all("fstatfs", ENOSYS),
        PrivateRing,
        &["cannot determine whether its directory is on tmpfs", "not implemented"],
    ),
    case(Start, one("fstatfs", EINTR, 1), AsEver, &[]),
    case(Start, all("fallocate", ENOSPC), PrivateRing, &["no room for it", "No space"]),
    case(Start, all("fallocate", EOPNOTSUPP), PrivateRing, &["no room for it", "not supported"]),
    case(Start, one("fallocate", EINTR, 1), AsEver, &[]),
    case(Start, all("ftruncate64", EINVAL), PrivateRing, &["no room for it", "Invalid"]),
    case(Start, one("ftruncate64", EINTR, 1), AsEver, &[]),
    case(Start, all("getrlimit", EINVAL), AsEver, &[]),
    case(Start, all("mkdir", EACCES), PrivateRing, &["its directory cannot be made", "denied"]),
    case(Start, all("close", EIO), AsEver, &[]),
    case(Start, all("readlink", EACCES), AsEver, &[]),
    // renameat2.
    case(Start, all("syscall", ENOSYS), PrivateRing, &["it cannot be moved into place"]),
    case(Start, one("mmap", ENOMEM, 1), PrivateRing, &["mmap", "Cannot allocate"]),
    case(Start, all("mmap", ENOMEM), OwnKeys, &["mmap: Cannot allocate", NO_RING, OWN]),
    case(Start, all("mlock", ENOMEM), AsEver, &["keys may be swapped out", "raise RLIMIT_MEMLOCK"]),
    case(Start, all("mlock", EPERM), AsEver, &["keys may be swapped out", "not permitted"]),
    case(Start, all("mlock", EAGAIN), AsEver, &["keys may be swapped out", "unavailable"]),
    case(Start, all("madvise", EINVAL), AsEver, &["keys will be in core dumps", "Invalid"]),
    case(Start, all("getrandom", EAGAIN), OwnKeys, &["cannot get a random number", NO_RING, OWN]),
    case(Start, all("getrandom", ENOSYS), OwnKeys, &["cannot get a random number", NO_RING, OWN]),
    case(Start, one("getrandom", EINTR, 1), PrivateRing, &["cannot get a random number"]),
    case(Start, all("clock_gettime", EINVAL), NoTickets, &["the clock", "without tickets"]),
    case(Start, one("pthread_mutex_init", ENOMEM, 1), PrivateRing, &["cannot create a lock"]),
    case(Start, all("pthread_mutex_init", ENOMEM), OwnKeys, &["cannot create a lock", NO_RING]),
    case(Start, all("pthread_mutexattr_init", ENOMEM), OwnKeys, &["cannot create a lock", NO_RING]),
    case(Start, all("pthread_mutexattr_setrobust", EOPNOTSUPP), OwnKeys, &["cannot create a lock"]),
    case(
        Start,
        Fault { times: LOOKS_AND_NAPS, ..one("pthread_mutex_trylock nanosleep", EBUSY, 1) },
        NotConfigured,
        &["could not be configured", "does not finish", "its former settings apply"],
    ),
    case(
        Start,
        one("pthread_mutex_trylock", ENOTRECOVERABLE, 1),
        NotConfigured,
        &["could not be configured", "not recoverable"],
    ),
    case(Start, one("dladdr", EINVAL, 1), AsEver, &[]),
    case(Start, all("dladdr", EINVAL), OwnKeys, &["dladdr", "which TLS library this is", OWN]),
    case(Start, all("dlopen", ENOMEM), OwnKeys, &["dlopen", "which TLS library this is", OWN]),
    case(Start, all(GENERATOR, FAILS), NoTickets, &["number generator fails", "without tickets"]),
    case(Start, all(GENERATOR, ZEROES), NoTickets, &["number generator fails", "without tickets"]),
    // In the workers, which find all of it open.
    case(Later, one("dladdr", EINVAL, 1), AsEver, &[]),
    case(Later, all("dladdr", EINVAL), NotAttached, &["dladdr", "which TLS library this is", OWN]),
    // What IVs are from; keys are made all the same.
    case(Later, all("RAND_bytes", FAILS), NoTickets, &["(RAND_bytes) fails", "without tickets"]),
    case(Later, all("RAND_bytes", ZEROES), NoTickets, &["(RAND_bytes) fails", "without tickets"]),
    case(Later, all("mmap", ENOMEM), AsEver, &[]),
    case(Later, all("madvise", EINVAL), AsEver, &[]),
    case(Later, all("mlock", ENOMEM), AsEver, &[]),
    case(Later, all("dlopen", ENOMEM), AsEver, &[]),
    case(Later, all("pthread_create", EAGAIN), AsEver, &["no thread", "RLIMIT_NPROC", "rotate"]),
    case(Later, one("pthread_create", EAGAIN, 1), AsEver, &["no thread", "RLIMIT_NPROC"]),
    case(Later, all("pthread_attr_init", ENOMEM), AsEver, &["no thread", "Cannot allocate"]),
    case(Later, all("pthread_setname_np", ERANGE), AsEver, &[]),
    case(Later, all("pthread_sigmask", EINVAL), AsEver, &[]),
    // The thread sleeps by futex(2); if that fails by the next, and so on.
    case(Later, all("syscall", EPERM), AsEver, &[]),
    case(Later, all("syscall clock_nanosleep", EINVAL), AsEver, &[]),
    case(Later, Fault { times: 200, ..one("syscall clock_nanosleep poll", EINTR, 1) }, AsEver, &[]),
    case(Later, all("syscall clock_nanosleep poll", EPERM), AsEver, &["cannot sleep", "rotate"]),
    case(Later, all("clock_gettime", EINVAL), NoTickets, &["the clock", "without tickets"]),
    case(Later, all("clock_gettime", EPERM), NoTickets, &["the clock", "without tickets"]),
    // At a rotation.
    case(Later, all("pthread_mutex_trylock", EINVAL), NotRotated, &["writer lock does not work"]),
    case(
        Later,
        all("pthread_mutex_trylock", ENOTRECOVERABLE),
        NotRotated,
        &["writer lock does not work", "no longer rotate"],
    ),
];

impl Case {
    /// Whether a strict server refuses to start.
    pub fn is_refused(&self) -> bool {
        self.when == Start && !self.says.is_empty() && self.outcome != NoTickets
    }

    /// Whether a process that served while it failed says, too, that it works again.
    pub fn tells_recovery(&self) -> bool {
        self.fault.functions.contains("RAND_")
    }

    /// The parts of the line, and what follows from the outcome.
    pub fn parts(&self) -> impl Iterator<Item = &'static str> {
        let follows = (self.outcome == PrivateRing).then_some(PRIVATE);
        self.says.iter().copied().chain(follows)
    }
}
