//! An agent that a test starts, asks and kills.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use testbed::environment::Environment;
pub use testbed::log::Said;
use testbed::process::{self, Process};
use testbed::wait::{self, PATIENCE};
use tktrot::ring::file::Place;
use tktrot::ring::view::View;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Where cargo built the program.
pub const TKTROT: &str = env!("CARGO_BIN_EXE_tktrot");

/// An agent and its files. Killed when dropped.
pub struct Agent {
    dir: tempfile::TempDir,
    /// Where its ring is.
    rings: PathBuf,
    /// The name of its ring.
    ring: String,
    notify: UnixDatagram,
    heard: Vec<String>,
    child: Option<Child>,
    /// For the next start.
    pub environment: Environment,
}

/// The ring's name, which is that of the server.
pub const RING: &str = "nginx";

impl Agent {
    /// One that does not run yet, with these settings beside `ring` and `dir`.
    pub fn new(settings: &str) -> Result<Agent> {
        Agent::of(RING, None, settings)
    }

    /// The same on the same host, for a ring of this name beside its.
    pub fn beside(&self, ring: &str, settings: &str) -> Result<Agent> {
        Agent::of(ring, Some(self.rings()), settings)
    }

    fn of(ring: &str, rings: Option<PathBuf>, settings: &str) -> Result<Agent> {
        let dir = tempfile::Builder::new().prefix("tktrot-agent-").tempdir_in("/dev/shm")?;
        // It is somebody else when it talks to the service manager.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let socket = dir.path().join("notify");
        let notify = UnixDatagram::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o777))?;
        notify.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut environment = Environment::default();
        environment.set("NOTIFY_SOCKET", &socket.display().to_string());
        let is_beside = rings.is_some();
        let rings = rings.unwrap_or_else(|| dir.path().join("rings"));
        let (ring, heard) = (ring.to_owned(), Vec::new());
        let agent = Agent { dir, rings, ring, notify, heard, child: None, environment };
        if !is_beside {
            fs::create_dir(agent.rings())?;
            fs::set_permissions(agent.rings(), Permissions::from_mode(0o755))?;
        }
        agent.set(settings)?;
        Ok(agent)
    }

    /// One that is ready.
    pub fn started(settings: &str) -> Result<Agent> {
        let mut agent = Agent::new(settings)?;
        agent.start()?;
        Ok(agent)
    }

    /// Writes the settings of the next start.
    pub fn set(&self, settings: &str) -> Result<()> {
        let rings = self.rings();
        let (ring, dir) = (&self.ring, rings.display());
        let text = format!("ring = \"{ring}\"\ndir = \"{dir}\"\n{settings}");
        Ok(fs::write(self.settings(), text)?)
    }

    pub fn settings(&self) -> PathBuf {
        self.dir.path().join("tktrot.toml")
    }

    /// Where it listens for its peers.
    pub fn listens(&self) -> Result<String> {
        let settings = fs::read_to_string(self.settings())?;
        let address = settings.lines().find_map(|line| line.strip_prefix("listen = "));
        Ok(address.ok_or("it does not listen")?.trim_matches('"').to_owned())
    }

    /// Where its ring is.
    pub fn rings(&self) -> PathBuf {
        self.rings.clone()
    }

    /// The directory of all its files, for more of them.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a secret of this name among its files, and returns where it is.
    pub fn secret(&self, name: &str) -> Result<String> {
        let path = self.path().join(name).display().to_string();
        let said = self.tktrot(&["secret", "new", &path])?;
        assert_eq!(said.status, Some(0), "{said:?}");
        Ok(path)
    }

    /// `tktrot` with its settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Environment::default().command(TKTROT.as_ref());
        command.arg("--config").arg(self.settings()).args(arguments).stdin(Stdio::null());
        command
    }

    /// The same, run to its end.
    pub fn tktrot(&self, arguments: &[&str]) -> Result<Said> {
        Ok(self.command(arguments).output()?.into())
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) -> Result<()> {
        let command = self.environment.command(TKTROT.as_ref());
        self.spawn(command)
    }

    /// The same with fewer rights, as setpriv(1) says them.
    pub fn launch_with(&mut self, rights: &[&str]) -> Result<()> {
        let mut command = self.environment.command("/usr/bin/setpriv".as_ref());
        command.args(rights).arg(TKTROT);
        self.spawn(command)
    }

    fn spawn(&mut self, mut command: Command) -> Result<()> {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"))?;
        command.arg("--config").arg(self.settings()).arg("agent");
        self.child =
            Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_to_hear("READY=1")
    }

    /// Waits until it tells the service manager this, anew.
    pub fn wait_to_hear(&mut self, line: &str) -> Result<()> {
        let heard = wait::until(PATIENCE, line, || {
            self.listen();
            let place = self.heard.iter().position(|heard| heard.starts_with(line))?;
            self.heard.remove(place);
            Some(())
        });
        Ok(heard.map_err(|error| format!("{error}; heard {:?}\n{}", self.heard, self.log()))?)
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.notify.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            self.heard.extend(text.lines().map(ToOwned::to_owned));
        }
    }

    pub fn process(&self) -> Result<Process> {
        let child = self.child.as_ref().ok_or("it does not run")?;
        Ok(Process::find(child.id() as i32).ok_or_else(|| self.log())?)
    }

    /// As if it crashed.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().ok_or("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// As a service manager stops it.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        assert!(self.process()?.signal(libc::SIGTERM));
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().ok_or("it does not run")?;
        Ok(process::ended(&mut child, "the agent's end")?)
    }

    /// Lets it read its settings again, and waits until it has.
    pub fn reload(&mut self) -> Result<()> {
        assert!(self.process()?.signal(libc::SIGHUP));
        self.wait_to_hear("RELOADING=1")?;
        self.wait_to_hear("MONOTONIC_USEC=")?;
        self.wait_to_hear("READY=1")
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where its ring is.
    pub fn place(&self) -> Place {
        Place { dir: self.rings(), file: format!("{}.ring", self.ring), dir_mode: 0o700 }
    }

    /// Its ring, to look at.
    pub fn view(&self) -> Result<View> {
        let place = self.place();
        Ok(place.look().map_err(|refused| refused.to_string())?.ok_or("there is no ring")?)
    }

    /// What `tktrot peers --json` says, checked against the schema.
    pub fn peers(&self) -> Result<serde_json::Value> {
        let said = self.tktrot(&["peers", "--json"])?;
        let document = serde_json::from_str(&said.stdout).map_err(|_| format!("{said:?}"))?;
        let schema = include_str!("../../../docs/schemas/peers.schema.json");
        let schema = jsonschema::validator_for(&testbed::schema::closed(schema)?)?;
        let flaws: Vec<_> = schema.iter_errors(&document).map(|flaw| flaw.to_string()).collect();
        assert_eq!(flaws, [""; 0], "{document:#}");
        Ok(document)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
    }
}
