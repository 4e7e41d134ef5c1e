//! Dovecot: each connection has a process of its own, which makes its SSL_CTX as `dovenull` in a
//! chroot, where no thread may be started.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testbed::RingDir;
use testbed::foreground::{Builder, Foreground, give};
use testbed::process::needs_root;

use crate::{Reload, Result, every_ticket_survives, only_ring, settings, told, visitors};

const BINARY: &str = "/usr/sbin/dovecot";
const RELOAD: Reload =
    Reload { signal: libc::SIGHUP, done: "SIGHUP received - reloading", deaf: false };

/// Makes the directory of the ring inside the chroot of the login processes, as a unit's
/// ExecStartPre= would.
fn ring_in_the_chroot(base: &Path) -> Result<PathBuf> {
    let ring = base.join("login/tktrot");
    fs::create_dir_all(&ring)?;
    fs::set_permissions(&ring, Permissions::from_mode(0o700))?;
    give(&ring, "dovenull")?;
    Ok(ring)
}

/// Starts a Dovecot with its sockets in `base`.
fn start(builder: Builder, base: &Path) -> Result<Foreground> {
    let ours: Vec<String> =
        settings()?.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let certificate = builder.certificate();
    let config = format!(
        "base_dir = {}\n\
         state_dir = {}/state\n\
         log_path = /dev/stderr\n\
         protocols = imap\n\
         listen = {}\n\
         ssl = required\n\
         ssl_cert = <{}\n\
         ssl_key = <{}\n\
         import_environment = $import_environment {} TKTROT_DIR=/tktrot TKTROT_RING=imap-login TKTROT_UPKEEP=callback\n\
         passdb {{\n  driver = static\n}}\n\
         service imap-login {{\n\
         inet_listener imap {{\n  port = 0\n}}\n\
         inet_listener imaps {{\n  port = {}\n  ssl = yes\n}}\n\
         }}\n",
        base.display(),
        builder.dir().display(),
        builder.addr().ip(),
        certificate.cert.display(),
        certificate.key.display(),
        ours.join(" "),
        builder.addr().port()
    );
    let path = builder.file("dovecot.conf", config.as_bytes())?;
    let path = path.to_str().ok_or("the path is not UTF-8")?.to_owned();
    Ok(builder.start(BINARY, &["-F", "-c", &path])?)
}

#[test]
fn dovecot_imaps_keeps_every_ticket() -> Result<()> {
    needs_root("Dovecot changes root");
    // Its /run/dovecot is on tmpfs, and so has this to be: the ring is in it.
    let run = RingDir::new()?;
    fs::set_permissions(run.path(), Permissions::from_mode(0o755))?;
    let base = run.path().join("run");
    let ring = ring_in_the_chroot(&base)?;
    let mut dovecot = start(Foreground::builder()?, &base)?;
    let visitors = visitors(&dovecot)?.saying("1 LOGOUT\r\n");
    every_ticket_survives(&mut dovecot, visitors, RELOAD)?;
    only_ring(&ring, "imap-login")?;
    assert_eq!(told(&dovecot), (0, 0), "{}", dovecot.log());
    Ok(())
}
