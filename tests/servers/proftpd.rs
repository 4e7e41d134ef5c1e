//! ProFTPD: a process for each connection.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use testbed::client::Client;

use crate::Result;
use crate::journey::{journeys, strangers_stay_out};
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

/// Who may log in, with the password `secret`.
pub const USER: &str = "visitor";

pub const PROFTPD: Kind = Kind {
    ring: "proftpd",
    configure,
    command,
    client,
    reload: Some(Reload::Signal(libc::SIGHUP, "received SIGHUP")),
    ..PLAIN
};

fn configure(site: &Site, asks: Asks) -> Result {
    let verify = asks.among("off", "optional", "on");
    let dir = site.dir.display();
    let config = format!(
        "ServerName test\n\
         ServerType standalone\n\
         DefaultAddress {}\n\
         SocketBindTight on\n\
         Port {}\n\
         User nobody\n\
         Group nogroup\n\
         UseReverseDNS off\n\
         WtmpLog off\n\
         RequireValidShell off\n\
         AuthOrder mod_auth_file.c\n\
         AuthUserFile {dir}/passwd\n\
         PidFile {dir}/proftpd.pid\n\
         ScoreboardFile {dir}/scoreboard\n\
         ModulePath /usr/lib/proftpd\n\
         LoadModule mod_tls.c\n\
         TLSEngine on\n\
         TLSRequired on\n\
         TLSLog {dir}/tls.txt\n\
         TLSProtocol TLSv1.2 TLSv1.3\n\
         TLSECCertificateFile {}\n\
         TLSECCertificateKeyFile {}\n\
         TLSCACertificateFile {}\n\
         TLSVerifyClient {verify}\n\
         TLSSessionTickets on\n",
        site.addr.ip(),
        site.addr.port(),
        site.certificate.cert.display(),
        site.certificate.key.display(),
        site.clients.display(),
    );
    let hash = Command::new("openssl").args(["passwd", "-6", "secret"]).output()?;
    let hash = String::from_utf8(hash.stdout)?;
    let entry = format!("{USER}:{}:65534:65534::{dir}:/bin/sh\n", hash.trim());
    let passwd = site.dir.join("passwd");
    fs::write(&passwd, entry)?;
    fs::set_permissions(&passwd, Permissions::from_mode(0o600))?;
    Ok(fs::write(site.dir.join("proftpd.conf"), config)?)
}

fn command(site: &Site) -> Vec<String> {
    let config = site.dir.join("proftpd.conf").display().to_string();
    ["/usr/sbin/proftpd", "-n", "-c", &config].map(str::to_owned).to_vec()
}

/// A line of what the server says.
pub fn line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// What precedes the handshake (RFC 4217).
pub fn ask_for_tls(stream: &mut TcpStream) -> io::Result<()> {
    line(stream)?;
    stream.write_all(b"AUTH TLS\r\n")?;
    let answer = line(stream)?;
    if answer.starts_with("234 ") { Ok(()) } else { Err(io::Error::other(answer)) }
}

fn client(client: Client) -> Client {
    client.saying("QUIT\r\n").after(ask_for_tls)
}

#[test]
fn proftpd_resumes_whomever_it_asks() -> Result {
    journeys(PROFTPD, &Asks::ALL)
}

#[test]
fn proftpd_keeps_strangers_out() -> Result {
    strangers_stay_out(PROFTPD, &[Asks::Nobody, Asks::Anybody])
}
