//! What the agent opens before it gives up its privileges.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tktrot::config::Config;
use tktrot::config::values::Written;
use tktrot::ring::file::Place;
use tktrot::ring::layout::Capacity;
use tktrot::ring::view::View;
use tktrot::rotate::Keyring;
use tktrot::schedule::{MAX_LIFETIME, Policy};
use tktrot_fleet::ahead::Ahead;
use tktrot_fleet::config::Config as FleetConfig;
use tktrot_fleet::node::limits::Limits;

use super::control;
use super::export::Exporter;
use super::export::entry::Entry;
use super::files::Files;
use super::fleet::Prepared;
use super::mesh;
use super::metrics::{Access, Endpoint};
use super::reload::{Current, Settings};
use super::ring::HostRing;

/// The ring that an agent is to govern, open.
pub struct Opened {
    /// The path of the ring.
    pub place: Place,
    /// Its name, by which the hosts of a fleet know it, without control characters.
    pub name: String,
    /// For what writes the ring.
    pub keyring: Keyring,
    /// For what only reads it.
    pub view: Arc<View>,
    /// Whether it was made for this agent.
    pub made: bool,
    /// What Prometheus is told of it.
    pub metrics: RingMetrics,
}

/// The metrics of a ring in Prometheus' text format, as of now. May wait for whoever writes the ring,
/// so it is not called where nothing may wait.
pub type RingMetrics = Arc<dyn Fn() -> Result<String> + Send + Sync>;

/// All that is open.
pub struct Started {
    /// Where the ring lies.
    pub place: Place,
    /// The name by which the hosts of a fleet know it.
    pub name: String,
    /// The ring.
    pub ring: HostRing,
    /// What the node waits for, and takes.
    pub limits: Limits,
    /// With whom keys will be shared.
    pub fleet: Prepared,
    /// What keeps key files current.
    pub exporter: Exporter,
    /// Where Prometheus asks.
    pub metrics: Option<Endpoint>,
    /// Where `tktrot peers` asks.
    pub control: StdUnixListener,
    /// The settings that apply.
    pub current: Current,
    /// The ring, for what only reads it.
    pub view: Arc<View>,
    /// Held as long as the agent runs: one agent for each ring.
    pub lock: Flock<std::fs::File>,
}

impl Started {
    /// Opens the rest.
    ///
    /// # Errors
    ///
    /// What cannot be opened, why, and what to do.
    pub fn open(settings: Settings, files: Files, opened: Opened) -> Result<Started> {
        let Settings { fleet, config, .. } = &settings;
        let Opened { place, name, keyring, view, made, metrics } = opened;
        let path = place.path();
        ensure!(
            view.node() == keyring.ring().node(),
            "{}: the ring was replaced meanwhile; start again",
            path.display()
        );
        let lock = lock(&view).with_context(|| format!("{}", path.display()))?;
        let governed = keyring.govern().map_err(|why| anyhow!("{}: {why}", path.display()))?;
        for overruled in governed.configure(config) {
            tracing::warn!(ring = %path.display(), "{overruled}");
        }
        let least = least(fleet);
        if let Some((before, keys)) =
            least.and_then(|keys| Some((governed.raise_capacity(keys)?, keys)))
        {
            tracing::info!(
                ring = %path.display(),
                "the ring may hold {} keys now, not {before}: every host of a fleet has the keys \
                 of all",
                keys.0
            );
        }
        drop(governed);
        let limits = limits(fleet, keyring.ring().capacity(), keyring.policy(), config);
        warn_of_little_room(&place, &limits, &keyring.policy());
        if made {
            tracing::info!(ring = %path.display(), keys = limits.capacity, "made the ring");
        }
        let access = Access::read(&fleet.agent, &files)?;
        let metrics = fleet.agent.metrics.map(|address| Endpoint::open(address, access, metrics));
        let metrics = metrics.transpose()?;
        let listener = fleet.mesh.as_ref().map(mesh::listen).transpose()?;
        let prepared = Prepared::read(fleet, &name, &files, &listener)?;
        let exports: Result<_> = fleet.exports.iter().map(Entry::of).collect();
        let exporter = Exporter::new(exports?, Arc::clone(&view));
        Ok(Started {
            control: control::bind(&control::socket(&place))?,
            ring: HostRing::new(keyring, Arc::clone(&view), least),
            view,
            current: Current { files: files.adopted(), listener, settings },
            place,
            name,
            limits,
            fleet: prepared,
            exporter,
            metrics,
            lock,
        })
    }
}

/// One agent for each ring, or they would take turns to replace each other's keys.
fn lock(view: &View) -> Result<Flock<std::fs::File>> {
    let file = view.file().try_clone()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow!("another agent governs this ring already"),
        errno => anyhow!("cannot lock it against a second agent (flock): {errno}"),
    })
}

/// How many keys the ring may hold, whatever servers ask for.
pub fn least(fleet: &FleetConfig) -> Option<Capacity> {
    fleet.mesh.as_ref().map(|_| Capacity::MAX)
}

/// What the node waits for, and takes.
pub fn limits(fleet: &FleetConfig, capacity: u32, policy: Policy, config: &Config) -> Limits {
    let (lead_min, lead_max, ahead) = match &fleet.mesh {
        Some(mesh) => (mesh.lead_min, mesh.lead_max, mesh.ahead),
        // Who has no peers waits for none, and is waited for by none.
        None => (Duration::ZERO, Duration::ZERO, Ahead::LEAST),
    };
    // Where the contexts decide, they may decide on more.
    let lifetime = config.lifetime.unwrap_or(MAX_LIFETIME);
    let longest =
        Limits::longest(&Policy { lifetime, lead: policy.lead.max(lead_max), ..policy }, ahead);
    Limits {
        lead_min,
        lead_max,
        capacity: capacity as usize,
        nodes: fleet.nodes() as usize,
        longest,
        ahead,
    }
}

/// A bound of keys, or the ring's own, may be too small for a fleet.
pub fn warn_of_little_room(place: &Place, limits: &Limits, policy: &Policy) {
    let fitting = limits.fitting(*policy);
    let (ahead, asked) = (limits.ahead(&fitting), limits.ahead.of(policy));
    if limits.ahead != Ahead::default() && ahead < asked {
        tracing::warn!(
            ring = %place.path().display(),
            keys = limits.capacity,
            nodes = limits.nodes,
            "the ring may be too small for so many nodes: keys are announced {} ahead, not {}; \
             set a longer rotate or a higher capacity",
            Written(Duration::from_secs(ahead.as_secs())),
            Written(asked)
        );
    }
    let kept = fitting.lifetime;
    if kept < policy.lifetime {
        tracing::warn!(
            ring = %place.path().display(),
            keys = limits.capacity,
            nodes = limits.nodes,
            "the ring may be too small for so many nodes: tickets can be used for only {}, not \
             {}; set a longer rotate or a higher capacity",
            Written(Duration::from_secs(kept.as_secs())),
            Written(policy.lifetime)
        );
    }
}
