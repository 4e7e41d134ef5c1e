//! The settings of a running agent, and how others take their place (SIGHUP): whole, or not at all.
//!
//! Keys are shared anew, as after a restart: what the agent has to know is in its ring. Sockets that
//! were opened as root stay, and so does who the agent has become.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tktrot::config::Config;
use tktrot::ring::file::Place;
use tktrot_fleet::config::Config as FleetConfig;

use super::checks;
use super::export::entry::Entry;
use super::files::Files;
use super::fleet::Prepared;

/// What a settings file and the environment say.
#[derive(Clone)]
pub struct Settings {
    /// The sections for the agent.
    pub fleet: FleetConfig,
    /// What else it says.
    pub config: Config,
    /// Values of which others apply: where they are, and which.
    pub doubts: Vec<String>,
}

impl Settings {
    /// Logs what does not apply as it is written.
    pub fn tell_doubts(&self) {
        self.doubts.iter().for_each(|doubt| tracing::warn!("{doubt}"));
    }
}

/// Reads the settings again.
pub type Reread = Box<dyn Fn() -> Result<Settings>>;

/// The socket on which peers call, and its address as it is written in the settings.
pub type Listener = (SocketAddr, TcpListener);

/// Settings that apply.
pub struct Current {
    pub settings: Settings,
    pub files: Rc<Files>,
    /// Beside the one that the mesh has.
    pub listener: Option<Listener>,
}

impl Current {
    /// What differs and has not changed is to be said the next time, too.
    pub fn with_what_stays(mut self, former: &Settings) -> Current {
        let Settings { fleet, config, .. } = &mut self.settings;
        fleet.agent = former.fleet.agent.clone();
        (config.ring, config.dir) = (former.config.ring.clone(), former.config.dir.clone());
        self
    }
}

/// Settings that will apply: all that can fail has been done.
pub struct Next {
    pub current: Current,
    /// With whom keys will be shared, if anything of that differs.
    pub sharing: Option<Prepared>,
    /// What is exported, if that differs.
    pub exports: Option<Vec<Entry>>,
    /// The settings that differ and stay as they are until the agent is restarted.
    pub at_restart: Vec<&'static str>,
}

impl Next {
    /// Of these settings, for a ring of this place and name.
    ///
    /// # Errors
    ///
    /// All that is wrong with them, as at a start.
    pub fn of(settings: Settings, before: &Current, place: &Place, name: &str) -> Result<Next> {
        let files = Files::after(&before.files);
        settings.tell_doubts();
        let Settings { fleet, config, .. } = &settings;
        checks::all(fleet, config, Ok(place.clone()), &files).pass()?;
        let former = &before.settings.fleet;
        let is_shared_otherwise = fleet.mesh != former.mesh
            || fleet.redis != former.redis
            || limiting(config) != limiting(&before.settings.config)
            || files.any_differs(&before.files);
        let listener = match (&fleet.mesh, &before.listener) {
            (Some(mesh), Some((address, listener))) if mesh.listen == *address => {
                Some((*address, listener.try_clone().context("the listening socket")?))
            }
            (Some(mesh), _) => Some(super::mesh::listen(mesh)?),
            (None, _) => None,
        };
        let prepared = is_shared_otherwise.then(|| Prepared::read(fleet, name, &files, &listener));
        let sharing = prepared.transpose()?;
        let exports = (fleet.exports != former.exports)
            .then(|| fleet.exports.iter().map(Entry::of).collect::<Result<Vec<_>>>());
        let exports = exports.transpose()?;
        let at_restart = at_restart(&settings, &files, before);
        let current = Current { files: files.adopted(), settings, listener };
        Ok(Next { current, sharing, exports, at_restart })
    }
}

/// What a node's limits follow from, and the names of keys in Redis.
fn limiting(config: &Config) -> (Option<Duration>, Option<Duration>, Option<u32>) {
    (config.rotate_every, config.lifetime, config.capacity)
}

fn at_restart(settings: &Settings, files: &Files, before: &Current) -> Vec<&'static str> {
    let (new, old) = (&settings.fleet.agent, &before.settings.fleet.agent);
    let (config, former) = (&settings.config, &before.settings.config);
    let differs = |file: &PathBuf| files.differs(file, &before.files);
    let is_other_token =
        new.metrics_token != old.metrics_token || new.metrics_token.as_ref().is_some_and(differs);
    let is_other_certificate = new.metrics_certificate != old.metrics_certificate
        || new.metrics_certificate.as_ref().is_some_and(|(own, key)| differs(own) || differs(key));
    let all = [
        ("ring", config.ring != former.ring),
        ("dir", config.dir != former.dir),
        ("user", new.user != old.user),
        ("metrics", new.metrics != old.metrics),
        ("metrics_token_file", is_other_token),
        ("metrics_certificate", is_other_certificate),
        ("log", new.log != old.log),
    ];
    all.into_iter().filter_map(|(setting, differs)| differs.then_some(setting)).collect()
}
