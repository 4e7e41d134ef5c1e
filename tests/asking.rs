//! What processes of one ring ask for, and what then applies to all: the shortest and the
//! strictest of what those ask for that live. The other processes are real ones; the clock is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, Time, VirtualClock, nanos};
use tktrot::config::{Bind, Config, DEFAULT_LIFETIME, DEFAULT_ROTATE_EVERY};
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::layout::Capacity;
use tktrot::rotate::govern::LEASE;
use tktrot::rotate::{Generator, Keyring, NotRandom};
use tktrot::schedule::KeyState;
use tktrot::terms::Overruled;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Any time: nobody here is in another PID namespace.
const NOW: Time = Time(1);

type Process = Keyring<&'static VirtualClock>;

/// Nothing secret: distinct bytes.
struct Source(AtomicU64);

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        let draw = self.0.fetch_add(1, Ordering::Relaxed);
        let seed = draw ^ u64::from(std::process::id()) << 32;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (seed + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8 ^ (mixed >> 24) as u8;
        }
        Ok(())
    }
}

static SOURCE: Source = Source(AtomicU64::new(1));

/// A ring in a file.
struct Bench {
    place: Place,
    clock: &'static VirtualClock,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let clock: &'static VirtualClock = Box::leak(Box::default());
    clock.advance(1000 * HOUR);
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
    Bench { place, clock, _dir: dir }
}

/// Another process that has the ring open, until it is dropped.
struct Other(libc::pid_t);

impl Drop for Other {
    fn drop(&mut self) {
        // SAFETY: ends our own child, and waits for it.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

impl Bench {
    /// Opens the ring in this process, and asks for nothing yet.
    fn open(&self) -> Process {
        let ring = self.place.open(Capacity::new(64).unwrap()).unwrap();
        Keyring::new(ring, self.clock, &SOURCE)
    }

    /// This process, anew: it forgets what it asked for before.
    fn opens(&self, config: &Config) -> (Process, Vec<Overruled>) {
        let process = self.open();
        let overruled = process.configure(config).unwrap();
        (process, overruled)
    }

    /// Another process that does this, and then waits for its end.
    fn other(&self, act: impl FnOnce(&Process)) -> Other {
        let mut pipe = [0; 2];
        // SAFETY: an array of two; the child opens the ring, acts and waits to be killed.
        let child = unsafe {
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            libc::fork()
        };
        assert!(child >= 0);
        if child == 0 {
            act(&self.open());
            // SAFETY: one byte; then nothing but sleep.
            unsafe {
                libc::write(pipe[1], [1_u8].as_ptr().cast(), 1);
                loop {
                    libc::pause();
                }
            }
        }
        let other = Other(child);
        let mut byte = [0_u8];
        // SAFETY: descriptors of ours, and a buffer of one byte.
        let read = unsafe {
            libc::close(pipe[1]);
            let read = libc::read(pipe[0], byte.as_mut_ptr().cast(), 1);
            libc::close(pipe[0]);
            read
        };
        assert_eq!(read, 1, "the other process failed");
        other
    }

    fn other_asks(&self, config: &Config) -> Other {
        self.other(|process| drop(process.configure(config).unwrap()))
    }
}

/// A server whose settings say how often keys rotate, and how long they are kept.
fn set(rotate_every: Option<Duration>, lifetime: Option<Duration>) -> Config {
    Config { rotate_every, lifetime, ..Config::default() }
}

fn bound_to(bind: Bind) -> Config {
    Config { bind: Some(bind), ..Config::default() }
}

fn rotation(process: &Process) -> Duration {
    process.policy().rotate_every
}

fn lifetime(process: &Process) -> Duration {
    process.policy().lifetime
}

fn seal(process: &Process) -> Key {
    let mut key = Key::blank();
    assert!(
        process
            .sealing(process.now())
            .is_some_and(|located| process.ring().find(&located.name, &mut key))
    );
    key
}

#[test]
fn a_longer_rotation_waits_until_nobody_asks_for_the_shorter_one() {
    let bench = bench();
    let other = bench.other_asks(&set(Some(12 * SECOND), None));
    let (process, overruled) = bench.opens(&set(Some(DAY), None));
    assert_eq!(rotation(&process), 12 * SECOND);
    let said = overruled[0].to_string();
    for part in ["every 12s, not every 24h", &format!("process {} (", other.0), "TKTROT_RING"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(overruled.len(), 1, "{overruled:?}");
    assert_eq!(seal(&process).times.encrypt_until, bench.clock.now() + 12 * SECOND);

    // One more that asks for as much changes nothing; nor does `tktrot rotate`.
    let patient = bench.other_asks(&set(Some(DAY), None));
    process.reconsider().unwrap();
    assert_eq!(rotation(&process), 12 * SECOND);
    drop(other);
    assert_eq!(rotation(&process), 12 * SECOND, "nobody came by");
    process.reconsider().unwrap();
    assert_eq!(rotation(&process), DAY);
    drop(patient);
}

#[test]
fn a_server_that_is_reloaded_alone_gets_its_longer_rotation() {
    let bench = bench();
    drop(bench.other_asks(&set(Some(12 * SECOND), Some(MINUTE))));
    let (process, overruled) = bench.opens(&set(Some(12 * HOUR), Some(DAY)));
    assert_eq!(overruled, []);
    assert_eq!((rotation(&process), lifetime(&process)), (12 * HOUR, DAY));
}

#[test]
fn a_shorter_rotation_holds_for_all_at_once() {
    let bench = bench();
    let _other = bench.other_asks(&set(Some(HOUR), Some(HOUR)));
    let (process, overruled) = bench.opens(&set(Some(MINUTE), None));
    assert_eq!(overruled, []);
    assert_eq!((rotation(&process), lifetime(&process)), (MINUTE, HOUR));
}

#[test]
fn who_sets_no_rotation_has_the_default_whatever_others_set() {
    let bench = bench();
    let _other = bench.other_asks(&Config::default());
    let (process, overruled) = bench.opens(&set(Some(DAY), None));
    assert_eq!(rotation(&process), DEFAULT_ROTATE_EVERY);
    assert!(overruled[0].to_string().contains("which sets nothing"), "{overruled:?}");
}

#[test]
fn a_longer_lifetime_waits_until_nobody_asks_for_the_shorter_one() {
    let bench = bench();
    let other = bench.other_asks(&set(None, Some(MINUTE)));
    let longer = set(None, Some(HOUR));
    let (process, overruled) = bench.opens(&longer);
    assert_eq!(lifetime(&process), MINUTE);
    let said = overruled[0].to_string();
    for part in ["for 1m, not for 1h", &format!("process {} (", other.0), "TKTROT_LIFETIME"] {
        assert!(said.contains(part), "{said}");
    }
    // Contexts' timeouts do not lengthen it either; they are remembered.
    process.expect_lifetime(DAY);
    assert_eq!(lifetime(&process), MINUTE);
    assert_eq!(process.ring().header().seen_lifetime.load(Ordering::Relaxed), nanos(DAY));
    drop(other);
    let (process, overruled) = bench.opens(&longer);
    assert_eq!((lifetime(&process), overruled), (HOUR, vec![]));
}

#[test]
fn who_sets_no_lifetime_keeps_keys_as_long_as_the_longest_timeout_and_no_longer() {
    let bench = bench();
    let _other = bench.other(|process| {
        process.configure(&Config::default()).unwrap();
        process.settle();
        process.expect_lifetime(5 * MINUTE);
    });
    let (process, overruled) = bench.opens(&set(None, Some(7 * DAY)));
    assert_eq!(lifetime(&process), 5 * MINUTE);
    assert!(overruled[0].to_string().contains("which sets nothing"), "{overruled:?}");
    // Its own tickets live longer, and so do the keys.
    process.expect_lifetime(HOUR);
    assert_eq!(lifetime(&process), HOUR);
    process.expect_lifetime(30 * DAY);
    assert_eq!(lifetime(&process), 60 * HOUR, "all that a ring of 64 keys has room for");
}

#[test]
fn timeouts_of_processes_that_have_ended_do_not_count() {
    let bench = bench();
    drop(bench.other(|process| {
        process.configure(&Config::default()).unwrap();
        process.settle();
        process.expect_lifetime(DAY);
    }));
    let (process, _) = bench.opens(&Config::default());
    assert_eq!(lifetime(&process), DEFAULT_LIFETIME);
    process.expect_lifetime(5 * MINUTE);
    assert_eq!(lifetime(&process), 5 * MINUTE);
}

#[test]
fn keys_are_plain_only_while_no_living_process_binds_its_tickets() {
    let bench = bench();
    let (process, overruled) = bench.opens(&bound_to(Bind::NONE));
    assert_eq!(overruled, []);
    let plain = seal(&process);
    assert!(plain.plain);

    // One that binds comes: nothing is sealed with a key that others may have.
    bench.clock.advance(SECOND);
    let bound = bench.other(|process| {
        let overruled = process.configure(&Config::default()).unwrap();
        assert_eq!(overruled, [Overruled::NoLongerPlain]);
    });
    let key = seal(&process);
    assert!(!key.plain && key.name != plain.name);
    let entries = process.ring().try_write().unwrap().entries();
    let seals = |state| state == KeyState::Active || state == KeyState::Announced;
    let now = bench.clock.now();
    assert!(entries.iter().all(|key| !key.plain || !seals(key.times.state(now))), "{entries:?}");
    assert!(process.ring().find(&plain.name, &mut Key::blank()), "its tickets go on");

    // One more that binds nothing changes nothing, and is told why.
    let (process, overruled) = bench.opens(&bound_to(Bind::NONE));
    let said = overruled[0].to_string();
    assert!(
        said.contains(&format!("process {} (", bound.0)) && said.contains("exported"),
        "{said}"
    );
    process.rotate().unwrap();
    assert!(!seal(&process).plain);

    drop(bound);
    let (process, overruled) = bench.opens(&bound_to(Bind::NONE));
    assert_eq!(overruled, []);
    process.rotate().unwrap();
    assert!(seal(&process).plain);

    // Where nobody lives who wants them plain, it is no news that they are not.
    process.ring().forget(tktrot::process::id());
    let (process, overruled) = bench.opens(&Config::default());
    assert_eq!(overruled, []);
    assert!(!seal(&process).plain);
}

#[test]
fn a_process_with_one_context_that_binds_makes_no_plain_keys() {
    let bench = bench();
    let (process, _) = bench.opens(&bound_to(Bind::NONE));
    let some = Bind { cert: false, verify: true, sni: false };
    assert_eq!(process.configure(&bound_to(some)).unwrap(), [Overruled::NoLongerPlain]);
    assert!(!seal(&process).plain);
    let overruled = process.configure(&bound_to(Bind::NONE)).unwrap();
    assert!(overruled[0].to_string().contains("another context of this process"), "{overruled:?}");
}

/// What it asks for is not known: then it is as the ring is now.
#[test]
fn a_living_process_that_has_told_nothing_is_not_weakened() {
    let bench = bench();
    let other = bench.other(|process| {
        process.configure(&set(Some(MINUTE), Some(MINUTE))).unwrap();
        // What such a process has: a block, and nothing in it but what it counts.
        process.ring().forget(tktrot::process::id());
        let view = bench.place.look().unwrap().unwrap();
        assert_eq!(view.users(NOW), []);
        process.count_unsettled(tktrot::ring::stats::Counter::Issued);
        process.ring().disown(tktrot::process::id());
    });
    let loose = Config { bind: Some(Bind::NONE), ..set(Some(DAY), Some(DAY)) };
    let (process, overruled) = bench.opens(&loose);
    assert_eq!((rotation(&process), lifetime(&process)), (MINUTE, MINUTE));
    assert!(!seal(&process).plain);
    assert_eq!(overruled.len(), 3, "{overruled:?}");
    for overruled in &overruled {
        assert!(overruled.to_string().contains("whose settings are not known"), "{overruled}");
    }
    drop(other);
    let (process, overruled) = bench.opens(&loose);
    assert_eq!((rotation(&process), overruled), (DAY, vec![]));
}

/// Others may take this process for gone. What they make of the ring then does not last.
#[test]
fn what_others_make_looser_is_tightened_before_the_next_ticket() {
    let bench = bench();
    let (process, _) = bench.opens(&set(Some(MINUTE), Some(MINUTE)));
    seal(&process);
    let header = process.ring().header();
    header.rotate_every.store(nanos(DAY), Ordering::Relaxed);
    header.lifetime.store(nanos(DAY), Ordering::Relaxed);
    header.plain.store(1, Ordering::Relaxed);
    header.deadline.store(0, Ordering::Relaxed);
    bench.clock.advance(SECOND);
    let key = seal(&process);
    assert!(!key.plain);
    assert!(key.times.encrypt_until <= bench.clock.now() + MINUTE);
    assert_eq!(key.times.retention(), MINUTE);
    assert_eq!((rotation(&process), lifetime(&process)), (MINUTE, MINUTE));
    assert_eq!(header.plain.load(Ordering::Relaxed), 0);
}

/// A daemon's parent opens the ring and ends at once. Until its child issues the first ticket
/// nobody knows of it; from then on it is as if it had always been there.
#[test]
fn a_child_whose_parent_has_ended_seals_nothing_with_what_others_made_meanwhile() {
    let bench = bench();
    // This process as the child of one that asked for this.
    let strict = set(Some(MINUTE), Some(MINUTE));
    let (child, _) = bench.opens(&strict);
    child.ring().forget(tktrot::process::id());

    let loose = Config { bind: Some(Bind::NONE), ..set(Some(DAY), Some(DAY)) };
    let _other = bench.other(|process| {
        assert_eq!(process.configure(&loose).unwrap(), []);
        let key = seal(process);
        assert!(key.plain && key.times.encrypt_until == bench.clock.now() + DAY);
    });
    assert_eq!(rotation(&child), DAY);
    bench.clock.advance(SECOND);
    // As a ticket does, before anything else.
    assert!(child.settle());
    let key = seal(&child);
    assert!(!key.plain);
    assert_eq!(key.times.encrypt_until, bench.clock.now() + MINUTE);
    assert_eq!(key.times.retention(), MINUTE);
    assert_eq!((rotation(&child), lifetime(&child)), (MINUTE, MINUTE));
}

#[test]
fn nothing_is_sealed_with_a_key_that_is_kept_for_longer_than_is_asked_for() {
    let bench = bench();
    let other = bench.other(|process| {
        process.configure(&set(Some(HOUR), Some(DAY))).unwrap();
        assert_eq!(seal(process).times.retention(), DAY);
    });
    bench.clock.advance(SECOND);
    let (process, _) = bench.opens(&set(Some(HOUR), Some(MINUTE)));
    let key = seal(&process);
    assert_eq!(key.times.retention(), MINUTE);
    assert_eq!(key.times.encrypt_from, bench.clock.now());
    // Who sets nothing is served as long as its tickets live.
    drop(other);
    process.ring().forget(tktrot::process::id());
    let _other = bench.other(|process| {
        process.configure(&set(Some(HOUR), Some(DAY))).unwrap();
        assert_eq!(seal(process).times.retention(), DAY);
    });
    let (process, _) = bench.opens(&Config::default());
    assert_eq!(seal(&process).times.retention(), DEFAULT_LIFETIME);
}

/// Somebody had the lock for so long.
#[test]
fn what_could_not_be_told_at_the_start_is_told_with_the_first_ticket() {
    let bench = bench();
    let process = bench.open();
    let stuck = bench.open();
    let writer = stuck.ring().try_write().unwrap();
    assert!(process.configure(&set(Some(SECOND), Some(MINUTE))).is_err());
    drop(writer);
    process.expect_lifetime(5 * MINUTE);
    assert!(process.settle());
    let key = seal(&process);
    assert_eq!(key.times.encrypt_until, bench.clock.now() + SECOND);
    assert_eq!(key.times.retention(), MINUTE);
    let header = process.ring().header();
    assert_eq!(header.lifetime.load(Ordering::Relaxed), nanos(MINUTE));
    assert_eq!(header.own_lifetimes.load(Ordering::Relaxed), 0);
}

/// `tktrot rotate`, before the workers of a daemon have had a client.
#[test]
fn where_nobody_has_told_anything_a_rotation_by_hand_changes_no_setting() {
    let bench = bench();
    let asked = Config { bind: Some(Bind::NONE), ..set(Some(12 * HOUR), Some(DAY)) };
    let (process, _) = bench.opens(&asked);
    process.ring().forget(tktrot::process::id());
    let operator = bench.open();
    operator.reconsider().unwrap();
    operator.rotate().unwrap();
    assert_eq!((rotation(&process), lifetime(&process)), (12 * HOUR, DAY));
    assert!(seal(&process).plain);
}

#[test]
fn an_agent_asks_as_others_do_and_decides_what_servers_leave_open() {
    let bench = bench();
    let server = bench.other_asks(&Config::default());
    let agent = bench.open();
    let settings = Config { bind: Some(Bind::NONE), ..set(Some(12 * HOUR), Some(DAY)) };
    let overruled = agent.govern().unwrap().configure(&settings);
    assert_eq!((rotation(&agent), lifetime(&agent)), (12 * HOUR, DAY), "{overruled:?}");
    assert_eq!(agent.ring().header().plain.load(Ordering::Relaxed), 0, "a server binds");
    let said = overruled[0].to_string();
    assert!(said.contains(&format!("process {} (", server.0)), "{said}");

    let shorter = bench.other_asks(&set(Some(HOUR), Some(HOUR)));
    assert_eq!((rotation(&agent), lifetime(&agent)), (HOUR, HOUR));
    let overruled = agent.govern().unwrap().configure(&settings);
    assert_eq!((rotation(&agent), lifetime(&agent)), (HOUR, HOUR));
    assert_eq!(overruled.len(), 3, "{overruled:?}");

    drop(shorter);
    agent.govern().unwrap().configure(&settings);
    assert_eq!((rotation(&agent), lifetime(&agent)), (12 * HOUR, DAY));

    // Without an agent, servers that set nothing have the defaults.
    agent.ring().forget(tktrot::process::id());
    bench.clock.advance(LEASE);
    let _next = bench.other_asks(&Config::default());
    assert_eq!((rotation(&agent), lifetime(&agent)), (DEFAULT_ROTATE_EVERY, DEFAULT_LIFETIME));
}

#[test]
fn who_only_opens_rings_again_and_again_uses_up_nothing() {
    let bench = bench();
    for _ in 0..200 {
        drop(bench.other_asks(&set(Some(MINUTE), None)));
    }
    let view = bench.place.look().unwrap().unwrap();
    assert!(view.users(NOW).len() <= 1, "{:?}", view.users(NOW));
    let (process, _) = bench.opens(&set(Some(HOUR), None));
    assert_eq!(rotation(&process), HOUR);
    assert!(!process.ring().is_used_by_others(tktrot::process::id(), NOW));
}
