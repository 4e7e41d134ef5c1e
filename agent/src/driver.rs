//! The agent's loop: it looks at the ring, waits for peers or Redis, and answers questions, until
//! it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use nix::unistd::Uid;
use tktrot::ring::file::Place;
use tktrot::ring::view::View;
use tktrot::rotate::govern::LEASE;
use tktrot::schedule::Policy;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::control::{self, Asked, Question, Reply};
use super::departed::Departed;
use super::export::Exporter;
use super::export::entry::StatusHandle;
use super::figures::Figures;
use super::fleet::Fleet;
use super::metrics;
use super::nodes::Nodes;
use super::notify::Manager;
use super::reload::{Current, Next, Reread, Settings};
use super::ring::HostRing;
use super::signals;
use super::start::{self, Started};
use super::waiting::Waiting;

/// How often the ring is looked at for what others change in it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);
const _: () = assert!(RENEW_EVERY.as_millis() * 2 < LEASE.as_millis());
/// A host must be able to start without its peers.
const READY_WITHIN: Duration = Duration::from_millis(1900);
/// The fleet is asked no more often, whatever it wants.
const LEAST_PAUSE: Duration = Duration::from_millis(2);

struct Driver {
    place: Place,
    name: String,
    ring: HostRing,
    view: Arc<View>,
    fleet: Fleet,
    exports: StatusHandle,
    exporting: JoinHandle<()>,
    manager: Manager,
    policy: Policy,
    current: Current,
    reread: Reread,
}

/// Runs the agent until it is told to stop.
pub async fn run(started: Started, reread: Reread, user: Uid, began: Instant) -> Result<()> {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let [Ok(terminate), Ok(interrupt), Ok(hangup)] = kinds.map(signal) else {
        bail!("cannot wait for signals")
    };
    signals::let_reload_come()?;
    let (asks, asked) = mpsc::channel(16);
    tokio::task::spawn_local(control::serve(started.control, user, asks.clone()));
    if let Some(endpoint) = started.metrics {
        tokio::task::spawn_local(metrics::serve(endpoint, asks));
    }
    // Dropped at the end: another agent may govern the ring then.
    let _lock = started.lock;
    let exports = started.exporter.status();
    let exporting = tokio::task::spawn_local(started.exporter.run());
    let ring = started.ring;
    tracing::info!(ring = %started.place.path().display(), node = %ring.node(), "governs the ring");
    let fleet = started.fleet.start(started.limits, &ring, &started.name, Departed::default())?;
    let policy = ring.policy();
    let manager = Manager::new();
    let Started { place, name, current, view, .. } = started;
    let driver = Driver {
        place,
        name,
        ring,
        view,
        fleet,
        exports,
        exporting,
        manager,
        policy,
        current,
        reread,
    };
    driver.run(asked, [terminate, interrupt, hangup], began).await
}

impl Driver {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<Asked>,
        [mut terminate, mut interrupt, mut hangup]: [Signal; 3],
        began: Instant,
    ) -> Result<()> {
        let (mut renewed, mut looked) = (Instant::now(), Instant::now());
        drop(self.ring.act());
        self.look();
        loop {
            self.fleet.tick(&self.ring);
            self.tell_manager(began);
            let now = self.ring.now();
            let due = now.until(self.fleet.deadline(now)).clamp(LEAST_PAUSE, LOOK_EVERY);
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.reload().await?,
                () = self.fleet.hear(&self.ring) => {}
                Some((question, answer)) = asked.recv() => self.answer(question, answer),
                () = sleep(due) => {}
            }
            if renewed.elapsed() >= RENEW_EVERY {
                renewed = Instant::now();
                drop(self.ring.act());
                if !self.ring.is_there() {
                    let path = self.place.path();
                    bail!(
                        "{}: the ring was removed, and servers that start now make another one; \
                         start the agent again",
                        path.display()
                    );
                }
            }
            // Not after every message: it takes as long as there are keys and peers.
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look();
            }
        }
        self.leave().await;
        Ok(())
    }

    /// The others are told, and servers rotate themselves again.
    async fn leave(mut self) {
        tracing::info!("stops");
        self.manager.stopping();
        self.fleet.leave(&self.ring).await;
        self.ring.release();
        // May be impossible by now: then the next agent does it.
        let _ = std::fs::remove_file(control::socket(&self.place));
        self.manager.hang_up();
    }

    /// Reads the settings again. Those that are wrong change nothing.
    async fn reload(&mut self) -> Result<()> {
        self.manager.reloading();
        let next = (self.reread)()
            .and_then(|settings| Next::of(settings, &self.current, &self.place, &self.name));
        let next = next.and_then(|next| {
            let Settings { fleet, config, .. } = &next.current.settings;
            self.ring.configure(config, start::least(fleet)).map(|()| next).map_err(|_| {
                anyhow!("the ring cannot be written now: `tktrot status` says who holds its lock")
            })
        });
        match next {
            Ok(next) => self.adopt(next).await,
            Err(error) => {
                tracing::error!("the settings are not changed: {error:#}");
                Ok(())
            }
        }
    }

    async fn adopt(&mut self, next: Next) -> Result<()> {
        let Next { current, sharing, exports, at_restart } = next;
        if let Some(sharing) = sharing {
            let Settings { fleet, config, .. } = &current.settings;
            self.policy = self.ring.policy();
            let limits = start::limits(fleet, self.ring.capacity(), self.policy, config);
            start::warn_of_little_room(&self.place, &limits, &self.policy);
            // It shares with nobody until the others know that it is about to come back.
            let nobody = Departed::default();
            let alone = Fleet::Nodes(Box::new(Nodes::new(None, limits, &self.ring, nobody)));
            let departed = std::mem::replace(&mut self.fleet, alone).leave(&self.ring).await;
            self.ring.forget_what_is_known();
            self.fleet = sharing.start(limits, &self.ring, &self.name, departed)?;
        }
        if let Some(entries) = exports {
            self.exporting.abort();
            let exporter = Exporter::new(entries, Arc::clone(&self.view));
            self.exports = exporter.status();
            self.exporting = tokio::task::spawn_local(exporter.run());
        }
        // The lease, after what this took.
        drop(self.ring.act());
        self.look();
        tracing::info!(
            rotate = self.policy.rotate_every.as_secs(),
            lifetime = self.policy.lifetime.as_secs(),
            "the settings were read again"
        );
        if !at_restart.is_empty() {
            tracing::warn!(
                "some settings differ, and stay as they are until the agent is restarted: {}",
                at_restart.join(", ")
            );
        }
        self.current = current.with_what_stays(&self.current.settings);
        Ok(())
    }

    /// What others changed in the ring, and how it goes.
    fn look(&mut self) {
        self.manager.status(self.fleet.summary());
        self.fleet.look(&self.ring);
        let policy = self.ring.policy();
        if policy != self.policy {
            tracing::info!(
                rotate = policy.rotate_every.as_secs(),
                lifetime = policy.lifetime.as_secs(),
                "servers ask for a different rotation or lifetime"
            );
            self.policy = policy;
            self.fleet.adapt(policy, &self.ring);
        }
    }

    fn answer(&mut self, question: Question, answer: oneshot::Sender<Reply>) {
        let wait = question.wait();
        let reply = match question {
            Question::Peers {} => Reply::of(&self.figures()),
            Question::Ready {} => match self.unready() {
                None => Reply::of(&"ready"),
                Some(why) => Reply::Error(why.into()),
            },
            Question::Rotate {} => return self.fleet.rotate(answer, &self.ring),
            Question::Revoke { keys, .. } => match keys.names() {
                Ok(names) => {
                    return self.fleet.revoke(names, Waiting::new(wait, answer), &self.ring);
                }
                Err(error) => error,
            },
        };
        // Who no longer waits does not want to know.
        let _ = answer.send(reply);
    }

    fn tell_manager(&mut self, began: Instant) {
        self.manager.alive();
        let has_settled = self.fleet.has_settled(self.ring.now());
        if !self.manager.is_ready() && (has_settled || began.elapsed() >= READY_WITHIN) {
            self.manager.ready();
            tracing::info!(synced = has_settled, "ready");
        }
    }

    /// Why servers of this host should not start now; none if they can.
    fn unready(&self) -> Option<&'static str> {
        if !self.manager.is_ready() {
            Some("it has just started, and gets the keys of its fleet")
        } else if !self.ring.is_there() {
            Some("the ring was removed")
        } else if self.ring.is_busy() || !self.ring.is_governed() {
            Some("the ring of this host cannot be written: `tktrot status` says who holds its lock")
        } else {
            None
        }
    }

    fn figures(&self) -> Figures {
        Figures {
            version: 1,
            ring: self.name.clone(),
            node: self.ring.node().to_string(),
            told: self.fleet.tell(&self.ring),
            exports: self.exports.get(),
        }
    }
}
