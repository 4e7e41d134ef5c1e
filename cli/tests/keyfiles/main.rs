//! `tktrot import` and `tktrot export`: servers that have ticket key files of their own move under
//! libtktrot without losing a ticket, and servers without it use a ring's keys. Stock servers, real
//! clients; key files only in memory, and gone with the test.

mod exporting;
mod haproxy;
mod lighttpd;
mod nginx;
mod refused;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openssl::rand::rand_bytes;
use testbed::RingDir;
use tktrot::ring::file::Place;
use tktrot::ring::key::KeyFacts;
use tktrot::ring::layout::IMPORTED;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `tktrot` with a directory of rings.
fn tktrot(rings: &RingDir, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tktrot"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TKTROT_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("TKTROT_DIR", rings.path());
    Ok(command.output()?)
}

/// The same, and it succeeds; what it printed.
fn succeeds(rings: &RingDir, arguments: &[&str]) -> Result<String> {
    let output = tktrot(rings, arguments)?;
    let (out, err) = text(&output);
    assert!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    Ok(out + &err)
}

/// The same, and it fails with exit status 2; what it wrote to stderr.
fn fails(rings: &RingDir, arguments: &[&str]) -> Result<String> {
    let output = tktrot(rings, arguments)?;
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}\n{out}{err}");
    assert_eq!(out, "", "{arguments:?}");
    Ok(err)
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn path_text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("the path is not UTF-8")?)
}

/// The keys of the ring of that name, without secrets.
fn keys(rings: &RingDir, name: &str) -> Result<Vec<KeyFacts>> {
    let file = format!("{name}.ring");
    let place = Place { dir: rings.path().to_owned(), file, dir_mode: 0o700 };
    let view = place.look().map_err(|refused| refused.to_string())?;
    Ok(view.ok_or("there is no ring")?.keys())
}

/// Of those, the ones that were imported.
fn imported(rings: &RingDir, name: &str) -> Result<Vec<[u8; 16]>> {
    let keys = keys(rings, name)?.into_iter();
    Ok(keys.filter(|key| key.node == IMPORTED).map(|key| key.name.0).collect())
}

/// A directory for key files, in memory.
struct KeyFiles(RingDir);

impl KeyFiles {
    fn new() -> Result<KeyFiles> {
        Ok(KeyFiles(RingDir::new()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that only its owner can read.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    }
}

/// Random bytes, as key files are made of.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    rand_bytes(&mut bytes)?;
    Ok(bytes)
}
