//! One line per event, to where the operator asked: `TKTROT_LOG`.
//!
//! Lines never hold a secret; a key is named by 8 hex digits. Writing a line
//! never fails the caller, waits for nobody, and leaves errno as it was. It goes
//! to no descriptor that has become another one's ([`descriptor`]): what cannot
//! be written to standard error goes to the system's log ([`syslog`]). In a process
//! that has confined itself there are none.

mod descriptor;
mod syslog;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::race::OnceBox;

use descriptor::FileId;

use crate::process;

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// File descriptor 2, as long as it is what it was or plainly the server's log; then
    /// the system's log.
    #[default]
    Stderr,
    /// syslog(3), facility daemon.
    Syslog,
    /// Lines are discarded.
    Nothing,
    /// A file, appended to; made with mode 0600.
    File(PathBuf),
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something is not as asked for.
    Warning,
    /// Something the operator wants to know once.
    Notice,
}

enum Sink {
    Stderr,
    Syslog,
    Nothing,
    /// The file, and what it was when it was opened: a daemon may close all
    /// descriptors, and the number may come to be a client's connection.
    File(File, FileId),
}

static SINK: OnceBox<Sink> = OnceBox::new();
/// What standard error was when the log was opened; `None` if it was closed.
static STDERR: OnceBox<Option<FileId>> = OnceBox::new();

/// Opens the destination, with the privileges of this moment. The first call of a
/// process tree decides; later ones change nothing.
///
/// # Errors
///
/// The file cannot be opened; lines then go to stderr.
pub fn open(destination: &Destination) -> io::Result<()> {
    let mut failure = None;
    stderr();
    SINK.get_or_init(|| {
        Box::new(match destination {
            Destination::Stderr => Sink::Stderr,
            Destination::Syslog => Sink::Syslog,
            Destination::Nothing => Sink::Nothing,
            Destination::File(path) => open_file(path).unwrap_or_else(|error| {
                failure = Some(error);
                Sink::Stderr
            }),
        })
    });
    failure.map_or(Ok(()), Err)
}

fn open_file(path: &PathBuf) -> io::Result<Sink> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let file = beyond_the_standard_ones(file)?;
    let identity = FileId::of(file.as_raw_fd()).ok_or_else(io::Error::last_os_error)?;
    Ok(Sink::File(file, identity))
}

/// A server may be started without standard descriptors: then they are free, and
/// somebody else's soon.
fn beyond_the_standard_ones(file: File) -> io::Result<File> {
    if file.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(file);
    }
    // SAFETY: a descriptor of ours; on success the new one is nobody else's.
    unsafe {
        let fd = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}

/// Writes one line.
pub fn line(level: Level, message: fmt::Arguments<'_>) {
    if process::is_confined() {
        return;
    }
    let _errno = Errno::kept();
    let word = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
    };
    let text = format!("tktrot[{}]: {word}: {message}", std::process::id()).replace('\n', " ");
    match SINK.get() {
        None | Some(Sink::Stderr) => write_stderr(level, &text),
        Some(Sink::Nothing) => {}
        Some(Sink::Syslog) => syslog::send(level, &text),
        Some(Sink::File(file, identity)) => {
            if FileId::of(file.as_raw_fd()).as_ref() == Some(identity) {
                descriptor::write(file.as_raw_fd(), identity, format!("{text}\n").as_bytes());
            }
        }
    }
}

/// Writes one line to stderr, whatever the target: the last words of a server
/// that strict mode stops.
pub fn last_words(message: fmt::Arguments<'_>) {
    let _errno = Errno::kept();
    let text = format!("tktrot[{}]: fatal: {message}", std::process::id()).replace('\n', " ");
    write_stderr(Level::Error, &text);
}

/// What standard error was at the first call.
fn stderr() -> Option<FileId> {
    *STDERR.get_or_init(|| Box::new(FileId::of(libc::STDERR_FILENO)))
}

fn write_stderr(level: Level, text: &str) {
    let first = stderr();
    let fd = libc::STDERR_FILENO;
    let ours =
        |now: &FileId| !descriptor::is_connection(fd) && (Some(*now) == first || now.is_a_log(fd));
    match FileId::of(fd).filter(ours) {
        Some(now) => descriptor::write(fd, &now, format!("{text}\n").as_bytes()),
        None => syslog::send(level, text),
    }
}

/// Puts errno back at the end.
struct Errno(libc::c_int);

impl Errno {
    fn kept() -> Errno {
        // SAFETY: this thread's own.
        Errno(unsafe { *libc::__errno_location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: this thread's own.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// Lets a line through once per process tree.
pub struct OnceOnly(AtomicBool);

impl OnceOnly {
    /// Nothing has passed yet.
    pub const fn new() -> Self {
        OnceOnly(AtomicBool::new(false))
    }

    /// True for the first call, false for all others until it is reset.
    pub fn first(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    /// The next one is a first again; true if there had been one. Mostly there was none, and then
    /// nothing is written that threads share.
    pub fn reset(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

impl Default for OnceOnly {
    fn default() -> Self {
        Self::new()
    }
}

/// `error!("…")`: see [`line`].
#[macro_export]
macro_rules! error {
    ($($message:tt)*) => {
        $crate::log::line($crate::log::Level::Error, format_args!($($message)*))
    };
}

/// `warning!("…")`: see [`line`].
#[macro_export]
macro_rules! warning {
    ($($message:tt)*) => {
        $crate::log::line($crate::log::Level::Warning, format_args!($($message)*))
    };
}

/// `notice!("…")`: see [`line`].
#[macro_export]
macro_rules! notice {
    ($($message:tt)*) => {
        $crate::log::line($crate::log::Level::Notice, format_args!($($message)*))
    };
}
