//! How this host shares its keys: one of two ways, and the same for the agent.

use tktrot::clock::Time;
use tktrot::schedule::Policy;
use tktrot::secret::KeyName;
use tokio::sync::oneshot;

use super::ask::Reply;
use super::figures::Told;
use super::mesh::MeshEvent;
use super::nodes::Nodes;
use super::redis::engine::Heard;
use super::redis::through::ThroughRedis;
use super::ring::HostRing;

/// Who decides on the keys of the ring.
pub enum Fleet {
    /// Every host makes its own, and tells its peers, if it has any.
    Nodes(Box<Nodes>),
    /// All hosts have the same.
    Redis(Box<ThroughRedis>),
}

/// Something from outside this host.
pub enum News {
    /// From a peer.
    Mesh(MeshEvent),
    /// From Redis.
    Redis(Heard),
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

    /// Something for [`Fleet::hear`]. Nothing is lost if this is not waited for to its end.
    pub async fn next(&mut self) -> News {
        match self {
            Fleet::Nodes(nodes) => News::Mesh(nodes.next().await),
            Fleet::Redis(redis) => News::Redis(redis.next().await),
        }
    }

    /// Something came from outside.
    pub fn hear(&mut self, news: News, ring: &HostRing) {
        match (self, news) {
            (Fleet::Nodes(nodes), News::Mesh(event)) => nodes.hear(event, ring),
            (Fleet::Redis(redis), News::Redis(heard)) => redis.hear(heard, ring),
            // It comes from `next`, of the same one.
            (Fleet::Nodes(_), News::Redis(_)) | (Fleet::Redis(_), News::Mesh(_)) => {}
        }
    }

    /// Asks for a new key in the whole fleet; the answer comes when it is decided.
    pub fn rotate(&mut self, answer: oneshot::Sender<Reply>, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.rotate(answer, ring),
            Fleet::Redis(redis) => redis.rotate(answer, ring),
        }
    }

    /// Ends these keys, or all, in the whole fleet.
    pub fn revoke(&mut self, names: Option<Vec<KeyName>>, ring: &HostRing) -> Reply {
        match self {
            Fleet::Nodes(nodes) => nodes.revoke(names, ring),
            Fleet::Redis(redis) => redis.revoke(names, ring),
        }
    }

    /// A line for the service manager.
    pub fn summary(&self) -> String {
        match self {
            Fleet::Nodes(nodes) => nodes.summary(),
            Fleet::Redis(redis) => redis.summary(),
        }
    }

    /// How it goes.
    pub fn tell(&self, ring: &HostRing) -> Told {
        match self {
            Fleet::Nodes(nodes) => nodes.tell(ring),
            Fleet::Redis(redis) => redis.tell(ring),
        }
    }

    /// This host stops.
    pub async fn leave(self, ring: &HostRing) {
        match self {
            Fleet::Nodes(nodes) => nodes.leave(ring).await,
            // Redis has all there is to say.
            Fleet::Redis(_) => {}
        }
    }
}
