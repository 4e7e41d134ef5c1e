//! A server that has ticket keys of its own: nginx with `ssl_session_ticket_key`. Preloading is a
//! request to replace them, `TKTROT_TAKEOVER=no` withdraws it.

mod key_files;
mod observation;
mod session_cache;
mod several_files;
mod several_servers;

use std::fs;

use testbed::nginx::{Builder, Nginx};
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, log};

use key_files::KeyFiles;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// An nginx with one key file, under the shim.
fn with_key_file(key_files: &KeyFiles, ring: &RingDir) -> Result<Builder> {
    let shim = Nginx::builder().preload(artifacts::shim()?).ring(ring);
    Ok(shim.server(&key_files.directive(0)))
}

fn takeovers(nginx: &Nginx) -> Vec<String> {
    let (stderr, error_log) = (nginx.stderr(), nginx.error_log());
    let lines = log::ours(&stderr).into_iter().chain(log::ours(&error_log));
    lines.filter(|line| line.contains("takeover")).map(str::to_owned).collect()
}

#[test]
fn by_default_the_servers_keys_are_replaced_and_one_line_says_so() -> Result<()> {
    let (key_files, ring) = (KeyFiles::new(1)?, RingDir::new()?);
    let mut nginx = with_key_file(&key_files, &ring)?.start()?;
    let issued = Visitors::of(nginx.addr())?;
    assert!(!issued.key_names().contains(&key_files.name(0)), "nginx's own key");
    issued.resume(nginx.addr(), "issued before")?;
    // The master reads its configuration again and sets the key again.
    nginx.reload_by_signal()?;
    issued.resume(nginx.addr(), "issued before")?;
    assert!(
        !Visitors::of(nginx.addr())?.key_names().contains(&key_files.name(0)),
        "nginx's own key"
    );
    let lines = takeovers(&nginx);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("nginx") && lines[0].contains("TKTROT_TAKEOVER=no"), "{lines:?}");

    nginx.stop()?;
    fs::remove_file(nginx.dir().join("stderr.txt"))?;
    nginx.start()?;
    issued.resume(nginx.addr(), "issued before")?;
    assert_eq!(takeovers(&nginx).len(), 1, "a new process tree says it anew");
    Ok(())
}

#[test]
fn without_takeover_the_servers_keys_serve_as_without_the_shim() -> Result<()> {
    let (key_files, ring) = (KeyFiles::new(1)?, RingDir::new()?);
    let mut nginx = with_key_file(&key_files, &ring)?.env("TKTROT_TAKEOVER", "no").start()?;
    let issued = Visitors::of(nginx.addr())?;
    assert_eq!(issued.key_names(), [key_files.name(0); 2]);
    issued.resume(nginx.addr(), "issued before")?;
    nginx.reload_by_signal()?;
    issued.resume(nginx.addr(), "issued before")?;
    nginx.stop()?;
    nginx.start()?;
    issued.resume(nginx.addr(), "issued before")?;
    assert_eq!(Visitors::of(nginx.addr())?.key_names(), [key_files.name(0); 2]);
    assert_eq!(takeovers(&nginx), [""; 0]);
    Ok(())
}

#[test]
fn a_server_without_keys_of_its_own_is_no_takeover() -> Result<()> {
    let ring = RingDir::new()?;
    let mut nginx = Nginx::builder().preload(artifacts::shim()?).ring(&ring).start()?;
    let issued = Visitors::of(nginx.addr())?;
    nginx.reload_by_signal()?;
    issued.resume(nginx.addr(), "issued before")?;
    assert_eq!(log::ours(&nginx.stderr()), [""; 0]);
    assert_eq!(log::ours(&nginx.error_log()), [""; 0]);
    Ok(())
}
