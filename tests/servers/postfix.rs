//! Postfix: a master that gives its children none of its environment but what
//! `import_environment` names, and processes that come and go.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testbed::foreground::give;

use crate::Result;
use crate::journey::journeys;
use crate::kind::{Asks, Kind, PLAIN, Reload, Site};

const POSTFIX: Kind = Kind {
    ring: "smtpd",
    configure,
    command: |site| {
        let dir = site.dir.display().to_string();
        ["/usr/lib/postfix/sbin/master", "-s", "-c", &dir].map(str::to_owned).to_vec()
    },
    client: |client| client.saying("QUIT\r\n"),
    reload: Some(Reload::Signal(libc::SIGHUP, "reload -- version")),
    imports: true,
    look: |postfix| {
        let threads = postfix.upkeep_threads()?;
        assert_eq!(threads[0], 0, "the master is not under the shim");
        assert!(threads.iter().sum::<usize>() > 0, "{threads:?}");
        // Its processes have no standard error. Each replaces the keys that tlsmgr shares out.
        let ours = fs::read_to_string(postfix.site.dir.join("ours.txt"))?;
        assert!(ours.lines().count() >= postfix.starts, "one process after each start: {ours}");
        assert!(ours.lines().all(|line| line.contains("takeover: smtpd's own")), "{ours}");
        Ok(())
    },
    ..PLAIN
};

/// `postconf -d import_environment`: a list of one's own replaces it.
const IMPORTED_BY_DEFAULT: &str = "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C \
     POSTLOG_SERVICE POSTLOG_HOSTNAME";

/// Makes a directory for Postfix.
fn directory(path: &Path, owner: &str, mode: u32) -> Result {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(give(path, owner)?)
}

/// Nothing of it lies outside its directory but the programs.
fn configure(site: &Site, _: Asks) -> Result {
    for (name, owner, mode) in [
        ("queue", "root", 0o755),
        ("queue/pid", "root", 0o755),
        ("queue/private", "postfix", 0o700),
        ("queue/public", "postfix", 0o710),
        ("data", "postfix", 0o700),
    ] {
        directory(&site.dir.join(name), owner, mode)?;
    }
    let (dir, addr) = (site.dir.display(), site.addr);
    let mut ours: String =
        site.variables.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    if !ours.is_empty() {
        ours += &format!(" TKTROT_LOG={dir}/ours.txt TKTROT_ONLY=smtpd");
    }
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
         import_environment = {IMPORTED_BY_DEFAULT}{ours}\n",
        site.certificate.key.display(),
        site.certificate.cert.display(),
    );
    let master = format!(
        "postlog unix-dgram n - n - 1 postlogd\n\
         {addr} inet n - y - - smtpd\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         anvil unix - - n - 1 anvil\n\
         proxymap unix - - n - - proxymap\n\
         rewrite unix - - n - - trivial-rewrite\n"
    );
    site.write("main.cf", &main)?;
    site.write("master.cf", &master)
}

#[test]
fn postfix_smtps_resumes() -> Result {
    journeys(POSTFIX, &[Asks::Nobody])
}
