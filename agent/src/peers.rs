//! Who carries what nodes tell each other: a mesh, or nobody.

use std::future;
use std::net::TcpListener;

use anyhow::{Context, Result};
use tktrot::clock::Time;
use tktrot_fleet::config;
use tktrot_fleet::message::{Message, NodeId};

use super::mesh::{Events, Me, Mesh, MeshConfig, MeshEvent, PeerStatus, Timing, Tls};
use super::ring::Secrets;

/// What was read and bound for a mesh, before the agent gives up its rights.
pub struct Prepared(MeshConfig);

impl Prepared {
    /// For these settings.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or a secret or certificate not be read.
    pub fn read(mesh: &config::Mesh) -> Result<Prepared> {
        let tls = Tls::read(&mesh.credentials).context("[mesh]")?;
        let listener = TcpListener::bind(mesh.listen)
            .with_context(|| format!("[mesh]: {} cannot be listened on", mesh.listen))?;
        let (peers, timing) = (mesh.peers.clone(), Timing::default());
        Ok(Prepared(MeshConfig { listener, peers, tls, timing }))
    }
}

/// The way to the peers.
pub enum Carrier {
    /// There are none.
    Nobody,
    /// Host by host.
    Mesh { mesh: Mesh, events: Events },
}

impl Carrier {
    /// Begins to connect, in a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    ///
    /// OpenSSL's generator fails, or the socket cannot be used.
    pub fn start(Prepared(config): Prepared, node: NodeId, ring: &str) -> Result<Carrier> {
        let mut instance = [0; 8];
        openssl::rand::rand_bytes(&mut instance).context("OpenSSL's generator fails")?;
        let instance = u64::from_ne_bytes(instance);
        let (mesh, events) = Mesh::start(config, Me { node, instance, ring: ring.into() })?;
        Ok(Carrier::Mesh { mesh, events })
    }

    /// True if there can be peers.
    pub fn has_peers(&self) -> bool {
        matches!(self, Carrier::Mesh { .. })
    }

    /// What happens next. Nothing is lost if this is not waited for to its end.
    pub async fn next(&mut self) -> MeshEvent {
        if let Carrier::Mesh { events, .. } = self
            && let Some(event) = events.recv().await
        {
            return event;
        }
        future::pending().await
    }

    /// Puts a message into the queue for a peer.
    pub fn send(&self, to: NodeId, message: &Message<Secrets>, said: Time) {
        if let Carrier::Mesh { mesh, .. } = self {
            mesh.send(to, message, said);
        }
    }

    /// Ends the connection to a peer.
    pub fn drop_peer(&self, peer: NodeId, reason: &str) {
        if let Carrier::Mesh { mesh, .. } = self {
            mesh.drop(peer, reason);
        }
    }

    /// All peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        match self {
            Carrier::Nobody => Vec::new(),
            Carrier::Mesh { mesh, .. } => mesh.peers(),
        }
    }

    /// Says what is still to be said, and ends.
    pub async fn stop(self) {
        if let Carrier::Mesh { mesh, .. } = self {
            mesh.stop().await;
        }
    }
}
