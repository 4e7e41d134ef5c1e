//! One line per event, to where the operator asked: `TKTROT_LOG`.
//!
//! Lines never hold a secret; a key is named by 8 hex digits. Writing a line
//! never fails the caller.

use std::ffi::CString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::race::OnceBox;

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// File descriptor 2.
    #[default]
    Stderr,
    /// syslog(3), facility daemon.
    Syslog,
    /// Nowhere.
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
    File(File, (u64, u64)),
}

static SINK: OnceBox<Sink> = OnceBox::new();

/// Opens the target, with the privileges of this moment. The first call of a
/// process tree decides; later ones change nothing.
///
/// # Errors
///
/// The file cannot be opened; lines then go to stderr.
pub fn open(target: &Target) -> io::Result<()> {
    let mut failure = None;
    SINK.get_or_init(|| {
        Box::new(match target {
            Target::Stderr => Sink::Stderr,
            Target::Syslog => Sink::Syslog,
            Target::Nothing => Sink::Nothing,
            Target::File(path) => open_file(path).unwrap_or_else(|error| {
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
    let facts = file.metadata()?;
    Ok(Sink::File(file, (facts.dev(), facts.ino())))
}

/// Writes one line.
pub fn line(level: Level, message: fmt::Arguments<'_>) {
    let word = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
    };
    let text = format!("tktrot[{}]: {word}: {message}", std::process::id()).replace('\n', " ");
    match SINK.get() {
        None | Some(Sink::Stderr) => write_stderr(&text),
        Some(Sink::Nothing) => {}
        Some(Sink::Syslog) => write_syslog(level, &text),
        Some(Sink::File(file, identity)) => {
            let facts = file.metadata().map(|facts| (facts.dev(), facts.ino()));
            if facts.is_ok_and(|facts| facts == *identity) {
                write_whole(file.as_raw_fd(), &text);
            }
        }
    }
}

/// Writes one line to stderr, whatever the target: the last words of a server
/// that strict mode stops.
pub fn last_words(message: fmt::Arguments<'_>) {
    write_stderr(&format!("tktrot[{}]: fatal: {message}", std::process::id()).replace('\n', " "));
}

fn write_stderr(text: &str) {
    if !is_connection(libc::STDERR_FILENO) {
        write_whole(libc::STDERR_FILENO, text);
    }
}

/// True if a daemon closed the descriptor and got it again for a connection.
fn is_connection(fd: RawFd) -> bool {
    let mut domain: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `len` bytes into `domain`.
    let rc = unsafe {
        let value = (&raw mut domain).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, value, &mut len)
    };
    rc == 0 && (domain == libc::AF_INET || domain == libc::AF_INET6)
}

fn write_whole(fd: RawFd, text: &str) {
    let line = format!("{text}\n");
    // SAFETY: the buffer is valid for its length. One write, so that lines of
    // several processes do not mix; its failure is nobody's concern.
    unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
}

fn write_syslog(level: Level, text: &str) {
    let priority = match level {
        Level::Error => libc::LOG_ERR,
        Level::Warning => libc::LOG_WARNING,
        Level::Notice => libc::LOG_NOTICE,
    };
    if let Ok(text) = CString::new(text) {
        // SAFETY: a constant format with the one string that it takes. No
        // openlog: the server's own settings stay.
        unsafe { libc::syslog(libc::LOG_DAEMON | priority, c"%s".as_ptr(), text.as_ptr()) };
    }
}

/// Lets a line through once per process tree.
pub struct OnceOnly(AtomicBool);

impl OnceOnly {
    /// Nothing has passed yet.
    pub const fn new() -> Self {
        OnceOnly(AtomicBool::new(false))
    }

    /// True the first time.
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
