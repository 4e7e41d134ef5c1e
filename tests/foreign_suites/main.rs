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

use tempfile::TempDir;
use testbed::{RingDir, artifacts};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Not the one in the PATH, which may be linked with another OpenSSL.
const PYTHON: &str = "/usr/bin/python3.11";
/// For one process, which needs a quarter of it at most. Reached only where something hangs.
const SECONDS: u32 = 240;
/// How often a test that gave something else is run again, each way. Some of these tests depend on
/// how fast a machine is, so a difference counts if it is seen a second time.
const AGAIN: usize = 3;

/// The outcomes of each test, by its name; a test has several where it has parts.
type Outcomes = BTreeMap<String, Vec<String>>;

/// What came of one process.
struct Ran {
    outcomes: Outcomes,
    said: String,
}

#[test]
fn cpythons_ssl_is_the_same() -> Result {
    are_the_same(150, &["test.test_ssl"])
}

#[test]
fn cpythons_asyncio_is_the_same() -> Result {
    let modules = ["test_ssl", "test_sslproto", "test_streams", "test_events"];
    are_the_same(300, &modules.map(|module| format!("test.test_asyncio.{module}")))
}

#[test]
fn cpythons_ftp_imap_pop_http_and_nntp_are_the_same() -> Result {
    let modules = ["ftplib", "imaplib", "poplib", "httplib", "urllib2_localnet", "nntplib"];
    are_the_same(400, &modules.map(|module| format!("test.test_{module}")))
}

#[test]
fn tornado_is_the_same() -> Result {
    let modules = ["httpserver_test", "iostream_test", "simple_httpclient_test"];
    are_the_same(250, &modules.map(|module| format!("tornado.test.{module}")))
}

/// By way of pyOpenSSL, which calls libssl from a module of its own.
#[test]
fn twisted_is_the_same() -> Result {
    are_the_same(12, &["twisted.test.test_ssl"])
}

/// Runs modules of tests with the shim and without, side by side. At least `passing` tests have to
/// pass, and tickets to be issued, or the comparison says nothing.
fn are_the_same(passing: usize, modules: &[impl AsRef<str>]) -> Result {
    let modules: Vec<&str> = modules.iter().map(AsRef::as_ref).collect();
    let ring = RingDir::new()?;
    let (without, with) = both(&ring, &modules)?;
    let passed = without.outcomes.values().flatten().filter(|outcome| *outcome == "ok").count();
    assert!(passed >= passing, "{modules:?}: {passed} pass without the shim\n{}", without.said);
    assert!(issued(&ring)? > 0, "{modules:?}: under the shim no ticket was issued\n{}", with.said);

    let mut confirmed = Vec::new();
    for suspect in differences(&without, &with) {
        eprintln!("once: {}", suspect.told);
        for _ in 0..AGAIN {
            let (without, with) = both(&RingDir::new()?, &[in_a_module(&suspect.name)])?;
            if let Some(difference) = differences(&without, &with).first() {
                confirmed.push(format!("{}\n{}", difference.told, with.said));
                break;
            }
        }
    }
    assert!(
        confirmed.is_empty(),
        "{} of {} tests give something else under the shim:\n\n{}",
        confirmed.len(),
        without.outcomes.len(),
        confirmed.join("\n")
    );
    Ok(())
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
fn both(ring: &RingDir, names: &[&str]) -> Result<(Ran, Ran)> {
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
    let alone = start(without.path(), names, &[])?;
    let guest = start(with.path(), names, &guest)?;
    // Both are waited for, whatever comes of the first.
    let (alone, guest) = (end(alone, without.path()), end(guest, with.path()));
    Ok((alone.map_err(|error| format!("without the shim: {error}"))?, guest?))
}

/// In a directory of its own. It ends itself, and is ended with all its children if it does not.
fn start(directory: &Path, names: &[&str], variables: &[(&str, &str)]) -> Result<Child> {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign_suites/outcomes.py");
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg((SECONDS + 30).to_string()).arg(PYTHON).arg(driver);
    command.arg(directory.join("outcomes")).arg(SECONDS.to_string()).args(names);
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
    let rings = ring.rings()?;
    let path = rings.first().ok_or("there is no ring")?;
    let output = Command::new(artifacts::tktrot()?)
        .args(["status", "--json"])
        .arg(path)
        .env("TKTROT_DIR", ring.path())
        .output()?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let issued = status["rings"][0]["counters"]["issued"].as_u64();
    Ok(issued.ok_or_else(|| format!("how many tickets were issued is not in {status}"))?)
}
