//! What `make` has built: libraries, programs, C programs. A test builds none of it: it fails, and
//! says what to run, where something is missing or older than what it is made of.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Error, Result, anyhow, ensure};

/// The LD_PRELOAD shim.
pub fn shim() -> Result<&'static Path> {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    once(&SHIM, "release/libtktrot_preload.so", "make")
}

/// A shim that is built for the tests: its writers die where `TKTROT_KILL_AT` says.
pub fn shim_with_kill_points() -> Result<&'static Path> {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    once(&SHIM, "kill-points/debug/libtktrot_preload.so", "make kill-points")
}

/// The C library.
pub fn library() -> Result<&'static Path> {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    once(&LIBRARY, "release/libtktrot.so", "make")
}

/// The command line program.
pub fn tktrot() -> Result<&'static Path> {
    static TKTROT: OnceLock<PathBuf> = OnceLock::new();
    once(&TKTROT, "release/tktrot", "make")
}

/// A library, or the program, that loads with every glibc from 2.17 on.
pub fn portable(name: &str) -> Result<PathBuf> {
    built(&format!("portable/release/{name}"), "make portable")
}

/// The shim for musl.
pub fn shim_for_musl() -> Result<PathBuf> {
    let directory = "musl/dynamic/x86_64-unknown-linux-musl/release";
    built(&format!("{directory}/libtktrot_preload.so"), "make test-musl")
}

/// A server for musl, made of that file.
pub fn server_for_musl(name: &str, source: &str) -> Result<PathBuf> {
    let path = format!("tls/openssl-3.5-musl/servers/{name}");
    newer_than(&[root().join(source)], &path, "make test-musl")
}

/// The benchmark.
pub fn costs() -> Result<PathBuf> {
    built("release/costs", "make costs")
}

/// A C program, by name. It is linked with the C library, so that has to be there, too.
pub fn program(name: &str) -> Result<PathBuf> {
    library()?;
    built(&format!("c/{name}"), "make")
}

/// A C program that is built with a sanitizer, whose directory is `c-asan` or `c-tsan`.
pub fn sanitized(directory: &str, name: &str) -> Result<PathBuf> {
    library()?;
    built(&format!("{directory}/{name}"), "make sanitize")
}

/// A C program that is compiled and linked with the TLS library of that name: "openssl-1.1.1" or
/// "system".
pub fn tls_program(tls_library: &str, name: &str) -> Result<PathBuf> {
    library()?;
    let path = format!("tls/{tls_library}/{name}");
    newer_than(&[root().join(format!("c-tests/{name}.c"))], &path, "make openssl-1.1.1")
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the testbed is a directory of the workspace")
}

/// The target directory, whatever is in it.
pub fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from))
}

/// What many tests of a process use is looked at once.
fn once(cell: &'static OnceLock<PathBuf>, name: &str, command: &str) -> Result<&'static Path> {
    if let Some(path) = cell.get() {
        return Ok(path);
    }
    let path = built(name, command)?;
    Ok(cell.get_or_init(|| path))
}

/// A file below the target directory, if it is not older than anything that it was made of.
fn built(name: &str, command: &str) -> Result<PathBuf> {
    newer_than(&sources(&target_dir().join(name), command)?, name, command)
}

fn newer_than(sources: &[PathBuf], name: &str, command: &str) -> Result<PathBuf> {
    let path = target_dir().join(name);
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let at = modified(&path).map_err(|_| missing(&path, command))?;
    for source in sources {
        // What is gone was renamed or removed, and something else has changed for it.
        ensure!(
            modified(source).is_ok_and(|changed| changed <= at) || !source.exists(),
            "{} is older than {}: `{command}`",
            path.display(),
            source.display()
        );
    }
    Ok(path)
}

/// What a file was made of: who built it wrote that beside it, as a rule of make.
fn sources(path: &Path, command: &str) -> Result<Vec<PathBuf>> {
    let rule = path.with_extension("d");
    let text = fs::read_to_string(&rule).map_err(|_| missing(&rule, command))?;
    let (_, sources) = text
        .lines()
        .next()
        .and_then(|line| line.split_once(": "))
        .with_context(|| format!("{}: not a rule of make", rule.display()))?;
    Ok(sources.split_whitespace().map(|source| root().join(source)).collect())
}

fn missing(path: &Path, command: &str) -> Error {
    anyhow!("there is no {}: `{command}`", path.display())
}
