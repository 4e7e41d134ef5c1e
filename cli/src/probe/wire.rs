//! A TCP connection on which nothing takes longer, and nothing comes that is longer, than allowed.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A handshake takes some KiB; a server that sends more than this wants to keep us busy.
const MAX_RECEIVED: usize = 1024 * 1024;

pub struct Wire {
    tcp: TcpStream,
    deadline: Instant,
    /// How long one read waits before it lets the caller look around.
    slice: Option<Duration>,
    received: usize,
}

impl Wire {
    pub fn connect(address: SocketAddr, limit: Duration) -> io::Result<Wire> {
        let deadline = Instant::now() + limit;
        let tcp = TcpStream::connect_timeout(&address, limit)?;
        tcp.set_nodelay(true)?;
        Ok(Wire { tcp, deadline, slice: None, received: 0 })
    }

    /// Begins a step that may take this long altogether.
    pub fn begin(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
        self.slice = None;
    }

    /// As [`Wire::begin`], and a read that waits for a slice of this in vain returns `WouldBlock`.
    pub fn begin_in_slices(&mut self, limit: Duration, slice: Duration) {
        self.begin(limit);
        self.slice = Some(slice);
    }

    fn remaining(&self) -> io::Result<Duration> {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(remaining) }
    }
}

/// A socket's own time limit shows as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let remaining = self.remaining()?;
        let wait = self.slice.map_or(remaining, |slice| slice.min(remaining));
        self.tcp.set_read_timeout(Some(wait))?;
        let read = self.tcp.read(buffer);
        let len = if wait < remaining { read? } else { read.map_err(timed_out)? };
        self.received += len;
        if self.received > MAX_RECEIVED {
            return Err(io::Error::other(format!("the server sent over {MAX_RECEIVED} bytes")));
        }
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(Some(self.remaining()?))?;
        self.tcp.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
