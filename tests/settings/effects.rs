//! Good values, as far as they show outside of the server.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;

use testbed::certificate;
use testbed::client::{Client, TlsVersion};
use testbed::nginx::Nginx;
use testbed::process::Process;
use testbed::solo::Solo;
use testbed::{RingDir, artifacts, log};
use tktrot::ring::file::Place;
use tktrot::ring::layout::{FIRST_SLOTS, MAX_CAPACITY, SIZE, bytes_of};

use crate::{Result, resumption, server, text, ticket};

#[test]
fn the_ring_is_named_after_the_executable_or_as_the_variable_says() -> Result<()> {
    let ring = RingDir::new()?;
    let path = ring.path().join("elsewhere.keys");
    let by_default = server(&ring)?.start()?;
    let by_name = server(&ring)?.env("TKTROT_RING", "web@1").start()?;
    let by_path = server(&ring)?.env("TKTROT_RING", text(&path)).start()?;
    for solo in [by_default, by_name, by_path] {
        assert!(resumption(TlsVersion::V13, &solo)?.1.resumed);
    }
    let wanted = [path, ring.path().join("openssl.ring"), ring.path().join("web@1.ring")];
    assert_eq!(ring.entries()?, wanted);
    Ok(())
}

#[test]
fn the_capacity_bounds_the_keys_and_takes_no_memory() -> Result<()> {
    for capacity in [None, Some(8), Some(16384)] {
        let ring = RingDir::new()?;
        let mut builder = server(&ring)?;
        if let Some(capacity) = capacity {
            builder = builder.env("TKTROT_CAPACITY", &capacity.to_string());
        }
        let solo = builder.start()?;
        assert!(resumption(TlsVersion::V13, &solo)?.1.resumed);
        let path = ring.path().join("openssl.ring");
        let facts = fs::metadata(&path)?;
        assert_eq!(facts.len(), SIZE as u64);
        let (first, taken) = (bytes_of(FIRST_SLOTS) as u64, facts.blocks() * 512);
        let page = 64 << 10;
        // And a page of graves.
        assert!((first..=first.next_multiple_of(page) + page).contains(&taken), "{taken} bytes");
        let place = Place { dir: ring.path().into(), file: "openssl.ring".into(), dir_mode: 0o700 };
        let view = place.look().map_err(|refused| refused.to_string())?.ok_or("no ring")?;
        assert_eq!(view.capacity(), capacity.unwrap_or(MAX_CAPACITY));
    }
    Ok(())
}

/// Where keys are kept for less than sessions live, as elsewhere for as long as without us.
#[test]
fn a_ticket_does_not_say_that_it_outlives_its_key() -> Result<()> {
    let hint = |version, solo: &Solo| -> Result<u64> {
        Ok(ticket(&Client::new(version)?, solo)?.lifetime_hint().as_secs())
    };
    let bare = Solo::openssl().start()?;
    let ring = RingDir::new()?;
    let by_default = server(&ring)?.start()?;
    let short = RingDir::new()?;
    let short = server(&short)?.env("TKTROT_ROTATE", "60s").env("TKTROT_LIFETIME", "100s");
    let short = short.start()?;
    for version in TlsVersion::ALL {
        let without = hint(version, &bare)?;
        assert!(without > 100, "{version:?}: {without} s is nothing to shorten");
        assert_eq!(hint(version, &by_default)?, without, "{version:?}");
        assert_eq!(hint(version, &short)?, 100, "{version:?}");
    }
    Ok(())
}

/// Offers the first server's tickets to the second one; the answer must be the same for both
/// protocol versions.
fn resumes_at(first: &Solo, second: &Solo) -> Result<bool> {
    let mut results = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let ticket = ticket(&client, first)?;
        let there = client.connect(second.addr(), None, Some(&ticket))?;
        assert!(!there.tickets.is_empty() || there.resumed, "no new ticket");
        results.push(there.resumed);
    }
    assert_eq!(results[0], results[1]);
    Ok(results[0])
}

#[test]
fn servers_of_one_ring_resume_each_others_tickets_if_their_labels_are_the_same() -> Result<()> {
    let ring = RingDir::new()?;
    let certificate = certificate::create(ring.path())?;
    let start = |label: &str, bind: &str| -> Result<Solo> {
        let builder = server(&ring)?.certificate(&certificate).env("TKTROT_LABEL", label);
        let name = if bind == "none" { "plain" } else { "bound" };
        Ok(builder.env("TKTROT_RING", name).env("TKTROT_BIND", bind).start()?)
    };
    let (shop, shop_too, admin) =
        (start("shop", "verify")?, start("shop", "verify")?, start("admin", "verify")?);
    assert!(resumes_at(&shop, &shop_too)?);
    assert!(!resumes_at(&shop, &admin)?);
    assert!(!resumes_at(&admin, &shop)?);
    for solo in [shop, shop_too, admin] {
        assert_eq!(log::ours(&solo.stderr()), [""; 0]);
    }

    // Bound to nothing, not even to their label; a warning says what that allows.
    let (shop, admin) = (start("shop", "none")?, start("admin", "none")?);
    assert!(resumes_at(&shop, &admin)?);
    for solo in [shop, admin] {
        let stderr = solo.stderr();
        let lines = log::ours(&stderr);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains("warning") && lines[0].contains("plain"), "{lines:?}");
    }
    Ok(())
}

#[test]
fn renewal_is_as_the_variable_says() -> Result<()> {
    // In TLS 1.2 a renewal is a ticket that OpenSSL's client does not hand out, and the end of the
    // session that it used; in TLS 1.3 it is one more ticket.
    for (renew, in_tls_12, in_tls_13) in
        [("auto", false, 1), ("always", true, 1), ("never", false, 0)]
    {
        let ring = RingDir::new()?;
        let solo = server(&ring)?.env("TKTROT_RENEW", renew).start()?;
        let (ticket, again) = resumption(TlsVersion::V12, &solo)?;
        assert!(again.resumed, "{renew}");
        assert_eq!(ticket.is_withdrawn(), in_tls_12, "{renew}");
        let (_, again) = resumption(TlsVersion::V13, &solo)?;
        assert!(again.resumed, "{renew}");
        assert_eq!(again.tickets.len(), in_tls_13, "{renew}");
    }
    Ok(())
}

/// A setting that is told by a warning, to see where the line goes.
const TOLD: (&str, &str) = ("TKTROT_ROTATE", "soon");

#[test]
fn lines_go_where_the_variable_says() -> Result<()> {
    for target in ["stderr", "none", "syslog"] {
        let ring = RingDir::new()?;
        let solo = server(&ring)?.env("TKTROT_LOG", target).env(TOLD.0, TOLD.1).start()?;
        assert!(resumption(TlsVersion::V13, &solo)?.1.resumed, "{target}");
        let lines = if target == "stderr" { 1 } else { 0 };
        assert_eq!(log::ours(&solo.stderr()).len(), lines, "{target}: {}", solo.stderr());
    }

    let ring = RingDir::new()?;
    let path = ring.path().join("server.log");
    let builder = server(&ring)?.env("TKTROT_LOG", text(&path)).env(TOLD.0, TOLD.1);
    for starts in 1..=2 {
        let solo = builder.clone().start()?;
        assert!(resumption(TlsVersion::V13, &solo)?.1.resumed);
        assert_eq!(log::ours(&solo.stderr()), [""; 0]);
        let text = fs::read_to_string(&path)?;
        let lines = log::ours(&text);
        assert_eq!(lines.len(), starts, "the file is appended to: {lines:#?}");
        assert!(lines.iter().all(|line| line.contains(TOLD.0)), "{lines:#?}");
    }
    assert_eq!(fs::metadata(&path)?.mode() & 0o7777, 0o600);
    Ok(())
}

fn threads(pid: i32) -> Result<usize> {
    Ok(Process::find(pid).ok_or("the process is gone")?.threads().len())
}

/// Connects until each worker has issued a ticket.
fn let_all_workers_issue(nginx: &Nginx) -> Result<()> {
    const CONNECTIONS: usize = 500;
    let all: Vec<String> = nginx.worker_pids()?.iter().map(ToString::to_string).collect();
    let visit = || -> Vec<String> {
        let client = Client::new(TlsVersion::V13).expect("a client");
        let mut seen = Vec::new();
        for _ in 0..CONNECTIONS {
            let full = client.connect(nginx.addr(), None, None).expect("a full handshake");
            assert!(!full.tickets.is_empty());
            seen.push(full.body);
            if all.iter().all(|pid| seen.contains(pid)) {
                break;
            }
        }
        seen
    };
    // At the same time, since an idle nginx lets one worker take everything.
    let seen = thread::scope(|scope| {
        let visitors: Vec<_> = (0..3).map(|_| scope.spawn(visit)).collect();
        visitors.into_iter().flat_map(|visitor| visitor.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(all.iter().all(|pid| seen.contains(pid)), "a worker got no connection");
    Ok(())
}

#[test]
fn a_process_that_issues_tickets_has_one_upkeep_thread_or_none() -> Result<()> {
    for (upkeep, wanted) in [("thread", 1), ("callback", 0)] {
        let ring = RingDir::new()?;
        let nginx = Nginx::builder()
            .preload(artifacts::shim()?)
            .ring(&ring)
            .env("TKTROT_UPKEEP", upkeep)
            .body("$pid")
            .start()?;
        for worker in nginx.worker_pids()? {
            assert_eq!(threads(worker)?, 1, "a thread before the first ticket");
        }
        let_all_workers_issue(&nginx)?;
        for worker in nginx.worker_pids()? {
            Process::find(worker)
                .ok_or("a worker is gone")?
                .wait_for_threads("nginx", 1, wanted)
                .map_err(|late| format!("{upkeep}: {late:#}"))?;
        }
        assert_eq!(threads(nginx.master_pid()?)?, 1, "the master issues no tickets");
    }
    Ok(())
}
