//! Redis: it asks for client certificates on each connection (`SSL_set_verify`), whatever its SSL_CTX
//! says; the program is a link in Debian.

use std::fs;

use testbed::client::Client;

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

const REDIS: Kind = Kind {
    ring: "redis-server",
    configure,
    command,
    client,
    reload: Some(Reload::Words(reload)),
    ..PLAIN
};

fn configure(site: &Site, asks: Asks) -> Result {
    let auth = asks.among("no", "optional", "yes");
    let config = format!(
        "bind {}\nport 0\ntls-port {}\ndir {}\nsave \"\"\nappendonly no\ndaemonize no\n\
         tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients {auth}\n",
        site.addr.ip(),
        site.addr.port(),
        site.dir.display(),
        site.certificate.cert.display(),
        site.certificate.key.display(),
        site.clients.display(),
    );
    Ok(fs::write(site.dir.join("redis.conf"), config)?)
}

fn command(site: &Site) -> Vec<String> {
    vec!["/usr/bin/redis-server".into(), site.dir.join("redis.conf").display().to_string()]
}

fn client(client: Client) -> Client {
    client.saying("PING\r\nQUIT\r\n")
}

/// It makes a new SSL_CTX then.
fn reload(site: &Site) -> String {
    format!("CONFIG SET tls-cert-file {}\r\nQUIT\r\n", site.certificate.cert.display())
}

#[test]
fn redis_resumes_whomever_it_asks() -> Result {
    journeys(REDIS, &Asks::ALL)
}

#[test]
fn redis_keeps_strangers_out() -> Result {
    strangers_stay_out(REDIS, &[Asks::Nobody, Asks::Anybody])
}
