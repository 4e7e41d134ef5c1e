//! Any server that stays in the foreground and reads its configuration from a directory of its own.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::TempDir;

use crate::certificate::{self, Certificate};
use crate::environment::{Environment, environment_setters};
use crate::port;
use crate::process::{self, Process};
use crate::wait::{self, PATIENCE};

/// At the end a server gets this long before it is killed.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Gives a file or directory to a user, by name.
pub fn give(path: &Path, user: &str) -> Result<()> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries
        .find(|entry| entry[0] == user && entry.len() > 3)
        .with_context(|| format!("there is no user {user}; `make deps` installs the servers"))?;
    chown(path, Some(entry[2].parse()?), Some(entry[3].parse()?))
        .with_context(|| format!("cannot give {} to {user}", path.display()))
}

/// What a server is to be like; made by [`Foreground::builder`]. The directory, the certificate and
/// the address are there before the server starts, for the configuration to name them.
#[derive(Debug)]
pub struct Builder {
    dir: TempDir,
    addr: SocketAddr,
    certificate: Certificate,
    environment: Environment,
}

/// One server with a directory and a port of its own; stopped when dropped.
#[derive(Debug)]
pub struct Foreground {
    dir: TempDir,
    addr: SocketAddr,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Environment,
    child: Option<Child>,
}

environment_setters!(Builder);

impl Builder {
    /// Its directory: cert.pem, key.pem, both.pem (certificate and key), log.txt and what
    /// [`Builder::file`] adds. Every user may look into it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it is to listen.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it is to present.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Writes a file into the directory, readable to its owner alone.
    pub fn file(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir().join(name);
        fs::write(&path, contents)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// Starts `program`, which must not leave the foreground, and waits until it accepts
    /// connections. It writes its log to standard output or error, or itself to log.txt.
    pub fn start(self, program: &str, arguments: &[&str]) -> Result<Foreground> {
        let mut server = Foreground {
            dir: self.dir,
            addr: self.addr,
            program: PathBuf::from(program),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: self.environment,
            child: None,
        };
        server.start()?;
        Ok(server)
    }
}

impl Foreground {
    /// Begins the description of a server.
    pub fn builder() -> Result<Builder> {
        let dir = tempfile::Builder::new().prefix("tktrot-foreground-").tempdir()?;
        // Most servers give up their privileges and still want to reach their files.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let certificate = certificate::create(dir.path())?;
        let addr = port::free()?;
        let builder = Builder { dir, addr, certificate, environment: Environment::default() };
        let certificate = builder.certificate();
        let both = [fs::read(&certificate.cert)?, fs::read(&certificate.key)?].concat();
        builder.file("both.pem", &both)?;
        Ok(builder)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its directory; see [`Builder::dir`].
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has logged since the first start.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir().join("log.txt")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process that was started and all its descendants, the oldest generation first.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let mut all = vec![self.main()?];
        let mut next = 0;
        while let Some(process) = all.get(next) {
            all.extend(process.children());
            next += 1;
        }
        Ok(all)
    }

    /// Starts the server once more and waits until it accepts connections.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the server already runs");
        let program = self.program.display();
        ensure!(self.program.exists(), "there is no {program}; `make deps` installs it");
        let log = File::options().create(true).append(true).open(self.dir().join("log.txt"))?;
        let child = self
            .environment
            // Apache ends its whole process group, which would be that of the tests, and Postfix
            // wants to lead a session.
            .command(Path::new("setsid"))
            .arg(&self.program)
            .args(&self.arguments)
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run setsid")?;
        let child = self.child.insert(child);
        process::serves(child, self.addr).map_err(|error| anyhow!("{error}\n{}", self.log()))
    }

    /// Sends `signal` and waits until the log says `done` once more than before.
    pub fn reload(&self, signal: i32, done: &str) -> Result<()> {
        let said = || self.log().matches(done).count();
        let before = said();
        ensure!(self.main()?.signal(signal), "the server is gone");
        wait::until(PATIENCE, done, || (said() > before).then_some(()))
            .map_err(|late| anyhow!("{late}\n{}", self.log()))
    }

    /// TERM, and waits until the server and all its processes are gone; what does not go is killed.
    pub fn stop(&mut self) -> Result<()> {
        let all = self.processes()?;
        let mut child = self.child.take().context("the server does not run")?;
        all[0].signal(libc::SIGTERM);
        let ended = wait::until(PATIENCE, "the server to end", || child.try_wait().transpose());
        process::end_all(&all, libc::SIGTERM, LAST_WORD);
        match ended {
            Ok(status) => status.map(drop).map_err(Into::into),
            Err(late) => {
                child.wait()?;
                bail!("{late}\n{}", self.log())
            }
        }
    }

    fn main(&self) -> Result<Process> {
        let child = self.child.as_ref().context("the server does not run")?;
        Process::find(child.id() as i32).context("the server has ended")
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended by itself.
            let _ = self.stop();
        }
    }
}
