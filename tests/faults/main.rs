//! Each call of the system that the shim makes fails, with each errno that is plausible, when the
//! server starts or later: in a worker, at a rotation. The server serves all the same, one line
//! says what failed and what follows, nothing leaks, and no ticket is weaker for it.

mod cases;
mod control;
mod generator;
mod journey;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cases::{CASES, Case, FAILS, LEFT_OUT, Outcome, ZEROES};
use control::Fault;
use journey::{Host, Seen, When};
use testbed::process::needs_root;
use testbed::{artifacts, certificate};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `EX_CONFIG` of sysexits.h.
const CONFIGURATION_ERROR: i32 = 78;
/// Cases under way at once: most of their time they wait for a rotation.
const AT_ONCE: usize = 6;

/// Runs `check` with each case, and fails with all the cases in which it found something.
fn each(cases: &[Case], check: impl Fn(&Case) -> std::result::Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(what) = check(case) {
                        let fault = format!("{:?} {:?}: {what}", case.when, case.fault);
                        wrong.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// A directory that workers may look into, for what all servers share.
fn open_dir() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
    Ok(dir)
}

#[test]
fn the_server_serves_whatever_call_fails() -> Result<()> {
    needs_root("workers are to be without rights");
    let dir = open_dir()?;
    let certificate = certificate::create(dir.path())?;
    each(CASES, |case| {
        let travel = || Host::new(&case.fault, &certificate)?.travel(case.when);
        let seen = travel().map_err(|error| error.to_string())?;
        judge(case, &seen).map_err(|wrong| format!("{wrong}; {seen:#?}"))
    });
    Ok(())
}

#[test]
fn present_keys_go_on_to_their_end_when_the_generator_fails() -> Result<()> {
    needs_root("workers are to be without rights");
    let dir = open_dir()?;
    let certificate = certificate::create(dir.path())?;
    thread::scope(|scope| {
        for error in [FAILS, ZEROES] {
            let fault = Fault { functions: "RAND_priv_bytes", error, from: 1, times: 0 };
            let certificate = &certificate;
            scope.spawn(move || generator::fails_for_a_while(&fault, certificate).unwrap());
        }
    });
    Ok(())
}

#[test]
fn a_strict_server_refuses_to_start_with_one_line() -> Result<()> {
    needs_root("a master is to have its rights");
    let dir = open_dir()?;
    let certificate = certificate::create(dir.path())?;
    each(CASES, |case| {
        if case.when == When::Later {
            return Ok(());
        }
        let refuse = || Host::new(&case.fault, &certificate)?.refuse();
        let (code, lines) = refuse().map_err(|error| error.to_string())?;
        match (case.is_refused(), &lines[..]) {
            (true, [line]) if code == Some(CONFIGURATION_ERROR) => {
                let first = case.says.first().copied().unwrap_or_default();
                let parts = ["fatal", "TKTROT_STRICT=1", first];
                let missing = parts.iter().find(|part| !line.contains(**part));
                missing.map_or(Ok(()), |part| Err(format!("{part:?} is not in {line}")))
            }
            (false, _) if code == Some(0) => Ok(()),
            _ => Err(format!("ended with {code:?}: {lines:#?}")),
        }
    });
    Ok(())
}

fn judge(case: &Case, seen: &Seen) -> std::result::Result<(), String> {
    let is = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
    is(seen.failed > 0, "nothing was made to fail")?;
    is(seen.panics.is_empty(), "it panicked")?;
    is(seen.leaked == 0, "descriptors leak")?;
    is(seen.sound, "it left a broken ring")?;
    is(seen.recovered, "tickets do not come back when nothing fails any more")?;
    let all_resumed = seen.offered > 0 && seen.resumed == seen.offered && seen.without_ticket == 0;
    match case.outcome {
        Outcome::NoTickets => {
            is(seen.offered == 0 && seen.without_ticket > 0, "there are tickets")?;
        }
        Outcome::NotRotated => is(seen.resumed == seen.offered, "not every ticket resumed")?,
        _ => is(all_resumed, "not every ticket resumed")?,
    }
    let (rotates, outlives_reload, has_file) = match case.outcome {
        Outcome::AsEver => (true, true, true),
        Outcome::PrivateRing => (true, true, false),
        // Who uses tickets tells it again.
        Outcome::NotConfigured => (true, true, true),
        // As far as there are tickets.
        Outcome::NotRotated => (seen.rotated, seen.over_reload, true),
        Outcome::OwnKeys => (false, false, false),
        Outcome::NotAttached | Outcome::NoTickets => (false, false, true),
    };
    is(seen.rotated == rotates, "rotation")?;
    is(seen.over_reload == outlives_reload, "a ticket over a reload")?;
    let files: &[&str] = if has_file { &["nginx.ring"] } else { &[] };
    is(seen.files == files, "files")?;
    is_told(case, seen)
}

/// Every line has all parts, and no process repeats itself.
fn is_told(case: &Case, seen: &Seen) -> std::result::Result<(), String> {
    let most_recoveries = if case.tells_recovery() { 4 } else { 0 };
    if seen.told_recovery > most_recoveries {
        return Err(format!("{} lines that it works again", seen.told_recovery));
    }
    if case.says.is_empty() && case.outcome != Outcome::PrivateRing {
        return if seen.lines.is_empty() { Ok(()) } else { Err("it complains".to_owned()) };
    }
    let master_only = case.is_refused();
    // Two workers, and two more after the reload.
    let most = if master_only { 1 } else { 4 };
    if seen.lines.is_empty() || seen.lines.len() > most {
        return Err(format!("{} lines, at most {most} expected", seen.lines.len()));
    }
    for line in &seen.lines {
        if let Some(part) = case.parts().find(|part| !line.contains(part)) {
            return Err(format!("{part:?} is not in {line}"));
        }
    }
    Ok(())
}

#[test]
fn every_function_that_the_shim_imports_is_in_the_table() -> Result<()> {
    let output =
        Command::new("nm").args(["-D", "--undefined-only"]).arg(artifacts::shim()?).output()?;
    let text = String::from_utf8(output.stdout)?;
    let imports = text.lines().filter_map(|line| {
        let symbol = line.split_whitespace().last()?;
        Some(symbol.split('@').next().unwrap_or(symbol))
    });
    let fails =
        |name: &str| CASES.iter().any(|case| case.fault.functions.split(' ').any(|it| it == name));
    let is_like = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let left_out =
        |name: &str| LEFT_OUT.iter().any(|(_, names)| names.iter().any(|it| is_like(it, name)));
    let unknown: Vec<&str> = imports.filter(|name| !fails(name) && !left_out(name)).collect();
    assert!(text.lines().count() > 50, "{text}");
    assert!(unknown.is_empty(), "not in tests/faults/cases.rs: {unknown:?}");
    Ok(())
}
