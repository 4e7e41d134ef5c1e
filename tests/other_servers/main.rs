//! Debian's other servers, each with a configuration of its own: the same journey for all, and what
//! is particular to each. `docs/servers.md` tells what is seen here.

mod apache;
mod dovecot;
mod lighttpd;
mod postfix;
mod stunnel;

use std::path::Path;
use std::time::Duration;

use testbed::client::{Client, Ticket, TlsVersion};
use testbed::foreground::{Builder, Foreground};
use testbed::load::{Load, Progress, Promise, Report};
use testbed::process::needs_root;
use testbed::{RingDir, artifacts};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ROTATE: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_secs(30);
/// For one stretch of load. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(60);

/// What lets a server read its configuration again, and what it logs when it has.
#[derive(Clone, Copy)]
struct Reload {
    signal: i32,
    done: &'static str,
    /// Whether it closes its listening socket for a moment: who comes just then is turned away.
    deaf: bool,
}

/// The variables of a server that rotates quickly, its ring's directory aside.
fn settings() -> Result<[(&'static str, String); 3]> {
    Ok([
        ("LD_PRELOAD", artifacts::shim()?.display().to_string()),
        ("TKTROT_ROTATE", format!("{}s", ROTATE.as_secs())),
        ("TKTROT_LIFETIME", format!("{}s", LIFETIME.as_secs())),
    ])
}

/// A server with these settings in its environment, not yet started.
fn under_the_shim(ring: &RingDir) -> Result<Builder> {
    needs_root("the server gives up its privileges");
    let mut builder = Foreground::builder()?.ring(ring);
    for (name, value) in settings()? {
        builder = builder.env(name, &value);
    }
    Ok(builder)
}

/// Visitors for [`every_ticket_survives`].
fn visitors(server: &Foreground) -> Result<Load> {
    Ok(Load::new(server.addr(), 3, Promise::rotating(ROTATE, LIFETIME))?)
}

/// The visitors come back over rotations, a reload and a restart, and must all resume.
fn every_ticket_survives(server: &mut Foreground, mut load: Load, reload: Reload) -> Result<()> {
    let mut seen = Report::default();
    let enough = |progress: Progress| progress.handshakes >= 60 && progress.new_keys >= 2;

    seen.add(&load.run(LIMIT, enough));
    let read_again = || server.reload(reload.signal, reload.done);
    let (report, reloaded) = match reload.deaf {
        true => (load.run(LIMIT, |progress| progress.handshakes >= 6), read_again()),
        false => load.during(LIMIT, read_again),
    };
    reloaded?;
    assert!(report.total().resumed > 0, "{report}");
    seen.add(&report);
    seen.add(&load.run(LIMIT, |progress| progress.new_keys >= 1));

    server.stop()?;
    server.start()?;
    let report = load.round();
    assert!(report.total().carried > 0, "after the restart: {report}\n{}", server.log());
    seen.add(&report);
    seen.add(&load.run(LIMIT, |progress| progress.new_keys >= 1));

    let total = seen.total();
    assert_eq!((total.unexpected_full, total.failed()), (0, 0), "{seen}\n{}", server.log());
    assert_eq!((total.overdue, total.without_ticket), (0, 0), "{seen}");
    for version in TlsVersion::ALL {
        assert!(seen.of(version).across_keys > 0, "{version}: no rotation crossed\n{seen}");
    }
    println!("{seen}");
    Ok(())
}

/// That `dir` holds this ring and nothing else.
fn only_ring(dir: &Path, name: &str) -> Result<()> {
    let found = dir.read_dir()?.map(|entry| Ok(entry?.file_name()));
    assert_eq!(found.collect::<Result<Vec<_>>>()?, [format!("{name}.ring").as_str()]);
    Ok(())
}

/// How many upkeep threads each process of the server has.
fn upkeep_threads(server: &Foreground) -> Result<Vec<usize>> {
    Ok(server.processes()?.iter().map(|process| process.upkeep_threads().len()).collect())
}

/// How often the log says that the server's own keys were replaced, and how often anything else
/// of ours.
fn told(server: &Foreground) -> (usize, usize) {
    let log = server.log();
    let takeovers = log.matches("takeover: ").count();
    (takeovers, log.matches("tktrot[").count() - takeovers)
}

/// A new ticket for each protocol version, with a client for it.
fn tickets(server: &Foreground) -> Result<Vec<(Client, Ticket)>> {
    let mut tickets = Vec::new();
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let full = client.connect(server.addr(), None, None)?;
        tickets.push((client, full.tickets.last().ok_or("no ticket")?.clone()));
    }
    Ok(tickets)
}

/// How many of the tickets resume.
fn resumed(server: &Foreground, tickets: &[(Client, Ticket)]) -> Result<usize> {
    let mut count = 0;
    for (client, ticket) in tickets {
        let again = client.connect(server.addr(), None, Some(ticket))?;
        count += usize::from(again.resumed);
    }
    Ok(count)
}
