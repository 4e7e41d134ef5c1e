//! The program, run on the rings of one directory; and rings without a server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use testbed::RingDir;
use testbed::environment::Environment;
pub use testbed::log::Said;
use tktrot::clock::BootClock;
use tktrot::config::Config;
use tktrot::ring::file::Place;
use tktrot::ring::layout::Capacity;
use tktrot::rotate::{Generator, Keyring, NotRandom};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The program that cargo built.
pub const TKTROT: &str = env!("CARGO_BIN_EXE_tktrot");

/// No settings file: this host may have one.
pub const NO_SETTINGS: [&str; 2] = ["--config", "/dev/null"];

/// An environment with nothing of ours but the directory.
pub fn environment(dir: &RingDir) -> Environment {
    let mut environment = Environment::default();
    environment.set("TKTROT_DIR", &dir.path().display().to_string());
    environment
}

/// The program, with no settings but the environment's.
pub fn command(dir: &RingDir, arguments: &[&str]) -> Command {
    let mut command = environment(dir).command(TKTROT.as_ref());
    command.args(NO_SETTINGS).args(arguments);
    command
}

/// Runs the program to its end.
pub fn tktrot(dir: &RingDir, arguments: &[&str]) -> Result<Said> {
    Ok(command(dir, arguments).output()?.into())
}

/// Debian's nobody.
pub const NOBODY: u32 = 65534;

/// Runs it as that user, from where every user may run it: the build directory may be root's alone.
pub fn as_nobody(dir: &RingDir, arguments: &[&str]) -> Result<Said> {
    let place = tempfile::tempdir()?;
    fs::set_permissions(place.path(), Permissions::from_mode(0o755))?;
    let program = place.path().join("tktrot");
    // Not copied by this process: what other tests start would have the file open to write for a
    // moment, and a file that is open to write cannot be run.
    assert!(Command::new("cp").arg(TKTROT).arg(&program).status()?.success());
    let user = [&*format!("--reuid={NOBODY}"), &*format!("--regid={NOBODY}"), "--clear-groups"];
    let mut setpriv = environment(dir).command("/usr/bin/setpriv".as_ref());
    setpriv.args(user).arg(program).args(NO_SETTINGS).args(arguments);
    Ok(setpriv.output()?.into())
}

/// `tktrot status --json`, checked against the schema.
pub fn document(dir: &RingDir, arguments: &[&str]) -> Result<Value> {
    let said = tktrot(dir, &[&["status", "--json"], arguments].concat())?;
    checked(&said, include_str!("../../../docs/schemas/status.schema.json"))
}

/// What a run with `--json` printed, checked against its schema and its exit status.
pub fn checked(said: &Said, schema: &str) -> Result<Value> {
    let document = serde_json::from_str(&said.stdout).map_err(|_| format!("{said:?}"))?;
    let schema = jsonschema::validator_for(&testbed::schema::closed(schema)?)?;
    let flaws: Vec<_> = schema.iter_errors(&document).map(|flaw| flaw.to_string()).collect();
    assert_eq!(flaws, [""; 0], "{document:#}");
    let severity = ["ok", "warning", "critical"]
        .iter()
        .position(|name| document["severity"] == *name)
        .ok_or("no severity")?;
    assert_eq!(said.status, Some(severity as i32), "{document:#}");
    Ok(document)
}

/// The only ring of the directory.
pub fn reading(dir: &RingDir) -> Result<Value> {
    let mut document = document(dir, &[])?;
    let rings = document["rings"].as_array_mut().ok_or("no rings")?;
    assert_eq!(rings.len(), 1, "{rings:?}");
    Ok(rings.remove(0))
}

/// The names of a reading's alarms.
pub fn alarms(reading: &Value) -> Vec<&str> {
    let alarms = reading["alarms"].as_array().into_iter().flatten();
    alarms.filter_map(|alarm| alarm["alarm"].as_str()).collect()
}

struct OpenSsl;

impl Generator for OpenSsl {
    fn fill(&self, bytes: &mut [u8]) -> std::result::Result<(), NotRandom> {
        openssl::rand::rand_priv_bytes(bytes).map_err(|_| NotRandom::Failed)
    }
}

/// A ring that this process has open, as a server would.
pub fn keyring(dir: &RingDir, name: &str) -> Result<Keyring> {
    let (dir, file) = (dir.path().to_owned(), format!("{name}.ring"));
    let place = Place { dir, file, dir_mode: 0o700 };
    let capacity = Capacity::new(16).ok_or("a capacity out of range")?;
    let ring = place.open(capacity).map_err(|refused| refused.to_string())?;
    ring.protect()?;
    let keyring = Keyring::new(ring, BootClock, &OpenSsl);
    keyring.configure(&Config::default()).map_err(|failure| failure.to_string())?;
    Ok(keyring)
}

/// The same, with keys in it.
pub fn keyring_with_keys(dir: &RingDir, name: &str) -> Result<Keyring> {
    let keyring = keyring(dir, name)?;
    keyring.rotate().map_err(|failure| failure.to_string())?;
    Ok(keyring)
}
