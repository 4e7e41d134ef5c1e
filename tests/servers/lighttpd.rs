//! lighttpd: always a ticket key callback of its own; a graceful restart within one process, which
//! by then has no privileges.

use testbed::Server;
use testbed::foreground::give;
use testbed::visitors::Visitors;

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

pub const LIGHTTPD: Kind = Kind {
    ring: "lighttpd",
    configure,
    command: |site| {
        let config = site.path("lighttpd.conf");
        ["/usr/sbin/lighttpd", "-D", "-f", &config].map(str::to_owned).to_vec()
    },
    // Also logged at the start.
    reload: Some(Reload::Signal(libc::SIGUSR1, "server started")),
    // So that nobody comes between it and the full handshake after it.
    deaf: true,
    relearns: true,
    look: |lighttpd| {
        assert_eq!(lighttpd.upkeep_threads()?, [1]);
        let told = lighttpd.told();
        assert_eq!(told, (lighttpd.starts, 0), "one line for each start\n{}", lighttpd.log());
        Ok(())
    },
    ..PLAIN
};

const ITS_OWN_KEYS: Kind = Kind { variables: &[("TKTROT_TAKEOVER", "no")], ..LIGHTTPD };

fn configure(site: &Site, asks: Asks) -> Result {
    let dir = site.dir.display();
    // Their issuers have its own name, which confuses OpenSSL 1.1.1 when it builds a chain.
    let clients = match asks {
        Asks::Nobody => String::new(),
        _ => format!("ssl.ca-file = \"{}\"\n", site.clients.display()),
    };
    let enable = |enabled: bool| if enabled { "enable" } else { "disable" };
    let config = format!(
        "server.modules = (\"mod_openssl\")\n\
         server.document-root = \"{dir}\"\n\
         server.username = \"www-data\"\n\
         server.groupname = \"www-data\"\n\
         server.bind = \"{}\"\n\
         server.port = {}\n\
         ssl.engine = \"enable\"\n\
         ssl.pemfile = \"{dir}/both.pem\"\n\
         ssl.openssl.ssl-conf-cmd = (\"MinProtocol\" => \"TLSv1.2\")\n\
         {clients}\
         ssl.verifyclient.activate = \"{}\"\n\
         ssl.verifyclient.enforce = \"{}\"\n",
        site.addr.ip(),
        site.addr.port(),
        enable(asks != Asks::Nobody),
        enable(asks == Asks::Everybody),
    );
    site.write("lighttpd.conf", &config)?;
    // Else the graceful restart ends the server, with the shim or without.
    for file in ["both.pem", "lighttpd.conf"] {
        give(&site.dir.join(file), "www-data")?;
    }
    Ok(())
}

#[test]
fn lighttpd_resumes_whomever_it_asks() -> Result {
    journeys(LIGHTTPD, &Asks::ALL)
}

/// What it asks for it says in its certificate callback, which nobody calls who resumes.
#[test]
fn lighttpd_keeps_strangers_out() -> Result {
    strangers_stay_out(LIGHTTPD, &[Asks::Nobody, Asks::Anybody])
}

#[test]
fn lighttpd_takes_tickets_of_before_once_a_full_handshake_has_shown_what_it_asks_for() -> Result {
    let mut lighttpd = Kind { relearns: false, ..LIGHTTPD }.start(Asks::Nobody, true)?;
    let addr = lighttpd.addr();
    let issued = Visitors::of(addr)?;
    lighttpd.restart(None)?;
    // The first of them makes it.
    assert_eq!(issued.resumed(addr)?, [false, true]);
    assert_eq!(issued.resumed(addr)?, [true; 2]);
    Ok(())
}

#[test]
fn lighttpds_own_keys_serve_where_takeover_is_off_and_end_with_it() -> Result {
    let mut lighttpd = ITS_OWN_KEYS.start(Asks::Nobody, true)?;
    let issued = Visitors::of(lighttpd.addr())?;
    issued.resume(lighttpd.addr(), "within one life")?;
    assert_eq!(lighttpd.upkeep_threads()?, [0], "no ticket was ours");
    assert_eq!(lighttpd.told(), (0, 0), "{}", lighttpd.log());
    lighttpd.restart(None)?;
    assert_eq!(issued.resumed(lighttpd.addr())?, [false; 2]);
    let new = Visitors::of(lighttpd.addr())?;
    assert_ne!(issued.key_names()[0], new.key_names()[0]);
    Ok(())
}
