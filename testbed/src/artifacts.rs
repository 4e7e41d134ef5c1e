//! What `make` builds: the libraries and the C programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};

use crate::log;

/// The LD_PRELOAD shim.
pub fn shim() -> Result<&'static Path> {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    built_file(&SHIM, "release/libtktrot_preload.so")
}

/// A shim that is built for the tests: its writers die where `TKTROT_KILL_AT` says.
pub fn shim_with_kill_points() -> Result<&'static Path> {
    static SHIM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        make(&["kill-points"])?;
        existing(target_dir().join("kill-points/debug/libtktrot_preload.so"))
    };
    match SHIM.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(message) => Err(anyhow!("{message}")),
    }
}

/// The C library.
pub fn library() -> Result<&'static Path> {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    built_file(&LIBRARY, "release/libtktrot.so")
}

/// The command line program.
pub fn tktrot() -> Result<&'static Path> {
    static TKTROT: OnceLock<PathBuf> = OnceLock::new();
    built_file(&TKTROT, "release/tktrot")
}

/// A C program, by name.
pub fn program(name: &str) -> Result<PathBuf> {
    existing(target()?.join("c").join(name))
}

/// A C program that is compiled and linked with the TLS library of that name: "openssl-1.1.1" or
/// "system".
pub fn tls_program(library: &str, name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    match BUILT
        .get_or_init(|| make(&["openssl-1.1.1"]).map(drop).map_err(|error| format!("{error:#}")))
    {
        Ok(()) => existing(target()?.join("tls").join(library).join(name)),
        Err(message) => Err(anyhow!("{message}")),
    }
}

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the testbed is a directory of the workspace")
}

/// The target directory, after everything in it was built once in this process.
pub fn target() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(target) => Ok(target),
        Err(message) => Err(anyhow!("{message}")),
    }
}

fn built_file(cell: &'static OnceLock<PathBuf>, name: &str) -> Result<&'static Path> {
    let path = existing(target()?.join(name))?;
    Ok(cell.get_or_init(|| path))
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("make went well, yet there is no {}", path.display());
    }
    Ok(path)
}

fn build() -> Result<PathBuf> {
    make(&["all"])?;
    Ok(target_dir())
}

/// The target directory, whatever is in it.
pub fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from))
}

/// Runs make in the workspace, and returns what it wrote to the standard output.
pub fn make(arguments: &[&str]) -> Result<String> {
    let output = Command::new("make")
        .arg("--silent")
        .args(arguments)
        .current_dir(root())
        // Under `make test` these would make the inner make look for the outer one's job server.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .map_err(|error| anyhow!("cannot run make: {error}"))?;
    if !output.status.success() {
        bail!("`make {}` failed:\n{}", arguments.join(" "), log::said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
