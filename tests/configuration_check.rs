//! A program that only checks its configuration says what it says without the shim, and leaves no
//! trace: no ring, no directory, and nothing in those of a server that runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use testbed::client::{Client, TlsVersion};
use testbed::log::said;
use testbed::nginx::{BINARY, Builder, Nginx};
use testbed::{RingDir, artifacts, haproxy, log};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs a check without and with the shim, whose rings are to lie in `dir`; returns both.
fn check(program: &str, arguments: &[&str], dir: &Path) -> Result<[Output; 2]> {
    let run = |shim: Option<&Path>| {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("LC_ALL", "C").env("TKTROT_DIR", dir);
        if let Some(shim) = shim {
            command.env("LD_PRELOAD", shim);
        }
        command.output().map_err(|error| format!("{program} cannot be run (make deps): {error}"))
    };
    Ok([run(None)?, run(Some(artifacts::shim()?))?])
}

/// `nginx -t` of a configuration, without and with the shim.
fn nginx_t(builder: Builder, dir: &Path) -> Result<[Output; 2]> {
    let nginx = builder.prepare()?;
    let config = nginx.dir().join("nginx.conf").display().to_string();
    check(BINARY, &["-t", "-e", "stderr", "-c", &config], dir)
}

#[test]
fn nginx_t_says_the_same_and_leaves_nothing() -> Result {
    let rings = RingDir::new()?;
    let dir = rings.path().join("made by nobody");
    let [without, with] = nginx_t(Nginx::builder(), &dir)?;
    assert!(without.status.success(), "{}", said(&without));
    assert_eq!(said(&without), said(&with));
    assert!(!dir.exists());
    // nginx has made its contexts when it finds that.
    let [without, with] = nginx_t(Nginx::builder().server("ssl_crl /there/is/none;"), &dir)?;
    for output in [without, with] {
        assert!(!output.status.success());
        assert!(said(&output).contains("/there/is/none"), "{}", said(&output));
        assert_eq!(log::ours(&said(&output)), [""; 0]);
    }
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn haproxy_c_says_the_same_and_leaves_nothing() -> Result {
    let rings = RingDir::new()?;
    let dir = rings.path().join("made by nobody");
    let builder = haproxy::Haproxy::builder()?;
    let (_, pem) = builder.certificate("site")?;
    let config = format!(
        "defaults\n mode http\n timeout client 5s\n timeout connect 5s\n timeout server 5s\n\
         frontend f\n bind 127.0.0.1:1 ssl crt {}\n http-request return status 200\n",
        pem.display()
    );
    let path = builder.file("check.cfg", config.as_bytes())?.display().to_string();
    let [without, with] = check(haproxy::BINARY, &["-c", "-f", &path], &dir)?;
    assert!(without.status.success(), "{}", said(&without));
    assert_eq!(said(&without), said(&with));
    assert!(!dir.exists());
    Ok(())
}

#[test]
fn a_check_beside_a_server_that_runs_leaves_its_ring_alone() -> Result {
    let rings = RingDir::new()?;
    let nginx = Nginx::builder().preload(artifacts::shim()?).ring(&rings).start()?;
    let client = Client::new(TlsVersion::V13)?;
    let before = rings.rings()?;
    assert_eq!(before.len(), 1);
    let inode = fs::metadata(&before[0])?.ino();
    // Twice: before there is a key, and after.
    for _ in 0..2 {
        let [_, with] = nginx_t(Nginx::builder(), rings.path())?;
        assert!(with.status.success(), "{}", said(&with));
        assert_eq!(rings.rings()?, before);
        assert_eq!(fs::metadata(&before[0])?.ino(), inode);
        let full = client.connect(nginx.addr(), None, None)?;
        let ticket = full.tickets.last().ok_or("no ticket")?;
        assert!(client.connect(nginx.addr(), None, Some(ticket))?.resumed);
    }
    assert_eq!(log::ours(&nginx.stderr()), [""; 0]);
    Ok(())
}
