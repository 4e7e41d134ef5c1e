//! `tktrot agent`, told to systemd's interface when it is ready, killed and started again.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::clocks;
use super::namespace::Namespace;
use crate::environment::Environment;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

/// A service manager's end of sd_notify(3), which listens all the time, as systemd does: who writes
/// to a socket that nobody reads is stopped when it is full.
#[derive(Debug)]
struct Manager {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen(path: &Path) -> Result<Manager> {
        let socket = UnixDatagram::bind(path)?;
        // Agents have no privileges any more when they get ready.
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
        // So often the thread looks whether it is still wanted.
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let weak = Arc::downgrade(&lines);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(lines) = weak.upgrade() {
                if let Ok(len) = socket.recv(&mut buffer) {
                    let said = String::from_utf8_lossy(&buffer[..len]).into_owned();
                    lines.lock().unwrap().extend(said.lines().map(str::to_owned));
                }
            }
        });
        Ok(Manager { lines })
    }

    fn was_told(&self, line: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|told| told == line)
    }

    fn forget(&self) {
        self.lines.lock().unwrap().clear();
    }
}

/// One agent, and the files by which it is told and tells: tktrot.toml, agent.log, the socket that
/// it says `READY=1` to. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    dir: PathBuf,
    program: PathBuf,
    environment: Environment,
    manager: Manager,
    child: Option<Child>,
}

impl Agent {
    /// An agent that does not run yet. It will read `tktrot.toml` in `dir`.
    pub fn new(program: &Path, dir: &Path) -> Result<Agent> {
        let socket = dir.join("notify");
        let manager = Manager::listen(&socket)?;
        let mut environment = Environment::default();
        environment.set("NOTIFY_SOCKET", &socket.display().to_string());
        let (dir, program) = (dir.to_owned(), program.to_owned());
        Ok(Agent { dir, program, environment, manager, child: None })
    }

    /// The environment of the next start.
    pub fn environment_mut(&mut self) -> &mut Environment {
        &mut self.environment
    }

    /// What it has logged since the first start.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The running process.
    pub fn process(&self) -> Result<Process> {
        let child = self.child.as_ref().context("the agent does not run")?;
        Process::find(child.id() as i32).context("the agent has ended")
    }

    /// Starts the agent, and returns how long it took to say that it is ready.
    pub fn start(&mut self, namespace: &Namespace) -> Result<Duration> {
        let began = Instant::now();
        self.launch(namespace)?;
        self.wait_ready()?;
        Ok(began.elapsed())
    }

    /// Waits until an agent that was launched says that it is ready.
    pub fn wait_ready(&mut self) -> Result<()> {
        wait::until(PATIENCE, "READY=1", || self.is_ready().transpose())
            .and_then(|ready| ready)
            .map_err(|error| anyhow!("{error}\n{}", self.log_tail()))
    }

    /// Starts the agent and does not wait.
    pub fn launch(&mut self, namespace: &Namespace) -> Result<()> {
        ensure!(self.child.is_none(), "the agent already runs");
        self.manager.forget();
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.environment.command(&self.program);
        command.arg("agent").arg("--config").arg(self.dir.join("tktrot.toml"));
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = namespace.run(|| command.spawn());
        let program = self.program.display();
        self.child = Some(child.with_context(|| format!("cannot run {program}"))?);
        Ok(())
    }

    /// Kills the agent: it gets no chance to tidy up.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent does not run")?;
        child.kill()?;
        child.wait()?;
        clocks::tidy_up(child.id());
        Ok(())
    }

    /// TERM, as systemd stops it. One that does not end in time is killed, and that is an error.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        ensure!(self.process()?.signal(libc::SIGTERM), "the agent is gone");
        let mut child = self.child.take().context("the agent does not run")?;
        process::ended(&mut child, "the agent to end")
            .map_err(|error| anyhow!("{error}\n{}", self.log_tail()))
    }

    /// Whether it has just said that it is ready; an error if it has ended instead.
    fn is_ready(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            self.child = None;
            bail!("the agent ended at its start: {status}");
        }
        Ok(self.manager.was_told("READY=1").then_some(()))
    }

    /// The end of its log, for messages about failures.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        format!("--- end of {}\n{}\n", self.log_path().display(), last.join("\n"))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
    }
}
