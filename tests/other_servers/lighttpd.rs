//! lighttpd: always a ticket key callback of its own; a graceful restart within one process, which
//! by then has no privileges.

use testbed::RingDir;
use testbed::foreground::{Builder, Foreground, give};

use crate::{
    Reload, Result, every_ticket_survives, only_ring, resumed, tickets, told, under_the_shim,
    upkeep_threads, visitors,
};

const BINARY: &str = "/usr/sbin/lighttpd";
/// Also logged at the start.
const RELOAD: Reload = Reload { signal: libc::SIGUSR1, done: "server started", deaf: false };

fn start(builder: Builder) -> Result<Foreground> {
    let (dir, addr) = (builder.dir(), builder.addr());
    // Else the graceful restart ends the server, with the shim or without.
    give(&dir.join("both.pem"), "www-data")?;
    let dir = dir.display();
    let config = format!(
        "server.modules = (\"mod_openssl\")\n\
         server.document-root = \"{dir}\"\n\
         server.username = \"www-data\"\n\
         server.groupname = \"www-data\"\n\
         server.bind = \"{}\"\n\
         server.port = {}\n\
         ssl.engine = \"enable\"\n\
         ssl.pemfile = \"{dir}/both.pem\"\n",
        addr.ip(),
        addr.port()
    );
    let path = builder.file("lighttpd.conf", config.as_bytes())?;
    give(&path, "www-data")?;
    let path = path.to_str().ok_or("the path is not UTF-8")?.to_owned();
    Ok(builder.start(BINARY, &["-D", "-f", &path])?)
}

#[test]
fn lighttpd_keeps_every_ticket() -> Result<()> {
    let ring = RingDir::new()?;
    let mut lighttpd = start(under_the_shim(&ring)?)?;
    let visitors = visitors(&lighttpd)?;
    every_ticket_survives(&mut lighttpd, visitors, RELOAD)?;
    assert_eq!(upkeep_threads(&lighttpd)?, [1]);
    only_ring(ring.path(), "lighttpd")?;
    assert_eq!(told(&lighttpd), (2, 0), "one line for each start\n{}", lighttpd.log());
    Ok(())
}

#[test]
fn lighttpds_own_keys_serve_where_takeover_is_off_and_end_with_it() -> Result<()> {
    let ring = RingDir::new()?;
    let mut lighttpd = start(under_the_shim(&ring)?.env("TKTROT_TAKEOVER", "no"))?;
    let issued = tickets(&lighttpd)?;
    assert_eq!(resumed(&lighttpd, &issued)?, 2);
    assert_eq!(upkeep_threads(&lighttpd)?, [0], "no ticket was ours");
    assert_eq!(told(&lighttpd), (0, 0), "{}", lighttpd.log());
    lighttpd.stop()?;
    lighttpd.start()?;
    assert_eq!(resumed(&lighttpd, &issued)?, 0);
    let new = tickets(&lighttpd)?;
    assert_ne!(issued[0].1.key_name(), new[0].1.key_name());
    Ok(())
}
