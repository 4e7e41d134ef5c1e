//! What the tests know of a server: how it is configured, started and spoken to.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use testbed::certificate::{self, Certificate};
use testbed::client::{Client, TlsVersion};
use testbed::foreground::{Foreground, give};
use testbed::process::needs_root;
use testbed::wait::{self, PATIENCE};
use testbed::{RingDir, Server, artifacts, environment};

use crate::Result;
use crate::release::Release;
use crate::visitor::Tally;

/// How long keys encrypt, and tickets last.
pub const ROTATE: Duration = Duration::from_secs(2);
pub const LIFETIME: Duration = Duration::from_secs(300);

/// Whether a server asks its clients for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// It does not.
    Nobody,
    /// It does, and serves who shows none.
    Anybody,
    /// It does, and turns away who shows none.
    Everybody,
}

/// What a server needs to know for its configuration.
#[derive(Debug)]
pub struct Site {
    /// Its directory.
    pub dir: PathBuf,
    pub addr: SocketAddr,
    /// What it shows.
    pub certificate: Certificate,
    /// The file with the certificates that it accepts.
    pub clients: PathBuf,
    /// A directory on tmpfs, for rings.
    pub rings: PathBuf,
    /// The variables that load the shim; none without it.
    pub variables: Vec<(&'static str, String)>,
}

/// A server: all that the journey has to know of it. [`PLAIN`] has what most have in common.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The name of its ring.
    pub ring: &'static str,
    /// The user who makes the ring, if not root.
    pub user: Option<&'static str>,
    /// Writes its configuration, which it reads at its next start.
    pub configure: fn(&Site, Asks) -> Result,
    /// Its command line.
    pub command: fn(&Site) -> Vec<String>,
    /// Teaches a client its protocol.
    pub client: fn(Client) -> Client,
    /// How it reloads its certificates.
    pub reload: Option<Reload>,
    /// Where it is from, if not this system.
    pub place: Option<&'static Release>,
    /// The shim that it loads; none where it is linked with the library.
    pub shim: fn() -> Result<Option<PathBuf>>,
    /// A signal that it catches once it has started so far that it notices others.
    pub settled: Option<i32>,
    /// Words in front of its command line; see [`testbed::environment::Environment::launch_through`].
    pub launcher: fn() -> Result<Vec<String>>,
    /// The subdirectory of `rings` that holds its ring.
    pub within: &'static str,
    /// Whether its tickets survive a restart under the shim; if not, a restart is as without the shim.
    pub outlives: bool,
    /// Whether a certificate callback sets what is asked of clients: after a reload and a restart a
    /// full handshake has to show it before tickets of before are good.
    pub relearns: bool,
    /// Whether some clients that come back get another answer, without the shim as well.
    pub slips: bool,
    /// Whether its configuration sets the variables for its processes, not whoever starts it.
    pub imports: bool,
    /// Whether a reload closes its listening socket for a moment, so that connections are refused.
    pub deaf: bool,
    /// Variables beside those that all have.
    pub variables: &'static [(&'static str, &'static str)],
    /// Checks what is special about it, at the end of the journey under the shim.
    pub look: fn(&Started) -> Result,
}

/// How it is made to read its certificates again.
#[derive(Clone, Copy, Debug)]
pub enum Reload {
    /// By this signal; when it has, this is in the log.
    Signal(i32, &'static str),
    /// By a client who says so.
    Words(fn(&Site) -> String),
}

/// A server that was started.
#[derive(Debug)]
pub struct Started {
    pub server: Foreground,
    pub site: Site,
    pub kind: Kind,
    /// What clients show that have one.
    pub certificate: Certificate,
    /// How often it was started.
    pub starts: usize,
    /// What its first visitors saw after a reload or a restart, where it [`Kind::relearns`].
    scouted: Tally,
    rings: Option<RingDir>,
    _clients: TempDir,
}

/// The environment of a server that rotates quickly.
fn variables(kind: Kind, rings: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut variables = environment::rotating(rings, ROTATE, LIFETIME)?.to_vec();
    variables.retain(|(name, _)| *name != "LD_PRELOAD");
    variables.extend((kind.shim)()?.map(|shim| ("LD_PRELOAD", shim.display().to_string())));
    variables.extend(kind.variables.iter().map(|&(name, value)| (name, value.into())));
    Ok(variables)
}

/// What most have in common.
pub const PLAIN: Kind = Kind {
    ring: "",
    user: None,
    configure: |_, _| Ok(()),
    command: |_| Vec::new(),
    client: |client| client,
    reload: None,
    place: None,
    shim: || Ok(Some(artifacts::shim()?.to_owned())),
    settled: None,
    launcher: || Ok(Vec::new()),
    within: "",
    outlives: true,
    relearns: false,
    slips: false,
    imports: false,
    deaf: false,
    variables: &[],
    look: |_| Ok(()),
};

impl Asks {
    /// All.
    pub const ALL: [Asks; 3] = [Asks::Nobody, Asks::Anybody, Asks::Everybody];

    /// What stands for it in the words of a server.
    pub fn among<T>(self, nobody: T, anybody: T, everybody: T) -> T {
        match self {
            Asks::Nobody => nobody,
            Asks::Anybody => anybody,
            Asks::Everybody => everybody,
        }
    }
}

impl Site {
    /// A file in its directory, for a command line.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Writes its configuration.
    pub fn write(&self, name: &str, text: &str) -> Result {
        Ok(fs::write(self.dir.join(name), text)?)
    }
}

impl Kind {
    /// Starts it, with the shim or without.
    pub fn start(self, asks: Asks, shim: bool) -> Result<Started> {
        needs_root("servers give up their privileges");
        let rings = RingDir::new()?;
        let clients = tempfile::Builder::new().prefix("tktrot-clients-").tempdir()?;
        let certificate = certificate::create(clients.path())?;
        let mut builder = Foreground::builder()?;
        let accepted = builder.file("clients.pem", &fs::read(&certificate.cert)?)?;
        fs::set_permissions(&accepted, Permissions::from_mode(0o644))?;
        let site = Site {
            dir: builder.dir().to_owned(),
            addr: builder.addr(),
            certificate: builder.certificate().clone(),
            clients: accepted,
            rings: rings.path().to_owned(),
            variables: if shim { variables(self, rings.path())? } else { Vec::new() },
        };
        if let Some(user) = self.user {
            for path in [&site.rings, &site.certificate.key, &site.dir] {
                give(path, user)?;
            }
        }
        (self.configure)(&site, asks)?;
        for (name, value) in site.variables.iter().filter(|_| !self.imports) {
            builder = builder.env(name, value);
        }
        let launcher = match self.place {
            Some(release) => release.launcher(&[&site.dir, &site.rings])?,
            None => (self.launcher)()?,
        };
        let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
        builder = builder.launch_through(&launcher);
        let command = (self.command)(&site);
        let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
        let server = builder.start(&command[0], &arguments)?;
        Ok(Started {
            server,
            site,
            kind: self,
            certificate,
            starts: 1,
            scouted: Tally::default(),
            rings: Some(rings),
            _clients: clients,
        })
    }
}

impl Started {
    /// Stops it and starts it again, perhaps with another configuration.
    pub fn restart(&mut self, asks: Option<Asks>) -> Result {
        self.stop()?;
        if let Some(asks) = asks {
            (self.kind.configure)(&self.site, asks)?;
        }
        Ok(self.start()?)
    }

    /// Whether it runs under the shim.
    pub fn has_shim(&self) -> bool {
        !self.site.variables.is_empty()
    }

    /// The directory that holds its ring.
    pub fn rings(&self) -> PathBuf {
        self.site.rings.join(self.kind.within)
    }

    /// What somebody saw beside the visitors of a test.
    pub fn scouted(&self) -> Tally {
        self.scouted
    }

    /// Somebody comes, whose full handshake shows what is asked of clients.
    fn is_visited(&mut self) -> testbed::Result {
        if self.kind.relearns && self.has_shim() {
            let client = Client::with_certificate(TlsVersion::V13, &self.certificate)?;
            let visit = client.connect(self.addr(), None, None)?;
            self.scouted.tickets += visit.tickets.len() as u64;
        }
        Ok(())
    }

    /// Waits until it has started so far that it notices signals.
    fn settles(&self) -> testbed::Result {
        let Some(signal) = self.kind.settled else { return Ok(()) };
        let main = self.server.processes()?[0];
        wait::until(PATIENCE, "a server to catch signals", || main.catches(signal).then_some(()))
    }

    /// How many upkeep threads each of its processes has, the oldest generation first.
    pub fn upkeep_threads(&self) -> Result<Vec<usize>> {
        let processes = self.server.processes()?;
        Ok(processes.iter().map(|process| process.upkeep_threads().len()).collect())
    }

    /// How often the log says that the server's own keys were replaced, and how often anything else
    /// of ours.
    pub fn told(&self) -> (usize, usize) {
        let log = self.log();
        let takeovers = log.matches("takeover: ").count();
        (takeovers, log.matches("tktrot[").count() - takeovers)
    }
}

impl Server for Started {
    fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    fn start(&mut self) -> testbed::Result {
        self.starts += 1;
        self.server.start()?;
        self.is_visited()
    }

    fn stop(&mut self) -> testbed::Result {
        self.server.stop()
    }

    fn reload(&mut self) -> Option<testbed::Result> {
        Some(match self.kind.reload? {
            Reload::Signal(signal, done) => {
                let done = self.settles().and_then(|()| self.server.reload(signal, done));
                done.and_then(|()| self.is_visited())
            }
            Reload::Words(words) => {
                Client::new(TlsVersion::V13).map_err(Into::into).and_then(|client| {
                    let client = (self.kind.client)(client).saying(words(&self.site));
                    Ok(client.connect(self.addr(), None, None).map(drop)?)
                })
            }
        })
    }

    fn log(&self) -> String {
        self.server.log()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Before the directory goes that it may still write to.
        let _ = self.server.stop();
        drop(self.rings.take());
    }
}
