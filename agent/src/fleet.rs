//! How this host shares its keys: one of two ways, behind one interface for the agent's loop.

use anyhow::{Context, Result};
use tktrot::clock::Time;
use tktrot::schedule::Policy;
use tktrot::secret::KeyName;
use tktrot_fleet::config::Config;
use tktrot_fleet::node::limits::Limits;
use tktrot_fleet::wire::Hello;
use tokio::sync::oneshot;

use super::control::Reply;
use super::departed::Departed;
use super::figures::Told;
use super::files::Files;
use super::mesh::{Mesh, MeshConfig};
use super::nodes::Nodes;
use super::redis::{self, ThroughRedis};
use super::reload::Listener;
use super::ring::HostRing;
use super::waiting::Waiting;

/// Who decides on the keys of the ring.
pub enum Fleet {
    /// Every host makes its own, and tells its peers, if it has any.
    Nodes(Box<Nodes>),
    /// All hosts have the same.
    Redis(Box<ThroughRedis>),
}

/// With whom keys will be shared: files were read, and nothing is said yet.
pub enum Prepared {
    /// With nobody.
    Alone,
    /// Host by host.
    Mesh(Box<MeshConfig>),
    /// All hosts have the same.
    Redis(Box<redis::Prepared>),
}

impl Prepared {
    /// As these settings say, for the ring of this name.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn read(
        fleet: &Config,
        ring: &str,
        files: &Files,
        listener: &Option<Listener>,
    ) -> Result<Prepared> {
        Ok(match (&fleet.mesh, &fleet.redis) {
            (Some(mesh), _) => Prepared::Mesh(Box::new(MeshConfig::read(mesh, files, listener)?)),
            (None, Some(settings)) => {
                let prepared = redis::Prepared::read(settings, ring, files).context("[redis]")?;
                Prepared::Redis(Box::new(prepared))
            }
            (None, None) => Prepared::Alone,
        })
    }

    /// Begins to share, in a [`tokio::task::LocalSet`]. These hosts may have keys from before.
    ///
    /// # Errors
    ///
    /// OpenSSL's generator fails, or the socket cannot be used.
    pub fn start(
        self,
        limits: Limits,
        ring: &HostRing,
        name: &str,
        departed: Departed,
    ) -> Result<Fleet> {
        let mesh = match self {
            Prepared::Redis(prepared) => {
                return Ok(Fleet::Redis(Box::new(ThroughRedis::start(
                    *prepared,
                    ring,
                    limits.capacity,
                ))));
            }
            Prepared::Mesh(config) => {
                let mut instance = [0; 8];
                openssl::rand::rand_bytes(&mut instance)
                    .context("OpenSSL's random number generator failed")?;
                let instance = u64::from_ne_bytes(instance);
                let me = Hello { node: ring.node(), instance, ring: name.into() };
                Some(Mesh::start(*config, me)?)
            }
            Prepared::Alone => None,
        };
        Ok(Fleet::Nodes(Box::new(Nodes::new(mesh, limits, ring, departed))))
    }
}

impl Fleet {
    /// When [`Fleet::tick`] is wanted.
    pub fn deadline(&self, now: Time) -> Time {
        match self {
            Fleet::Nodes(nodes) => nodes.deadline(now),
            Fleet::Redis(redis) => redis.deadline(),
        }
    }

    /// The deadline has come, or may have.
    pub fn tick(&mut self, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.tick(ring),
            Fleet::Redis(redis) => redis.tick(ring),
        }
    }

    /// What others changed in the ring.
    pub fn look(&mut self, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.look(ring),
            Fleet::Redis(redis) => redis.look(ring),
        }
    }

    /// Servers ask for other keys.
    pub fn adapt(&mut self, policy: Policy, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.adapt(policy, ring),
            Fleet::Redis(redis) => redis.adapt(policy, ring),
        }
    }

    /// True if this host has what the fleet has, and encrypts.
    pub fn has_settled(&self, now: Time) -> bool {
        match self {
            Fleet::Nodes(nodes) => nodes.is_synced() && nodes.has_active(now),
            Fleet::Redis(redis) => redis.is_synced() && redis.has_active(now),
        }
    }

    /// Waits for something from outside this host, and does what follows from it. Nothing is lost if
    /// this is not waited for to its end.
    pub async fn hear(&mut self, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.hear(ring).await,
            Fleet::Redis(redis) => redis.hear(ring).await,
        }
    }

    /// Asks for a new key in the whole fleet; the answer comes when it is decided.
    pub fn rotate(&mut self, answer: oneshot::Sender<Reply>, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.rotate(answer, ring),
            Fleet::Redis(redis) => redis.rotate(answer, ring),
        }
    }

    /// Ends these keys, or all, in the whole fleet; the answer comes when every peer, or Redis, has
    /// said that it has it, or was waited for.
    pub fn revoke(&mut self, names: Option<Vec<KeyName>>, waiting: Waiting, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.revoke(names, waiting, ring),
            Fleet::Redis(redis) => redis.revoke(names, waiting, ring),
        }
    }

    /// A line for the service manager.
    pub fn summary(&self) -> String {
        match self {
            Fleet::Nodes(nodes) => nodes.summary(),
            Fleet::Redis(redis) => redis.summary(),
        }
    }

    /// What `tktrot peers` and metrics tell of it.
    pub fn tell(&self, ring: &HostRing) -> Told {
        match self {
            Fleet::Nodes(nodes) => nodes.tell(ring),
            Fleet::Redis(redis) => redis.tell(ring),
        }
    }

    /// This host stops. Returns the hosts that may have keys, as far as they are known.
    pub async fn leave(self, ring: &HostRing) -> Departed {
        match self {
            Fleet::Nodes(nodes) => nodes.leave(ring).await,
            // Redis has all there is to say.
            Fleet::Redis(_) => Departed::default(),
        }
    }
}
