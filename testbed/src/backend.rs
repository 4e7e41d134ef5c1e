//! A plain HTTP server for servers that only end TLS and pass on what they read.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::wait::PATIENCE;

/// Answers every request alike, until it is dropped.
#[derive(Debug)]
pub struct Backend {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts one that answers `body`.
    pub fn start(body: &str) -> Result<Backend> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let response = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || serve(&listener, &response, &stop)
        });
        Ok(Backend { addr, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A thread for each connection: one that says nothing must not hold up the others.
fn serve(listener: &TcpListener, response: &str, stop: &AtomicBool) {
    thread::scope(|scope| {
        for connection in listener.incoming() {
            // Relaxed: the flag publishes nothing but itself.
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(connection) = connection {
                scope.spawn(move || {
                    // Whoever is gone meanwhile misses nothing.
                    let _ = answer(connection, response);
                });
            }
        }
    });
}

fn answer(connection: TcpStream, response: &str) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut request = BufReader::new(&connection);
    let mut line = String::new();
    // The empty line ends it; nothing at all is the end of the connection.
    while line != "\r\n" {
        line.clear();
        if request.read_line(&mut line)? == 0 {
            return Ok(());
        }
    }
    (&connection).write_all(response.as_bytes())
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread. If that fails, nobody listens any more.
        let _ = TcpStream::connect_timeout(&self.addr, PATIENCE);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
