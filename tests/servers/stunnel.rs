//! stunnel: one process with threads, which reads its configuration again without privileges, and
//! keys of its own where two secrets are configured.

use std::thread;
use std::time::Duration;

use testbed::Server;
use testbed::backend::Backend;
use testbed::foreground::give;
use testbed::visitors::Visitors;

use crate::Result;
use crate::journey::journeys;
use crate::kind::{Asks, Kind, PLAIN, Reload, Site, Started};

pub const STUNNEL: Kind = Kind {
    ring: "stunnel4",
    configure: |site, _| configure(site, ""),
    command: |site| vec!["/usr/bin/stunnel4".to_owned(), site.path("stunnel.conf")],
    // That its configuration was read it says before it closes the listening socket, and opens one.
    // Also logged at the start.
    reload: Some(Reload::Signal(libc::SIGHUP, "bound to")),
    deaf: true,
    look: |stunnel| look(stunnel, 0),
    ..PLAIN
};

/// With ticket keys of its own.
const SECRETS: Kind = Kind {
    configure: |site, _| {
        let mut bytes = [0; 64];
        openssl::rand::rand_bytes(&mut bytes)?;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (key, mac) = bytes.split_at(32);
        configure(site, &format!("ticketKeySecret = {}\nticketMacSecret = {}", hex(key), hex(mac)))
    },
    // One line for each start.
    look: |stunnel| look(stunnel, stunnel.starts),
    ..STUNNEL
};

const SHORT: Kind = Kind {
    variables: &[("TKTROT_TAKEOVER", "yes"), ("TKTROT_ROTATE", "1s"), ("TKTROT_LIFETIME", "1s")],
    ..SECRETS
};
const ITS_OWN_KEY: Kind = Kind {
    variables: &[("TKTROT_TAKEOVER", "no"), ("TKTROT_ROTATE", "1s"), ("TKTROT_LIFETIME", "1s")],
    ..SECRETS
};

/// With further lines for its service.
fn configure(site: &Site, service: &str) -> Result {
    // It lives as long as the test program.
    let backend = Box::leak(Box::new(Backend::start("ok")?)).addr();
    let dir = site.dir.display();
    let config = format!(
        "foreground = yes\n\
         syslog = no\n\
         debug = info\n\
         pid =\n\
         setuid = nobody\n\
         setgid = nogroup\n\
         [https]\n\
         accept = {}\n\
         connect = {backend}\n\
         cert = {dir}/both.pem\n\
         {service}\n",
        site.addr
    );
    site.write("stunnel.conf", &config)?;
    // Else a reload fails, and the old configuration stays, with the shim or without.
    for file in ["both.pem", "stunnel.conf"] {
        give(&site.dir.join(file), "nobody")?;
    }
    Ok(())
}

fn look(stunnel: &Started, takeovers: usize) -> Result {
    assert_eq!(stunnel.upkeep_threads()?, [1]);
    assert_eq!(stunnel.told(), (takeovers, 0), "{}", stunnel.log());
    Ok(())
}

#[test]
fn stunnel_resumes() -> Result {
    journeys(STUNNEL, &[Asks::Nobody])
}

#[test]
fn stunnel_with_secrets_resumes() -> Result {
    journeys(SECRETS, &[Asks::Nobody])
}

/// Its own key never ends, which tells it from ours: the names in its tickets tell nothing, they
/// are whatever was in memory.
#[test]
fn stunnels_own_key_is_replaced_unless_takeover_is_off() -> Result {
    for (kind, resumes) in [(SHORT, false), (ITS_OWN_KEY, true)] {
        let stunnel = kind.start(Asks::Nobody, true)?;
        let issued = Visitors::of(stunnel.addr())?;
        // The end of a key of ours.
        thread::sleep(Duration::from_millis(3100));
        assert_eq!(issued.resumed(stunnel.addr())?, [resumes; 2], "{:?}", kind.variables);
    }
    Ok(())
}
