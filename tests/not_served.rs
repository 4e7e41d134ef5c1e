//! What the shim cannot serve is counted in the ring for each reason, told once in the log, and told by
//! `tktrot status`: as an alarm while nothing is served, as a remark beside what is.

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use testbed::client::{Client, TlsVersion};
use testbed::environment::ring_status;
use testbed::haproxy::{Haproxy, Mode};
use testbed::nginx::Nginx;
use testbed::process::needs_root;
use testbed::solo::Solo;
use testbed::{RingDir, artifacts, log, wait};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const TICKETS_OFF: &str = "tickets are switched off (SSL_OP_NO_TICKET) for a connection";
const EARLY_DATA: &str = "early data is on without SSL_OP_NO_ANTI_REPLAY";

/// What `tktrot status` knows of the only ring there is.
struct Status(Value);

impl Status {
    fn of(ring: &RingDir) -> Result<Status> {
        Ok(Status(ring_status(ring.path())?))
    }

    fn count(&self, counter: &str) -> u64 {
        self.0["counters"][counter].as_u64().expect(counter)
    }

    /// All that was not served.
    fn unserved(&self) -> [u64; 3] {
        ["tickets_off", "anti_replay", "left_alone"].map(|counter| self.count(counter))
    }

    /// The names of its alarms and of its remarks.
    fn told(&self) -> [Vec<&str>; 2] {
        ["alarm", "remark"].map(|kind| {
            let all = self.0[format!("{kind}s")].as_array().into_iter().flatten();
            all.filter_map(|one| one[kind].as_str()).collect()
        })
    }
}

/// A client of each connects, `times` times.
fn visit(addr: SocketAddr, versions: &[TlsVersion], times: usize) -> Result {
    for version in versions.iter().cycle().take(times * versions.len()) {
        Client::new(*version)?.connect(addr, None, None)?;
    }
    Ok(())
}

fn openssl(ring: &RingDir, options: &[&str]) -> Result<Solo> {
    let server = Solo::openssl().preload(artifacts::shim()?).ring(ring);
    let server = options.iter().fold(server, |server, option| server.argument(option));
    Ok(server.start()?)
}

fn lines_with<'t>(text: &'t str, part: &str) -> Vec<&'t str> {
    log::ours(text).into_iter().filter(|line| line.contains(part)).collect()
}

#[test]
fn tickets_that_are_switched_off_are_counted_for_each_connection_and_told_once() -> Result {
    let ring = RingDir::new()?;
    let server = openssl(&ring, &["-no_ticket"])?;
    visit(server.addr(), &TlsVersion::ALL, 1)?;
    // Whoever looked whether it accepts connections was one, too.
    let first = Status::of(&ring)?;
    visit(server.addr(), &TlsVersion::ALL, 5)?;
    let then = Status::of(&ring)?;
    assert!(first.count("tickets_off") >= 2, "{:#}\n{}", first.0, server.stderr());
    assert_eq!(then.count("tickets_off") - first.count("tickets_off"), 10, "{:#}", then.0);
    assert_eq!((then.count("issued"), &then.unserved()[1..]), (0, &[0, 0][..]));
    assert_eq!(then.told(), [vec!["tickets-off"], vec![]]);
    assert_eq!(then.0["severity"], "warning");
    // It has the ring, and has dealt in nothing.
    assert_eq!(then.0["users"][0]["counts"], false, "{:#}", then.0);
    let told = server.stderr();
    assert_eq!(lines_with(&told, TICKETS_OFF).len(), 1, "{told}");
    assert_eq!(log::ours(&told).len(), 1, "{told}");
    Ok(())
}

#[test]
fn stateful_tickets_of_early_data_are_counted_for_each_connection_and_told_once() -> Result {
    let ring = RingDir::new()?;
    let server = openssl(&ring, &["-max_early_data", "16384"])?;
    visit(server.addr(), &[TlsVersion::V13], 1)?;
    let first = Status::of(&ring)?;
    visit(server.addr(), &[TlsVersion::V13], 5)?;
    let then = Status::of(&ring)?;
    assert!(first.count("anti_replay") >= 1, "{:#}\n{}", first.0, server.stderr());
    assert_eq!(then.count("anti_replay") - first.count("anti_replay"), 5, "{:#}", then.0);
    assert_eq!((then.count("issued"), then.count("tickets_off")), (0, 0));
    assert_eq!(then.told(), [vec!["early-data"], vec![]]);

    // TLS 1.2 has its tickets: not everything is amiss.
    visit(server.addr(), &[TlsVersion::V12], 1)?;
    assert_eq!(Status::of(&ring)?.count("issued"), 1);
    // The upkeep thread, which comes with the first ticket, is missed until it is there.
    let later = wait::until(wait::PATIENCE, "an end of the alarms", || {
        Status::of(&ring).ok().filter(|later| later.told()[0].is_empty())
    })?;
    assert_eq!(later.told(), [vec![], vec!["early-data"]], "{:#}", later.0);
    assert_eq!(later.0["severity"], "ok");
    let told = server.stderr();
    assert_eq!(lines_with(&told, EARLY_DATA).len(), 1, "{told}");
    assert_eq!(log::ours(&told).len(), 1, "{told}");
    Ok(())
}

#[test]
fn what_is_served_is_not_counted() -> Result {
    for options in [&[][..], &["-max_early_data", "16384", "-no_anti_replay"]] {
        let ring = RingDir::new()?;
        let server = openssl(&ring, options)?;
        visit(server.addr(), &TlsVersion::ALL, 3)?;
        let then = Status::of(&ring)?;
        assert_eq!(then.unserved(), [0; 3], "{options:?}: {}", server.stderr());
        assert_eq!((then.count("issued"), &*then.told()[1]), (9, &[][..]), "{options:?}");
        assert_eq!(log::ours(&server.stderr()), [""; 0], "{options:?}");
    }
    Ok(())
}

/// Contexts that nobody uses are not counted either: nginx makes them in its master.
#[test]
fn a_context_that_keeps_its_own_keys_is_counted_once() -> Result {
    let (ring, dir) = (RingDir::new()?, tempfile::tempdir()?);
    let key = dir.path().join("ticket.key");
    fs::write(&key, [0x5a; 80])?;
    let nginx = Nginx::builder().workers(1).preload(artifacts::shim()?).ring(&ring);
    let nginx = nginx.server(&format!("ssl_session_ticket_key {};", key.display()));
    let nginx = nginx.env("TKTROT_TAKEOVER", "no").start()?;
    visit(nginx.addr(), &TlsVersion::ALL, 3)?;
    let then = Status::of(&ring)?;
    assert_eq!(then.unserved(), [0, 0, 1], "{:#}\n{}", then.0, nginx.log_tail());
    assert_eq!(then.told(), [vec!["own-keys"], vec![]]);
    Ok(())
}

/// As Debian's own haproxy.cfg has it.
#[test]
fn haproxy_without_tickets_is_told_with_what_to_remove() -> Result {
    needs_root("HAProxy changes its root directory and its user");
    let ring = RingDir::new()?;
    let builder = Haproxy::builder()?.mode(Mode::MasterWorker).unprivileged();
    let (_, crt) = builder.certificate("site")?;
    let haproxy = builder
        .global("ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets")
        .frontend(&format!("crt {}", crt.display()))
        .preload(artifacts::shim()?)
        .ring(&ring)
        .start()?;
    let before = Status::of(&ring)?.count("tickets_off");
    visit(haproxy.addr(0), &TlsVersion::ALL, 3)?;
    let then = Status::of(&ring)?;
    assert_eq!(then.count("tickets_off") - before, 6, "{:#}\n{}", then.0, haproxy.stderr());
    assert_eq!(then.told(), [vec!["tickets-off"], vec![]]);
    let remedy = then.0["alarms"][0]["do"].as_str().unwrap_or_default();
    assert!(remedy.contains("remove no-tls-tickets from the configuration of haproxy"), "{remedy}");
    let told = haproxy.stderr();
    assert_eq!(lines_with(&told, TICKETS_OFF).len(), 1, "{told}");
    Ok(())
}
