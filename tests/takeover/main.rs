//! A server that has ticket keys of its own: nginx with `ssl_session_ticket_key`. Preloading is a
//! request to replace them, `TKTROT_TAKEOVER=no` withdraws it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use testbed::client::{Client, Ticket, TlsVersion};
use testbed::nginx::{Builder, Nginx};
use testbed::{RingDir, artifacts, log};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A key file as nginx takes it: a name of 16 bytes, then secrets. In memory, and gone with this.
struct KeyFile {
    dir: RingDir,
    name: [u8; 16],
}

impl KeyFile {
    fn new() -> Result<KeyFile> {
        let mut bytes = [0; 80];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let key_file = KeyFile { dir: RingDir::new()?, name: bytes[..16].try_into()? };
        fs::write(key_file.path(), bytes)?;
        fs::set_permissions(key_file.path(), fs::Permissions::from_mode(0o600))?;
        Ok(key_file)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ticket.key")
    }

    fn nginx(&self, ring: &RingDir) -> Result<Builder> {
        let directive = format!("ssl_session_ticket_key {};", self.path().display());
        Ok(Nginx::builder().preload(artifacts::shim()?).ring(ring).server(&directive))
    }
}

/// One client and one ticket for each protocol version.
fn tickets(nginx: &Nginx) -> Result<Vec<(Client, Ticket)>> {
    let mut tickets = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let full = client.connect(nginx.addr(), None, None)?;
        tickets.push((client, full.tickets.last().ok_or("no ticket")?.clone()));
    }
    Ok(tickets)
}

fn all_resume(nginx: &Nginx, tickets: &[(Client, Ticket)]) -> Result<()> {
    for (client, ticket) in tickets {
        let again = client.connect(nginx.addr(), None, Some(ticket))?;
        assert!(again.resumed, "{}\n{}", client.version(), nginx.log_tail());
    }
    Ok(())
}

fn takeovers(nginx: &Nginx) -> Vec<String> {
    let (stderr, error_log) = (nginx.stderr(), nginx.error_log());
    let lines = log::ours(&stderr).into_iter().chain(log::ours(&error_log));
    lines.filter(|line| line.contains("takeover")).map(str::to_owned).collect()
}

#[test]
fn by_default_the_servers_keys_are_replaced_and_one_line_says_so() -> Result<()> {
    let (key_file, ring) = (KeyFile::new()?, RingDir::new()?);
    let mut nginx = key_file.nginx(&ring)?.start()?;
    let issued = tickets(&nginx)?;
    for (_, ticket) in &issued {
        assert_ne!(ticket.key_name(), key_file.name, "a ticket of nginx's own key");
    }
    all_resume(&nginx, &issued)?;
    // The master reads its configuration again and sets the key again.
    nginx.reload_by_signal()?;
    all_resume(&nginx, &issued)?;
    for (_, ticket) in tickets(&nginx)? {
        assert_ne!(ticket.key_name(), key_file.name, "a ticket of nginx's own key");
    }
    let lines = takeovers(&nginx);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("nginx") && lines[0].contains("TKTROT_TAKEOVER=no"), "{lines:?}");

    nginx.stop()?;
    fs::remove_file(nginx.dir().join("stderr.txt"))?;
    nginx.start()?;
    all_resume(&nginx, &issued)?;
    assert_eq!(takeovers(&nginx).len(), 1, "a new process tree says it anew");
    Ok(())
}

#[test]
fn without_takeover_the_servers_keys_serve_as_without_the_shim() -> Result<()> {
    let (key_file, ring) = (KeyFile::new()?, RingDir::new()?);
    let mut nginx = key_file.nginx(&ring)?.env("TKTROT_TAKEOVER", "no").start()?;
    let issued = tickets(&nginx)?;
    for (_, ticket) in &issued {
        assert_eq!(ticket.key_name(), key_file.name);
    }
    all_resume(&nginx, &issued)?;
    nginx.reload_by_signal()?;
    all_resume(&nginx, &issued)?;
    nginx.stop()?;
    nginx.start()?;
    all_resume(&nginx, &issued)?;
    for (_, ticket) in tickets(&nginx)? {
        assert_eq!(ticket.key_name(), key_file.name);
    }
    assert_eq!(takeovers(&nginx), [""; 0]);
    Ok(())
}

#[test]
fn a_server_without_keys_of_its_own_is_no_takeover() -> Result<()> {
    let ring = RingDir::new()?;
    let mut nginx = Nginx::builder().preload(artifacts::shim()?).ring(&ring).start()?;
    let issued = tickets(&nginx)?;
    nginx.reload_by_signal()?;
    all_resume(&nginx, &issued)?;
    assert_eq!(log::ours(&nginx.stderr()), [""; 0]);
    assert_eq!(log::ours(&nginx.error_log()), [""; 0]);
    Ok(())
}
