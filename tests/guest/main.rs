//! The shim in processes that did not ask for it: what a server's administrator sets reaches every
//! shell, helper and client that the server starts.

mod bystanders;
mod names;
mod opt_out;
mod python;
mod traced;

use std::path::Path;
use std::process::{Output, Stdio};

use testbed::environment::Environment;
use testbed::{RingDir, artifacts};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A program with its arguments.
struct Program<'a>(&'a str, &'a [&'a str]);

/// The environment with the shim and a directory for rings, or without.
fn environment(ring: Option<&RingDir>) -> Result<Environment> {
    let mut environment = Environment::default();
    environment.set("HOME", "/nonexistent");
    if let Some(ring) = ring {
        environment.preload(artifacts::shim()?);
        environment.set("TKTROT_DIR", &ring.path().display().to_string());
    }
    Ok(environment)
}

impl Program<'_> {
    /// Runs it; whatever it is, it ends by itself.
    fn run(&self, environment: &Environment) -> Result<Output> {
        let mut command = environment.command(Path::new(self.0));
        Ok(command.args(self.1).stdin(Stdio::null()).output()?)
    }

    /// Runs it with and without the shim: it must do the same, and leave nothing where rings are.
    fn does_the_same_under_the_shim(&self) -> Result<Output> {
        let ring = RingDir::new()?;
        let without = self.run(&environment(None)?)?;
        let with = self.run(&environment(Some(&ring))?)?;
        let Program(name, arguments) = self;
        let case = format!("{name} {arguments:?}");
        assert_eq!(with.status, without.status, "{case}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&with.stdout), text(&without.stdout), "{case}");
        assert_eq!(text(&with.stderr), text(&without.stderr), "{case}");
        assert_eq!(ring.entries()?, [] as [std::path::PathBuf; 0], "{case}");
        Ok(with)
    }
}
