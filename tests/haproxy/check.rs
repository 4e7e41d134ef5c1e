//! `haproxy -c`, which init scripts and systemd run before a reload: it says and returns what it
//! does without the shim.

use testbed::haproxy::{Builder, Haproxy};
use testbed::{RingDir, artifacts, log};

use crate::ticket_keys::Keys;
use crate::{Result, as_in_production, with_frontend};

/// How a check ended, and its output.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: Option<i32>,
    stdout: String,
    stderr: Vec<String>,
}

impl Told {
    fn by(haproxy: &Haproxy) -> Result<Told> {
        let output = haproxy.check()?;
        let (stdout, stderr) =
            (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        let mut stderr = stderr.replace(&haproxy.dir().display().to_string(), "DIR");
        for addr in haproxy.addrs() {
            stderr = stderr.replace(&addr.to_string(), "ADDR");
        }
        let stderr = stderr.lines().map(without_pid).collect();
        Ok(Told { status: output.status.code(), stdout, stderr })
    }
}

/// `[ALERT]    (PID) : …`
fn without_pid(line: &str) -> String {
    let parts = line.split_once('(').zip(line.split_once(')'));
    match parts.filter(|_| line.starts_with('[')) {
        Some(((before, _), (_, after))) => format!("{before}(){after}"),
        None => line.to_owned(),
    }
}

/// What is told without the shim and with it.
fn both(configure: impl Fn() -> Result<Builder>) -> Result<(Told, Told)> {
    let ring = RingDir::new()?;
    let without = Told::by(&configure()?.prepare()?)?;
    let with = Told::by(&configure()?.preload(artifacts::shim()?).ring(&ring).prepare()?)?;
    Ok((without, with))
}

#[test]
fn a_good_configuration_is_told_to_be_good() -> Result<()> {
    let (without, with) = both(|| with_frontend(as_in_production()?, ""))?;
    assert_eq!(without.status, Some(0), "{without:?}");
    assert_eq!(with, without);
    Ok(())
}

#[test]
fn what_is_wrong_is_told_in_the_same_words() -> Result<()> {
    let (without, with) = both(|| with_frontend(as_in_production()?.global("nonsense"), ""))?;
    assert_eq!(without.status, Some(1), "{without:?}");
    assert!(without.stderr.iter().any(|line| line.contains("nonsense")), "{without:?}");
    assert_eq!(with, without);

    // With contexts made already.
    let nothing = |builder: Builder| builder.frontend("crt /nonexistent");
    let (without, with) = both(|| Ok(nothing(with_frontend(as_in_production()?, "")?)))?;
    assert_eq!(without.status, Some(1), "{without:?}");
    assert_eq!(with, without);
    Ok(())
}

/// As when it starts, with the one line that says whose keys are replaced.
#[test]
fn keys_that_will_be_replaced_add_one_line() -> Result<()> {
    let keys = Keys::new()?;
    let (without, mut with) = both(|| keys.haproxy())?;
    assert_eq!(without.status, Some(0), "{without:?}");
    let ours = |line: &String| !log::ours(line).is_empty();
    let told: Vec<_> = with.stderr.extract_if(.., |line| ours(line)).collect();
    assert_eq!(with, without);
    assert!(told.len() == 1 && told[0].contains("takeover"), "{told:?}");
    Ok(())
}
