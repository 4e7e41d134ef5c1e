//! Gunicorn: a new SSL_CTX for each connection, which without libtktrot means new ticket keys for each.

use std::fs;

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

const GUNICORN: Kind = Kind {
    // A script, which its first line gives to the interpreter.
    ring: "python3.11",
    configure,
    command,
    reload: Some(Reload::Signal(libc::SIGHUP, "Booting worker")),
    ..PLAIN
};

/// It answers with the names in the certificate that the client has shown.
const APPLICATION: &str = "\
def application(environ, start_response):
    certificate = environ['gunicorn.socket'].getpeercert() or {}
    body = str(certificate.get('subject')).encode()
    start_response('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

fn configure(site: &Site, asks: Asks) -> Result {
    let cert_reqs = asks.among(0, 1, 2);
    let config = format!(
        "bind = '{}'\nworkers = 2\ngraceful_timeout = 1\ncertfile = '{}'\nkeyfile = '{}'\nca_certs = '{}'\n\
         cert_reqs = {cert_reqs}\n\
         # Python takes it for the file that it compiled before if it is as long: {asks:?}\n",
        site.addr,
        site.certificate.cert.display(),
        site.certificate.key.display(),
        site.clients.display(),
    );
    fs::write(site.dir.join("app.py"), APPLICATION)?;
    Ok(fs::write(site.dir.join("gunicorn.conf.py"), config)?)
}

fn command(_: &Site) -> Vec<String> {
    ["/usr/bin/gunicorn", "app"].map(str::to_owned).to_vec()
}

#[test]
fn gunicorn_resumes_whomever_it_asks() -> Result {
    journeys(GUNICORN, &Asks::ALL)
}

#[test]
fn gunicorn_keeps_strangers_out() -> Result {
    strangers_stay_out(GUNICORN, &[Asks::Nobody, Asks::Anybody])
}
