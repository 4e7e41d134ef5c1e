//! A bad path: what goes over it is late, and one connection in five is reset, unless it is only slow.
//! The kernel of a test machine need not have netem.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::namespace::Namespace;

/// How late everything is, in each direction.
pub const DELAY: Duration = Duration::from_millis(200);
/// One connection in so many is reset.
pub const RESETS: u32 = 5;

/// How often the relay looks for new connections.
const NAP: Duration = Duration::from_millis(10);
/// For a connection to where it goes on.
const PATIENCE: Duration = Duration::from_secs(3);

/// The relay; it ends all connections when dropped.
pub struct Relay {
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    /// In milliseconds.
    delay: AtomicU64,
    /// One connection in so many is reset; 0: none.
    resetting: u32,
    accepted: AtomicU32,
    resets: AtomicU32,
    /// All that were ever opened, to be ended.
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// A relay that goes nowhere yet.
    pub fn new() -> Relay {
        Relay::with(DELAY, RESETS)
    }

    /// One that is so late, in each direction, and resets nothing.
    pub fn slow(delay: Duration) -> Relay {
        Relay::with(delay, 0)
    }

    fn with(delay: Duration, resetting: u32) -> Relay {
        let shared = Shared {
            stop: AtomicBool::new(false),
            delay: AtomicU64::new(0),
            resetting,
            accepted: AtomicU32::new(0),
            resets: AtomicU32::new(0),
            open: Mutex::default(),
        };
        let relay = Relay { shared: Arc::new(shared) };
        relay.delay(delay);
        relay
    }

    /// From now on, what comes is so late.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// Passes on from `listen` to `to`, both in this namespace.
    pub fn pass(&self, namespace: &Namespace, listen: SocketAddr, to: SocketAddr) -> Result<()> {
        // The threads that it makes are where their maker is.
        namespace.run(|| self.pass_here(listen, to))
    }

    /// The same where this process is.
    pub fn pass_here(&self, listen: SocketAddr, to: SocketAddr) -> Result<()> {
        let shared = self.shared.clone();
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        thread::spawn(move || accept(&shared, &listener, to));
        Ok(())
    }

    /// How many connections there were.
    pub fn connections(&self) -> u32 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many of them were reset.
    pub fn resets(&self) -> u32 {
        self.shared.resets.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay.load(Ordering::Relaxed))
    }
}

impl Default for Relay {
    fn default() -> Self {
        Relay::new()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for stream in self.shared.open.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, to: SocketAddr) {
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
                let shared = shared.clone();
                // A connection that fails is what this is for.
                thread::spawn(move || carry(&shared, number, stream, to));
            }
            Err(_) => thread::sleep(NAP),
        }
    }
}

fn carry(shared: &Shared, number: u32, near: TcpStream, to: SocketAddr) -> Option<()> {
    near.set_nonblocking(false).ok()?;
    let far = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    let copies = [near.try_clone().ok()?, far.try_clone().ok()?];
    shared.open.lock().unwrap().extend(copies);
    thread::scope(|scope| {
        scope.spawn(|| pass_on(shared, &near, &far));
        scope.spawn(|| pass_on(shared, &far, &near));
        let every = shared.resetting;
        if every > 0 && number % every == every - 1 {
            // Some of them in their handshakes, some later.
            thread::sleep(shared.delay() * (number / every % 8));
            shared.resets.fetch_add(1, Ordering::Relaxed);
            reset(&near);
            reset(&far);
        }
    });
    Some(())
}

/// Copies until one side ends, each piece as late as the one before.
fn pass_on(shared: &Shared, mut from: &TcpStream, mut to: &TcpStream) {
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, piece) in pieces {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&piece).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + shared.delay(), buffer[..len].to_vec())).is_err() {
                break;
            }
        }
        drop(sender);
    });
}

/// Ends a connection with RST, at once.
fn reset(stream: &TcpStream) {
    // SAFETY: all-zero is a valid `sockaddr`; its family is then AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: connect(2) reads `len` bytes at the address, which is a local's; with AF_UNSPEC it
    // takes the connection down (tcp(7)).
    unsafe { libc::connect(stream.as_raw_fd(), &nobody, len) };
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::port;
    use crate::process::needs_root;
    use crate::wait;

    /// Echoes what comes on each connection.
    fn echo(listener: TcpListener) {
        for stream in listener.incoming().take(RESETS as usize) {
            let stream = stream.unwrap();
            thread::spawn(move || {
                let _ = std::io::copy(&mut &stream, &mut &stream);
            });
        }
    }

    #[test]
    fn bytes_come_late_and_the_fifth_connection_is_reset() {
        needs_root("it makes network namespaces");
        let namespace = Namespace::new().unwrap();
        let (listen, to) = (port::free().unwrap(), port::free().unwrap());
        let server = namespace.run(|| TcpListener::bind(to)).unwrap();
        thread::spawn(|| echo(server));
        let relay = Relay::new();
        relay.pass(&namespace, listen, to).unwrap();
        let mut streams = Vec::new();
        for _ in 0..RESETS {
            let stream = namespace.run(|| TcpStream::connect(listen)).unwrap();
            stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
            streams.push(stream);
        }
        let began = Instant::now();
        let mut byte = [7];
        streams[0].write_all(&byte).unwrap();
        streams[0].read_exact(&mut byte).unwrap();
        assert!(began.elapsed() >= 2 * DELAY, "{:?}", began.elapsed());
        let error = streams[RESETS as usize - 1].read(&mut byte).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!((relay.connections(), relay.resets()), (RESETS, 1));
    }
}
