//! TCP ports that are free on 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below Linux' default range of ephemeral ports (32768 and up). A port from that range would be
/// free now and could be some client's source port at the moment a stopped server starts again.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// An address on 127.0.0.1 that nobody listens on, and that this process has not had before.
pub fn free() -> Result<SocketAddr> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin at different places.
    let offset = (process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        // Relaxed: only the uniqueness of the number matters.
        let step = TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT);
}
