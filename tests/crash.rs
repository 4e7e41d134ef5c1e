//! A writer that dies between any two stores leaves a ring that readers read
//! correctly and the next writer repairs. Needs the feature `kill-points`.
#![cfg(feature = "kill-points")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, Time};
use tktrot::config::Config;
use tktrot::kill_points;
use tktrot::ring::Ring;
use tktrot::ring::layout::Geometry;
use tktrot::ring::reader::Key;
use tktrot::rotate::{Generator, Keyring};
use tktrot::schedule::{KeyState, KeyTimes};
use tktrot::secret::{KeyName, KeySecrets};

const SECOND: Duration = Duration::from_secs(1);
const ROTATE: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_secs(30);

/// Distinct bytes for every draw of every process; nothing secret.
struct Counting;

static DRAWS: AtomicU64 = AtomicU64::new(1);

impl Generator for Counting {
    fn fill(&self, bytes: &mut [u8]) -> bool {
        let draw = DRAWS.fetch_add(1, Ordering::Relaxed);
        let seed = draw ^ u64::from(std::process::id()) << 32;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (seed + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8 ^ (mixed >> 24) as u8;
        }
        true
    }
}

/// A clock that shows what its owner writes, across processes.
struct Hands<'a>(&'a AtomicU64);

impl Clock for Hands<'_> {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }
}

fn keyring(now: &AtomicU64) -> Keyring<Hands<'_>> {
    let ring = Ring::private(Geometry::new(32).unwrap()).unwrap();
    let keyring = Keyring::new(ring, Hands(now), &Counting);
    let config =
        Config { rotate_every: Some(ROTATE), lifetime: Some(LIFETIME), ..Config::default() };
    keyring.configure(&config).unwrap();
    keyring
}

/// Runs `act` in a child that dies at its `stores`-th store. True if it died
/// there, false if it got through.
fn dies_at(stores: u64, act: impl FnOnce()) -> bool {
    // SAFETY: the child only allocates (which glibc makes safe after a fork),
    // writes the ring and leaves with _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        kill_points::arm(stores);
        act();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    assert!(killed || status == 0, "the writer ended with status {status:#x}");
    killed
}

fn is_whole(keyring: &Keyring<Hands<'_>>, key: &Key) -> bool {
    let mut again = Key::blank();
    keyring.ring().find(&key.name, &mut again)
        && again.secrets.aes.same_as(&key.secrets.aes)
        && again.secrets.hmac.same_as(&key.secrets.hmac)
}

/// The keys that an act must not lose, whenever its writer dies.
#[derive(Clone, Copy, PartialEq)]
enum Keeps {
    /// There are none before.
    NoKeyYet,
    /// All but those that are over.
    All,
    /// Those that have encrypted, so that tickets depend on them.
    Used,
    /// It is there to lose them; but one always encrypts.
    OneThatEncrypts,
}

impl Keeps {
    fn includes(self, state: KeyState) -> bool {
        match self {
            Keeps::NoKeyYet | Keeps::OneThatEncrypts => false,
            Keeps::All => state != KeyState::Expired,
            Keeps::Used => matches!(state, KeyState::Active | KeyState::Retired),
        }
    }
}

/// For every store of `act`: readers see every key that is alive, an active
/// key seals before and after, and the next writer leaves a sound ring.
fn survives_death_at_every_store(
    prepare: impl Fn(&Keyring<Hands<'_>>, &AtomicU64),
    act: impl Fn(&Keyring<Hands<'_>>),
    keeps: Keeps,
) {
    for stores in 1..10_000 {
        let now = AtomicU64::new((100 * SECOND).as_nanos() as u64);
        let keyring = keyring(&now);
        prepare(&keyring, &now);
        let before = keyring.ring().try_write().unwrap().entries();
        let present = keyring.now();

        let died = dies_at(stores, || act(&keyring));

        // Readers, before anybody repairs.
        let mut key = Key::blank();
        for entry in &before {
            if keeps.includes(entry.times.state(present)) {
                let found = keyring.ring().find(&entry.name, &mut key);
                assert!(found, "store {stores}: {} is lost", entry.name);
                assert!(is_whole(&keyring, &key));
            }
        }
        let seals = keyring.ring().encrypting(present, &mut key);
        assert!(seals || keeps == Keeps::NoKeyYet, "store {stores}: none encrypts");
        assert!(!seals || is_whole(&keyring, &key), "store {stores}");

        // The next writer, which inherits the lock.
        keyring.tick_patiently();
        let seals = keyring.sealing_key(keyring.now(), &mut key);
        assert!(seals, "store {stores}: none encrypts after the repair");
        assert!(is_whole(&keyring, &key));
        let writer = keyring.ring().try_write().unwrap();
        assert_eq!(writer.defect(), None, "store {stores}");
        let expired = |entry: &tktrot::ring::writer::Entry| {
            entry.times.state(keyring.now()) == KeyState::Expired
        };
        assert!(!writer.entries().iter().any(expired));
        drop(writer);
        if !died {
            assert!(stores > 10, "only {stores} stores: is this build one with kill points?");
            return;
        }
    }
    panic!("the writer never got through");
}

fn tend(keyring: &Keyring<Hands<'_>>) {
    keyring.tick_patiently();
}

fn advance(now: &AtomicU64, by: Duration) {
    now.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
}

#[test]
fn at_the_first_keys() {
    survives_death_at_every_store(|_, _| {}, tend, Keeps::NoKeyYet);
}

#[test]
fn at_a_rotation_that_erases() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        for _ in 0..6 {
            keyring.tick_patiently();
            advance(now, ROTATE);
        }
    };
    survives_death_at_every_store(prepare, tend, Keeps::All);
}

#[test]
fn at_a_deliberate_rotation() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        keyring.tick_patiently();
        advance(now, ROTATE / 4);
    };
    survives_death_at_every_store(prepare, |keyring| keyring.rotate().unwrap(), Keeps::Used);
}

#[test]
fn at_an_early_rotation() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        keyring.tick_patiently();
        advance(now, ROTATE / 4);
        let longer = Config { lifetime: Some(LIFETIME * 2), ..Config::default() };
        keyring.configure(&longer).unwrap();
    };
    survives_death_at_every_store(prepare, tend, Keeps::Used);
}

#[test]
fn at_a_revocation() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        keyring.tick_patiently();
        advance(now, ROTATE + SECOND);
        keyring.tick_patiently();
    };
    survives_death_at_every_store(
        prepare,
        |keyring| keyring.revoke().unwrap(),
        Keeps::OneThatEncrypts,
    );
}

fn has(ring: &Ring, key: &Key) -> bool {
    ring.find(&key.name, &mut Key::blank())
}

/// In one chain of the look-up table: the harder case for unlinking.
#[test]
fn at_the_erasure_of_a_key_in_the_middle_of_a_chain() {
    let key_in_one_bucket = |number: u8| {
        let mut name = KeyName([7; 16]);
        name.0[15] = number;
        let mut secrets = KeySecrets::zeroed();
        Counting.fill(secrets.aes.expose_mut());
        Counting.fill(secrets.hmac.expose_mut());
        let end = Time(u64::MAX / 2);
        let times = KeyTimes { encrypt_from: Time(0), encrypt_until: Time(1), decrypt_until: end };
        Key { name, secrets, times, node: 99, plain: false, aes_128: false }
    };
    let mut deaths = 0;
    for stores in 1..200 {
        let ring = Ring::private(Geometry::new(32).unwrap()).unwrap();
        let keys: Vec<_> = (1..=5).map(key_in_one_bucket).collect();
        let writer = ring.try_write().unwrap();
        let slots: Vec<_> = keys.iter().map(|key| writer.publish(key).unwrap()).collect();
        drop(writer);
        let died = dies_at(stores, || ring.try_write().unwrap().erase(slots[2]));
        for (place, key) in keys.iter().enumerate().filter(|(place, _)| *place != 2) {
            assert!(has(&ring, key), "store {stores}: key {place} is lost");
        }
        let writer = ring.try_write().unwrap();
        assert_eq!(writer.defect(), None, "store {stores}");
        assert_eq!(writer.entries().len(), if has(&ring, &keys[2]) { 5 } else { 4 });
        deaths += u32::from(died);
    }
    assert!(deaths > 10, "only {deaths} stores: is this build one with kill points?");
}
