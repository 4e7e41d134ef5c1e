//! What the agent opens while it still may.

use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tktrot::config::Config;
use tktrot::ring::file::Place;
use tktrot::ring::view::View;
use tktrot::schedule::{MAX_LIFETIME, Policy};
use tktrot_fleet::config::Config as FleetConfig;
use tktrot_fleet::node::limits::Limits;

use super::export::Exporter;
use super::export::entry::Entry;
use super::fleet::Fleet;
use super::nodes::Nodes;
use super::peers::{self, Carrier};
use super::redis::engine as redis;
use super::redis::through::ThroughRedis;
use super::ring::HostRing;
use super::{ask, control};
use crate::rings::{self, RingArgument};
use crate::settings::Settings;
use crate::status::observer::Observer;

/// All that is open.
pub struct Started {
    /// Where the ring lies.
    pub place: Place,
    /// The ring.
    pub ring: HostRing,
    /// What the node waits for, and takes.
    pub limits: Limits,
    /// With whom keys are shared.
    pub way: Way,
    /// What keeps key files current.
    pub exporter: Exporter,
    /// Who looks at the ring for Prometheus, and where that asks.
    pub metrics: Option<(Observer, StdTcpListener)>,
    /// Where `tktrot peers` asks.
    pub control: StdUnixListener,
    /// Held as long as the agent runs: one agent for each ring.
    pub lock: Flock<std::fs::File>,
}

impl Started {
    /// Opens all of it.
    ///
    /// # Errors
    ///
    /// What cannot be opened, why, and what to do.
    pub fn open(settings: &Settings, argument: &RingArgument) -> Result<Started> {
        let fleet = &settings.fleet;
        let (place, keyring, made) = argument.open_or_make(settings)?;
        let path = place.path();
        let view = rings::look_at(&place)?;
        ensure!(
            view.node() == keyring.ring().node(),
            "{}: somebody replaces it; start again",
            path.display()
        );
        let lock = lock(&view).with_context(|| format!("{}", path.display()))?;
        let governed = keyring.govern().map_err(|why| anyhow!("{}: {why}", path.display()))?;
        for overruled in governed.configure(&settings.config) {
            tracing::warn!(ring = %path.display(), "{overruled}");
        }
        drop(governed);
        let limits = limits(fleet, keyring.ring().capacity(), keyring.policy(), &settings.config);
        warn_of_little_room(&place, &limits, &keyring.policy());
        if made {
            tracing::info!(ring = %path.display(), keys = limits.capacity, "made the ring");
        }
        let metrics = fleet.agent.metrics.map(|address| {
            let listener = StdTcpListener::bind(address)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .with_context(|| format!("metrics: {address} cannot be listened on"))?;
            Ok::<_, anyhow::Error>((
                Observer::of_open(path.clone(), rings::look_at(&place)?),
                listener,
            ))
        });
        let metrics = metrics.transpose()?;
        let way = Way::of(fleet, &name(&place))?;
        let exports: Result<_> = fleet.exports.iter().map(Entry::of).collect();
        let exporter = Exporter::new(exports?, rings::look_at(&place)?);
        Ok(Started {
            control: control::bind(&ask::socket(&place))?,
            ring: HostRing::new(keyring, view),
            place,
            limits,
            way,
            exporter,
            metrics,
            lock,
        })
    }
}

/// With whom keys are shared: files are read and sockets bound, and nothing is said yet.
pub enum Way {
    /// With nobody.
    Alone,
    /// Host by host.
    Mesh(peers::Prepared),
    /// All hosts have the same.
    Redis(Box<redis::Prepared>),
}

impl Way {
    fn of(fleet: &FleetConfig, ring: &str) -> Result<Way> {
        Ok(match (&fleet.mesh, &fleet.redis) {
            (Some(mesh), _) => Way::Mesh(peers::Prepared::read(mesh)?),
            (None, Some(settings)) => {
                let prepared = redis::Prepared::read(settings, ring).context("[redis]")?;
                Way::Redis(Box::new(prepared))
            }
            (None, None) => Way::Alone,
        })
    }

    /// Begins to share, in a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    ///
    /// OpenSSL's generator fails, or the socket cannot be used.
    pub fn open(self, limits: Limits, ring: &HostRing, name: &str) -> Result<Fleet> {
        let carrier = match self {
            Way::Redis(prepared) => {
                return Ok(Fleet::Redis(Box::new(ThroughRedis::start(*prepared, ring))));
            }
            Way::Mesh(prepared) => Carrier::start(prepared, ring.node(), name)?,
            Way::Alone => Carrier::Nobody,
        };
        Ok(Fleet::Nodes(Box::new(Nodes::new(carrier, limits, ring))))
    }
}

/// The name by which the hosts of a fleet know a ring: its file's.
pub fn name(place: &Place) -> String {
    rings::title(&place.path())
}

/// One agent for each ring, or they would take turns to replace each other's keys.
fn lock(view: &View) -> Result<Flock<std::fs::File>> {
    let file = view.file().try_clone()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => anyhow!("another agent governs this ring already; one is enough"),
        errno => anyhow!("flock: {errno}"),
    })
}

fn limits(fleet: &FleetConfig, capacity: u32, policy: Policy, config: &Config) -> Limits {
    let (lead_min, lead_max) = fleet
        .mesh
        .as_ref()
        // Who has no peers waits for none.
        .map_or_else(Default::default, |mesh| (mesh.lead_min, mesh.lead_max));
    // What a peer with the same settings makes, twice over. Where the contexts decide, they may
    // decide on more.
    let lifetime = config.lifetime.unwrap_or(MAX_LIFETIME);
    let longest = (policy.rotate_every * 2 + policy.lead.max(lead_max) + lifetime) * 2;
    Limits {
        lead_min,
        lead_max,
        capacity: capacity as usize,
        nodes: fleet.nodes() as usize,
        longest,
    }
}

/// A bound of keys, or the ring's own, may be too small for a fleet.
fn warn_of_little_room(place: &Place, limits: &Limits, policy: &Policy) {
    let kept = limits.fitting(*policy).lifetime;
    if kept < policy.lifetime {
        tracing::warn!(
            ring = %place.path().display(),
            keys = limits.capacity,
            nodes = limits.nodes,
            "the ring may have too few keys for so many nodes: tickets can be used for {} s only, not {} s; \
             set rotate longer, or capacity higher",
            kept.as_secs(),
            policy.lifetime.as_secs()
        );
    }
}
