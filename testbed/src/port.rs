//! TCP ports on 127.0.0.1: free ones, and who listens.

use std::fs;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below Linux' default range of ephemeral ports (32768 and up). A port from that range would be
/// free now and could be some client's source port at the moment a stopped server starts again.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// An address on 127.0.0.1 that nobody listens on, and that no test process has, whether its server
/// runs now or not.
pub fn free() -> Result<SocketAddr> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at different places.
    let offset = (process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        // Relaxed: only the uniqueness of the number matters.
        let step = TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() && is_ours(port)? {
            return Ok(addr);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Takes a port for this process, until it ends. False if another one has it.
fn is_ours(port: u16) -> Result<bool> {
    let name = net::SocketAddr::from_abstract_name(format!("tktrot-test-port-{port}"))?;
    match UnixListener::bind_addr(&name) {
        Ok(held) => {
            mem::forget(held);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How many sockets listen there: more than one where workers have sockets of their own
/// (SO_REUSEPORT).
pub fn listeners(addr: SocketAddr) -> usize {
    // proc(5): number, local address and port in hexadecimal, remote address and port, state.
    let port = format!(":{:04X}", addr.port());
    let listens = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().is_some_and(|local| local.ends_with(&port));
        local && fields.nth(1) == Some("0A")
    };
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().filter(|line| listens(line)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_processs_also_while_nobody_listens() {
        let addr = free().unwrap();
        assert!(TcpListener::bind(addr).is_ok());
        assert!(!is_ours(addr.port()).unwrap());
    }

    #[test]
    fn a_listening_socket_is_counted_until_it_is_closed() {
        let addr = free().unwrap();
        assert_eq!(listeners(addr), 0);
        let listener = TcpListener::bind(addr).unwrap();
        assert_eq!(listeners(addr), 1);
        drop(listener);
        assert_eq!(listeners(addr), 0);
    }
}
