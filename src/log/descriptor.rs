//! Writing to a descriptor that the server may have closed, and whose number
//! may by now be a client's connection or a file with data: only what is still
//! what it was, or plainly a log, gets a line. Nothing here waits, raises
//! SIGPIPE in the server, or opens anything.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

/// How far the descriptors of a process are looked through for another one of
/// a file: servers open their logs early.
const MOST: RawFd = 4096;

/// What a pipe takes in one piece, and without waiting if it takes anything
/// (pipe(7)).
const PIECE: usize = libc::PIPE_BUF;

/// What a descriptor is open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
    /// Of a device file.
    number: u64,
    kind: libc::mode_t,
}

impl FileId {
    /// What `fd` is open for now; `None` if it is closed.
    pub fn of(fd: RawFd) -> Option<FileId> {
        let mut facts = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: fstat fills `facts` if it succeeds, and nothing is read otherwise.
        let facts = unsafe {
            if libc::fstat(fd, facts.as_mut_ptr()) != 0 {
                return None;
            }
            facts.assume_init()
        };
        Some(FileId {
            device: facts.st_dev,
            inode: facts.st_ino,
            number: facts.st_rdev,
            kind: facts.st_mode & libc::S_IFMT,
        })
    }

    /// True if somebody reads there, or keeps it, on purpose: `fd`, which is open
    /// for this and was for something else, is the server's log now. A server
    /// that puts its error log on standard error (dup2) has it open twice; a
    /// file with data is not appended to, or not open twice. What a pipe or a
    /// socket is for cannot be told.
    pub fn is_a_log(&self, fd: RawFd) -> bool {
        match self.kind {
            // Not /dev/null, which would swallow the line.
            // SAFETY: only asks the kernel.
            libc::S_IFCHR => unsafe { libc::isatty(fd) == 1 },
            libc::S_IFREG => is_appended_to(fd) && self.is_open_elsewhere(fd),
            _ => false,
        }
    }

    fn is_open_elsewhere(&self, fd: RawFd) -> bool {
        (0..MOST).any(|other| other != fd && FileId::of(other).as_ref() == Some(self))
    }
}

/// True if it is a client's connection: a server that inetd started has one from the beginning.
pub fn is_connection(fd: RawFd) -> bool {
    let mut domain: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `len` bytes into `domain`.
    let rc = unsafe {
        let value = (&raw mut domain).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, value, &mut len)
    };
    rc == 0 && (domain == libc::AF_INET || domain == libc::AF_INET6)
}

fn is_appended_to(fd: RawFd) -> bool {
    // SAFETY: only asks the kernel.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE == libc::O_WRONLY && flags & libc::O_APPEND != 0
}

/// Writes a line to `fd`, which is open for that; in one piece, so that lines of
/// several processes do not mix. Its failure is nobody's concern.
pub fn write(fd: RawFd, identity: &FileId, line: &[u8]) {
    match identity.kind {
        libc::S_IFSOCK => {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            // SAFETY: the buffer is valid for its length.
            unsafe { libc::send(fd, line.as_ptr().cast(), line.len(), flags) };
        }
        libc::S_IFREG => write_once(fd, line),
        // A pipe that nobody empties, a terminal that was stopped: then the line is lost.
        _ if takes_more(fd) => {
            let _quiet = NoBrokenPipe::new();
            match line.get(..PIECE) {
                None => write_once(fd, line),
                Some(beginning) => {
                    let mut piece = beginning.to_vec();
                    piece[PIECE - 1] = b'\n';
                    write_once(fd, &piece);
                }
            }
        }
        _ => {}
    }
}

fn write_once(fd: RawFd, line: &[u8]) {
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(fd, line.as_ptr().cast(), line.len()) };
}

fn takes_more(fd: RawFd) -> bool {
    let mut set = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd, for the call to fill; it does not wait.
    let ready = unsafe { libc::poll(&mut set, 1, 0) };
    ready == 1 && set.revents & (libc::POLLOUT | libc::POLLERR | libc::POLLNVAL) == libc::POLLOUT
}

/// While it lives, a write of this thread to a pipe that nobody reads raises no
/// signal that anybody sees.
struct NoBrokenPipe {
    before: libc::sigset_t,
    /// It was pending already: what is pending at the end may be that one.
    pending: bool,
}

impl NoBrokenPipe {
    fn new() -> Self {
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        let pending = is_pending();
        // SAFETY: pthread_sigmask, which cannot fail with SIG_BLOCK, fills `before`.
        let before = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &broken_pipe(), before.as_mut_ptr());
            before.assume_init()
        };
        NoBrokenPipe { before, pending }
    }
}

impl Drop for NoBrokenPipe {
    fn drop(&mut self) {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        if !self.pending && is_pending() {
            // SAFETY: valid arguments; the signal is blocked, and this takes it away.
            unsafe { libc::sigtimedwait(&broken_pipe(), ptr::null_mut(), &at_once) };
        }
        // SAFETY: `before` is the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

fn broken_pipe() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

fn is_pending() -> bool {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigpending fills the set; one of zeroes is an empty set.
    unsafe {
        libc::sigpending(set.as_mut_ptr());
        libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{Read, Seek};
    use std::os::fd::{AsRawFd, FromRawFd};

    use super::*;

    fn pipe(flags: i32) -> [File; 2] {
        let mut ends = [0; 2];
        // SAFETY: fills both, which are nobody else's.
        unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | flags), 0);
            ends.map(|fd| File::from_raw_fd(fd))
        }
    }

    fn line_to(file: &File, line: &[u8]) {
        let identity = FileId::of(file.as_raw_fd()).unwrap();
        write(file.as_raw_fd(), &identity, line);
    }

    #[test]
    fn a_pipe_without_a_reader_raises_no_signal() {
        // SAFETY: the disposition of this process is put back below; a SIGPIPE that was raised would end it.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let [reader, writer] = pipe(0);
        drop(reader);
        line_to(&writer, b"nobody reads this\n");
        {
            let _quiet = NoBrokenPipe::new();
            write_once(writer.as_raw_fd(), b"nor this\n");
            assert!(is_pending());
        }
        assert!(!is_pending());
        // SAFETY: as it was.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }

    #[test]
    fn a_signal_that_was_pending_stays_so() {
        let blocked = crate::process::SignalsBlocked::new();
        // SAFETY: to this thread, which blocks it.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGPIPE) };
        drop(NoBrokenPipe::new());
        assert!(is_pending());
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: takes it away again.
        unsafe { libc::sigtimedwait(&broken_pipe(), ptr::null_mut(), &at_once) };
        drop(blocked);
    }

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        let [mut reader, writer] = pipe(0);
        // 64 KiB at most by default; a write that would wait hangs this test.
        for _ in 0..100 {
            line_to(&writer, &[b'x'; 4000]);
        }
        let mut begin = [0; 4000];
        reader.read_exact(&mut begin).unwrap();
        assert!(begin.iter().all(|byte| *byte == b'x'));
    }

    #[test]
    fn a_line_for_a_pipe_is_cut_to_one_piece() {
        let [mut reader, writer] = pipe(0);
        line_to(&writer, &[b'x'; 3 * PIECE]);
        drop(writer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!((all.len(), all.last()), (PIECE, Some(&b'\n')));
    }

    #[test]
    fn a_file_is_a_log_if_it_is_appended_to_and_open_twice() {
        let path = std::env::temp_dir().join(format!("tktrot-log-{}", std::process::id()));
        let open = |append: bool| {
            let mut options = OpenOptions::new();
            options.create(true);
            if append { options.append(true) } else { options.write(true) }.open(&path).unwrap()
        };
        let is_a_log = |file: &File| {
            let fd = file.as_raw_fd();
            FileId::of(fd).unwrap().is_a_log(fd)
        };
        let (log, data) = (open(true), open(false));
        assert!(is_a_log(&log), "the other descriptor is open, too");
        assert!(!is_a_log(&data), "not appended to");
        drop(data);
        assert!(!is_a_log(&log), "open once");
        let mut twice = log.try_clone().unwrap();
        assert!(is_a_log(&log));
        line_to(&log, b"line\n");
        assert_eq!(twice.stream_position().unwrap(), 5);
        std::fs::remove_file(&path).unwrap();
        assert!(!is_a_log(&File::options().write(true).open("/dev/null").unwrap()));
        let [_reader, writer] = pipe(0);
        assert!(!is_a_log(&writer.try_clone().unwrap()));
    }
}
