//! `tktrot secret new`: a file of its owner's alone, from the first moment, never over another one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use testbed::RingDir;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs it with a umask that would let everybody read what it makes.
fn secret_new(file: &Path) -> Result<Output> {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" secret new \"$1\"", env!("CARGO_BIN_EXE_tktrot")]);
    Ok(command.arg(file).output()?)
}

#[test]
fn a_new_secret_is_its_owners_alone_and_is_not_shown() -> Result<()> {
    let dir = RingDir::new()?;
    let file = dir.path().join("fleet.secret");
    let output = secret_new(&file)?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&file)?;
    let line = text.trim_end();
    assert!(line.len() == 64 && line.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("fleet.secret") && !said.contains(line));

    let other = dir.path().join("other.secret");
    assert!(secret_new(&other)?.status.success());
    assert!(fs::read_to_string(other)? != text, "two secrets are the same");
    Ok(())
}

#[test]
fn what_is_there_is_never_replaced() -> Result<()> {
    let dir = RingDir::new()?;
    let (file, link) = (dir.path().join("fleet.secret"), dir.path().join("link"));
    fs::write(&file, "in use")?;
    symlink(dir.path().join("elsewhere"), &link)?;
    for taken in [&file, &link] {
        let output = secret_new(taken)?;
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the file exists"), "{said}");
    }
    assert_eq!(fs::read_to_string(file)?, "in use");
    assert!(!dir.path().join("elsewhere").exists(), "it followed a link");
    Ok(())
}
