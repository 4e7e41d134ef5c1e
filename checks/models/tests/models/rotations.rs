//! Whole keyrings: handshakes that meet where no key is yet, or one ends, and
//! an agent that takes a ring over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use loom::thread;

use models::clock::{Time, VirtualClock};
use models::config::Config;
use models::ring::Ring;
use models::ring::key::Key;
use models::ring::layout::Capacity;
use models::rotate::{Generator, Keyring, NotRandom};
use models::schedule::KeyState;

use crate::{explore, explore_some};

/// Nothing secret: bytes that differ.
struct Counting(AtomicU64);

impl Generator for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        let draw = self.0.fetch_add(1, Ordering::Relaxed);
        // Of names and secrets, a model's ring has one word.
        bytes.fill(0);
        for (index, byte) in bytes.iter_mut().take(8).enumerate() {
            let mixed = (draw * 1000 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8;
        }
        Ok(())
    }
}

const START: Time = Time(3_600_000_000_000);
const ROTATE: Duration = Duration::from_secs(60);

type Servers = Keyring<&'static VirtualClock>;

fn keyring() -> (Arc<Servers>, &'static VirtualClock) {
    // For each execution its own: tests run side by side, and loom replays.
    let generator: &'static _ = Box::leak(Box::new(Counting(AtomicU64::new(0))));
    let clock: &'static _ = Box::leak(Box::new(VirtualClock::new(START)));
    let ring = Ring::private(Capacity(5)).unwrap();
    let keyring = Keyring::new(ring, clock, generator);
    let lifetime = Some(ROTATE);
    let config = Config { rotate_every: Some(ROTATE), lifetime, ..Config::default() };
    keyring.configure(&config).unwrap();
    (Arc::new(keyring), clock)
}

/// The key that seals a ticket now; it does encrypt.
fn seal(keyring: &Servers) -> Option<Key> {
    let now = keyring.now();
    let located = keyring.sealing(now)?;
    assert_eq!(located.times.state(now), KeyState::Active, "sealed with a key that is not active");
    let mut key = Key::blank();
    let found = keyring.ring().find(&located.name, &mut key);
    assert!(found && !key.secrets.is_weak(), "sealed with a key that nobody finds");
    Some(key)
}

fn count(keyring: &Servers, state: KeyState) -> usize {
    let now = keyring.now();
    let entries = keyring.ring().try_write().unwrap().entries();
    entries.iter().filter(|entry| entry.times.state(now) == state).count()
}

#[test]
fn two_handshakes_that_find_no_key_make_one() {
    explore(1, || {
        let (keyring, _) = keyring();
        let other = {
            let keyring = Arc::clone(&keyring);
            thread::spawn(move || seal(&keyring).map(|key| key.name))
        };
        let mine = seal(&keyring).map(|key| key.name);
        let its = other.join().unwrap();
        let key = seal(&keyring).expect("a key").name;
        assert!(mine.is_none_or(|name| name == key) && its.is_none_or(|name| name == key));
        assert!(mine.is_some() || its.is_some(), "both waited for the other");
        assert_eq!(
            (count(&keyring, KeyState::Active), count(&keyring, KeyState::Announced)),
            (1, 1)
        );
    });
}

#[test]
fn a_handshake_during_a_rotation_has_the_old_key_or_the_new_one() {
    explore_some(1, 5_000, || {
        let (keyring, clock) = keyring();
        let old = seal(&keyring).unwrap().name;
        clock.advance(ROTATE / 4);
        let other = {
            let keyring = Arc::clone(&keyring);
            thread::spawn(move || seal(&keyring).expect("no key during a rotation").name)
        };
        keyring.rotate().unwrap();
        let meanwhile = other.join().unwrap();
        let new = seal(&keyring).unwrap().name;
        assert!(new != old && (meanwhile == old || meanwhile == new));
        assert_eq!((count(&keyring, KeyState::Active), count(&keyring, KeyState::Retired)), (1, 1));
    });
}

#[test]
fn once_an_agent_governs_no_server_makes_a_key() {
    explore(1, || {
        let (keyring, _) = keyring();
        let server = {
            let keyring = Arc::clone(&keyring);
            thread::spawn(move || keyring.tick(keyring.now()))
        };
        let agent = keyring.govern().unwrap();
        // Those that the server made before.
        for entry in agent.entries() {
            assert!(agent.erase(&entry.name));
        }
        drop(agent);
        let agent = keyring.govern().unwrap();
        assert!(agent.entries().is_empty(), "a key was made under a lease");
        drop(agent);
        server.join().unwrap();
        let agent = keyring.govern().unwrap();
        assert!(agent.entries().is_empty(), "a server made a key under a lease");
    });
}
