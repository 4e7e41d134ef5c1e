//! Apache httpd: every SSL_CTX made twice, key files, children that come and go.

use std::fs::File;
use std::io::Read;

use testbed::RingDir;
use testbed::foreground::{Builder, Foreground};

use crate::{
    Reload, Result, every_ticket_survives, only_ring, resumed, tickets, told, under_the_shim,
    upkeep_threads, visitors,
};

const BINARY: &str = "/usr/sbin/apache2";
/// Also logged at the start.
const RELOAD: Reload =
    Reload { signal: libc::SIGUSR1, done: "resuming normal operations", deaf: false };

/// Starts Apache with one of its process models and further lines for its virtual host.
fn start(builder: Builder, model: &str, host: &str) -> Result<Foreground> {
    let (dir, addr) = (builder.dir().display(), builder.addr());
    let certificate = builder.certificate();
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
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
         {host}\n\
         </VirtualHost>\n"
    );
    let path = builder.file("httpd.conf", config.as_bytes())?;
    let path = path.to_str().ok_or("the path is not UTF-8")?.to_owned();
    Ok(builder.start(BINARY, &["-D", "FOREGROUND", "-f", &path])?)
}

fn journey(model: &str) -> Result<()> {
    let ring = RingDir::new()?;
    let mut apache = start(under_the_shim(&ring)?, model, "")?;
    let visitors = visitors(&apache)?;
    every_ticket_survives(&mut apache, visitors, RELOAD)?;
    let threads = upkeep_threads(&apache)?;
    assert_eq!(threads[0], 0, "the master issues no tickets");
    assert!(threads.iter().sum::<usize>() > 0, "{threads:?}");
    assert!(threads.iter().all(|&count| count <= 1), "{threads:?}");
    only_ring(ring.path(), "apache2")?;
    assert_eq!(told(&apache), (0, 0), "{}", apache.log());
    Ok(())
}

#[test]
fn apache_event_keeps_every_ticket() -> Result<()> {
    journey("event")
}

#[test]
fn apache_prefork_keeps_every_ticket() -> Result<()> {
    journey("prefork")
}

#[test]
fn apaches_key_file_is_replaced_unless_takeover_is_off() -> Result<()> {
    for (takeover, lines) in [("yes", 1), ("no", 0)] {
        let (ring, secrets) = (RingDir::new()?, RingDir::new()?);
        let mut key_file = [0; 48];
        File::open("/dev/urandom")?.read_exact(&mut key_file)?;
        let path = secrets.path().join("ticket.key");
        std::fs::write(&path, key_file)?;

        let builder = under_the_shim(&ring)?.env("TKTROT_TAKEOVER", takeover);
        let host = format!("SSLSessionTicketKeyFile {}", path.display());
        let mut apache = start(builder, "event", &host)?;
        let issued = tickets(&apache)?;
        for (_, ticket) in &issued {
            let is_its_own = ticket.key_name() == key_file[..16];
            assert_eq!(is_its_own, takeover == "no", "takeover {takeover}");
        }
        apache.reload(RELOAD.signal, RELOAD.done)?;
        assert_eq!(resumed(&apache, &issued)?, 2, "takeover {takeover}");
        apache.stop()?;
        assert_eq!(told(&apache), (lines, 0), "{}", apache.log());
        apache.start()?;
        assert_eq!(resumed(&apache, &issued)?, 2, "takeover {takeover}");
    }
    Ok(())
}
