//! What every command does with an output that is full or that nobody reads, and with command lines
//! and environments that nobody meant; and that each has its page.

#[allow(dead_code, reason = "each test program needs its part of it")]
mod program;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use testbed::{RingDir, artifacts, wait};

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

/// What a command line is made of: all commands that end by themselves, options with and without
/// their values, and what nobody should give.
const WORDS: [&[u8]; 60] = [
    b"status",
    b"check",
    b"rotate",
    b"revoke",
    b"ring",
    b"list",
    b"show",
    b"remove",
    b"probe",
    b"import",
    b"export",
    b"peers",
    b"config",
    b"secret",
    b"new",
    b"completions",
    b"bash",
    b"run",
    b"true",
    b"help",
    b"--help",
    b"--version",
    b"--json",
    b"--prometheus",
    b"--interval",
    b"0.1",
    b"--all",
    b"--key",
    b"--yes",
    b"--fleet",
    b"--wait",
    b"1s",
    b"--format",
    b"nginx-80",
    b"raw",
    b"haproxy",
    b"--output",
    b"out",
    b"--pid",
    b"1",
    b"--config",
    b"/dev/null",
    b"/dev/zero/x",
    b"--rotate",
    b"--bind",
    b"none",
    b"--strict",
    b"--",
    b"-",
    b"",
    b"some",
    b"/",
    b"..",
    b"127.0.0.1:1",
    b"--timeout",
    b"100ms",
    b"\xff\xfe",
    b"\x1b[2J",
    b"99999999999999999999",
    b"--dir",
];

/// Variables with values that fit, and that do not.
const VARIABLES: [(&str, &[u8]); 12] = [
    ("TKTROT_RING", b"some"),
    ("TKTROT_RING", b"../x"),
    ("TKTROT_DIR", b"relative"),
    ("TKTROT_ROTATE", b"1s"),
    ("TKTROT_ROTATE", b"0"),
    ("TKTROT_LIFETIME", b"8d"),
    ("TKTROT_STRICT", b"\xff"),
    ("TKTROT_CAPACITY", b""),
    ("TKTROT_", b"1"),
    ("COLUMNS", b"-1"),
    ("LANG", b"\xff"),
    ("NO_COLOR", b"1"),
];

/// xorshift64: the same command lines each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn no_command_line_or_environment_makes_it_panic_hang_or_end_without_a_word() -> Result<()> {
    let ring = RingDir::new()?;
    let _keyring = keyring_with_keys(&ring, "some")?;
    let (dir, outside) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut dice = Dice(0x5eed_5eed_5eed_5eed);
    let mut seen = [0; 65];
    for _ in 0..400 {
        let mut command = environment(&ring).command(artifacts::tktrot()?);
        command.current_dir(dir.path()).stdin(Stdio::null());
        // A command comes first in most of them, and then what it may take.
        let words = 1 + dice.below(6);
        let words = (0..words).map(|at| WORDS[dice.below(if at == 0 { 22 } else { WORDS.len() })]);
        command.args(words.map(OsStr::from_bytes));
        for _ in 0..dice.below(3) {
            let (name, value) = VARIABLES[dice.below(VARIABLES.len())];
            command.env(name, OsStr::from_bytes(value));
        }
        // Not a pipe, which would be full before anybody reads it.
        let printed = outside.path().join("printed");
        command.stdout(File::create(&printed)?).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let late = wait::until(wait::PATIENCE, "its end", || child.try_wait().ok().flatten());
        if late.is_err() {
            child.kill()?;
        }
        let output = child.wait_with_output()?;
        late.map_err(|late| format!("{late}: {command:?}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{command:?}: {said}");
        let status =
            output.status.code().ok_or_else(|| format!("{command:?}: {}", output.status))?;
        assert!([0, 1, 2, 64].contains(&status), "{command:?}: {status} {said}");
        seen[status as usize] += 1;
        if status != 0 {
            let is_told = !said.is_empty() || printed.metadata()?.len() > 0;
            assert!(is_told || said_by_another(&command), "{command:?}: {status}, without a word");
        }
    }
    // Some of each, or it would prove little.
    for status in [0, 2, 64] {
        assert!(seen[status] > 10, "{status}: {}", seen[status]);
    }
    Ok(())
}

/// The status of a program that was run is its own.
fn said_by_another(command: &Command) -> bool {
    command.get_args().next() == Some(OsStr::new("run"))
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
