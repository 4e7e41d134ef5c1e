//! One set of binaries for every release of Debian: what `make portable` built, with the servers of
//! three releases, each in its own root directory. `make test-distributions` runs this and writes the
//! table in docs/servers.md.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use testbed::artifacts;
use testbed::environment::Environment;

use crate::Result;
use crate::apache::EVENT;
use crate::haproxy::HAPROXY;
use crate::hitch::HITCH;
use crate::journey::{Compared, journey};
use crate::kind::{Asks, Kind, Reload};
use crate::lighttpd::LIGHTTPD;
use crate::nginx::NGINX;
use crate::release::Release;
use crate::stunnel::STUNNEL;

const BEGIN: &str = "<!-- distributions:begin (make test-distributions writes this) -->";
const END: &str = "<!-- distributions:end -->";

/// What the columns and cells mean.
const LEGEND: &str = "\
Each line is a server of that release, in a root directory of its own, on this machine's kernel; the
same files of `make portable` serve them all. Clients of TLS 1.2 and 1.3 come back within one life
of the server, after a rotation, a reload and a restart, without the shim and with it; then many at
once, meanwhile. Green: with it no ticket was lost and no connection failed. The last two columns
count who resumed after a restart without the shim, and after a rotation, a reload and a restart
with it.";

/// tools/distributions has the same.
static RELEASES: [Release; 3] = [
    Release { name: "bullseye", number: "11" },
    Release { name: "bookworm", number: "12" },
    Release { name: "trixie", number: "13" },
];

/// A server: its package, and how it is started and spoken to.
struct Packaged {
    package: &'static str,
    kind: Kind,
}

fn portable() -> Result<Option<PathBuf>> {
    Ok(Some(artifacts::portable("libtktrot_preload.so")?))
}

fn servers(release: &'static Release) -> [Packaged; 6] {
    let is_oldest = release.name == RELEASES[0].name;
    let mut nginx = NGINX;
    let mut haproxy = HAPROXY;
    if is_oldest {
        // It has no option -e, which names the log until the configuration is read.
        nginx.command =
            |site| ["/usr/sbin/nginx", "-c", &site.path("nginx.conf")].map(str::to_owned).to_vec();
        haproxy.reload = Some(Reload::Signal(libc::SIGUSR2, " forked"));
    }
    let server = |package, kind| Packaged {
        package,
        kind: Kind { place: Some(release), shim: portable, ..kind },
    };
    [
        server("nginx", nginx),
        server("haproxy", haproxy),
        server("apache2-bin", EVENT),
        server("lighttpd", LIGHTTPD),
        server("stunnel4", STUNNEL),
        server("hitch", HITCH),
    ]
}

/// A line of the table.
struct Line {
    cells: [String; 7],
    failure: Option<String>,
}

impl Packaged {
    fn line(&self, release: &'static Release, library: &str) -> Result<Line> {
        let query = ["dpkg-query", "-W", "-f", "${Version}", self.package];
        let version = release.says(&query)?;
        let came = thread::scope(|scope| {
            let journey =
                scope.spawn(|| journey(self.kind, Asks::Nobody).map_err(|e| e.to_string()));
            journey.join().unwrap_or_else(|_| Err("see above".into()))
        });
        let (mark, resumed, failure) = match came {
            Ok(Compared { without, with }) => {
                ("green", [without, with].map(|r| format!("{r:?}")), None)
            }
            Err(error) => ("**red**", ["–", "–"].map(str::to_owned), Some(error)),
        };
        let [without, with] = resumed;
        let name = self.package.trim_end_matches("-bin");
        let cells = [
            format!("{} ({})", release.number, release.name),
            name.to_owned(),
            upstream(&version),
            library.to_owned(),
            mark.to_owned(),
            without,
            with,
        ];
        Ok(Line { cells, failure })
    }
}

/// The TLS library of its servers, as the portable program says there of one; and that it finds
/// nothing wrong with it.
fn library(release: &Release) -> Result<String> {
    let tktrot = artifacts::portable("tktrot")?.display().to_string();
    let checked = release.says(&[&tktrot, "check", "--json", "/usr/sbin/nginx"])?;
    let report: serde_json::Value = serde_json::from_str(&checked)?;
    let found = |subject: &str| {
        let mut findings = report["findings"].as_array().into_iter().flatten();
        let finding = findings.find(|finding| finding["subject"] == subject);
        let finding = finding.filter(|finding| finding["severity"] == "ok");
        finding.and_then(|finding| finding["found"].as_str().map(str::to_owned))
    };
    found("C library").ok_or_else(|| format!("{}: {report:#}", release.name))?;
    let said = found("TLS library").ok_or_else(|| format!("{}: {report:#}", release.name))?;
    let (_, said) = said.split_once(": ").ok_or("a library without a version")?;
    Ok(said.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// `1.18.0` of `1.18.0-6.1+deb11u8`, `5.56` of `3:5.56+dfsg-10`.
fn upstream(version: &str) -> String {
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    version.split(['-', '+']).next().unwrap_or_default().to_owned()
}

fn table(lines: &[Line]) -> String {
    let head =
        ["Debian", "server", "version", "TLS library", "result", "without the shim", "with it"];
    let rows: Vec<[String; 7]> = [head.map(str::to_owned)]
        .into_iter()
        .chain(lines.iter().map(|line| line.cells.clone()))
        .collect();
    let widths: Vec<usize> = (0..7)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if at == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            let _ = writeln!(text, "|{}|", rules.join("|"));
        }
    }
    text
}

/// What of a section is to be the same: versions change with each update of a release.
fn facts(section: &str) -> Vec<Vec<&str>> {
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let is_fact = |at: &usize| ![2, 3].contains(at);
        (0..cells.len()).filter(is_fact).map(|at| cells[at]).collect()
    })
    .collect()
}

/// Writes the section of the document, or sees whether it says the same.
fn compare(document: &Path, section: &str) -> Result {
    let text = fs::read_to_string(document)?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        return Err(format!("{} has no {BEGIN}, or no {END}", document.display()).into());
    };
    if env::var_os("TKTROT_WRITE_TABLE").is_some() {
        return Ok(fs::write(document, [&text[..begin], section, &text[end..]].concat())?);
    }
    let is_same = facts(&text[begin..end]) == facts(section);
    is_same
        .then_some(())
        .ok_or_else(|| "docs/servers.md has another table: make test-distributions".into())
}

#[test]
#[ignore = "takes root directories of other releases: make test-distributions"]
fn one_set_of_binaries_serves_every_release() -> Result {
    let mut lines = Vec::new();
    for release in &RELEASES {
        let (servers, library) = (servers(release), library(release)?);
        let line = |server: &Packaged| server.line(release, &library).map_err(|e| e.to_string());
        // Side by side, for most of the time they wait; but not so many that keys end meanwhile.
        for some in servers.chunks(3) {
            let some = thread::scope(|scope| {
                let line = &line;
                let each: Vec<_> = some.iter().map(|one| scope.spawn(move || line(one))).collect();
                let joined =
                    each.into_iter().map(|one| one.join().map_err(|_| "see above".to_owned())?);
                joined.collect::<std::result::Result<Vec<_>, String>>()
            });
            lines.extend(some?);
        }
    }
    let table = table(&lines);
    println!("{table}");
    let failures: Vec<_> = lines
        .iter()
        .filter_map(|line| Some(format!("{:?}: {}", &line.cells[..2], line.failure.as_ref()?)))
        .collect();
    let document = artifacts::root().join("docs/servers.md");
    let section = format!("{BEGIN}\n\n{LEGEND}\n\n{table}\n");
    compare(&document, &section)?;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// What is built here needs this system's glibc, and `tktrot check` says so of a server that has an
/// older one, in whatever root directory.
#[test]
#[ignore = "takes root directories of other releases: make test-distributions"]
fn check_tells_that_what_is_built_here_does_not_load_there() -> Result {
    let started =
        Kind { place: Some(&RELEASES[0]), shim: portable, ..STUNNEL }.start(Asks::Nobody, true)?;
    let pid = started.server.processes()?[0].pid().to_string();
    for (program, wrong) in
        [(artifacts::tktrot()?.to_owned(), true), (artifacts::portable("tktrot")?, false)]
    {
        let mut command = Environment::default().command(&program);
        let output = command.args(["--config", "/dev/null", "check", "--pid", &pid]).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let line =
            said.lines().find(|line| line.contains("C library")).ok_or_else(|| said.clone())?;
        assert_eq!(line.contains("glibc 2.31, but the shim needs"), wrong, "{said}");
        assert!(said.contains("OpenSSL 1.1.1"), "{said}");
    }
    Ok(())
}
