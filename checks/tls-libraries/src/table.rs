//! The table of results: on the terminal, in docs/servers.md, and in short in README.md.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::library::{Form, LIBRARIES, Library};
use crate::program::{self, Cell, Row};

/// What stands around a section that is written here.
const BEGIN: &str = "<!-- tls-libraries:begin (make test-tls writes this) -->";
const END: &str = "<!-- tls-libraries:end -->";

/// What no run of this sees: the row of README.md, and where it is told who saw it when.
const BY_HAND: [&str; 5] =
    ["LibreSSL", "3.9.2, 4.3.2", "TLS 1.2", "TLS 1.2", "[by hand](docs/servers.md#libressl)"];

/// What the columns and cells mean.
const LEGEND: &str = "\
Each line is the same `libtktrot.so` (under *shim*: `libtktrot_preload.so`), with handshakes in TLS
1.2 and 1.3, that library on both ends. The C programs are those of `c-tests/`:

- *contract* checks each call of the ticket key callback
- *scope* offers tickets where they must not open
- *bypass* tries every pair of ways to ask for a client certificate
- *generator* makes the random number generator fail
- *api* calls the functions of `tktrot.h`
- *shim* is a server that knows nothing of libtktrot, and one whose message callbacks see the same
- *QUIC* is a server whose QUIC listeners are libssl's own, bare, under the shim and linked
- *differential* is a server that does everything that servers do, bare, under the shim and linked,
  and sees no difference but those that `c-tests/differential/expected.txt` explains (it is written
  for OpenSSL)

A static library is passed with `TKT_TLS_API_INIT`, and is out of the shim's reach. The line *FIPS
provider* is Debian's OpenSSL with a configuration that leaves it nothing but the FIPS provider of
the version named there, which was built from OpenSSL's source and so is not a validated one. There
*shim* is also a server that checks that nothing else is used (`c-tests/fips`), while keys rotate,
under the shim and linked. *LibreSSL's shape* is OpenSSL 1.1.1 without what LibreSSL lacks, with its
names, and with what a server can notice of it (`checks/tls-libraries/shape`): no package registry
carries LibreSSL itself, which was run by hand ([LibreSSL](#libressl)). *For musl* are programs,
library and shim, too ([musl](#musl)). A dash: there is no such case, or the form above covers it.";

/// The lines of the table.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    title: &'static str,
    name: &'static str,
    version: String,
    form: Form,
    cells: Vec<Cell>,
}

impl Table {
    /// Adds what came of a library.
    pub fn add(&mut self, library: &Library, version: &str, rows: Vec<Row>) {
        self.lines.extend(rows.into_iter().map(|row| Line {
            title: library.title,
            name: library.name,
            version: version.to_owned(),
            form: row.form,
            cells: row.cells,
        }));
    }

    /// What failed, with what it said.
    pub fn failures(&self) -> impl Iterator<Item = (String, &str)> {
        self.lines.iter().flat_map(|line| {
            let cells = line.cells.iter().zip(program::columns());
            cells.filter_map(|(cell, column)| match cell {
                Cell::Failed(output) => {
                    let what = format!("{}, {}: {column}", line.name, line.form.title());
                    Some((what, output.as_str()))
                }
                Cell::Passed | Cell::None => None,
            })
        })
    }

    /// The documents that have a section of it, below that directory, with what it says.
    fn sections(&self, root: &Path) -> [(PathBuf, String); 2] {
        [
            (root.join("docs/servers.md"), format!("{BEGIN}\n\n{LEGEND}\n\n{self}\n")),
            (root.join("README.md"), format!("{BEGIN}\n\n{}\n", self.summary())),
        ]
    }

    /// Replaces the sections of the documents, between the markers.
    pub fn write(&self, root: &Path) -> Result<()> {
        for (document, section) in self.sections(root) {
            let text = read(&document)?;
            let (before, _, after) = parts(&text, &document)?;
            fs::write(&document, [before, &section, after].concat())
                .with_context(|| format!("cannot write {}", document.display()))?;
        }
        Ok(())
    }

    /// True if the sections of the documents say the same, but for the version of the system's
    /// library: that is another one after each update.
    pub fn is_in(&self, root: &Path) -> Result<bool> {
        let mut is_same = true;
        for (document, section) in self.sections(root) {
            let text = read(&document)?;
            let (_, before, _) = parts(&text, &document)?;
            is_same &= facts(before) == facts(&section);
        }
        Ok(is_same)
    }

    /// A row for each library: how it is served, and who says so.
    fn summary(&self) -> String {
        let head = ["TLS library", "version", "by the shim", "by `tkt_install`", "seen"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let columns = program::columns();
        let is_of = |column: &str, names: &[&str]| names.contains(&column);
        for (at, line) in self.lines.iter().enumerate() {
            let is_first = self.lines[..at].iter().all(|before| before.name != line.name);
            // Of that one there is the library itself.
            if !is_first || line.name == "libressl-shape" {
                continue;
            }
            let of_library = || self.lines.iter().filter(|other| other.name == line.name);
            let seen = |names: &[&str]| {
                let cells = of_library().flat_map(|line| line.cells.iter().zip(&columns));
                let mut its =
                    cells.filter(|(_, column)| is_of(column, names)).map(|(cell, _)| cell);
                if its.clone().all(|cell| matches!(cell, Cell::None)) {
                    "–"
                } else if its.any(|cell| matches!(cell, Cell::Failed(_))) {
                    "**no**"
                } else {
                    "yes"
                }
            };
            let quic = if seen(&["QUIC"]) == "yes" { ", QUIC" } else { "" };
            let versions = line.version.split(" (").next().unwrap_or_default();
            rows.push(vec![
                line.title.to_owned(),
                versions.to_owned(),
                format!("{}{quic}", seen(&["shim", "QUIC"])),
                format!("{}{quic}", seen(program::NAMES)),
                "CI".to_owned(),
            ]);
        }
        rows.push(BY_HAND.map(str::to_owned).to_vec());
        aligned(&rows)
    }
}

fn read(document: &Path) -> Result<String> {
    fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))
}

/// What is before the section, the section, and what is after it.
fn parts<'a>(text: &'a str, document: &Path) -> Result<(&'a str, &'a str, &'a str)> {
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("{} has no line {BEGIN}, or no {END} after it", document.display());
    };
    Ok((&text[..begin], &text[begin..end], &text[end..]))
}

/// A table of Markdown, whose columns are as wide as they need to be.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..rows[0].len()).filter_map(width).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("| {cell:<width$} ");
        }
        text += "|\n";
        if at == 0 {
            let rules = widths.iter().map(|width| "-".repeat(width + 2));
            text += &format!("|{}|\n", rules.collect::<Vec<_>>().join("|"));
        }
    }
    text
}

/// The lines of a section, however wide its columns are.
fn facts(section: &str) -> Vec<Vec<&str>> {
    let is_rule = |line: &str| line.starts_with("|-");
    section
        .lines()
        .filter(|line| !is_rule(line))
        .map(|line| {
            let mut cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if cells.get(1) == Some(&LIBRARIES[0].title) {
                cells.remove(2);
            }
            cells
        })
        .collect()
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![vec!["library".into(), "version".into(), "callback".into()]];
        rows[0].extend(program::columns().into_iter().map(String::from));
        for line in &self.lines {
            let form = line.form.title().to_owned();
            let mut row = vec![line.title.to_owned(), line.version.clone(), form];
            row.extend(line.cells.iter().map(|cell| mark(cell).to_owned()));
            rows.push(row);
        }
        to.write_str(&aligned(&rows))
    }
}

fn mark(cell: &Cell) -> &'static str {
    match cell {
        Cell::Passed => "green",
        Cell::Failed(_) => "**red**",
        Cell::None => "–",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_summary_tells_what_was_seen_in_all_forms() {
        let library = |name| LIBRARIES.iter().find(|library| library.name == name).unwrap();
        let row = |form, cells: [u8; 8]| Row {
            form,
            cells: cells
                .map(|cell| match cell {
                    0 => Cell::None,
                    1 => Cell::Passed,
                    _ => Cell::Failed("it did not".into()),
                })
                .into(),
        };
        let mut table = Table::default();
        let (shared, fixed) = (library("openssl-3.5"), library("boringssl"));
        table.add(
            shared,
            "3.5.5",
            vec![row(Form::Evp, [1; 8]), row(Form::HmacCtrl, [1, 1, 2, 1, 0, 0, 0, 0])],
        );
        table.add(fixed, "API 44 (x)", vec![row(Form::HmacFunction, [1, 1, 1, 1, 1, 0, 0, 0])]);
        let summary = table.summary();
        let rows: Vec<Vec<&str>> = facts(&summary);
        let cells = |at: usize| rows[at].iter().skip(1).take(5).copied().collect::<Vec<_>>();
        assert_eq!(cells(1), ["OpenSSL", "3.5.5", "yes, QUIC", "**no**, QUIC", "CI"]);
        assert_eq!(cells(2), ["BoringSSL, static", "API 44", "–", "yes", "CI"]);
    }

    #[test]
    fn what_is_compared_is_neither_width_nor_the_version_of_the_system() {
        let line = |version: &str, mark: &str| {
            format!("| {} | {version}   | EVP | {mark} |\n|---|\n", LIBRARIES[0].title)
        };
        assert_eq!(facts(&line("3.0.19", "green")), facts(&line("3.0.20", " green ")));
        assert_ne!(facts(&line("3.0.19", "green")), facts(&line("3.0.19", "**red**")));
        let other = line("3.5.5", "green").replace(LIBRARIES[0].title, LIBRARIES[1].title);
        assert_ne!(facts(&other), facts(&other.replace("3.5.5", "3.5.6")));
    }
}
