//! A writer that dies between any two stores leaves a ring that readers read
//! correctly and the next writer repairs. Needs the feature `kill-points`.
#![cfg(feature = "kill-points")]

mod agent;
mod embedded;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, Time};
use tktrot::config::Config;
use tktrot::kill_points;
use tktrot::ring::Ring;
use tktrot::ring::key::Key;
use tktrot::ring::layout::{Capacity, FIRST_SLOTS};
use tktrot::ring::writer::Entry;
use tktrot::rotate::govern::{Governed, LEASE};
use tktrot::rotate::{Generator, Keyring, NotRandom};
use tktrot::schedule::{KeyState, KeyTimes};
use tktrot::secret::KeyName;

const SECOND: Duration = Duration::from_secs(1);
const ROTATE: Duration = Duration::from_secs(10);
const LIFETIME: Duration = Duration::from_secs(30);

/// Distinct bytes for every draw of every process; nothing secret.
struct Counting;

static DRAWS: AtomicU64 = AtomicU64::new(1);

impl Generator for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        let draw = DRAWS.fetch_add(1, Ordering::Relaxed);
        let seed = draw ^ u64::from(std::process::id()) << 32;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (seed + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8 ^ (mixed >> 24) as u8;
        }
        Ok(())
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
    let ring = Ring::private(Capacity::MAX).unwrap();
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

/// Who may come first after a death.
#[derive(Clone, Copy, PartialEq)]
enum Heir {
    /// A server, which rotates.
    Server,
    /// A server that has to leave the keys to an agent, until its lease ends.
    GovernedServer,
}

/// For every store of `act`: readers see every key that is alive, an active
/// key seals before and after, and the next writer leaves a sound ring.
fn survives_death_at_every_store(
    prepare: impl Fn(&Keyring<Hands<'_>>, &AtomicU64),
    act: impl Fn(&Keyring<Hands<'_>>),
    keeps: Keeps,
) {
    survives(prepare, act, keeps, Heir::Server);
}

fn survives(
    prepare: impl Fn(&Keyring<Hands<'_>>, &AtomicU64),
    act: impl Fn(&Keyring<Hands<'_>>),
    keeps: Keeps,
    heir: Heir,
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

        if heir == Heir::GovernedServer {
            agent::outlives_the_lease(&keyring, &now, &before, stores);
        }

        // The next writer, which inherits the lock.
        keyring.tick_patiently();
        let seals = keyring
            .sealing(keyring.now())
            .is_some_and(|located| keyring.ring().find(&located.name, &mut key));
        assert!(seals, "store {stores}: none encrypts after the repair");
        assert!(is_whole(&keyring, &key));
        let writer = keyring.ring().try_write().unwrap();
        assert_eq!(writer.defect(), None, "store {stores}");
        let expired = |entry: &Entry| entry.times.state(keyring.now()) == KeyState::Expired;
        assert!(!writer.entries().iter().any(expired));
        drop(writer);
        if !died {
            assert!(stores > 10, "only {stores} stores: is this build one with kill points?");
            return;
        }
    }
    panic!("the writer never got through");
}

fn advance(now: &AtomicU64, by: Duration) {
    now.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
}
