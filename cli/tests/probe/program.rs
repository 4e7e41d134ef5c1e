//! The program, run to its end, and what it said.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::NamedTempFile;
use testbed::wait::{self, PATIENCE};

use crate::Result;

const SCHEMA: &str = include_str!("../../../docs/schemas/probe.schema.json");

/// The exit statuses, as severities.
pub const OK: i32 = 0;
pub const WARNING: i32 = 1;
pub const CRITICAL: i32 = 2;
pub const USAGE: i32 = 64;

/// A probe that runs.
pub struct Running {
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

/// What one wrote, and its exit status.
pub struct Output {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A report that fits the schema.
pub struct Report {
    pub status: i32,
    pub value: Value,
}

/// Starts `tktrot probe` with these arguments.
pub fn start(arguments: &[&str]) -> Result<Running> {
    start_with(arguments, Stdio::null())
}

/// As [`start`], with this standard input.
pub fn start_with(arguments: &[&str], stdin: Stdio) -> Result<Running> {
    let (stdout, stderr) = (NamedTempFile::new()?, NamedTempFile::new()?);
    let child = Command::new(env!("CARGO_BIN_EXE_tktrot"))
        .arg("probe")
        .args(arguments)
        .stdin(stdin)
        .stdout(stdout.reopen()?)
        .stderr(stderr.reopen()?)
        .spawn()?;
    Ok(Running { child, stdout, stderr })
}

/// Runs `tktrot probe` with these arguments.
pub fn run(arguments: &[&str]) -> Result<Output> {
    start(arguments)?.end()
}

/// As [`run`], with `--json`, and reads what comes.
pub fn report(arguments: &[&str]) -> Result<Report> {
    start(&[arguments, &["--json"]].concat())?.report()
}

impl Running {
    pub fn end(mut self) -> Result<Output> {
        let ended =
            wait::until(PATIENCE * 2, "the probe to end", || self.child.try_wait().transpose());
        let status = match ended {
            Ok(status) => status?.code().ok_or("a signal ended it")?,
            Err(late) => {
                self.child.kill()?;
                self.child.wait()?;
                return Err(late.into());
            }
        };
        let read = |file: &NamedTempFile| -> Result<String> {
            let mut text = String::new();
            File::open(file.path())?.read_to_string(&mut text)?;
            Ok(text)
        };
        Ok(Output { status, stdout: read(&self.stdout)?, stderr: read(&self.stderr)? })
    }

    pub fn report(self) -> Result<Report> {
        let Output { status, stdout, stderr } = self.end()?;
        let value: Value =
            serde_json::from_str(&stdout).map_err(|error| format!("{error}: {stdout}{stderr}"))?;
        let flaws: Vec<_> = validator().iter_errors(&value).map(|flaw| flaw.to_string()).collect();
        assert!(flaws.is_empty(), "{flaws:#?}\n{stdout}");
        assert_tells_no_secret(&stdout);
        let severity = value["severity"].as_str().ok_or("no severity")?;
        assert_eq!(["ok", "warning", "critical"][status as usize], severity);
        Ok(Report { status, value })
    }
}

pub fn validator() -> &'static jsonschema::Validator {
    static VALIDATOR: OnceLock<jsonschema::Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let schema = testbed::schema::closed(SCHEMA).expect("the schema is JSON");
        jsonschema::validator_for(&schema).expect("the schema is one")
    })
}

/// Tickets and master secrets would show as long runs of hex digits or base64; the longest that
/// there may be is the fingerprint of a certificate.
fn assert_tells_no_secret(text: &str) {
    let is_encoded = |char: char| char.is_ascii_alphanumeric() || "+/=".contains(char);
    let longest = text.split(|char| !is_encoded(char)).max_by_key(|run| run.len());
    let longest = longest.unwrap_or_default();
    assert!(longest.len() <= 64, "is that a secret? {longest}");
}

impl Report {
    /// What was seen at an address in a version, in the order of names.
    pub fn seen(&self, address: impl ToString, tls: &str) -> Vec<&Value> {
        let address = address.to_string();
        let observations = self.value["observations"].as_array().into_iter().flatten();
        let seen: Vec<_> = observations
            .filter(|seen| seen["address"] == address.as_str() && seen["tls"] == tls)
            .collect();
        assert!(!seen.is_empty(), "nothing of {address}: {:#}", self.value);
        seen
    }

    /// The findings' codes, the worst first.
    pub fn codes(&self) -> Vec<&str> {
        self.findings().filter_map(|finding| finding["code"].as_str()).collect()
    }

    /// The finding with this code.
    pub fn finding(&self, code: &str) -> &Value {
        let found = self.findings().find(|finding| finding["code"] == code);
        found.unwrap_or_else(|| panic!("no {code}: {:#}", self.value))
    }

    fn findings(&self) -> impl Iterator<Item = &Value> {
        self.value["findings"].as_array().into_iter().flatten()
    }
}

/// `offered` and `resumed`.
pub fn count(seen: &Value, what: &str) -> (u64, u64) {
    let number = |field: &str| seen[what][field].as_u64().expect("the schema says so");
    (number("offered"), number("resumed"))
}
