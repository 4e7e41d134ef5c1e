//! The engine as the agent has it: with those who asked it for something.

use std::future;

use tktrot::clock::Time;
use tktrot::schedule::Policy;
use tktrot::secret::KeyName;
use tktrot_fleet::shared::event::Note;
use tokio::sync::oneshot;

use super::engine::{Ear, Engine, Heard, Prepared};
use crate::ask::{Reply, Revoked, Rotated};
use crate::figures::{Redis, Sharing, Told};
use crate::ring::HostRing;

/// This host, and Redis.
pub struct ThroughRedis {
    engine: Engine,
    ear: Ear,
    /// Who asked for a rotation that is not decided yet.
    rotations: Vec<oneshot::Sender<Reply>>,
    refused: u64,
    synced_at: Option<Time>,
}

impl ThroughRedis {
    /// Begins to connect, in a `LocalSet`.
    pub fn start(prepared: Prepared, ring: &HostRing) -> Self {
        let (engine, ear) = Engine::start(prepared, ring, ring.makes_plain());
        ThroughRedis { engine, ear, rotations: Vec::new(), refused: 0, synced_at: None }
    }

    /// When [`ThroughRedis::tick`] is wanted.
    pub fn deadline(&self) -> Time {
        self.engine.deadline()
    }

    /// The deadline has come, or may have.
    pub fn tick(&mut self, ring: &HostRing) {
        let notes = self.engine.tick(ring);
        self.note(&notes, ring);
    }

    /// What others changed in the ring.
    pub fn look(&mut self, ring: &HostRing) {
        let notes = self.engine.look(ring);
        self.note(&notes, ring);
    }

    /// Servers ask for other keys.
    pub fn adapt(&mut self, policy: Policy, ring: &HostRing) {
        let notes = self.engine.adapt(policy, ring);
        self.note(&notes, ring);
    }

    /// True if all that Redis has was read and heeded since the start.
    pub fn is_synced(&self) -> bool {
        self.engine.is_synced()
    }

    /// True if a key encrypts.
    pub fn has_active(&self, now: Time) -> bool {
        self.engine.has_active(now)
    }

    /// Something for [`ThroughRedis::hear`]. Nothing is lost if this is not waited for to its end.
    pub async fn next(&mut self) -> Heard {
        match self.ear.next().await {
            Some(heard) => heard,
            None => future::pending().await,
        }
    }

    /// Something came from Redis.
    pub fn hear(&mut self, heard: Heard, ring: &HostRing) {
        let notes = self.engine.hear(heard, ring);
        self.note(&notes, ring);
    }

    /// Asks for a new key; the answer comes when the fleet has decided on it.
    pub fn rotate(&mut self, answer: oneshot::Sender<Reply>, ring: &HostRing) {
        match self.engine.rotate(ring) {
            Ok(notes) => {
                self.rotations.retain(|asker| !asker.is_closed());
                self.rotations.push(answer);
                self.note(&notes, ring);
            }
            // Who no longer waits does not want to know.
            Err(error) => drop(answer.send(Reply::Error(format!("{error:#}")))),
        }
    }

    /// Ends these keys, or all, here at once, and elsewhere as soon as Redis tells.
    pub fn revoke(&mut self, names: Option<Vec<KeyName>>, ring: &HostRing) -> Reply {
        let revoked = match names {
            None => self.engine.revoke_all(ring),
            Some(names) => Ok(self.engine.revoke(names, ring)),
        };
        let notes = match revoked {
            Ok(notes) => notes,
            Err(error) => return Reply::Error(format!("{error:#}")),
        };
        let revoked = notes.iter().map(|note| match note {
            Note::Revoked(keys) => *keys,
            _ => 0,
        });
        let keys = revoked.sum();
        self.note(&notes, ring);
        Reply::of(&Revoked { keys, peers: 0 })
    }

    /// A line for the service manager.
    pub fn summary(&self) -> String {
        match (self.engine.address(), self.engine.trouble()) {
            (Some(address), _) => format!("keys are shared through Redis at {address}"),
            (None, Some(why)) => format!("without Redis: {why}"),
            (None, None) => "Redis has not answered yet".into(),
        }
    }

    /// How it goes.
    pub fn tell(&self, ring: &HostRing) -> Told {
        let now = ring.now();
        Told {
            sharing: Sharing::Redis,
            synced: self.is_synced(),
            synced_ago: self.synced_at.map(|then| then.until(now).as_secs_f64()),
            own_keys: ring.own_keys(),
            other_keys: ring.keys() - ring.own_keys(),
            refused: self.refused,
            refused_by_peers: 0,
            peers: Vec::new(),
            redis: Some(Redis {
                address: self.engine.address().map(str::to_owned),
                error: self.engine.trouble().map(str::to_owned),
                shared: self.engine.turn(now).is_some(),
            }),
        }
    }

    fn note(&mut self, notes: &[Note], ring: &HostRing) {
        for note in notes {
            match note {
                Note::Turns(key, _) => {
                    for asker in self.rotations.drain(..) {
                        let _ = asker.send(Reply::of(&Rotated { key: key.to_string(), peers: 0 }));
                    }
                }
                Note::Refused(..) | Note::Flawed(..) => self.refused += 1,
                _ => {}
            }
        }
        if self.engine.is_synced() && self.engine.address().is_some() {
            self.synced_at = Some(ring.now());
        }
    }
}
