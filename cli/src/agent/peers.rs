//! Who carries what nodes tell each other: a mesh, or nobody.

use std::future;
use std::net::TcpListener;

use anyhow::{Context, Result};
use tktrot::clock::Time;
use tktrot_fleet::config;
use tktrot_fleet::message::{Message, NodeId};

use super::mesh::{Events, Me, Mesh, MeshConfig, MeshEvent, PeerStatus, Timing, Tls};
use super::ring::Secrets;

/// What was opened for the way to the peers.
pub enum Way {
    /// There are none.
    Nobody,
    /// A socket is bound, and secrets are read.
    Mesh(Box<MeshConfig>),
}

impl Way {
    /// The way through a mesh.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on, or a secret or certificate not be read.
    pub fn through(mesh: &config::Mesh) -> Result<Way> {
        let tls = Tls::read(&mesh.credentials).context("[mesh]")?;
        let listener = TcpListener::bind(mesh.listen)
            .with_context(|| format!("[mesh]: {} cannot be listened on", mesh.listen))?;
        let (peers, timing) = (mesh.peers.clone(), Timing::default());
        Ok(Way::Mesh(Box::new(MeshConfig { listener, peers, tls, timing })))
    }

    /// Begins to connect, in a [`tokio::task::LocalSet`].
    pub fn open(self, node: NodeId, ring: &str) -> Result<Carrier> {
        let Way::Mesh(config) = self else { return Ok(Carrier::Nobody) };
        let mut instance = [0; 8];
        openssl::rand::rand_bytes(&mut instance).context("OpenSSL's generator fails")?;
        let instance = u64::from_ne_bytes(instance);
        let (mesh, events) = Mesh::start(*config, Me { node, instance, ring: ring.into() })?;
        Ok(Carrier::Mesh { mesh, events })
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
