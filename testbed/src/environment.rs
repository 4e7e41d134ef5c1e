//! The environment of a server: nothing of ours but what a test asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{artifacts, log};

/// The variables of one server process. Ours are not inherited, so that a test means the same on
/// every machine, and `LD_PRELOAD` is never set for the test program itself.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    launcher: Vec<String>,
}

impl Environment {
    /// Sets one variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Loads `library` into the server.
    pub fn preload(&mut self, library: &Path) {
        self.set("LD_PRELOAD", &library.display().to_string());
    }

    /// Lets these words stand in front of the server's command: a program that restricts itself and
    /// then becomes the server, as prlimit(1) does.
    pub fn launch_through(&mut self, words: &[impl AsRef<str>]) {
        self.launcher.extend(words.iter().map(|word| word.as_ref().to_owned()));
    }

    /// The names that were set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// A command that will run in this environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut words = self.launcher.iter().map(AsRef::as_ref).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("a program at least"));
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .envs(&self.variables);
        command
    }
}

/// The part that all descriptions of servers have in common, for one with an `environment`.
macro_rules! environment_setters {
    ($builder:ty) => {
        environment_setters!($builder, environment);
    };
    // Where the environment is.
    ($builder:ty, $($environment:ident).+) => {
        impl $builder {
            /// Sets `LD_PRELOAD` for the server.
            pub fn preload(mut self, library: &std::path::Path) -> Self {
                self.$($environment).+.preload(library);
                self
            }

            /// Sets a variable for the server.
            pub fn env(mut self, name: &str, value: &str) -> Self {
                self.$($environment).+.set(name, value);
                self
            }

            /// See [`Environment::launch_through`](crate::environment::Environment::launch_through).
            pub fn launch_through(mut self, words: &[impl AsRef<str>]) -> Self {
                self.$($environment).+.launch_through(words);
                self
            }

            /// Sets `TKTROT_DIR` to this directory, which has to live as long as the server.
            pub fn ring(self, dir: &$crate::environment::RingDir) -> Self {
                self.env("TKTROT_DIR", &dir.path().display().to_string())
            }

            /// Under the shim, with this ring, rotation and lifetime.
            pub fn rotating(
                self,
                ring: &$crate::environment::RingDir,
                rotate: std::time::Duration,
                lifetime: std::time::Duration,
            ) -> anyhow::Result<Self> {
                let all = $crate::environment::rotating(ring.path(), rotate, lifetime)?;
                Ok(all.iter().fold(self, |builder, (name, value)| builder.env(name, value)))
            }
        }
    };
}

pub(crate) use environment_setters;

/// The variables of a server under the shim, with this directory of rings, rotation and lifetime.
pub fn rotating(
    rings: &Path,
    rotate: Duration,
    lifetime: Duration,
) -> Result<[(&'static str, String); 4]> {
    Ok([
        ("LD_PRELOAD", artifacts::shim()?.display().to_string()),
        ("TKTROT_DIR", rings.display().to_string()),
        ("TKTROT_ROTATE", format!("{}s", rotate.as_secs())),
        ("TKTROT_LIFETIME", format!("{}s", lifetime.as_secs())),
    ])
}

/// A private directory on /dev/shm for rings; it is removed, with the rings in it, on drop.
#[derive(Debug)]
pub struct RingDir {
    dir: TempDir,
}

impl RingDir {
    /// Makes a new directory, mode 0700.
    pub fn new() -> Result<RingDir> {
        let dir = tempfile::Builder::new()
            .prefix("tktrot-test-")
            .tempdir_in("/dev/shm")
            .context("cannot make a ring directory in /dev/shm")?;
        Ok(RingDir { dir })
    }

    /// What `TKTROT_DIR` is to be.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Everything in it, sorted: a server leaves nothing here but rings.
    pub fn entries(&self) -> Result<Vec<PathBuf>> {
        let entries = self.path().read_dir()?.map(|entry| Ok(entry?.path()));
        let mut found = entries.collect::<Result<Vec<PathBuf>>>()?;
        found.sort();
        Ok(found)
    }

    /// The ring files in it, sorted.
    pub fn rings(&self) -> Result<Vec<PathBuf>> {
        let mut found = self.entries()?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "ring"));
        Ok(found)
    }
}

/// What `tktrot status --json` says of the only ring in this directory.
pub fn ring_status(dir: &Path) -> Result<Value> {
    let mut environment = Environment::default();
    environment.set("TKTROT_DIR", &dir.display().to_string());
    let mut command = environment.command(artifacts::tktrot()?);
    let output = command.args(["--config", "/dev/null", "status", "--json"]).output()?;
    let mut document: Value =
        serde_json::from_slice(&output.stdout).with_context(|| log::said(&output))?;
    let rings = document["rings"].as_array_mut().context("no rings")?;
    ensure!(rings.len() == 1, "not one ring: {rings:#?}");
    Ok(rings.remove(0))
}
