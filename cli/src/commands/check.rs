//! `tktrot check [--] PROGRAM [ARG…] | --pid PID`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::check::binary::Program;
use crate::check::configuration::{self, Start};
use crate::check::running::Inspected;
use crate::check::{Finding, binary, host, running};
use crate::output::outln;
use crate::settings;
use crate::severity::Severity;
use crate::shim;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    subject: Subject,

    /// Prints JSON (docs/schemas/check.schema.json)
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// The program to start under libtktrot; after `--` also its arguments, which say where its
    /// configuration is
    program: Vec<OsString>,

    /// A running process
    #[arg(long)]
    pid: Option<u32>,
}

/// What `--json` prints: docs/schemas/check.schema.json.
#[derive(Serialize)]
struct Report {
    severity: Severity,
    program: String,
    findings: Vec<Finding>,
}

pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<Severity> {
    let settings = settings::read(config)?;
    let shim = shim::find()?;
    let (program, mut findings, configured) =
        match (arguments.subject.pid, &*arguments.subject.program) {
            (Some(pid), _) => {
                let path = running::executable(pid)?;
                let (file, root) = running::places(pid);
                let Inspected { mut findings, libraries } = running::inspect(pid, &shim);
                let program = Program { path: &path, file, root, mapped: Some(libraries) };
                findings.extend(binary::inspect(&program, &shim));
                (path, findings, running::configuration(pid))
            }
            (None, [program, rest @ ..]) => {
                let path = binary::locate(program)?;
                let file = binary::file(&path)?;
                let dir = std::env::current_dir().ok();
                let start = Start { root: "/".into(), dir, arguments: rest.to_vec() };
                let configured = configuration::inspect(&file, &start);
                let mut findings =
                    Vec::from_iter(binary::name(&path, &file, &settings.config.only));
                let root = PathBuf::from("/");
                let program = Program { path: &file, file: file.clone(), root, mapped: None };
                findings.extend(binary::inspect(&program, &shim));
                (file, findings, configured)
            }
            (None, []) => unreachable!("clap requires one of them"),
        };
    findings.extend(configured);
    findings.extend(host::inspect(&settings.config));
    let severity = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    let report = Report { severity, program: program.display().to_string(), findings };
    if arguments.json {
        outln!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(severity)
}

fn print(report: &Report) {
    outln!("{}", report.program);
    for Finding { severity, subject, found, advice } in &report.findings {
        outln!("  {severity:8}  {subject:14}  {found}");
        if !advice.is_empty() {
            outln!("  {:8}  {:14}  → {advice}", "", "");
        }
    }
    outln!(
        "{}",
        match report.severity {
            Severity::Ok => "It will work here.",
            Severity::Warning =>
                "It will work here if what is marked \"warning\" is as you want it.",
            Severity::Critical => "It will not work here as it is.",
        }
    );
}
