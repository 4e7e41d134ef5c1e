//! `[[export]]`: the key files of servers that cannot load a plugin, kept current.
//!
//! - [`entry`]: what an entry asks for, and what an operator sees of it
//! - [`plan`]: with which key its server is to encrypt, and when
//! - [`delivery`]: one entry: files written, server told, tried again
//! - [`holdings`]: which keys its server can decrypt for certain
//! - [`haproxy`], [`command`]: how servers are told; [`lighttpd`]: when
//!
//! # The order
//!
//! Every server decrypts with a key before any server encrypts with it, or a client that comes to
//! another server in between loses its session. The ring's own servers keep that order by
//! themselves: a key is announced a whole rotation before it encrypts. Those that are fed from files
//! lag behind by the time of a reload, and by as long as that fails. So:
//!
//! - A key is exported as soon as it is announced. What follows when it becomes active is the switch:
//!   another key in the place that encrypts.
//! - A server is switched to a key only when *all others* that are exported to have it for certain: their
//!   files were written, and their socket or command said so, for which reloads get two more
//!   seconds. Until then it goes on with the key before, which the ring still has: that one
//!   decrypts for the whole lifetime of a ticket after the ring has stopped to encrypt with it.
//! - That is also what makes a rotation that was never announced (`tktrot rotate`) safe: first all
//!   get the new key to decrypt, then all are switched.
//! - Who lags for too long is left behind, and its status says why: when half of the former key's
//!   time to decrypt is over, the tickets that it still seals would soon be worth nothing. A server
//!   that does not run lags behind nobody: it will read its files when it starts.
//! - A key that was revoked, or has ended, goes at once, whoever lags: no order is worth keeping it.
//!
//! | format | who encrypts | the successor | the switch |
//! |---|---|---|---|
//! | nginx-80 | the first file | one of the further files, a rotation ahead | the files in another order, and a reload |
//! | haproxy | the second of three lines | the third line, a rotation ahead | one key appended through the socket: the third becomes the second |
//! | lighttpd | the newest key whose time has come | the file, 160 s ahead, with its time | by itself, at that time; no server is given a key that the others lack |
//! | raw | the first key | further keys, a rotation ahead | the first key is another one |
//! | apache | the only key | none | the file replaced, and a reload |
//!
//! HAProxy has room for three keys: the former, the active and the next one. So its tickets resume
//! for at least one rotation, which therefore should not be shorter than the tickets' lifetime; and
//! the keys of other hosts of a mesh find no place but that of a missing former one. A fleet that
//! shares one key for each rotation (Redis) does not have that problem. lighttpd, too, keeps three.
//!
//! Apache has one key, of 48 bytes: AES-128, which no other server has, so it gets one of its own
//! that is derived from the active key ([`tktrot_keyfile::apache`]). At each switch all its
//! tickets end: there is no order that would help. It has no say in when others switch.
//!
//! # What stays
//!
//! When the agent stops, files stay: servers may start again before it does. They are in memory only,
//! for nobody else than the configuration says, and the next agent rewrites them.

mod command;
mod delivery;
pub mod entry;
mod haproxy;
mod holdings;
mod lighttpd;
mod plan;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use tktrot::clock::{BootClock, Clock, Time};
use tktrot::config::values::Written;
use tktrot::ring::key::KeyFacts;
use tktrot::ring::view::View;
use tktrot::schedule::KeyState;
use tktrot_keyfile::files::Format;
use tktrot_keyfile::lighttpd::Now;
use tktrot_keyfile::selection::Selection;
use tokio::task::JoinSet;
use tokio::time::{self, Instant, MissedTickBehavior};

use delivery::{Delivery, Outcome};
use entry::{Entry, StatusHandle};
use plan::Outline;

/// How often the ring is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// Keeps the files of all entries current.
pub struct Exporter {
    deliveries: Vec<Delivery>,
    view: Arc<View>,
    /// What was seen last.
    seen: Vec<(KeyFacts, KeyState)>,
    outline: Option<Outline>,
    /// Why the ring cannot be exported.
    unfit: Option<String>,
    errands: JoinSet<(usize, Outcome)>,
    status: StatusHandle,
}

impl Exporter {
    /// For these entries, from the ring that is viewed. What an earlier exporter has left in their
    /// files is taken for what their servers have.
    pub fn new(entries: Vec<Entry>, view: Arc<View>) -> Exporter {
        let deliveries: Vec<_> = entries.into_iter().map(Delivery::new).collect();
        let statuses = deliveries.iter().map(|delivery| delivery.status.clone()).collect();
        let status = StatusHandle(Rc::new(RefCell::new(statuses)));
        let (seen, errands) = (Vec::new(), JoinSet::new());
        Exporter { deliveries, view, seen, outline: None, unfit: None, errands, status }
    }

    /// Where it says how its entries stand, while it runs and after.
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Runs until it is dropped, in a `LocalSet`. A command that runs then is killed; files stay.
    /// Ends at once if there is no entry.
    pub async fn run(mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        self.warn_of_short_rotation();
        let mut ticks = time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(Ok((index, outcome))) = self.errands.join_next() => {
                    self.deliveries[index].finish(outcome);
                }
            }
            self.turn();
            self.show();
        }
    }

    fn show(&self) {
        let mut statuses = self.status.0.borrow_mut();
        for (status, delivery) in statuses.iter_mut().zip(&self.deliveries) {
            *status = delivery.status.clone();
            if self.unfit.is_some() {
                (status.current, status.error) = (false, self.unfit.clone());
            }
        }
    }

    /// Looks at the ring, and starts what is to be done.
    fn turn(&mut self) {
        let now = Now { ring: BootClock.now(), wall: SystemTime::now() };
        let unfit = self.look(now.ring).err().map(|error| format!("{error:#}"));
        if unfit.is_some() && unfit != self.unfit {
            tracing::warn!("export: {}", unfit.as_deref().unwrap_or_default());
        }
        self.unfit = unfit;
        let Some(outline) = &self.outline else { return };
        let instant = Instant::now();
        for index in 0..self.deliveries.len() {
            let others = || self.deliveries.iter().enumerate().filter(|(other, _)| *other != index);
            let all_follow = |name: &_| others().all(|(_, other)| other.can_follow(name, instant));
            let ahead = self.deliveries[index].ahead();
            let encrypts = outline.line.encrypts(now.ring, ahead, all_follow);
            let select = || Selection::of(&self.view, now.ring);
            let errand = self.deliveries[index].write(outline, &encrypts, select, now);
            if let Some(errand) = errand {
                self.errands.spawn_local(async move { (index, errand.run().await) });
            }
        }
    }

    /// Takes down what the ring has. Secrets are read only when something is other than before.
    fn look(&mut self, now: Time) -> Result<()> {
        let facts = self.view.keys().into_iter();
        let seen: Vec<_> = facts.map(|key| (key, key.times.state(now))).collect();
        if self.outline.is_none() || seen != self.seen {
            self.outline = None;
            self.outline = Some(Outline::of(&Selection::of(&self.view, now)?));
            self.seen = seen;
        }
        Ok(())
    }

    fn warn_of_short_rotation(&self) {
        let rotation = self.view.settings().rotate_every.unwrap_or_default();
        let is_lighttpd = |delivery: &Delivery| delivery.status.format == Format::Lighttpd;
        if rotation < lighttpd::SHORTEST && self.deliveries.iter().any(is_lighttpd) {
            tracing::warn!(
                "export: lighttpd looks for a new key every 64 s, and lags behind with rotate = \
                 \"{}\"; set {}s or more",
                Written(rotation),
                lighttpd::SHORTEST.as_secs()
            );
        }
    }
}
