//! One line to the system's log, over a socket of our own that lives no longer
//! than the line: the C library keeps one for the whole process, whose number
//! may by now be a client's connection.

use std::mem::{offset_of, zeroed};
use std::os::fd::RawFd;

use super::Level;
use crate::program;

/// Where the system's log listens (syslog(3)).
const PATH: &[u8] = b"/dev/log";

/// Sends one line; its failure is nobody's concern. Never waits.
///
/// In the form of syslog(3), facility daemon, but without a time: which one
/// that would be depends on a zone that the C library reads once for the whole
/// process, and who receives the line knows the time.
pub fn send(level: Level, text: &str) {
    let priority = libc::LOG_DAEMON
        | match level {
            Level::Error => libc::LOG_ERR,
            Level::Warning => libc::LOG_WARNING,
            Level::Notice => libc::LOG_NOTICE,
        };
    send_to(PATH, format!("<{priority}>{}: {text}", program::name()).as_bytes());
}

fn send_to(path: &[u8], line: &[u8]) {
    // As syslog(3) does: some listen for a stream.
    let _ = datagram(path, line) || stream(path, line);
}

fn datagram(path: &[u8], line: &[u8]) -> bool {
    let Some(socket) = Socket::to(path, libc::SOCK_DGRAM) else { return false };
    socket.send(line);
    true
}

/// There a NUL ends the line.
fn stream(path: &[u8], line: &[u8]) -> bool {
    let Some(socket) = Socket::to(path, libc::SOCK_STREAM) else { return false };
    socket.send(&[line, b"\0"].concat());
    true
}

struct Socket(RawFd);

impl Socket {
    /// One of that kind, connected; `None` if nobody listens for it there.
    fn to(path: &[u8], kind: libc::c_int) -> Option<Socket> {
        // SAFETY: a sockaddr_un of zeroes is one.
        let mut address: libc::sockaddr_un = unsafe { zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in address.sun_path.iter_mut().zip(path) {
            *to = *from as libc::c_char;
        }
        let length = offset_of!(libc::sockaddr_un, sun_path) + path.len() + 1;
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers only.
        let socket = Socket(unsafe { libc::socket(libc::AF_UNIX, kind | flags, 0) }).raised()?;
        // SAFETY: the address is valid for its length, and ends with a NUL.
        let rc = unsafe {
            let address = (&raw const address).cast();
            libc::connect(socket.0, address, length as libc::socklen_t)
        };
        (rc == 0).then_some(socket)
    }

    /// With a number above those that everybody takes for standard input, output and error, which
    /// a server may have closed.
    fn raised(self) -> Option<Socket> {
        if self.0 > libc::STDERR_FILENO {
            return Some(self);
        }
        if self.0 < 0 {
            return None;
        }
        let above = libc::STDERR_FILENO + 1;
        // SAFETY: duplicates our own descriptor.
        let raised = Socket(unsafe { libc::fcntl(self.0, libc::F_DUPFD_CLOEXEC, above) });
        (raised.0 >= 0).then_some(raised)
    }

    fn send(&self, bytes: &[u8]) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the buffer is valid for its length.
        unsafe { libc::send(self.0, bytes.as_ptr().cast(), bytes.len(), flags) };
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.0 >= 0 {
            // SAFETY: our own, and nobody else knows its number.
            unsafe { libc::close(self.0) };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[test]
    fn a_line_comes_whole_to_either_kind_of_log() {
        let dir = std::env::temp_dir().join(format!("tktrot-syslog-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("log");
        let bytes = path.as_os_str().as_bytes();
        send_to(bytes, b"<28>nobody: listens");

        let log = UnixDatagram::bind(&path).unwrap();
        send_to(bytes, b"<28>nginx: tktrot[1]: warning: x");
        let mut seen = [0; 100];
        let length = log.recv(&mut seen).unwrap();
        assert_eq!(&seen[..length], b"<28>nginx: tktrot[1]: warning: x");
        std::fs::remove_file(&path).unwrap();

        let log = UnixListener::bind(&path).unwrap();
        send_to(bytes, b"<28>nginx: y");
        let mut seen = Vec::new();
        log.accept().unwrap().0.read_to_end(&mut seen).unwrap();
        assert_eq!(seen, b"<28>nginx: y\0");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
