//! What the tests know of a server: how it is configured, started and spoken to.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use testbed::certificate::{self, Certificate};
use testbed::client::Client;
use testbed::foreground::{Foreground, give};
use testbed::{RingDir, artifacts};

use crate::Result;

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
pub struct Place {
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

/// One server.
#[derive(Clone, Copy)]
pub struct Kind {
    /// How its ring is called.
    pub ring: &'static str,
    /// The user who makes the ring, if not root.
    pub user: Option<&'static str>,
    /// Writes its configuration, which it reads at its next start.
    pub configure: fn(&Place, Asks) -> Result,
    /// Its command line.
    pub command: fn(&Place) -> Vec<String>,
    /// Makes a client speak to it.
    pub client: fn(Client) -> Client,
    /// Lets it read its certificates again.
    pub reload: Option<Reload>,
    /// Words in front of its command line; see [`testbed::environment::Environment::launch_through`].
    pub launcher: fn() -> Result<Vec<String>>,
    /// Where in the directory of rings it has its own.
    pub within: &'static str,
    /// Whether a restart keeps its tickets under the shim; if not, it is as without.
    pub outlives: bool,
    /// Whether some who come back are answered something else, without the shim as well.
    pub slips: bool,
}

/// How it is made to read its certificates again.
#[derive(Clone, Copy)]
pub enum Reload {
    /// By this signal; when it has, this is in the log.
    Signal(i32, &'static str),
    /// By a client who says so.
    Words(fn(&Place) -> String),
}

/// A server that was started.
pub struct Started {
    pub server: Foreground,
    pub place: Place,
    pub kind: Kind,
    /// What clients show that have one.
    pub certificate: Certificate,
    rings: Option<RingDir>,
    _clients: TempDir,
}

/// The environment of a server that rotates quickly.
fn variables(rings: &Path) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("LD_PRELOAD", artifacts::shim()?.display().to_string()),
        ("TKTROT_DIR", rings.display().to_string()),
        ("TKTROT_ROTATE", "2s".into()),
        ("TKTROT_LIFETIME", "5m".into()),
    ])
}

/// What most have in common.
pub const PLAIN: Kind = Kind {
    ring: "",
    user: None,
    configure: |_, _| Ok(()),
    command: |_| Vec::new(),
    client: |client| client,
    reload: None,
    launcher: || Ok(Vec::new()),
    within: "",
    outlives: true,
    slips: false,
};

impl Kind {
    /// Starts it, with the shim or without.
    pub fn start(self, asks: Asks, shim: bool) -> Result<Started> {
        let rings = RingDir::new()?;
        let clients = tempfile::Builder::new().prefix("tktrot-clients-").tempdir()?;
        let certificate = certificate::create(clients.path())?;
        let mut builder = Foreground::builder()?;
        let accepted = builder.file("clients.pem", &fs::read(&certificate.cert)?)?;
        fs::set_permissions(&accepted, Permissions::from_mode(0o644))?;
        let place = Place {
            dir: builder.dir().to_owned(),
            addr: builder.addr(),
            certificate: builder.certificate().clone(),
            clients: accepted,
            rings: rings.path().to_owned(),
            variables: if shim { variables(rings.path())? } else { Vec::new() },
        };
        if let Some(user) = self.user {
            for path in [&place.rings, &place.certificate.key, &place.dir] {
                give(path, user)?;
            }
        }
        (self.configure)(&place, asks)?;
        for (name, value) in &place.variables {
            builder = builder.env(name, value);
        }
        let launcher = (self.launcher)()?;
        let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
        builder = builder.launch_through(&launcher);
        let command = (self.command)(&place);
        let arguments: Vec<&str> = command[1..].iter().map(String::as_str).collect();
        let server = builder.start(&command[0], &arguments)?;
        Ok(Started {
            server,
            place,
            kind: self,
            certificate,
            rings: Some(rings),
            _clients: clients,
        })
    }
}

impl Started {
    /// Stops it and starts it again, perhaps with another configuration.
    pub fn restart(&mut self, asks: Option<Asks>) -> Result {
        self.server.stop()?;
        if let Some(asks) = asks {
            (self.kind.configure)(&self.place, asks)?;
        }
        self.server.start()?;
        Ok(())
    }

    /// Whether it runs under the shim.
    pub fn has_shim(&self) -> bool {
        !self.place.variables.is_empty()
    }

    /// What it logged, for messages.
    pub fn log(&self) -> String {
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
