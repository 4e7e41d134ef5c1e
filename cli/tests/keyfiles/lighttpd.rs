//! lighttpd with `ssl.stek-file` moves under the shim, and back.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use testbed::visitors::Visitors;
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, artifacts, certificate, port};

use crate::{KeyFiles, Result, imported, keys, path_text, random, succeeds};

const BINARY: &str = "/usr/sbin/lighttpd";

/// One lighttpd in the foreground; ended when dropped.
struct Lighttpd {
    addr: SocketAddr,
    child: Child,
}

impl Lighttpd {
    /// With this certificate and key in one file. The shim serves it if it is given rings.
    fn start(pem: &Path, stek_file: Option<&Path>, rings: Option<&RingDir>) -> Result<Lighttpd> {
        let addr = port::free()?;
        let dir = pem.parent().ok_or("no directory")?;
        let stek_file = stek_file
            .map(|path| format!("ssl.stek-file = \"{}\"\n", path.display()))
            .unwrap_or_default();
        let text = format!(
            "server.modules = (\"mod_openssl\")\n\
             server.document-root = \"{}\"\n\
             server.bind = \"{}\"\n\
             server.port = {}\n\
             ssl.engine = \"enable\"\n\
             ssl.pemfile = \"{}\"\n\
             {stek_file}",
            dir.display(),
            addr.ip(),
            addr.port(),
            pem.display()
        );
        let config = dir.join(format!("{}.conf", addr.port()));
        fs::write(&config, text)?;
        let mut command = Command::new(BINARY);
        command.arg("-D").arg("-f").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(config.with_extension("log"))?);
        command.env_clear();
        if let Some(rings) = rings {
            let shim = artifacts::shim()?;
            command.env("LD_PRELOAD", shim).env("TKTROT_DIR", rings.path());
            command.env("TKTROT_BIND", "none");
        }
        let mut lighttpd = Lighttpd { addr, child: command.spawn()? };
        let started = wait::until(PATIENCE, "lighttpd to start", || {
            let ended = lighttpd.child.try_wait().is_ok_and(|ended| ended.is_some());
            let log = || fs::read_to_string(config.with_extension("log")).unwrap_or_default();
            if ended {
                return Some(Err(io::Error::other(log())));
            }
            TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok().then_some(Ok(()))
        });
        started??;
        Ok(lighttpd)
    }
}

impl Drop for Lighttpd {
    fn drop(&mut self) {
        // It may have ended by itself; waiting takes it out of the process table.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn its_key_moves_and_a_ring_key_moves_back() -> Result<()> {
    let (rings, key_files, site) = (RingDir::new()?, KeyFiles::new()?, tempfile::tempdir()?);
    let certificate = certificate::create(site.path())?;
    let pem = site.path().join("both.pem");
    fs::write(&pem, [fs::read(&certificate.cert)?, fs::read(&certificate.key)?].concat())?;
    // What `perl -e 'print pack("iii", 0, time(), time() + 3600)'` and 80 random bytes make.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let times = [0, u32::try_from(now)? - 60, u32::try_from(now)? + 3600];
    let key = random::<80>()?;
    let name: [u8; 16] = key[..16].try_into()?;
    let file = [&times.map(u32::to_ne_bytes).concat()[..], &key].concat();
    let file = key_files.write("stek", &file)?;

    let old = {
        let before = Lighttpd::start(&pem, Some(&file), None)?;
        let old = Visitors::of(before.addr)?;
        assert_eq!(old.key_names(), [name; 2], "lighttpd's own key");
        old
    };
    let import = ["import", path_text(&file)?, "lighttpd", "--format", "lighttpd"];
    succeeds(&rings, &[&import[..], &["--lifetime", "7d"]].concat())?;
    assert_eq!(imported(&rings, "lighttpd")?, [name]);
    let imported = keys(&rings, "lighttpd")?[0].times;
    let kept = imported.encrypt_until.until(imported.decrypt_until).as_secs();
    assert!(kept <= 3600, "longer than in the file: {kept} s");

    let with = Lighttpd::start(&pem, Some(&file), Some(&rings))?;
    old.resume(with.addr, "after the move")?;
    let new = Visitors::of(with.addr)?;
    assert_ne!(new.key_names(), old.key_names());

    let exported = key_files.path("exported");
    succeeds(
        &rings,
        &["export", "lighttpd", "--format", "lighttpd", "--output", path_text(&exported)?],
    )?;
    let without = Lighttpd::start(&pem, Some(&exported), None)?;
    new.resume(without.addr, "back without the shim")?;
    let back = Visitors::of(without.addr)?;
    assert_eq!(back.key_names(), new.key_names(), "the exported key encrypts");
    back.resume(with.addr, "under the shim")?;
    Ok(())
}
