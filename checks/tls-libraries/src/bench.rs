//! The benchmark (checks/benches/costs), compiled and linked with another OpenSSL.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::build::{self, Built, Purpose};
use crate::library::{Form, Library, Recipe};

/// Builds the library as distributions do, and runs the benchmark with it; true if that went well.
/// The numbers go below target/bench/NAME.
pub fn run(library: &Library, options: &[String]) -> Result<bool> {
    let built = build::openssl(library, Purpose::Bench)?;
    let mut bench = Command::new(compile(library, &built)?);
    bench.arg("--out").arg(crate::target().join("bench").join(library.name)).args(options);
    start(&mut bench)
}

/// Whether the benchmark still works with a library that was built for the tests, if it is for this
/// one: it compares with both forms of the callback that the system's OpenSSL has.
pub fn check(library: &Library, built: &Built) -> Result<bool> {
    let is_for_it = matches!(library.recipe, Recipe::OpenSsl { .. });
    if !is_for_it || !library.forms.contains(&Form::HmacCtrl) {
        return Ok(true);
    }
    eprintln!("{}: the benchmark", library.name);
    let mut bench = Command::new(compile(library, built)?);
    bench.arg("--out").arg(build::directory(library).join("bench"));
    bench.args(["--quick", "--only", "ticket", "--only", "handshakes"]).stdout(Stdio::null());
    start(&mut bench)
}

/// Without the variables that it was compiled with: the benchmark calls make for the library that
/// it measures, which is the same with every OpenSSL.
fn start(bench: &mut Command) -> Result<bool> {
    bench.arg("--other-library").current_dir(crate::root());
    Ok(bench.status().with_context(|| format!("cannot run {bench:?}"))?.success())
}

/// Compiles the benchmark, which finds the library where it was built.
fn compile(library: &Library, built: &Built) -> Result<PathBuf> {
    let [generated, others] = &built.headers[..] else {
        bail!("{} is no OpenSSL that was built here", library.name);
    };
    let directory = generated.parent().context("headers without a directory")?;
    let paths = built.link.iter().filter(|option| option.starts_with("-Wl,-rpath"));
    let paths = paths.map(|option| format!("-Clink-arg={option}"));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["rustc", "--quiet", "--locked", "--release"])
        .args(["-p", "tktrot-benches", "--bin", "costs"])
        .args(["--message-format", "json-render-diagnostics", "--target-dir"])
        // One for all: only what depends on openssl-sys is compiled for each.
        .arg(crate::target().join("tls/bench"))
        .arg("--")
        .args(paths)
        .env("OPENSSL_LIB_DIR", directory)
        .env("OPENSSL_INCLUDE_DIR", generated)
        // openssl-sys takes one directory of headers; this is for the compiler that it calls.
        .env("C_INCLUDE_PATH", others)
        .current_dir(crate::root())
        .stderr(Stdio::inherit());
    let output = cargo.output().with_context(|| format!("cannot run {cargo:?}"))?;
    if !output.status.success() {
        bail!("the benchmark does not compile with {}: {}", library.name, output.status);
    }
    let said = String::from_utf8(output.stdout)?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = |message: Value| message["executable"].as_str().map(PathBuf::from);
    messages.filter_map(executable).next_back().context("cargo did not say where the benchmark is")
}
