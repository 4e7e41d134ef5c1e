//! Hosts with rings of their own, in one process, that share keys through a real Redis.

mod cluster;
mod groups;
mod junk;
mod outages;
mod refusals;
mod replayed;
mod revocations;
mod sharing;
mod slow;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use testbed::RingDir;
use testbed::redis::{Cluster, Redis};
use testbed::wait::PATIENCE;
use tktrot::clock::BootClock;
use tktrot::config::Config;
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::layout::Capacity;
use tktrot::ring::view::View;
use tktrot::rotate::Keyring;
use tktrot::secret::KeyName;
use tktrot_fleet::ahead::Ahead;
use tktrot_fleet::config::{Redis as Settings, RedisAt};
use tktrot_fleet::redis::event::RedisNote;
use tktrot_fleet::secret::FleetSecret;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Prepared, ThroughRedis};
use crate::control::Reply;
use crate::ring::HostRing;
use crate::waiting::Waiting;
use tktrot_keyfile::generator::OpenSsl;

/// R: keys begin 2 s after they were made.
const R: Duration = Duration::from_secs(4);
/// Keys.
const CAPACITY: u32 = 64;

/// Runs a test on one thread, as the agent runs.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// A directory with what an operator has there.
struct Files {
    dir: RingDir,
}

impl Files {
    fn new() -> Files {
        let files = Files { dir: RingDir::new().unwrap() };
        files.write("fleet.secret", &FleetSecret::generate().unwrap());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The settings for a Redis.
    fn settings(&self, redis: &Redis) -> Settings {
        Settings {
            at: RedisAt::Url(redis.url()),
            password_file: None,
            ca: None,
            secrets: vec![self.path("fleet.secret")],
            prefix: "tktrot".into(),
            allow_persistence: false,
            lead: Duration::from_secs(5),
            poll: Duration::from_secs(1),
            ahead: Ahead::LEAST,
        }
    }
}

/// A host: its ring, and what governs it.
struct Host {
    // In this order: what governs the ring ends before it.
    redis: ThroughRedis,
    ring: HostRing,
    view: View,
    place: Place,
    _dir: Option<RingDir>,
}

impl Host {
    fn new(settings: &Settings) -> Host {
        Host::rotating(R, settings)
    }

    /// One with another R.
    fn rotating(every: Duration, settings: &Settings) -> Host {
        let dir = RingDir::new().unwrap();
        let place = Place { dir: dir.path().into(), file: "web.ring".into(), dir_mode: 0o700 };
        Host { _dir: Some(dir), ..Host::starting(place, every, settings) }
    }

    /// An agent starts on a ring that may be there already.
    fn on(place: Place, settings: &Settings) -> Host {
        Host::starting(place, R, settings)
    }

    fn starting(place: Place, every: Duration, settings: &Settings) -> Host {
        let ring = place.open(Capacity::new(CAPACITY).unwrap()).unwrap();
        let keyring = Keyring::new(ring, BootClock, &OpenSsl);
        let config =
            Config { rotate_every: Some(every), lifetime: Some(3 * every), ..Config::default() };
        keyring.govern().unwrap().configure(&config);
        let look = || place.look().unwrap().unwrap();
        let ring = HostRing::new(keyring, look().into(), None);
        let files = crate::files::Files::default();
        let prepared = Prepared::read(settings, "web", &files).unwrap();
        let redis = ThroughRedis::start(prepared, &ring, CAPACITY as usize);
        Host { redis, ring, view: look(), place, _dir: None }
    }

    /// The agent dies; the ring stays.
    fn die(mut self) -> (Place, Option<RingDir>) {
        (self.place.clone(), self._dir.take())
    }

    async fn step(&mut self) {
        self.redis.look(&self.ring);
        self.redis.tick(&self.ring);
        let moment = Duration::from_millis(1);
        while timeout(moment, self.redis.hear(&self.ring)).await.is_ok() {}
        // The lease, as the agent renews it.
        drop(self.ring.act());
    }

    /// Asks for a new key in the whole fleet.
    fn rotate(&mut self) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        self.redis.rotate(answer, &self.ring);
        answered
    }

    /// Ends keys, or all, in the whole fleet.
    fn revoke(&mut self, names: Option<Vec<KeyName>>, wait: Duration) -> oneshot::Receiver<Reply> {
        let (answer, answered) = oneshot::channel();
        self.redis.revoke(names, Waiting::new(wait, answer), &self.ring);
        answered
    }

    fn notes(&self) -> &[RedisNote] {
        &self.redis.notes
    }

    /// Where Redis is, while it can be asked.
    fn address(&self) -> Option<String> {
        self.redis.tell(&self.ring).redis.unwrap().address
    }

    /// Why Redis cannot be used.
    fn trouble(&self) -> Option<String> {
        self.redis.tell(&self.ring).redis.unwrap().error
    }

    /// The key that a server on this host encrypts with.
    fn encrypting(&self) -> Option<KeyName> {
        let mut key = Box::new(Key::blank());
        self.view.encrypting(self.ring.now(), &mut key).then_some(key.name)
    }

    fn has(&self, name: KeyName) -> bool {
        self.view.keys().iter().any(|key| key.name == name)
    }

    /// The fleet's key that it encrypts with, if it is one.
    fn turn(&self) -> Option<KeyName> {
        let (_, name) = self.redis.node.turn(self.ring.now())?;
        (self.encrypting() == Some(name)).then_some(name)
    }
}

/// Lets the hosts run until something is so; it is asked again and again.
async fn until(hosts: &mut [Host], what: &str, mut is_so: impl FnMut(&[Host]) -> bool) {
    let end = Instant::now() + 3 * PATIENCE;
    loop {
        for host in &mut *hosts {
            host.step().await;
        }
        if is_so(hosts) {
            return;
        }
        if Instant::now() > end {
            let notes: Vec<_> = hosts.iter().map(Host::notes).collect();
            panic!("waited in vain for {what}: {notes:#?}");
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// All encrypt with the same key of the fleet.
fn agree(hosts: &[Host]) -> bool {
    let turn = hosts[0].turn();
    turn.is_some() && hosts.iter().all(|host| host.turn() == turn)
}

/// Waits until they agree; returns the key.
async fn agreement(hosts: &mut [Host]) -> KeyName {
    until(hosts, "the hosts to agree on a key", agree).await;
    hosts[0].turn().unwrap()
}
