//! Redis: it asks for client certificates on each connection (`SSL_set_verify`), whatever its SSL_CTX
//! says; the program is a link in Debian.

use std::fs;

use testbed::client::Client;

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Place, Reload};

const REDIS: Kind = Kind {
    ring: "redis-server",
    configure,
    command,
    client,
    reload: Some(Reload::Words(reload)),
    ..PLAIN
};

fn configure(place: &Place, asks: Asks) -> Result {
    let auth = match asks {
        Asks::Nobody => "no",
        Asks::Anybody => "optional",
        Asks::Everybody => "yes",
    };
    let config = format!(
        "bind {}\nport 0\ntls-port {}\ndir {}\nsave \"\"\nappendonly no\ndaemonize no\n\
         tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients {auth}\n",
        place.addr.ip(),
        place.addr.port(),
        place.dir.display(),
        place.certificate.cert.display(),
        place.certificate.key.display(),
        place.clients.display(),
    );
    Ok(fs::write(place.dir.join("redis.conf"), config)?)
}

fn command(place: &Place) -> Vec<String> {
    vec!["/usr/bin/redis-server".into(), place.dir.join("redis.conf").display().to_string()]
}

fn client(client: Client) -> Client {
    client.saying("PING\r\nQUIT\r\n")
}

/// It makes a new SSL_CTX then.
fn reload(place: &Place) -> String {
    format!("CONFIG SET tls-cert-file {}\r\nQUIT\r\n", place.certificate.cert.display())
}

#[test]
fn redis_resumes_whomever_it_asks() -> Result {
    journeys(REDIS, &Asks::ALL)
}

#[test]
fn redis_keeps_strangers_out() -> Result {
    strangers_stay_out(REDIS, &[Asks::Nobody, Asks::Anybody])
}
