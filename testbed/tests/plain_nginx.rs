//! Can the testbed see success and failure? A plain nginx shows both: within one life it resumes
//! everything, after a restart nothing.

use std::time::Duration;

use anyhow::Result;
use testbed::client::{Client, ErrorKind, Stage, TlsVersion};
use testbed::load::{Load, Promise};
use testbed::nginx::Nginx;

/// nginx's default ssl_session_timeout.
const NGINX_LIFETIME: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_client_sees_resumption_within_one_life_and_a_full_handshake_after_a_restart() -> Result<()> {
    let mut nginx = Nginx::builder().start()?;
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let full = client.connect(nginx.addr(), Some("localhost"), None)?;
        assert!(!full.resumed);
        assert_eq!(full.body, "ok");
        assert_eq!(full.tickets.len(), if version == TlsVersion::V12 { 1 } else { 2 });
        let ticket = full.tickets.last().unwrap();
        assert_eq!(ticket.version(), version);
        assert_eq!(ticket.key_hex8().len(), 8);
        assert_eq!(ticket.lifetime_hint(), NGINX_LIFETIME);

        let again = client.connect(nginx.addr(), Some("localhost"), Some(ticket))?;
        assert!(again.resumed, "{version}");
        assert_eq!(again.tickets.len(), if version == TlsVersion::V12 { 0 } else { 1 });

        nginx.stop()?;
        nginx.start()?;
        let restarted = client.connect(nginx.addr(), None, Some(ticket))?;
        assert!(!restarted.resumed, "{version}");
        assert_ne!(restarted.tickets[0].key_name(), ticket.key_name());
    }
    Ok(())
}

#[test]
fn the_load_tells_kept_tickets_from_lost_ones() -> Result<()> {
    let mut nginx = Nginx::builder().start()?;
    let mut load = Load::new(nginx.addr(), 3, Promise::constant(NGINX_LIFETIME))?;
    let first = load.run(LIMIT, |progress| progress.handshakes >= 60).total();
    assert_eq!(first.first_full, 6, "{first}");
    assert!(first.handshakes >= 60 && first.resumed == first.handshakes - 6, "{first}");
    assert_eq!((first.unexpected_full, first.failed(), first.carried), (0, 0, 0), "{first}");
    assert_eq!(load.keys().len(), 1);

    let kept = load.round().total();
    assert_eq!((kept.handshakes, kept.resumed, kept.carried), (6, 6, 6), "{kept}");

    nginx.stop()?;
    let refused = load.round().total();
    assert_eq!(refused.failures.get(&ErrorKind::Refused), Some(&6), "{refused}");
    nginx.start()?;
    let lost = load.round().total();
    assert_eq!((lost.handshakes, lost.resumed, lost.unexpected_full), (6, 0, 6), "{lost}");
    assert_eq!(load.keys().len(), 2);
    Ok(())
}

#[test]
fn a_ticket_that_resumes_for_too_long_is_seen() -> Result<()> {
    let nginx = Nginx::builder().start()?;
    let ms = Duration::from_millis;
    // A plain nginx never rotates, so it breaks this promise.
    let promise = Promise { lifetime: ms(200), rotate: Some(ms(100)), margin: ms(50) };
    let mut load = Load::new(nginx.addr(), 1, promise)?;
    load.round();
    let late = load.run(LIMIT, |progress| progress.elapsed >= ms(800)).of(TlsVersion::V12);
    assert!(late.overdue > 0 && late.unexpected_full == 0, "{late}");
    Ok(())
}

#[test]
fn reload_and_upgrade_replace_workers_and_masters_and_fail_nobody() -> Result<()> {
    // Any library that nginx itself does not load.
    let library = std::path::Path::new("libanl.so.1");
    let mut nginx = Nginx::builder().workers(3).preload(library).keep_environment().start()?;
    let mut load = Load::new(nginx.addr(), 2, Promise::constant(NGINX_LIFETIME))?;
    let (master, workers) = (nginx.master_pid()?, nginx.worker_pids()?);
    assert_eq!(workers.len(), 3);

    let (report, result) = load.during(LIMIT, || nginx.reload());
    result?;
    assert_eq!(report.total().failed(), 0, "{report}");
    assert_eq!(nginx.master_pid()?, master);
    assert!(nginx.worker_pids()?.iter().all(|pid| !workers.contains(pid)));

    let (report, result) = load.during(LIMIT, || nginx.upgrade_usr2());
    result?;
    assert_eq!(report.total().failed(), 0, "{report}");
    assert_ne!(nginx.master_pid()?, master);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", nginx.master_pid()?))?;
    assert!(maps.contains("libanl.so.1"), "the new master lost LD_PRELOAD");
    Ok(())
}

#[test]
fn a_killed_worker_is_replaced_and_kills_only_its_connections() -> Result<()> {
    let nginx = Nginx::builder().start()?;
    let victim = nginx.worker_pids()?[0];
    assert!(nginx.kill_worker(victim)?);
    testbed::wait::until(LIMIT, "a new worker", || {
        let workers = nginx.worker_pids().ok()?;
        (workers.len() == 2 && !workers.contains(&victim)).then_some(())
    })?;
    assert!(!nginx.kill_worker(victim)?);
    Ok(())
}

#[test]
fn kinds_of_failure_are_told_apart() -> Result<()> {
    let client = Client::new(TlsVersion::V12)?;
    let refused = client.connect(testbed::port::free()?, None, None).unwrap_err();
    assert_eq!((refused.kind, refused.stage), (ErrorKind::Refused, Stage::Connect));

    // A listener that closes at once: what a killed worker looks like.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = std::thread::spawn(move || drop(listener.accept()));
    let killed = client.connect(addr, None, None).unwrap_err();
    assert_eq!((killed.kind, killed.stage), (ErrorKind::Killed, Stage::Handshake), "{killed}");
    server.join().unwrap();

    let nginx = Nginx::builder().server("ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256;").start()?;
    let alert = client.connect(nginx.addr(), None, None).unwrap_err();
    assert_eq!((alert.kind, alert.stage), (ErrorKind::Alert, Stage::Handshake), "{alert}");
    Ok(())
}

#[test]
fn a_renewed_tls_12_ticket_is_withdrawn_as_by_a_real_client() -> Result<()> {
    let mut nginx = Nginx::builder().prepare()?;
    let keys: Vec<_> = ["new.key", "old.key"].iter().map(|name| nginx.dir().join(name)).collect();
    for (number, key) in keys.iter().enumerate() {
        std::fs::write(key, [number as u8; 80])?;
    }
    let with_keys = |nginx: &Nginx, order: [usize; 2]| -> Result<()> {
        let config = nginx.dir().join("nginx.conf");
        let text: String = std::fs::read_to_string(&config)?
            .lines()
            .filter(|line| !line.contains("ssl_session_ticket_key"))
            .map(|line| format!("{line}\n"))
            .collect();
        let lines = order.map(|index| format!("ssl_session_ticket_key {};", keys[index].display()));
        let with = text.replace("server_name localhost;", &format!("{}\n{}", lines[0], lines[1]));
        std::fs::write(
            &config,
            with.replace("ssl_protocols", "server_name localhost;\nssl_protocols"),
        )?;
        Ok(())
    };
    with_keys(&nginx, [1, 0])?;
    nginx.start()?;
    let client = Client::new(TlsVersion::V12)?;
    let ticket = client.connect(nginx.addr(), None, None)?.tickets.remove(0);
    nginx.stop()?;
    with_keys(&nginx, [0, 1])?;
    nginx.start()?;
    // The key is now nginx' second, with which it resumes and renews.
    let renewed = client.connect(nginx.addr(), None, Some(&ticket))?;
    assert!(renewed.resumed && renewed.tickets.is_empty());
    assert!(ticket.is_withdrawn());
    assert!(!client.connect(nginx.addr(), None, Some(&ticket))?.resumed);
    Ok(())
}
