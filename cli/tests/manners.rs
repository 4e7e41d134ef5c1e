//! What every command does with an output that is full or that nobody reads.

#[allow(dead_code, reason = "each test program needs its part of it")]
mod program;

use std::fs::File;
use std::process::{Command, Output, Stdio};

use testbed::{RingDir, artifacts};

use program::{NO_SETTINGS, Result, environment, keyring_with_keys};

/// Commands that print something to stdout, whatever else they do.
const COMMANDS: [&[&str]; 14] = [
    &["--help"],
    &["--version"],
    &["watch", "--help"],
    &["status"],
    &["status", "--json"],
    &["status", "--prometheus"],
    &["watch", "--count", "2", "--interval", "0.1"],
    &["check", "true"],
    &["ring", "list"],
    &["ring", "show", "some"],
    &["rotate"],
    &["config", "check", "/dev/null"],
    &["probe", "--timeout", "100ms", "127.0.0.1:1"],
    &["completions", "bash"],
];

/// The program that `make` built, which has its shim beside it.
fn command(ring: &RingDir, arguments: &[&str]) -> Result<Command> {
    let mut command = environment(ring).command(artifacts::tktrot()?);
    command.args(NO_SETTINGS).args(arguments);
    Ok(command)
}

fn run(ring: &RingDir, arguments: &[&str], stdout: Stdio) -> Result<Output> {
    let mut child = command(ring, arguments)?.stdout(stdout).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    Ok(child.wait_with_output()?)
}

#[test]
fn every_man_page_has_all_sections() -> Result<()> {
    let ring = RingDir::new()?;
    let dir = tempfile::tempdir()?;
    let dir_text = dir.path().display().to_string();
    let output = command(&ring, &["man", &dir_text])?.output()?;
    assert!(output.status.success(), "{output:?}");
    let mut pages = 0;
    for page in dir.path().read_dir()? {
        let page = page?.path();
        let text = std::fs::read_to_string(&page)?;
        let mut rest = &*text;
        for heading in [
            "NAME",
            "SYNOPSIS",
            "OPTIONS",
            "EXIT STATUS",
            "ENVIRONMENT",
            "FILES",
            "EXAMPLES",
            "SEE ALSO",
        ] {
            let quoted = [format!(".SH {heading}\n"), format!(".SH \"{heading}\"\n")];
            let at = quoted.iter().find_map(|heading| rest.find(heading));
            let at = at.ok_or_else(|| format!("{}: no {heading} in its place", page.display()))?;
            rest = &rest[at + 1..];
            let said = rest.lines().nth(1).unwrap_or_default();
            assert!(!said.is_empty() && !said.starts_with(".SH"), "{}: {heading}", page.display());
        }
        pages += 1;
    }
    assert!(pages > 15, "{pages}");
    Ok(())
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_has_gone_is_none() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    for arguments in COMMANDS {
        let expected = command(&ring, arguments)?.output()?;
        assert!(!expected.stdout.is_empty(), "{arguments:?}: {expected:?}");

        let full = File::options().write(true).open("/dev/full")?;
        let output = run(&ring, arguments, full.into())?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("could not be written: No space left"), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");

        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = run(&ring, arguments, writer.into())?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status, expected.status, "{arguments:?}: {said}");
        assert_eq!(output.stderr, expected.stderr, "{arguments:?}: {said}");
    }
    Ok(())
}
