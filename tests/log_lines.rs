//! Where a line goes when standard error is no longer what it was: to the system's log, unless it
//! is plainly the server's own log.

use std::path::Path;

use testbed::environment::Environment;
use testbed::process::needs_root;
use testbed::{RingDir, artifacts, certificate, log};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is told: a server's own keys are replaced. Priority 29: a notice of a daemon.
const LINE: &str = "notice: takeover: loses_stderr's own ticket keys";
const PRIORITY: &str = "<29>loses_stderr: tktrot[";

/// Where a line came.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// Where the server's messages went from the start.
    ToStderr,
    /// To what has that number now.
    There,
    ToSyslog,
    Nowhere,
}

fn lost(what: &str, target: Option<&str>) -> Result<Came> {
    let (ring, files) = (RingDir::new()?, tempfile::tempdir()?);
    let certificate = certificate::create(files.path())?;
    let mut environment = Environment::default();
    environment.preload(artifacts::shim()?);
    environment.set("TKTROT_DIR", &ring.path().display().to_string());
    if let Some(target) = target {
        environment.set("TKTROT_LOG", target);
    }
    let program = artifacts::program("servers/loses_stderr")?;
    let mut command = environment.command(Path::new(&program));
    let output = command.arg(&certificate.cert).arg(&certificate.key).arg(what).output()?;
    let stderr = String::from_utf8(output.stderr)?;
    let stdout = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{what}: {}\n{stderr}{stdout}", output.status);

    let (there, syslog) = stdout.split_once("syslog: ").ok_or("no syslog")?;
    let there = there.strip_prefix("there: ").ok_or("nothing there")?.trim();
    let syslog = syslog.trim();
    let came: Vec<Came> = [
        (log::ours(&stderr).iter().any(|line| line.contains(LINE)), Came::ToStderr),
        (!there.is_empty(), Came::There),
        (syslog.starts_with(PRIORITY) && syslog.contains(LINE), Came::ToSyslog),
    ]
    .into_iter()
    .filter_map(|(came, place)| came.then_some(place))
    .collect();
    assert!(came.len() <= 1, "{what}: {came:?}\n{stderr}{stdout}");
    Ok(came.into_iter().next().unwrap_or(Came::Nowhere))
}

#[test]
fn a_line_goes_to_no_descriptor_that_has_become_another_ones() -> Result {
    needs_root("the system's log is to be in a /dev of its own");
    let cases = [
        ("same", Came::ToStderr),
        ("nothing", Came::ToSyslog),
        ("null", Came::ToSyslog),
        ("socket", Came::ToSyslog),
        ("pipe", Came::ToSyslog),
        ("data", Came::ToSyslog),
        ("appended", Came::ToSyslog),
        ("log", Came::There),
        ("full", Came::Nowhere),
    ];
    for (what, came) in cases {
        assert_eq!(lost(what, None)?, came, "{what}");
    }
    Ok(())
}

#[test]
fn who_asked_for_the_systems_log_gets_it_there_whatever_becomes_of_stderr() -> Result {
    needs_root("the system's log is to be in a /dev of its own");
    for what in ["same", "socket", "log"] {
        assert_eq!(lost(what, Some("syslog"))?, Came::ToSyslog, "{what}");
    }
    assert_eq!(lost("socket", Some("none"))?, Came::Nowhere);
    Ok(())
}
