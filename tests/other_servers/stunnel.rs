//! stunnel: one process with threads, which reads its configuration again without privileges, and
//! keys of its own where two secrets are configured.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use testbed::foreground::{Builder, Foreground, give};
use testbed::{RingDir, wait};

use crate::{
    LIMIT, Reload, Result, every_ticket_survives, only_ring, resumed, tickets, told,
    under_the_shim, upkeep_threads, visitors,
};

const BINARY: &str = "/usr/bin/stunnel4";
/// Also logged at the start.
const RELOAD: Reload =
    Reload { signal: libc::SIGHUP, done: "Configuration successful", deaf: true };

/// A plain HTTP server for stunnel to forward to; it lives as long as the test program.
fn backend() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Of what goes wrong here the client tells. A connection that was only a look at
            // whether the port is open must not keep the others.
            thread::spawn(move || answer(&mut stream));
        }
    });
    Ok(addr)
}

fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // One small request comes in one piece.
    if stream.read(&mut [0; 1024])? > 0 {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    }
    Ok(())
}

/// Starts stunnel with further lines for its service.
fn start(builder: Builder, service: &str) -> Result<Foreground> {
    let (dir, addr) = (builder.dir(), builder.addr());
    // Else a reload fails, and the old configuration stays, with the shim or without.
    give(&dir.join("both.pem"), "nobody")?;
    let dir = dir.display();
    let config = format!(
        "foreground = yes\n\
         syslog = no\n\
         debug = notice\n\
         pid =\n\
         setuid = nobody\n\
         setgid = nogroup\n\
         [https]\n\
         accept = {addr}\n\
         connect = {}\n\
         cert = {dir}/both.pem\n\
         {service}\n",
        backend()?
    );
    let path = builder.file("stunnel.conf", config.as_bytes())?;
    give(&path, "nobody")?;
    let path = path.to_str().ok_or("the path is not UTF-8")?.to_owned();
    Ok(builder.start(BINARY, &[&path])?)
}

/// The lines with which stunnel has ticket keys of its own.
fn secrets() -> Result<String> {
    let mut bytes = [0; 64];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (key, mac) = bytes.split_at(32);
    Ok(format!("ticketKeySecret = {}\nticketMacSecret = {}", hex(key), hex(mac)))
}

fn journey(service: &str, takeovers: usize) -> Result<()> {
    let ring = RingDir::new()?;
    let mut stunnel = start(under_the_shim(&ring)?, service)?;
    let visitors = visitors(&stunnel)?;
    every_ticket_survives(&mut stunnel, visitors, RELOAD)?;
    assert_eq!(upkeep_threads(&stunnel)?, [1]);
    only_ring(ring.path(), "stunnel4")?;
    assert_eq!(told(&stunnel), (takeovers, 0), "{}", stunnel.log());
    Ok(())
}

#[test]
fn stunnel_keeps_every_ticket() -> Result<()> {
    journey("", 0)
}

#[test]
fn stunnel_with_secrets_keeps_every_ticket() -> Result<()> {
    // One line for each start.
    journey(&secrets()?, 2)
}

/// Its own key never ends, which tells it from ours: the names in its tickets tell nothing, they
/// are whatever was in memory.
#[test]
fn stunnels_own_key_is_replaced_unless_takeover_is_off() -> Result<()> {
    let service = secrets()?;
    for (takeover, wanted) in [("yes", 0), ("no", 2)] {
        let ring = RingDir::new()?;
        let builder = under_the_shim(&ring)?
            .env("TKTROT_TAKEOVER", takeover)
            .env("TKTROT_ROTATE", "1s")
            .env("TKTROT_LIFETIME", "1s");
        let stunnel = start(builder, &service)?;
        let issued = tickets(&stunnel)?;
        wait::until(LIMIT, "the end of a key of ours", || {
            issued.iter().all(|(_, ticket)| ticket.age() > Duration::from_secs(3)).then_some(())
        })?;
        assert_eq!(resumed(&stunnel, &issued)?, wanted, "takeover {takeover}");
    }
    Ok(())
}
