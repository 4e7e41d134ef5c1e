//! Limits of resources (prlimit(1), setrlimit(2)).

use testbed::certificate::{self, Certificate};
use testbed::nginx::{Builder, Nginx};
use testbed::process::needs_root;
use testbed::visitors::Visitors;
use testbed::{RingDir, artifacts, log};

use crate::Result;

/// An nginx with one worker and a limit, told as prlimit(1) has it.
fn limited(certificate: &Certificate, limit: &str) -> Builder {
    Nginx::builder()
        .certificate(certificate)
        .workers(1)
        .launch_through(&["/usr/bin/prlimit", limit])
}

/// Whether it starts and answers clients of both versions.
fn serves(builder: Builder) -> bool {
    builder.start().is_ok_and(|nginx| Visitors::of(nginx.addr()).is_ok())
}

/// Of these limits the ones under which a plain nginx serves; some, but not all.
fn bearable(limits: &[u64], option: &str, certificate: &Certificate) -> Vec<u64> {
    let bearable: Vec<u64> = limits
        .iter()
        .copied()
        .filter(|limit| serves(limited(certificate, &format!("--{option}={limit}"))))
        .collect();
    assert!(!bearable.is_empty() && bearable.len() < limits.len(), "{option}: {bearable:?}");
    bearable
}

#[test]
fn with_the_fewest_descriptors_that_nginx_bears_it_bears_the_shim() -> Result<()> {
    let files = tempfile::tempdir()?;
    let certificate = certificate::create(files.path())?;
    let limits: Vec<u64> = (6..=20).step_by(2).collect();
    let least = bearable(&limits, "nofile", &certificate)[0];
    let ring = RingDir::new()?;
    let builder = limited(&certificate, &format!("--nofile={least}"));
    let nginx = builder.preload(artifacts::shim()?).ring(&ring).start()?;
    Visitors::of(nginx.addr())?.resume(nginx.addr(), "with few descriptors")?;
    Ok(())
}

/// The shim, its ring and its thread take some address space, of which a server with a limit needs
/// so much more.
#[test]
fn with_little_more_address_space_than_nginx_needs_it_serves_with_the_shim() -> Result<()> {
    const MORE: u64 = 16 << 20;
    let files = tempfile::tempdir()?;
    let certificate = certificate::create(files.path())?;
    let limits: Vec<u64> = (1..=12).map(|step| (step * 8) << 20).collect();
    let least = bearable(&limits, "as", &certificate)[0];
    for limit in [least, least + MORE] {
        let ring = RingDir::new()?;
        let builder = limited(&certificate, &format!("--as={limit}"));
        let served = serves(builder.preload(artifacts::shim()?).ring(&ring));
        // With nothing to spare it may fail as it would with any library more.
        assert!(served || limit == least, "{limit} bytes; a plain nginx serves with {least}");
    }
    Ok(())
}

#[test]
fn where_no_thread_can_be_made_that_is_said_and_handshakes_rotate() -> Result<()> {
    needs_root("workers change their user, whom the limit binds");
    let ring = RingDir::new()?;
    let nginx = Nginx::builder()
        .workers(1)
        .launch_through(&["/usr/bin/prlimit", "--nproc=0:0"])
        .preload(artifacts::shim()?)
        .ring(&ring)
        .start()?;
    let visitors = Visitors::of(nginx.addr())?;
    visitors.resume(nginx.addr(), "without a thread")?;
    let said = nginx.error_log() + &nginx.stderr();
    let ours = log::ours(&said);
    assert!(ours.len() == 1 && ours[0].contains("no thread can be started"), "{said}");
    Ok(())
}
