//! Postfix: a master that gives its children none of its environment but what
//! `import_environment` names, and processes that come and go.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testbed::RingDir;
use testbed::foreground::{Builder, Foreground, give};
use testbed::process::needs_root;

use crate::{Reload, Result, every_ticket_survives, only_ring, settings, upkeep_threads, visitors};

const MASTER: &str = "/usr/lib/postfix/sbin/master";
const RELOAD: Reload = Reload { signal: libc::SIGHUP, done: "reload -- version", deaf: false };
/// `postconf -d import_environment`: a list of one's own replaces it.
const IMPORTED_BY_DEFAULT: &str = "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C \
     POSTLOG_SERVICE POSTLOG_HOSTNAME";

/// Makes a directory for Postfix.
fn directory(path: PathBuf, owner: &str, mode: u32) -> Result<()> {
    fs::create_dir_all(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(mode))?;
    Ok(give(&path, owner)?)
}

/// Starts a Postfix of which nothing lies outside its directory but the programs.
fn start(builder: Builder, ring: &RingDir) -> Result<Foreground> {
    let dir = builder.dir().to_owned();
    directory(dir.join("queue"), "root", 0o755)?;
    directory(dir.join("queue/pid"), "root", 0o755)?;
    directory(dir.join("queue/private"), "postfix", 0o700)?;
    directory(dir.join("queue/public"), "postfix", 0o710)?;
    directory(dir.join("data"), "postfix", 0o700)?;
    let ours: Vec<String> =
        settings()?.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let certificate = builder.certificate();
    let (dir, addr) = (dir.display(), builder.addr());
    let main = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {dir}/queue\n\
         data_directory = {dir}/data\n\
         myhostname = localhost\n\
         mydestination =\n\
         alias_maps =\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         maillog_file = /dev/stdout\n\
         smtpd_tls_chain_files = {}, {}\n\
         smtpd_tls_security_level = encrypt\n\
         smtpd_tls_wrappermode = yes\n\
         import_environment = {IMPORTED_BY_DEFAULT} {} TKTROT_DIR={} TKTROT_LOG={dir}/ours.txt TKTROT_ONLY=smtpd\n",
        certificate.key.display(),
        certificate.cert.display(),
        ours.join(" "),
        ring.path().display()
    );
    let master = format!(
        "postlog unix-dgram n - n - 1 postlogd\n\
         {addr} inet n - y - - smtpd\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         anvil unix - - n - 1 anvil\n\
         proxymap unix - - n - - proxymap\n\
         rewrite unix - - n - - trivial-rewrite\n"
    );
    readable(&builder.file("main.cf", main.as_bytes())?)?;
    readable(&builder.file("master.cf", master.as_bytes())?)?;
    let config = builder.dir().to_str().ok_or("the path is not UTF-8")?.to_owned();
    Ok(builder.start(MASTER, &["-s", "-c", &config])?)
}

fn readable(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, Permissions::from_mode(0o644))?)
}

#[test]
fn postfix_smtps_keeps_every_ticket() -> Result<()> {
    needs_root("Postfix starts as root only");
    let ring = RingDir::new()?;
    let mut postfix = start(Foreground::builder()?, &ring)?;
    let visitors = visitors(&postfix)?.saying("QUIT\r\n");
    every_ticket_survives(&mut postfix, visitors, RELOAD)?;
    let threads = upkeep_threads(&postfix)?;
    assert_eq!(threads[0], 0, "the master is not under the shim");
    assert!(threads.iter().sum::<usize>() > 0, "{threads:?}");
    only_ring(ring.path(), "smtpd")?;
    // Its processes have no standard error. Each replaces the keys that tlsmgr shares out.
    let ours = fs::read_to_string(postfix.dir().join("ours.txt"))?;
    assert!(ours.lines().count() >= 2, "one process before the restart, one after: {ours}");
    assert!(ours.lines().all(|line| line.contains("takeover: smtpd's own")), "{ours}");
    Ok(())
}
