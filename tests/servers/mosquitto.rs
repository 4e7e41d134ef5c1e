//! Mosquitto: it makes its SSL_CTX after it has become a user of its own.

use std::fs;

use testbed::client::Client;

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

const MOSQUITTO: Kind = Kind {
    ring: "mosquitto",
    user: Some("mosquitto"),
    configure,
    command,
    client,
    reload: Some(Reload::Signal(libc::SIGHUP, "Reloading config")),
    ..PLAIN
};

fn configure(site: &Site, asks: Asks) -> Result {
    // It knows nothing between: without require_certificate it does not ask.
    let required = asks == Asks::Everybody;
    let config = format!(
        "listener {} {}\nallow_anonymous true\nlog_dest stderr\npersistence false\n\
         certfile {}\nkeyfile {}\ncafile {}\nrequire_certificate {required}\n",
        site.addr.port(),
        site.addr.ip(),
        site.certificate.cert.display(),
        site.certificate.key.display(),
        site.clients.display(),
    );
    Ok(fs::write(site.dir.join("mosquitto.conf"), config)?)
}

fn command(site: &Site) -> Vec<String> {
    let config = site.dir.join("mosquitto.conf").display().to_string();
    ["/usr/sbin/mosquitto", "-c", &config].map(str::to_owned).to_vec()
}

/// CONNECT of MQTT 3.1.1 with a clean session, and DISCONNECT.
fn client(client: Client) -> Client {
    client.saying(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0\xe0\0")
}

#[test]
fn mosquitto_resumes_with_certificates_and_without() -> Result {
    journeys(MOSQUITTO, &[Asks::Nobody, Asks::Everybody])
}

#[test]
fn mosquitto_keeps_strangers_out() -> Result {
    strangers_stay_out(MOSQUITTO, &[Asks::Nobody])
}
