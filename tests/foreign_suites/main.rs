//! Tests of other people's TLS servers, which know nothing of libtktrot: each does under the shim
//! what it does without.
//!
//! They are Python's, as Debian packages them (no package has the tests of Perl's or Ruby's TLS
//! modules), and run in Debian's own Python, whose `ssl` is linked with the system's OpenSSL. Keys
//! change every two seconds meanwhile.
//!
//! Not run, with the shim as without: what asks CPython for a resource, such as `network` (hosts of
//! the internet); `outcomes.py` grants none, and those tests count as skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use tempfile::TempDir;
use testbed::environment::ring_status;
use testbed::{RingDir, artifacts};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Not the one in the PATH, which may be linked with another OpenSSL.
const PYTHON: &str = "/usr/bin/python3.11";
/// For one process, which needs a quarter of it at most. Reached only where something hangs.
const SECONDS: u32 = 240;
/// How often a test that gave something else is run again, each way. Some of these tests depend on
/// how fast a machine is, so a difference counts if it is seen a second time.
const AGAIN: usize = 3;
/// More than these at once are no matter of speed, and not run again.
const FEW: usize = 10;

/// The outcomes of each test, by its name; a test has several where it has parts.
type Outcomes = BTreeMap<String, Vec<String>>;

/// What came of one process.
struct Ran {
    outcomes: Outcomes,
    said: String,
}

/// Modules of tests, each with a number of tests that pass at least.
type Modules = [(&'static str, usize)];

#[test]
fn cpythons_ssl_and_asyncio_are_the_same() -> Result {
    all_are_the_same(&[
        ("test.test_ssl", 150),
        ("test.test_asyncio.test_ssl", 20),
        ("test.test_asyncio.test_sslproto", 20),
        ("test.test_asyncio.test_streams", 50),
        ("test.test_asyncio.test_events", 200),
    ])
}

#[test]
fn cpythons_protocols_are_the_same() -> Result {
    all_are_the_same(&[
        ("test.test_ftplib", 80),
        ("test.test_imaplib", 80),
        ("test.test_poplib", 60),
        ("test.test_httplib", 100),
        ("test.test_urllib2_localnet", 20),
        ("test.test_nntplib", 60),
    ])
}

#[test]
fn tornado_and_twisted_are_the_same() -> Result {
    all_are_the_same(&[
        ("tornado.test.httpserver_test", 60),
        ("tornado.test.iostream_test", 100),
        ("tornado.test.simple_httpclient_test", 100),
        // By way of pyOpenSSL, which calls libssl from a module of its own.
        ("twisted.test.test_ssl", 12),
    ])
}

/// Side by side: most of them wait most of the time.
fn all_are_the_same(modules: &Modules) -> Result {
    thread::scope(|scope| {
        let one = |module, passing| {
            is_the_same(module, passing).map_err(|error| format!("{module}: {error}"))
        };
        let all: Vec<_> = modules
            .iter()
            .map(|&(module, passing)| scope.spawn(move || one(module, passing)))
            .collect();
        let ended = all.into_iter().map(|test| test.join().unwrap_or(Err("see above".to_owned())));
        let failed: Vec<_> = ended.filter_map(std::result::Result::err).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })
}

/// Runs a module of tests with the shim and without. Enough tests have to pass, and a ticket to be
/// issued, or the comparison says nothing.
fn is_the_same(module: &str, passing: usize) -> Result {
    let ring = RingDir::new()?;
    let (without, with) = both(&ring, module)?;
    let passed = without.outcomes.values().flatten().filter(|outcome| *outcome == "ok").count();
    if passed < passing {
        return Err(format!("{passed} tests pass without the shim\n{}", without.said).into());
    }
    if issued(&ring)? == 0 {
        return Err(format!("no ticket was issued under the shim\n{}", with.said).into());
    }
    let suspects = differences(&without, &with);
    if suspects.len() > FEW {
        let told: Vec<_> = suspects.into_iter().map(|suspect| suspect.told).collect();
        return Err(format!("under the shim:\n{}\n\n{}", told.join("\n"), with.said).into());
    }
    let mut confirmed = String::new();
    for suspect in suspects {
        eprintln!("once: {}", suspect.told);
        for _ in 0..AGAIN {
            let (without, with) = both(&RingDir::new()?, in_a_module(&suspect.name))?;
            if let Some(difference) = differences(&without, &with).first() {
                confirmed += &format!("{}\n{}\n", difference.told, with.said);
                break;
            }
        }
    }
    if confirmed.is_empty() {
        return Ok(());
    }
    Err(format!("tests that give something else under the shim:\n\n{confirmed}").into())
}

struct Difference {
    name: String,
    told: String,
}

fn differences(without: &Ran, with: &Ran) -> Vec<Difference> {
    let names: BTreeSet<&String> = without.outcomes.keys().chain(with.outcomes.keys()).collect();
    let told = |ran: &Ran, name: &String| match ran.outcomes.get(name) {
        Some(outcomes) => outcomes.join(", "),
        None => "not run".to_owned(),
    };
    let compare = |name: &String| {
        let (without, with) = (told(without, name), told(with, name));
        let told = format!("{name}: {without} without the shim, {with} with it");
        (without != with).then(|| Difference { name: name.clone(), told })
    };
    names.into_iter().filter_map(compare).collect()
}

/// A name that can be loaded: a part of a test has its arguments after it, and what prepares a class
/// the class in parentheses.
fn in_a_module(name: &str) -> &str {
    match name.split_once(" (") {
        Some((what, class)) if !what.contains('.') => class.trim_end_matches(')'),
        _ => name.split([' ', '[']).next().unwrap_or(name),
    }
}

/// Without the shim, and with it.
fn both(ring: &RingDir, name: &str) -> Result<(Ran, Ran)> {
    let shim = artifacts::shim()?.display().to_string();
    let dir = ring.path().display().to_string();
    let guest = [
        ("LD_PRELOAD", shim.as_str()),
        ("TKTROT_DIR", &dir),
        ("TKTROT_ROTATE", "2s"),
        ("TKTROT_LIFETIME", "1m"),
        // Not on standard error, which some of the tests read.
        ("TKTROT_LOG", "none"),
    ];
    let (without, with) = (TempDir::new()?, TempDir::new()?);
    let alone = start(without.path(), name, &[])?;
    let guest = start(with.path(), name, &guest)?;
    // Both are waited for, whatever comes of the first.
    let (alone, guest) = (end(alone, without.path()), end(guest, with.path()));
    Ok((alone.map_err(|error| format!("without the shim: {error}"))?, guest?))
}

/// In a directory of its own. It ends itself, and is ended with all its children if it does not.
fn start(directory: &Path, name: &str, variables: &[(&str, &str)]) -> Result<Child> {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign_suites/outcomes.py");
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg((SECONDS + 30).to_string()).arg(PYTHON).arg(driver);
    command.arg(directory.join("outcomes")).arg(SECONDS.to_string()).arg(name);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
    command.env("HOME", directory).envs(variables.iter().copied());
    let said = File::create(directory.join("said"))?;
    command.current_dir(directory).stdout(said.try_clone()?).stderr(said);
    Ok(command.spawn().map_err(|error| format!("{command:?} cannot be run: {error}"))?)
}

fn end(mut process: Child, directory: &Path) -> Result<Ran> {
    let status = process.wait()?;
    let said = String::from_utf8_lossy(&fs::read(directory.join("said"))?).into_owned();
    let lines = fs::read_to_string(directory.join("outcomes")).unwrap_or_default();
    if !status.success() {
        let last = lines.lines().last().unwrap_or("none");
        return Err(format!("{status}; the last test to end was: {last}\n{said}").into());
    }
    let mut outcomes = Outcomes::new();
    for line in lines.lines() {
        let (name, outcome) = line.split_once('\t').ok_or_else(|| format!("what is {line}?"))?;
        outcomes.entry(name.to_owned()).or_default().push(outcome.to_owned());
    }
    outcomes.values_mut().for_each(|all| all.sort());
    Ok(Ran { outcomes, said })
}

/// How many tickets the ring's users issued.
fn issued(ring: &RingDir) -> Result<u64> {
    let status = ring_status(ring.path())?;
    let issued = status["counters"]["issued"].as_u64();
    Ok(issued.ok_or_else(|| format!("how many tickets were issued is not in {status}"))?)
}
