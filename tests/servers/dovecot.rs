//! Dovecot: each connection has a process of its own, which makes its SSL_CTX as `dovenull` in a
//! chroot, where no thread may be started. It asks for client certificates on the connection
//! (`SSL_set_verify`); who shows none is served, and may not log in.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use testbed::Server;
use testbed::foreground::give;

use crate::Result;
use crate::journey::{answers_stay_the_same, journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

const DOVECOT: Kind = Kind {
    ring: "imap-login",
    configure,
    command,
    client: |client| client.saying("1 LOGOUT\r\n"),
    reload: Some(Reload::Signal(libc::SIGHUP, "SIGHUP received - reloading")),
    within: WITHIN,
    imports: true,
    look: |dovecot| {
        assert_eq!(dovecot.told(), (0, 0), "{}", dovecot.log());
        Ok(())
    },
    ..PLAIN
};

/// Whoever comes wants to log in, which takes its time.
const LOGIN: Kind =
    Kind { client: |client| client.saying("1 AUTHENTICATE EXTERNAL =\r\n2 LOGOUT\r\n"), ..DOVECOT };

/// The ring lies in the root directory of the login processes, made as by a unit's ExecStartPre=.
const WITHIN: &str = "run/login/tktrot";

fn configure(site: &Site, asks: Asks) -> Result {
    let ring = site.rings.join(WITHIN);
    fs::set_permissions(&site.rings, Permissions::from_mode(0o755))?;
    fs::create_dir_all(&ring)?;
    fs::set_permissions(&ring, Permissions::from_mode(0o700))?;
    give(&ring, "dovenull")?;
    let ours = site.variables.iter().filter(|(name, _)| *name != "TKTROT_DIR");
    let mut ours: String = ours.map(|(name, value)| format!(" {name}={value}")).collect();
    if !ours.is_empty() {
        ours += " TKTROT_DIR=/tktrot TKTROT_RING=imap-login TKTROT_UPKEEP=callback";
    }
    let verify = |asked: bool| if asked { "yes" } else { "no" };
    let config = format!(
        "base_dir = {}/run\n\
         state_dir = {}/state\n\
         log_path = /dev/stderr\n\
         protocols = imap\n\
         listen = {}\n\
         ssl = required\n\
         ssl_cert = <{}\n\
         ssl_key = <{}\n\
         ssl_ca = <{}\n\
         ssl_require_crl = no\n\
         ssl_verify_client_cert = {}\n\
         auth_ssl_require_client_cert = {}\n\
         import_environment = $import_environment{ours}\n\
         auth_mechanisms = external plain\n\
         auth_ssl_username_from_cert = {}\n\
         auth_failure_delay = 0\n\
         service anvil {{\nunix_listener anvil-auth-penalty {{\n  mode = 0\n}}\n}}\n\
         passdb {{\n  driver = static\n  args = nopassword\n}}\n\
         service imap-login {{\n\
         inet_listener imap {{\n  port = 0\n}}\n\
         inet_listener imaps {{\n  port = {}\n  ssl = yes\n}}\n\
         }}\n",
        site.rings.display(),
        site.dir.display(),
        site.addr.ip(),
        site.certificate.cert.display(),
        site.certificate.key.display(),
        site.clients.display(),
        verify(asks != Asks::Nobody),
        verify(asks == Asks::Everybody),
        verify(asks != Asks::Nobody),
        site.addr.port(),
    );
    Ok(fs::write(site.dir.join("dovecot.conf"), config)?)
}

fn command(site: &Site) -> Vec<String> {
    let config = site.dir.join("dovecot.conf").display().to_string();
    ["/usr/sbin/dovecot", "-F", "-c", &config].map(str::to_owned).to_vec()
}

#[test]
fn dovecot_resumes_whom_it_does_not_ask() -> Result {
    journeys(DOVECOT, &[Asks::Nobody])
}

/// It knows of a certificate only by the call of its verify callback, of which there is none when a
/// session resumes: who resumed could not log in.
#[test]
fn dovecot_answers_the_same_to_whom_it_asks() -> Result {
    answers_stay_the_same(LOGIN, &[Asks::Anybody, Asks::Everybody])
}

#[test]
fn dovecot_keeps_strangers_out() -> Result {
    strangers_stay_out(LOGIN, &[Asks::Nobody])
}
