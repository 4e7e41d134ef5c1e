//! A ring that an agent governs, on a virtual clock: what servers leave to it, and what they do
//! when it is gone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, Time, VirtualClock};
use tktrot::config::{Bind, Config};
use tktrot::govern::{Governed, LEASE};
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::layout::Geometry;
use tktrot::ring::reader::Key;
use tktrot::ring::writer::{Entry, NotPublished};
use tktrot::rotate::{Failure, Generator, Keyring};
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
    fn fill(&self, bytes: &mut [u8]) -> bool {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (draw * 1000 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8;
        }
        !self.fails.load(Ordering::Relaxed)
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
    let open = || -> Ring { place.open(Geometry::new(capacity).unwrap()).unwrap() };
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
        let mut key = Key::blank();
        self.server.sealing_key(self.clock.now(), &mut key).then_some(key.name)
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

#[test]
fn servers_make_nothing_while_an_agent_governs() {
    let bench = bench(64);
    drop(bench.govern());
    for _ in 0..100 {
        bench.pass(RENEWAL);
        assert_eq!(bench.sealing_name(), None, "a key, where the agent has made none");
    }
    assert!(bench.entries().is_empty());
    assert_eq!(bench.source.draws.load(Ordering::Relaxed), 0);

    let governed = bench.govern();
    let made = governed.make(times(governed.now(), HOUR)).unwrap();
    drop(governed);
    assert_eq!(bench.sealing_name(), Some(made));
    // Not when it is time for a successor, nor when the key is over.
    bench.pass(HOUR);
    assert_eq!(bench.sealing_name(), None, "a key was made, or lengthened");
    assert_eq!(bench.entries().len(), 1);
    bench.is_sound();
}

#[test]
fn a_handshake_without_a_key_looks_once_and_goes_on() {
    let bench = bench(64);
    drop(bench.govern());
    let deadline = bench.server.ring().deadline();
    assert!(deadline > bench.clock.now(), "every handshake would take the lock");
    let writer = bench.agent.ring().try_write().unwrap();
    assert_eq!(bench.sealing_name(), None);
    drop(writer);
    assert_eq!(bench.server.ring().deadline(), deadline);
}

#[test]
fn servers_take_over_after_the_lease_without_a_gap() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let active = governed.make(times(now, HOUR)).unwrap();
    let next = governed.make(times(now + HOUR, HOUR)).unwrap();
    drop(governed);

    bench.clock.advance(LEASE - Duration::from_nanos(1));
    bench.serve();
    assert!(bench.server.is_governed());
    assert_eq!(bench.entries().len(), 2);

    bench.clock.advance(Duration::from_nanos(1));
    assert!(!bench.server.is_governed());
    assert!(bench.server.ring().deadline() <= bench.clock.now(), "nobody is woken");
    bench.serve();
    assert_eq!(bench.sealing_name(), Some(active), "the active key is given up");
    let mut last = active;
    let mut seen = vec![active];
    for _ in 0..(5 * 60) {
        bench.clock.advance(60 * SECOND);
        let name = bench.sealing_name().expect("a gap");
        if name != last {
            seen.push(name);
            last = name;
        }
    }
    assert_eq!(seen[..2], [active, next]);
    assert!(seen.len() >= 5, "servers do not rotate: {seen:?}");
    bench.is_sound();
}

#[test]
fn a_ring_whose_agent_left_nothing_gets_keys_after_the_lease() {
    let bench = bench(64);
    drop(bench.govern());
    bench.clock.advance(LEASE);
    assert!(bench.sealing_name().is_some());
    assert_eq!(bench.entries().len(), 2);
}

#[test]
fn a_released_ring_rotates_at_once() {
    let bench = bench(64);
    let governed = bench.govern();
    let key = governed.make(times(governed.now(), HOUR)).unwrap();
    governed.release();
    assert!(!bench.server.is_governed());
    assert_eq!(bench.sealing_name(), Some(key));
    assert_eq!(bench.entries().len(), 2, "no successor");
}

#[test]
fn what_is_over_is_erased_while_an_agent_governs() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let own = governed.make(times(now, SECOND)).unwrap();
    let short = KeyTimes { decrypt_until: now + SECOND * 2, ..times(now, SECOND) };
    let taken = foreign(1, short);
    governed.take(&taken).unwrap();
    drop(governed);
    // The deadline is the end of the key, not that of the lease.
    assert_eq!(bench.server.ring().deadline(), now + SECOND * 2);
    bench.clock.advance(2 * SECOND);
    bench.serve();
    assert!(bench.server.is_governed());
    assert_eq!(bench.times(&taken.name), None, "a server leaves a key that is over");
    assert!(bench.times(&own).is_some());

    // Without servers, the agent does it.
    for _ in 0..(2 * 3600 / 2 + 1) {
        bench.clock.advance(2 * SECOND);
        drop(bench.govern());
    }
    assert!(bench.entries().is_empty());
}

#[test]
fn a_key_begun_early_never_ends_later_than_it_was_published_with() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let old = governed.make(times(now, HOUR)).unwrap();
    let published = times(now + HOUR, HOUR);
    let next = governed.make(published).unwrap();
    assert!(governed.begin(&next, published.encrypt_until + HOUR));
    assert!(governed.retire(&old));
    drop(governed);
    assert_eq!(bench.sealing_name(), Some(next));
    assert_eq!(bench.times(&next), Some(KeyTimes { encrypt_from: now, ..published }));

    // Again, and shorter: only ever earlier.
    bench.clock.advance(SECOND);
    let governed = bench.govern();
    let until = governed.now() + HOUR;
    assert!(governed.begin(&next, until));
    assert!(governed.begin(&next, until + HOUR));
    drop(governed);
    let expected = KeyTimes {
        encrypt_from: now,
        encrypt_until: until,
        decrypt_until: published.decrypt_until,
    };
    assert_eq!(bench.times(&next), Some(expected));

    let governed = bench.govern();
    assert!(!governed.begin(&old, until), "a retired key is revived");
    assert!(!governed.begin(&KeyName([9; 16]), until));
    // An end before the beginning leaves a key that encrypts nothing.
    let late = governed.make(times(until, HOUR)).unwrap();
    assert!(governed.begin(&late, Time(1)));
    drop(governed);
    assert!(bench.times(&late).unwrap().are_ordered());
    bench.is_sound();
}

#[test]
fn a_key_that_is_retired_before_it_begins_never_encrypts() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let own = governed.make(times(now + SECOND, HOUR)).unwrap();
    assert!(governed.retire(&own));
    assert!(!governed.begin(&own, now + HOUR));
    drop(governed);
    bench.pass(2 * SECOND);
    assert_eq!(bench.sealing_name(), None);
    assert!(bench.times(&own).is_some(), "it is gone, not retired");
    bench.is_sound();
}

#[test]
fn a_key_of_another_node_decrypts_and_encrypts_nothing_here() {
    let bench = bench(8);
    let governed = bench.govern();
    let now = governed.now();
    let mut key = foreign(1, times(now, HOUR));
    key.plain = true;
    governed.take(&key).unwrap();
    assert_eq!(governed.take(&key), Err(NotPublished::Unusable), "twice");
    let backwards = KeyTimes { encrypt_until: now, ..times(now + HOUR, HOUR) };
    assert_eq!(governed.take(&foreign(2, backwards)), Err(NotPublished::Unusable));
    assert!(!governed.begin(&key.name, now + HOUR), "it would encrypt here");
    let entry = governed.entries()[0];
    assert_eq!((entry.name, entry.node, entry.plain), (key.name, 77, true));
    assert_eq!(entry.times, key.times);
    drop(governed);
    assert_eq!(bench.sealing_name(), None);
    let mut found = Key::blank();
    assert!(bench.server.ring().find(&key.name, &mut found));
    assert!(found.secrets.aes.same_as(&key.secrets.aes));
}

#[test]
fn keys_of_others_never_make_room_for_themselves() {
    let bench = bench(8);
    let governed = bench.govern();
    let now = governed.now();
    for number in 0..8 {
        // Retired ones, which a key of the node's own may take the place of.
        governed.take(&foreign(number, times(now, Duration::ZERO))).unwrap();
    }
    assert_eq!(governed.take(&foreign(9, times(now, HOUR))), Err(NotPublished::Full));
    assert_eq!(governed.entries().len(), 8);
    let own = governed.make(times(now, HOUR)).unwrap();
    drop(governed);
    assert_eq!(bench.sealing_name(), Some(own));
}

#[test]
fn a_rotation_by_hand_acts_at_once_and_leaves_the_agents_keys_alone() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let active = governed.make(times(now, HOUR)).unwrap();
    let announced = governed.make(times(now + HOUR, HOUR)).unwrap();
    drop(governed);
    bench.pass(SECOND);
    bench.server.rotate().unwrap();
    let by_hand = bench.sealing_name().unwrap();
    assert!(by_hand != active && by_hand != announced);
    let state = |name| bench.times(name).unwrap().state(bench.clock.now());
    assert_eq!(state(&active), KeyState::Retired);
    assert_eq!(state(&announced), KeyState::Announced);
    assert_eq!(bench.entries().len(), 3);
    bench.is_sound();
}

#[test]
fn a_revocation_by_hand_acts_at_once() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    governed.make(times(now, HOUR)).unwrap();
    let announced = governed.make(times(now + HOUR, HOUR)).unwrap();
    governed.take(&foreign(1, times(now, HOUR))).unwrap();
    drop(governed);
    let active = bench.sealing_name().unwrap();

    assert_eq!(bench.server.revoke_those(|name| *name == active), Ok(vec![active]));
    let new = bench.sealing_name().expect("a gap");
    assert!(new != active && new != announced);
    bench.server.revoke().unwrap();
    let newest = bench.sealing_name().expect("a gap");
    assert_eq!(bench.entries().iter().map(|entry| entry.name).collect::<Vec<_>>(), [newest]);
    bench.is_sound();
}

#[test]
fn erased_and_retired_keys_leave_the_line_to_the_next() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let keys: Vec<_> =
        (0..6).map(|place| governed.make(times(now + HOUR * place, HOUR)).unwrap()).collect();
    assert!(governed.begin(&keys[5], now + HOUR));
    assert!(governed.erase(&keys[0]) && !governed.erase(&keys[0]));
    assert!(!governed.retire(&keys[0]));
    drop(governed);
    bench.is_sound();
    // It was beyond what the line has room for when it was made.
    assert_eq!(bench.sealing_name(), Some(keys[5]));
    bench.pass(HOUR);
    assert_eq!(bench.sealing_name(), Some(keys[1]));
}

#[test]
fn the_agents_policy_holds_whatever_a_server_is_set_to() {
    let bench = bench(64);
    let governed = bench.govern();
    let plain = Some(Bind::NONE);
    let quick = Config { rotate_every: Some(HOUR / 6), bind: plain, ..Config::default() };
    governed.configure(&quick);
    drop(governed);
    let policy = bench.server.policy();
    assert_eq!((policy.rotate_every, policy.lifetime), (HOUR / 6, 2 * HOUR));
    bench.server.configure(&Config { bind: Some(Bind::ALL), ..hourly() }).unwrap();
    assert_eq!(bench.server.policy(), policy);
    let governed = bench.govern();
    let name = governed.make(times(governed.now(), HOUR)).unwrap();
    assert!(governed.entries().iter().any(|entry| entry.name == name && entry.plain));
    drop(governed);

    bench.clock.advance(LEASE);
    bench.server.configure(&hourly()).unwrap();
    assert_eq!(bench.server.policy().rotate_every, HOUR);
}

#[test]
fn a_server_that_ends_leaves_the_fleets_keys() {
    let bench = bench(64);
    let governed = bench.govern();
    governed.make(times(governed.now(), HOUR)).unwrap();
    drop(governed);
    bench.server.abandon().unwrap();
    assert_eq!(bench.entries().len(), 1);
    bench.clock.advance(LEASE);
    bench.server.abandon().unwrap();
    assert!(bench.entries().is_empty());
}

#[test]
fn a_generator_that_fails_is_the_agents_to_know() {
    let bench = bench(64);
    bench.source.fails.store(true, Ordering::Relaxed);
    let governed = bench.govern();
    assert_eq!(governed.make(times(governed.now(), HOUR)), Err(Failure::Generator));
    assert!(governed.entries().is_empty());
}

#[test]
fn a_lease_that_no_agent_gave_is_none() {
    let bench = bench(64);
    for until in [Time::NEVER, bench.clock.now() + HOUR, bench.clock.now()] {
        bench.server.ring().header().governed_until.store(until.0, Ordering::Relaxed);
        assert!(!bench.server.is_governed(), "{until:?}");
    }
    assert!(bench.sealing_name().is_some());
}
