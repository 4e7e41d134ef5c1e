//! Runs the C tests of libtktrot, the library itself unchanged, with other TLS libraries, and
//! makes the table of docs/servers.md from what it saw. And the benchmark, with other OpenSSLs.
//!
//! ```text
//! tls-libraries test [NAME...]           build the libraries, run the tests, print the table and write it
//! tls-libraries check [NAME...]          the same, but fail where another table is written
//! tls-libraries build NAME...            build them and the test programs
//! tls-libraries bench NAME [OPTION...]   build it as it is shipped, run the benchmark with it
//! ```

mod bench;
mod build;
mod differential;
mod library;
mod program;
mod source;
mod table;

use std::path::{Path, PathBuf};
use std::{env, process};

use anyhow::{Context, Result, bail};

use library::{LIBRARIES, Library};
use table::Table;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (command, names) = match arguments.split_first() {
        Some((command, names)) => (command.as_str(), names),
        None => ("", &arguments[..]),
    };
    let done = match command {
        "test" => test(names, true),
        "check" => test(names, false),
        "build" if !names.is_empty() => build(names),
        "bench" if !names.is_empty() => bench(names),
        _ => Err(anyhow::anyhow!(
            "what is to be done? test [NAME...], check [NAME...], build NAME..., \
             or bench NAME [OPTION...]"
        )),
    };
    match done {
        Ok(true) => {}
        Ok(false) => process::exit(1),
        Err(error) => {
            eprintln!("tls-libraries: {error:#}");
            process::exit(2);
        }
    }
}

/// The directory of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("it is in checks/ of the project")
}

/// Where the project is built.
fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Library>> {
    let known = || LIBRARIES.iter().map(|library| library.name).collect::<Vec<_>>().join(" ");
    let find = |name: &String| {
        let found = LIBRARIES.iter().find(|library| library.name == name);
        found.with_context(|| format!("there is no library {name}, only: {}", known()))
    };
    if names.is_empty() {
        return Ok(LIBRARIES.iter().collect());
    }
    names.iter().map(find).collect()
}

fn build(names: &[String]) -> Result<bool> {
    for library in chosen(names)? {
        let built = build::build(library)?;
        program::compile_all(library, &built)?;
    }
    Ok(true)
}

fn bench(arguments: &[String]) -> Result<bool> {
    let (name, options) = arguments.split_at(1);
    let library = chosen(name)?[0];
    bench::run(library, options)
}

/// True if every test passed that was run, and the table of the document, if all were run, is the
/// one that was seen; it is written unless it is only to be checked.
fn test(names: &[String], is_written: bool) -> Result<bool> {
    let (mut table, mut all_measured) = (Table::default(), true);
    for library in chosen(names)? {
        let built = build::build(library).with_context(|| format!("building {}", library.name))?;
        program::compile_all(library, &built)?;
        table.add(library, &built.version, program::run_all(library)?);
        if !bench::check(library, &built)? {
            eprintln!("{}: the benchmark does not work with it", library.name);
            all_measured = false;
        }
    }
    print!("\n{table}");
    let mut is_current = true;
    if names.is_empty() && is_written {
        table.write(root())?;
    } else if names.is_empty() && !table.is_in(root())? {
        is_current = false;
        eprintln!(
            "docs/servers.md or README.md has another table: `make test-tls` writes both anew"
        );
    }
    for (what, output) in table.failures() {
        eprintln!("\n{what} fails:\n{output}");
    }
    Ok(all_measured && is_current && table.failures().next().is_none())
}

/// Runs a command of a build or an installation; what it says is only shown if it fails.
fn run(command: &mut process::Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        bail!("{command:?}: {}\n{last}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} said no UTF-8"))
}
