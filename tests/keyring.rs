//! Embedded rotation on a virtual clock, with a generator that can fail.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, VirtualClock};
use tktrot::config::{Bind, Config};
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::layout::Capacity;
use tktrot::ring::stats::Counter;
use tktrot::ring::writer::NotPublished;
use tktrot::rotate::{Failure, Generator, Keyring, NotRandom};
use tktrot::schedule::KeyState;
use tktrot::secret::KeyName;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Nothing secret: distinct bytes, or what a broken generator gives.
#[derive(Default)]
struct Source {
    draws: AtomicU64,
    fault: AtomicU8,
    /// How long a draw takes, in nanoseconds, on this clock.
    takes: AtomicU64,
    clock: OnceLock<&'static VirtualClock>,
}

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const ZEROES: u8 = 2;
const REPEATS: u8 = 3;

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        if let Some(clock) = self.clock.get() {
            clock.advance(Duration::from_nanos(self.takes.load(Ordering::Relaxed)));
        }
        let fault = self.fault.load(Ordering::Relaxed);
        let draw = match fault {
            REPEATS => 12,
            _ => self.draws.fetch_add(1, Ordering::Relaxed),
        };
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (draw * 1000 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = if fault == ZEROES { 0 } else { (mixed >> 56) as u8 };
        }
        if fault == FAILS { Err(NotRandom::Failed) } else { Ok(()) }
    }
}

struct Bench {
    keyring: Keyring<&'static VirtualClock>,
    clock: &'static VirtualClock,
    source: &'static Source,
}

fn bench(capacity: u32, config: &Config) -> Bench {
    let clock: &'static VirtualClock = Box::leak(Box::new(VirtualClock::default()));
    let source: &'static Source = Box::leak(Box::default());
    clock.advance(1000 * HOUR);
    let _ = source.clock.set(clock);
    let ring = Ring::private(Capacity::new(capacity).unwrap()).unwrap();
    let keyring = Keyring::new(ring, clock, source);
    keyring.configure(config).unwrap();
    Bench { keyring, clock, source }
}

impl Bench {
    fn break_generator(&self, fault: u8) {
        self.source.fault.store(fault, Ordering::Relaxed);
    }

    fn sealing_name(&self) -> Option<KeyName> {
        self.keyring.sealing(self.clock.now()).map(|located| located.name)
    }

    fn states(&self) -> Vec<KeyState> {
        let now = self.clock.now();
        let entries = self.keyring.ring().try_write().unwrap().entries();
        entries.iter().map(|entry| entry.times.state(now)).collect()
    }

    fn has(&self, name: &KeyName) -> bool {
        self.keyring.ring().find(name, &mut Key::blank())
    }

    /// Of a key that is there.
    fn find(&self, name: &KeyName) -> Key {
        let mut key = Key::blank();
        assert!(self.keyring.ring().find(name, &mut key));
        key
    }
}

fn config(rotate_every: Duration, lifetime: Option<Duration>) -> Config {
    Config { rotate_every: Some(rotate_every), lifetime, ..Config::default() }
}

#[test]
fn every_ticket_opens_for_its_lifetime_and_not_after_its_key() {
    let bench = bench(64, &config(HOUR, Some(2 * HOUR)));
    let mut sealed = Vec::new();
    for _ in 0..(24 * 6) {
        bench.keyring.tick(bench.clock.now());
        let now = bench.clock.now();
        sealed.push((now, bench.sealing_name().unwrap()));
        for (at, name) in &sealed {
            let age = at.until(now);
            if age < 2 * HOUR {
                assert!(bench.has(name), "a ticket of age {age:?} does not open");
            }
            if age >= 3 * HOUR {
                assert!(!bench.has(name), "a key outlives R + L");
            }
        }
        bench.clock.advance(HOUR / 6);
    }
    let names: HashSet<_> = sealed.iter().map(|(_, name)| name.0).collect();
    assert_eq!(names.len(), 24);
}

#[test]
fn after_a_long_idle_time_the_first_handshake_finds_a_fresh_key() {
    let bench = bench(64, &config(HOUR, Some(HOUR)));
    let old = bench.sealing_name().unwrap();
    bench.clock.advance(100 * HOUR);
    let new = bench.sealing_name().unwrap();
    assert_ne!(old, new);
    assert!(!bench.has(&old));
    assert_eq!(bench.states(), [KeyState::Active, KeyState::Announced]);
}

#[test]
fn the_longest_timeout_of_a_context_decides_how_long_keys_are_kept() {
    let bench = bench(64, &config(HOUR, None));
    bench.keyring.expect_lifetime(300 * SECOND);
    assert_eq!(bench.keyring.policy().lifetime, 300 * SECOND);
    let short = bench.sealing_name().unwrap();

    bench.clock.advance(HOUR / 2);
    bench.keyring.expect_lifetime(10 * HOUR);
    let long = bench.sealing_name().unwrap();
    assert_ne!(short, long, "no early rotation");
    assert_eq!(bench.find(&long).times.retention(), 10 * HOUR);
    let times = bench.find(&short).times;
    assert_eq!(times.encrypt_until, bench.clock.now());
    assert_eq!(times.encrypt_from + HOUR + 300 * SECOND, times.decrypt_until, "lengthened");

    // A shorter one, or the same, changes nothing.
    bench.keyring.expect_lifetime(300 * SECOND);
    bench.keyring.expect_lifetime(10 * HOUR);
    assert_eq!(bench.sealing_name(), Some(long));
}

#[test]
fn a_configured_lifetime_is_not_a_matter_of_contexts() {
    let bench = bench(64, &config(HOUR, Some(HOUR)));
    let name = bench.sealing_name();
    bench.keyring.expect_lifetime(50 * HOUR);
    assert_eq!(bench.keyring.policy().lifetime, HOUR);
    assert_eq!(bench.sealing_name(), name);
}

#[test]
fn a_generator_that_fails_ends_tickets_not_the_life_of_keys() {
    for fault in [FAILS, ZEROES, REPEATS] {
        let bench = bench(64, &config(HOUR, Some(HOUR)));
        let first = bench.sealing_name().unwrap();
        bench.break_generator(fault);
        if fault == REPEATS {
            // Its constant draw makes all parts of a key alike: never a key.
            assert_eq!(bench.keyring.rotate(), Err(Failure::Generator));
        }

        bench.clock.advance(HOUR - SECOND);
        assert_eq!(bench.sealing_name(), Some(first), "fault {fault}: the active key serves on");
        bench.clock.advance(SECOND);
        let successor = bench.sealing_name().unwrap();
        assert_ne!(successor, first);
        bench.clock.advance(HOUR);
        assert_eq!(bench.sealing_name(), None, "fault {fault}: a key was lengthened or made");
        assert!(bench.has(&successor), "it still decrypts");
        bench.clock.advance(HOUR);
        bench.keyring.tick(bench.clock.now());
        assert!(!bench.has(&successor));
        let failures = &bench.keyring.ring().header().generator_failures;
        assert!(failures.load(Ordering::Relaxed) > 0);

        bench.break_generator(WORKS);
        bench.clock.advance(SECOND);
        assert!(bench.sealing_name().is_some(), "fault {fault}: no recovery");
    }
}

#[test]
fn a_failing_generator_is_not_asked_at_every_handshake() {
    let bench = bench(64, &config(HOUR, Some(HOUR)));
    bench.break_generator(FAILS);
    for _ in 0..1000 {
        assert_eq!(bench.sealing_name(), None);
    }
    assert!(bench.source.draws.load(Ordering::Relaxed) < 5);
}

#[test]
fn rotate_and_revoke_act_at_once() {
    let bench = bench(64, &config(HOUR, Some(HOUR)));
    let first = bench.sealing_name().unwrap();
    bench.clock.advance(SECOND);
    bench.keyring.rotate().unwrap();
    let second = bench.sealing_name().unwrap();
    assert_ne!(first, second);
    assert!(bench.has(&first));

    bench.keyring.revoke().unwrap();
    let third = bench.sealing_name().unwrap();
    assert!(!bench.has(&first) && !bench.has(&second) && third != second);
    assert!([first, second].iter().all(|name| bench.keyring.ring().is_buried(name)));
    assert!(!bench.keyring.ring().is_buried(&third));

    bench.break_generator(FAILS);
    assert_eq!(bench.keyring.rotate(), Err(Failure::Generator));
    assert_eq!(bench.sealing_name(), Some(third));
    assert_eq!(bench.keyring.revoke(), Err(Failure::Generator));
    assert!(bench.states().is_empty(), "a revocation leaves keys behind");
}

#[test]
fn one_key_is_revoked_and_the_others_stay() {
    let bench = bench(64, &config(HOUR, Some(HOUR)));
    let first = bench.sealing_name().unwrap();
    bench.clock.advance(SECOND);
    bench.keyring.rotate().unwrap();
    let second = bench.sealing_name().unwrap();

    assert_eq!(bench.keyring.revoke_those(|name| *name == first), Ok(vec![first]));
    assert!(!bench.has(&first));
    assert_eq!(bench.sealing_name(), Some(second), "the active key was not meant");
    // Nobody brings it back, whatever knows nothing of the revocation.
    let mut copy = Key::blank();
    assert!(bench.keyring.ring().find(&second, &mut copy));
    copy.name = first;
    copy.secrets.aes.expose_mut()[0] ^= 1;
    copy.secrets.hmac.expose_mut()[0] ^= 1;
    let governed = bench.keyring.govern().unwrap();
    assert_eq!(governed.take(&copy), Err(NotPublished::Revoked));
    governed.release();

    assert_eq!(bench.keyring.revoke_those(|name| *name == second), Ok(vec![second]));
    assert!(!bench.has(&second));
    let third = bench.sealing_name().unwrap();
    assert!(third != second);
    assert_eq!(bench.states().iter().filter(|state| **state == KeyState::Announced).count(), 1);

    let before = bench.states();
    assert_eq!(bench.keyring.revoke_those(|name| *name == first), Ok(vec![]));
    assert_eq!(bench.states(), before);
}

#[test]
fn a_full_ring_gives_up_its_oldest_retired_key_and_rotates_on() {
    let bench = bench(8, &config(HOUR, Some(4 * HOUR)));
    let mut names = Vec::new();
    for _ in 0..20 {
        bench.keyring.rotate().unwrap();
        names.push(bench.sealing_name().unwrap());
        bench.clock.advance(SECOND);
    }
    let distinct: HashSet<_> = names.iter().map(|name| name.0).collect();
    assert_eq!(distinct.len(), 20);
    assert!(bench.has(&names[19]) && bench.has(&names[16]) && !bench.has(&names[0]));
    assert_eq!(bench.states().iter().filter(|state| **state == KeyState::Active).count(), 1);
}

#[test]
fn a_capacity_too_small_for_the_lifetime_shortens_what_is_kept_not_the_rotation() {
    let bench = bench(8, &config(HOUR, None));
    bench.keyring.expect_lifetime(100 * HOUR);
    assert_eq!(bench.keyring.policy().lifetime, 4 * HOUR);
    for _ in 0..50 {
        assert!(bench.sealing_name().is_some());
        bench.clock.advance(HOUR / 2);
    }
    assert!(bench.states().len() <= 8);
}

#[test]
fn a_new_interval_takes_effect_at_once_and_an_unset_one_leaves_the_ring_alone() {
    let bench = bench(64, &config(HOUR, Some(HOUR)));
    let hourly = bench.sealing_name();
    bench.keyring.configure(&Config::default()).unwrap();
    assert_eq!(bench.sealing_name(), hourly);
    assert_eq!(bench.keyring.policy().rotate_every, HOUR);

    bench.keyring.configure(&config(60 * SECOND, None)).unwrap();
    bench.clock.advance(SECOND);
    assert_ne!(bench.sealing_name(), hourly);
    assert_eq!(bench.keyring.policy().rotate_every, 60 * SECOND);
    assert_eq!(bench.keyring.policy().lifetime, HOUR);
}

/// Short keys at the head of the line, long ones behind: those that the line had
/// no room for were there, and nobody found them.
#[test]
fn an_interval_that_grows_twice_does_not_end_tickets() {
    let mut bench = bench(64, &config(60 * SECOND, Some(HOUR)));
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
    for interval in [60 * SECOND, 1200 * SECOND, 7 * HOUR] {
        // A server that is started again takes the place of the one before.
        let ring = place.open(Capacity::new(64).unwrap()).unwrap();
        bench.keyring = Keyring::new(ring, bench.clock, bench.source);
        bench.keyring.configure(&config(interval, Some(HOUR))).unwrap();
        bench.sealing_name().unwrap();
    }
    for minute in 0..(48 * 60) {
        assert!(bench.sealing_name().is_some(), "no ticket after {minute} minutes");
        bench.clock.advance(60 * SECOND);
    }
}

#[test]
fn keys_are_plain_where_tickets_are_bound_to_nothing() {
    let bench = bench(64, &Config { bind: Some(Bind::NONE), ..config(HOUR, Some(HOUR)) });
    let name = bench.sealing_name().unwrap();
    assert!(bench.find(&name).plain);

    bench.keyring.configure(&Config { bind: Some(Bind::ALL), ..Config::default() }).unwrap();
    bench.clock.advance(SECOND);
    bench.keyring.rotate().unwrap();
    let name = bench.sealing_name().unwrap();
    assert!(!bench.find(&name).plain);
}

#[test]
fn a_name_of_equal_bytes_matches_nothing() {
    let bench = bench(8, &config(HOUR, Some(HOUR)));
    bench.sealing_name().unwrap();
    for byte in [0x00, 0x41, 0xff] {
        assert!(!bench.has(&KeyName([byte; 16])));
    }
}

#[test]
fn a_process_settles_once_and_counts_in_its_block() {
    let bench = bench(8, &config(HOUR, Some(HOUR)));
    assert!(bench.keyring.settle());
    assert!(!bench.keyring.settle());
    for _ in 0..3 {
        bench.keyring.count(Counter::Issued);
    }
    bench.keyring.count(Counter::Unknown);
    let totals = bench.keyring.ring().totals();
    assert_eq!((totals.of(Counter::Issued), totals.of(Counter::Unknown)), (3, 1));
    assert_eq!(totals.of(Counter::Expired), 0);
}

#[test]
fn a_key_that_begins_while_another_is_made_is_not_erased() {
    let bench = bench(64, &config(HOUR, Some(HOUR)));
    let first = bench.find(&bench.sealing_name().unwrap());
    bench
        .clock
        .advance(bench.clock.now().until(first.times.encrypt_until) - Duration::from_nanos(1));
    bench.keyring.tick(bench.clock.now());
    assert_eq!(bench.sealing_name(), Some(first.name));
    let successor = {
        let entries = bench.keyring.ring().try_write().unwrap().entries();
        let next =
            entries.iter().find(|entry| entry.times.encrypt_from == first.times.encrypt_until);
        next.unwrap().name
    };
    // Others seal with it as soon as its time has come.
    bench.source.takes.store(1000, Ordering::Relaxed);
    bench.keyring.rotate().unwrap();
    assert!(bench.has(&successor), "its tickets no longer open");
    let new = bench.sealing_name().unwrap();
    assert!(new != successor && new != first.name);
    assert_eq!(bench.find(&successor).times.state(bench.clock.now()), KeyState::Retired);
    assert_eq!(bench.states().iter().filter(|state| **state == KeyState::Active).count(), 1);
}
