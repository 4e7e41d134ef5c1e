//! The other ways to resume: session ids and a cache, with and without tickets beside them.

use std::net::SocketAddr;

use testbed::RingDir;
use testbed::client::{Client, Session, TlsVersion};

use crate::key_files::{KeyFiles, Sealer};
use crate::observation::{Observation, Record, Shim, newest};
use crate::{Result, takeovers};

/// One server block.
#[derive(Clone, Copy, Debug)]
struct Case {
    number: usize,
    cache: &'static str,
    tickets: bool,
    file: bool,
}

/// Each cache that nginx has, with and without tickets, with and without a key file.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for cache in ["off", "none", "builtin", "shared", "builtin shared"] {
        for (tickets, file) in [(true, false), (true, true), (false, false), (false, true)] {
            cases.push(Case { number: cases.len(), cache, tickets, file });
        }
    }
    cases
}

impl Case {
    fn lines(self, key_files: &KeyFiles) -> Vec<String> {
        let cache = self.cache.replace("shared", &format!("shared:cache{}:1m", self.number));
        let mut lines = vec![format!("ssl_session_cache {cache};")];
        if !self.tickets {
            lines.push("ssl_session_tickets off;".to_owned());
        }
        if self.file {
            lines.push(key_files.directive(0));
        }
        lines
    }

    fn step(self, what: &str) -> String {
        let tickets = if self.tickets { "on" } else { "off" };
        let file = if self.file { "with" } else { "without" };
        format!("cache {}, tickets {tickets}, {file} key file: {what}", self.cache)
    }
}

/// Who comes to each server: a client of TLS 1.2, one of 1.3, and one that takes no tickets.
fn clients() -> Result<[(&'static str, Client); 3]> {
    Ok([
        ("1.2", Client::new(TlsVersion::V12)?),
        ("1.3", Client::new(TlsVersion::V13)?),
        ("by id", Client::without_tickets(TlsVersion::V12)?),
    ])
}

struct Seen {
    /// Before a reload.
    before: Vec<Observation>,
    /// After it, with the sessions from before.
    after: Vec<(Case, &'static str, Observation)>,
    takeovers: Vec<String>,
}

fn visit_all(shim: Shim) -> Result<Seen> {
    let (key_files, ring) = (KeyFiles::new(1)?, RingDir::new()?);
    // One worker: a builtin cache is each worker's own.
    let mut builder = shim.nginx(&ring)?.workers(1);
    let mut servers: Vec<(Case, SocketAddr)> = Vec::new();
    for case in cases() {
        let lines = case.lines(&key_files);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        servers.push((case, builder.another_server("return 200 ok;", &lines)?));
    }
    let mut nginx = builder.start()?;
    let mut record = Record::new(&key_files);
    let mut held: Vec<(Case, SocketAddr, &str, Client, Option<Session>)> = Vec::new();
    for &(case, addr) in &servers {
        for (who, client) in clients()? {
            let first = record.visit(&case.step(&format!("{who} first")), &client, addr, None)?;
            let session = newest(&first);
            let step = case.step(&format!("{who} again"));
            record.visit(&step, &client, addr, session.as_ref())?;
            held.push((case, addr, who, client, session));
        }
    }
    let before = std::mem::take(&mut record.seen);
    nginx.reload_by_signal()?;
    let mut after = Vec::new();
    for (case, addr, who, client, session) in held {
        record.visit(&case.step(&format!("{who} later")), &client, addr, session.as_ref())?;
        after.extend(record.seen.pop().map(|seen| (case, who, seen)));
    }
    Ok(Seen { before, after, takeovers: takeovers(&nginx) })
}

#[test]
fn caches_and_session_ids_do_what_they_do_without_the_shim() -> Result<()> {
    let without = visit_all(Shim::None)?;
    for shim in [Shim::NoTakeover, Shim::Takeover] {
        let with = visit_all(shim)?;
        let takeover = shim == Shim::Takeover;
        for (with, without) in with.before.iter().zip(&without.before) {
            assert_eq!(with.without_names(), without.without_names(), "{shim:?}");
            if takeover {
                assert!(with.sealers().all(|sealer| sealer == Sealer::NoFile), "{with:?}");
            } else {
                assert_eq!(with, without);
            }
        }
        for ((case, who, with), (.., without)) in with.after.iter().zip(&without.after) {
            // A ticket outlives the reload; nothing else may have changed.
            if case.tickets && *who != "by id" {
                assert!(with.resumed, "{shim:?}, {with:?}");
            } else {
                assert_eq!(with, without, "{shim:?}");
            }
        }
        assert_eq!(with.before.len(), without.before.len());
        assert_eq!(with.after.len(), without.after.len());
        assert_eq!(with.takeovers.len(), usize::from(takeover), "{:#?}", with.takeovers);
    }
    Ok(())
}

/// What the test above compares with: nginx' own behaviour, so far as it matters here.
#[test]
fn without_tickets_only_a_cache_resumes_and_only_a_shared_one_after_a_reload() -> Result<()> {
    let seen = visit_all(Shim::Takeover)?;
    let steps = seen.before.iter().filter(|seen| seen.step.ends_with("by id again"));
    let resumed: Vec<bool> = steps.map(|seen| seen.resumed).collect();
    let of_caches = |has: fn(&str) -> bool| -> Vec<bool> {
        cases().iter().map(|case| has(case.cache)).collect()
    };
    let caches = |cache: &str| cache.contains("builtin") || cache.contains("shared");
    assert_eq!(resumed, of_caches(caches));
    // A worker with a builtin cache takes its sessions out of the shared one when it ends.
    let outlives = |cache: &str| cache == "shared";
    let later = seen.after.iter().filter(|(_, who, _)| *who == "by id");
    let resumed: Vec<bool> = later.map(|(.., seen)| seen.resumed).collect();
    assert_eq!(resumed, of_caches(outlives));

    for (case, who, later) in seen.after.iter().filter(|(case, ..)| !case.tickets) {
        assert_eq!(later.resumed, outlives(case.cache), "{who}: {later:?}");
        assert!(later.version == TlsVersion::V13 || later.tickets.is_empty(), "{later:?}");
    }
    Ok(())
}

/// nginx 1.23.2 and later set a callback there; Debian's 1.22 does not, and its tickets are ours
/// without a word.
#[test]
fn a_shared_cache_alone_is_no_takeover() -> Result<()> {
    let (key_files, ring) = (KeyFiles::new(0)?, RingDir::new()?);
    let cache = "ssl_session_cache shared:SSL:1m;";
    let mut nginx = Shim::Takeover.nginx(&ring)?.server(cache).start()?;
    let mut record = Record::new(&key_files);
    for version in TlsVersion::ALL {
        let client = Client::new(version)?;
        let first = record.visit("first", &client, nginx.addr(), None)?;
        nginx.stop()?;
        nginx.start()?;
        record.visit("after a restart", &client, nginx.addr(), newest(&first).as_ref())?;
    }
    assert!(record.of("after a restart").all(|seen| seen.resumed));
    assert_eq!(takeovers(&nginx), [""; 0]);
    Ok(())
}
