//! What each server is made of: a directory of its own, a port, an environment, and processes.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::certificate::{self, Certificate};
use crate::environment::Environment;
use crate::port;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

/// At the end a server gets this long before it is killed.
const LAST_WORD: Duration = Duration::from_secs(3);
/// So many last lines of each log are in a message about a failure.
const TAIL: usize = 10;

/// A server's directory, address and processes. Dropping it ends the processes and removes the directory.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    pub addr: SocketAddr,
    pub environment: Environment,
    /// The signal for processes that still run at the end.
    pub ending: i32,
    /// The process that we started, unless it was the parent of a daemon.
    child: Option<Child>,
}

impl Home {
    /// Makes one for this server. Every user may read the directory: most servers give up their
    /// privileges and still need their files.
    pub fn new(server: &str) -> Result<Home> {
        Home::within(&std::env::temp_dir(), server)
    }

    pub fn within(parent: &Path, server: &str) -> Result<Home> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("tktrot-{server}-"))
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        let (addr, environment) = (port::free()?, Environment::default());
        Ok(Home { dir, addr, environment, ending: libc::SIGTERM, child: None })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn keep(&mut self) {
        self.dir.disable_cleanup(true);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// What a file holds, as text.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// Writes a file, readable to its owner alone.
    pub fn file(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, contents)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// The certificate that was given, or a new one.
    pub fn certificate(&self, given: Option<Certificate>) -> Result<Certificate> {
        given.map_or_else(|| certificate::create(self.dir()), Ok)
    }

    /// A command that runs here and appends what it says to stderr.txt.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let mut command = self.environment.command(program);
        command.current_dir(self.dir()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(self.appended("stderr.txt")?);
        Ok(command)
    }

    /// As [`Home::command`], of a server that logs to standard output or error: both are in log.txt.
    pub fn logged(&self, program: &Path) -> Result<Command> {
        let mut command = self.command(program)?;
        command.stdout(self.appended("log.txt")?).stderr(self.appended("log.txt")?);
        Ok(command)
    }

    fn appended(&self, name: &str) -> io::Result<File> {
        File::options().create(true).append(true).open(self.path(name))
    }

    /// Starts what will stay our child.
    pub fn spawn(&mut self, command: &mut Command) -> Result<&mut Child> {
        ensure!(self.child().is_err(), "the server already runs");
        if let Some(mut ended) = self.child.take() {
            ended.wait()?;
        }
        Ok(self.child.insert(start(command)?))
    }

    /// Starts it, and waits until it accepts connections.
    pub fn serve(&mut self, command: &mut Command) -> Result<()> {
        let addr = self.addr;
        let served = process::serves(self.spawn(command)?, addr);
        served.map_err(|error| self.with_log(&error))
    }

    /// Runs a command that ends by itself: a daemon's parent, or what sends a signal.
    pub fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        process::ended(&mut start(command)?, "the command to end")
            .map_err(|error| self.with_log(&error))
    }

    /// Runs a command that is to succeed.
    pub fn succeed(&self, command: &mut Command) -> Result<()> {
        let status = self.run(command)?;
        ensure!(status.success(), "{command:?}: {status}\n{}", self.log_tail());
        Ok(())
    }

    /// Our child, if it runs.
    pub fn child(&self) -> Result<Process> {
        let child = self.child.as_ref().context("the server does not run")?;
        Process::find(child.id() as i32).context("the server has ended")
    }

    /// Waits for the end of our child; what does not end in time is killed, and that is an error.
    pub fn child_ended(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the server does not run")?;
        process::ended(&mut child, "the server to end").map_err(|error| self.with_log(&error))
    }

    /// Kills our child: it gets no chance to tidy up.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the server does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits, and tells what was logged if that was in vain.
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> Result<T> {
        wait::until(PATIENCE, what, probe).map_err(|late| self.with_log(&late))
    }

    /// Waits until all of them are gone; what does not end in time is killed, and that is an error.
    pub fn wait_gone(&mut self, processes: &[Process]) -> Result<()> {
        let gone = || processes.iter().all(|process| !process.is_running()).then_some(());
        let result = self.wait_for("the server to stop", gone);
        self.end();
        result
    }

    /// TERM to a master; returns when it and its children are gone, as [`Home::wait_gone`].
    pub fn terminate(&mut self, master: Process) -> Result<()> {
        let mut all = master.children();
        all.push(master);
        master.signal(libc::SIGTERM);
        self.wait_gone(&all)
    }

    fn with_log(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow!("{error:#}\n{}", self.log_tail())
    }

    /// Everything that was written to logs here: what is called *.txt or *.log.
    pub fn log(&self) -> String {
        self.logs().map(|(_, text)| text).collect()
    }

    /// The last lines of each log, for messages about failures.
    pub fn log_tail(&self) -> String {
        let tail = |(path, text): (PathBuf, String)| {
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(TAIL)..];
            format!("--- end of {}\n{}\n", path.display(), last.join("\n"))
        };
        self.logs().map(tail).collect()
    }

    fn logs(&self) -> impl Iterator<Item = (PathBuf, String)> {
        let entries = fs::read_dir(self.dir()).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "txt" || end == "log"));
        paths.sort();
        paths.into_iter().map(|path| {
            let text = fs::read(&path).unwrap_or_default();
            (path, String::from_utf8_lossy(&text).into_owned())
        })
    }

    /// Ends whatever runs from here: who has the directory in its command line, their children, and
    /// our child.
    pub fn end(&mut self) {
        let mut all = Process::with_title_containing(&self.dir().display().to_string());
        all.extend(all.iter().flat_map(Process::children).collect::<Vec<_>>());
        process::end_all(&all, self.ending, LAST_WORD);
        if let Some(mut child) = self.child.take() {
            // It is dead by now, or never came to name itself; this takes it out of the process
            // table.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.end();
    }
}

fn start(command: &mut Command) -> Result<Child> {
    let program = command.get_program().to_owned();
    command
        .spawn()
        .with_context(|| format!("cannot run {}; `make deps` installs it", program.display()))
}
