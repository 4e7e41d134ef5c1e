//! A ring that an agent governs: what servers leave to it, and what they do when it is gone. On a
//! virtual clock, and with a stock nginx.

mod agent;
mod nginx;
mod servers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, Time, VirtualClock};
use tktrot::config::{Bind, Config};
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::layout::Capacity;
use tktrot::ring::writer::{Entry, NotPublished};
use tktrot::rotate::govern::{Governed, LEASE};
use tktrot::rotate::{Failure, Generator, Keyring, NotRandom};
use tktrot::schedule::{KeyState, KeyTimes};
use tktrot::secret::KeyName;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// As an agent renews.
const RENEWAL: Duration = Duration::from_secs(1);

type Clocked = Keyring<&'static VirtualClock>;

/// Nothing secret: distinct bytes.
#[derive(Default)]
struct Source {
    draws: AtomicU64,
    fails: AtomicBool,
}

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (draw * 1000 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8;
        }
        if self.fails.load(Ordering::Relaxed) { Err(NotRandom::Failed) } else { Ok(()) }
    }
}

/// One ring, which a server and an agent have open.
struct Bench {
    server: Clocked,
    agent: Clocked,
    clock: &'static VirtualClock,
    source: &'static Source,
    _dir: tempfile::TempDir,
}

fn hourly() -> Config {
    Config { rotate_every: Some(HOUR), lifetime: Some(2 * HOUR), ..Config::default() }
}

fn bench(capacity: u32) -> Bench {
    let clock: &'static VirtualClock = Box::leak(Box::new(VirtualClock::new(Time(0) + 9 * HOUR)));
    let source: &'static Source = Box::leak(Box::default());
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
    let open = || -> Ring { place.open(Capacity::new(capacity).unwrap()).unwrap() };
    let server = Keyring::new(open(), clock, source);
    let agent = Keyring::new(open(), clock, source);
    server.configure(&hourly()).unwrap();
    Bench { server, agent, clock, source, _dir: dir }
}

impl Bench {
    fn govern(&self) -> Governed<'_, &'static VirtualClock> {
        self.agent.govern().unwrap()
    }

    /// What a handshake would seal with.
    fn sealing_name(&self) -> Option<KeyName> {
        self.server.sealing(self.clock.now()).map(|located| located.name)
    }

    fn entries(&self) -> Vec<Entry> {
        self.server.ring().try_write().unwrap().entries()
    }

    fn times(&self, name: &KeyName) -> Option<KeyTimes> {
        self.entries().iter().find(|entry| entry.name == *name).map(|entry| entry.times)
    }

    /// All that a server does by itself, for so long, while the agent renews its lease.
    fn pass(&self, time: Duration) {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            self.clock.advance(RENEWAL.min(self.clock.now().until(end)));
            drop(self.govern());
            self.serve();
        }
    }

    /// A handshake, and the upkeep thread.
    fn serve(&self) {
        self.server.tick(self.clock.now());
        self.server.tick_patiently();
    }

    fn is_sound(&self) {
        assert_eq!(self.server.ring().try_write().unwrap().defect(), None);
    }
}

/// Of a key that encrypts for `encrypts` from `from` on, and decrypts two hours more.
fn times(from: Time, encrypts: Duration) -> KeyTimes {
    let encrypt_until = from + encrypts;
    KeyTimes { encrypt_from: from, encrypt_until, decrypt_until: encrypt_until + 2 * HOUR }
}

/// What lets a key encrypt from then on, and how long at most.
fn begins(now: Time, encrypt_until: Time) -> KeyTimes {
    KeyTimes { encrypt_from: now, ..KeyTimes::retiring(encrypt_until) }
}

/// A key of another node.
fn foreign(number: u8, times: KeyTimes) -> Box<Key> {
    let mut key = Box::new(Key::blank());
    let fill = |bytes: &mut [u8], salt: u8| {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (index as u8).wrapping_mul(salt) ^ number;
        }
    };
    fill(&mut key.name.0, 3);
    fill(key.secrets.aes.expose_mut(), 5);
    fill(key.secrets.hmac.expose_mut(), 7);
    key.times = times;
    key.node = 77;
    key
}
