//! Apache httpd: every SSL_CTX made twice, key files, children that come and go.

use std::fs;

use testbed::Server;
use testbed::visitors::Visitors;

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

pub const EVENT: Kind = Kind {
    ring: "apache2",
    configure: |site, asks| configure(site, asks, "event", ""),
    command: |site| {
        let config = site.path("httpd.conf");
        ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", &config].map(str::to_owned).to_vec()
    },
    // Also logged at the start.
    reload: Some(Reload::Signal(libc::SIGUSR1, "resuming normal operations")),
    look: |apache| {
        let threads = apache.upkeep_threads()?;
        assert_eq!(threads[0], 0, "the master issues no tickets");
        assert!(threads.iter().sum::<usize>() > 0, "{threads:?}");
        assert!(threads.iter().all(|&count| count <= 1), "{threads:?}");
        assert_eq!(apache.told(), (0, 0), "{}", apache.log());
        Ok(())
    },
    ..PLAIN
};

const PREFORK: Kind =
    Kind { configure: |site, asks| configure(site, asks, "prefork", ""), ..EVENT };

/// With a key file, and takeover or none.
const KEY_FILE: Kind = Kind {
    configure: |site, asks| {
        let mut key_file = [0; 48];
        openssl::rand::rand_bytes(&mut key_file)?;
        let path = site.dir.join("ticket.key");
        fs::write(&path, key_file)?;
        configure(site, asks, "event", &format!("SSLSessionTicketKeyFile {}", path.display()))
    },
    variables: &[("TKTROT_TAKEOVER", "yes")],
    ..EVENT
};
const KEPT_KEY_FILE: Kind = Kind { variables: &[("TKTROT_TAKEOVER", "no")], ..KEY_FILE };

/// With one of its process models and further lines for its virtual host.
fn configure(site: &Site, asks: Asks, model: &str, host: &str) -> Result {
    let (dir, addr) = (site.dir.display(), site.addr);
    let (cert, key) = (site.certificate.cert.display(), site.certificate.key.display());
    let (clients, verify) = (site.clients.display(), asks.among("none", "optional", "require"));
    let modules = [&format!("mpm_{model}"), "authz_core", "ssl"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let config = format!(
        "ServerRoot {dir}\n\
         ServerName localhost\n\
         DefaultRuntimeDir {dir}\n\
         PidFile {dir}/httpd.pid\n\
         ErrorLog {dir}/log.txt\n\
         User www-data\n\
         Group www-data\n\
         StartServers 2\n\
         Listen {addr}\n\
         {modules}\
         <VirtualHost {addr}>\n\
         DocumentRoot {dir}\n\
         SSLEngine on\n\
         SSLCertificateFile {cert}\n\
         SSLCertificateKeyFile {key}\n\
         SSLCACertificateFile {clients}\n\
         SSLVerifyClient {verify}\n\
         {host}\n\
         </VirtualHost>\n"
    );
    site.write("httpd.conf", &config)
}

#[test]
fn apache_event_resumes_whomever_it_asks() -> Result {
    journeys(EVENT, &Asks::ALL)
}

#[test]
fn apache_prefork_resumes() -> Result {
    journeys(PREFORK, &[Asks::Nobody])
}

#[test]
fn apache_keeps_strangers_out() -> Result {
    strangers_stay_out(EVENT, &[Asks::Nobody, Asks::Anybody])
}

#[test]
fn apaches_key_file_is_replaced_unless_takeover_is_off() -> Result {
    for (kind, lines) in [(KEY_FILE, 1), (KEPT_KEY_FILE, 0)] {
        let mut apache = kind.start(Asks::Nobody, true)?;
        let key_file = fs::read(apache.site.dir.join("ticket.key"))?;
        let issued = Visitors::of(apache.addr())?;
        for name in issued.key_names() {
            assert_eq!(name == key_file[..16], lines == 0, "{:?}", kind.variables);
        }
        apache.reload().ok_or("it has a reload")??;
        issued.resume(apache.addr(), "over a reload")?;
        apache.stop()?;
        assert_eq!(apache.told(), (lines, 0), "{}", apache.log());
        apache.start()?;
        issued.resume(apache.addr(), "over a restart")?;
    }
    Ok(())
}
