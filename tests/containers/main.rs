//! One ring on a machine, whatever namespaces its processes live in: PID namespaces, in
//! which all have the same number, and time namespaces, in which clocks differ.

mod bundle;
mod contained;
mod lives;
mod manifests;
mod nginxes;
mod oci;
mod servers;
mod units;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, thread};

use tktrot::clock::{BootClock, Clock};
use tktrot::config::Config;
use tktrot::process;
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::layout::Capacity;
use tktrot::ring::lock::Holder;
use tktrot::rotate::{Generator, Keyring, NotRandom};

use contained::{Contained, shared, together, until};

const HOUR: Duration = Duration::from_secs(3600);

/// Nothing secret: distinct bytes.
struct Source(AtomicU64);

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        let seed = self.0.fetch_add(1, Ordering::Relaxed) ^ process::id().0;
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (seed + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8 ^ (mixed >> 24) as u8;
        }
        Ok(())
    }
}

static SOURCE: Source = Source(AtomicU64::new(1));

fn place() -> (tempfile::TempDir, Place) {
    testbed::process::needs_root("namespaces");
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
    (dir, place)
}

fn open(place: &Place) -> Ring {
    place.open(Capacity::new(8).unwrap()).unwrap()
}

fn keyring(place: &Place) -> Keyring {
    let keyring = Keyring::new(open(place), BootClock, &SOURCE);
    keyring.configure(&Config::default()).unwrap();
    keyring
}

fn node(ring: &Ring) -> u64 {
    ring.node()
}

/// So many times, so many servers start at once, each in a container of its own.
fn starts_at_once(rounds: usize, servers: u64) {
    let (_dir, place) = place();
    let words = shared();
    let (ready, nodes) = words.split_first().unwrap();
    for round in 0..rounds {
        let _ = fs::remove_file(place.path());
        ready.store(0, Ordering::SeqCst);
        let all: Vec<_> = (0..servers)
            .map(|server| {
                let start = || {
                    together(ready, servers);
                    let ring = open(&place);
                    nodes[server as usize].store(node(&ring), Ordering::SeqCst);
                };
                Contained::start(None, start)
            })
            .collect();
        for one in all {
            assert!(one.ends_well(), "round {round}: a server has no ring");
        }
        let there = node(&open(&place));
        for server in &nodes[..servers as usize] {
            assert_eq!(server.load(Ordering::SeqCst), there, "round {round}: another ring");
        }
        let left = fs::read_dir(&place.dir).unwrap().count();
        assert_eq!(left, 1, "round {round}: an unfinished ring stayed");
    }
}

#[test]
fn two_servers_that_start_at_once_have_one_ring() {
    starts_at_once(400, 2);
}

#[test]
fn eight_servers_that_start_at_once_have_one_ring() {
    starts_at_once(400, 8);
}

/// A day ahead, a day behind, and as the machine is.
fn offsets() -> [Option<i64>; 3] {
    let [behind, ahead] = testbed::container::a_day_apart().unwrap();
    [Some(ahead), Some(behind), None]
}

#[test]
fn time_is_the_machines_in_every_time_namespace() {
    let (_dir, place) = place();
    let keyring = keyring(&place);
    keyring.rotate().unwrap();
    let entries = || keyring.ring().try_write().unwrap().entries();
    let before = entries();
    assert_eq!(before.len(), 2);
    let now = &shared()[0];
    for ahead in offsets() {
        let look = || {
            now.store(BootClock.now().0, Ordering::SeqCst);
            let other = Keyring::new(open(&place), BootClock, &SOURCE);
            // Were a day to have passed, it would erase all and make new ones.
            other.tick_patiently();
            assert!(other.sealing(other.now()).is_some());
        };
        let earliest = BootClock.now();
        assert!(Contained::start(ahead, look).ends_well());
        let seen = now.load(Ordering::SeqCst);
        assert!((earliest.0..=BootClock.now().0).contains(&seen), "{ahead:?}: {seen}");
        let names = |entries: Vec<tktrot::ring::writer::Entry>| {
            entries.into_iter().map(|entry| (entry.name, entry.times)).collect::<Vec<_>>()
        };
        assert_eq!(names(entries()), names(before.clone()), "{ahead:?}");
    }
}

/// As where a runtime forks into the container: the time was read before.
#[test]
fn a_child_that_is_born_into_another_time_namespace_has_the_machines_time() {
    let (_dir, _place) = place();
    process::watch();
    let now = &shared()[0];
    for ahead in offsets() {
        let earliest = BootClock.now();
        let look = || now.store(BootClock.now().0, Ordering::SeqCst);
        assert!(Contained::start(ahead, look).ends_well());
        let seen = now.load(Ordering::SeqCst);
        assert!((earliest.0..=BootClock.now().0).contains(&seen), "{ahead:?}: {seen}");
    }
}

#[test]
fn who_leaves_a_ring_leaves_the_keys_of_other_containers() {
    let (_dir, place) = place();
    let words = shared();
    let serve = || {
        let keyring = keyring(&place);
        keyring.settle();
        assert!(keyring.sealing(keyring.now()).is_some());
        words[0].store(1, Ordering::SeqCst);
        until("the end of the other one", || words[1].load(Ordering::SeqCst) == 1);
        assert!(!keyring.ring().try_write().unwrap().entries().is_empty(), "keys were erased");
    };
    let server = Contained::start(None, serve);
    until("the server", || words[0].load(Ordering::SeqCst) == 1);
    let leave = || {
        let keyring = keyring(&place);
        keyring.settle();
        keyring.abandon().unwrap();
    };
    assert!(Contained::start(None, leave).ends_well());
    words[1].store(1, Ordering::SeqCst);
    assert!(server.ends_well());
}

/// In the first process of a container thread and process have the same number: 1.
#[test]
fn a_holder_that_stands_still_keeps_the_lock_whoever_of_its_number_dies() {
    let (_dir, place) = place();
    let ring = open(&place);
    let words = shared();
    let holder = Contained::start(None, || {
        let ring = open(&place);
        let writer = ring.try_write().unwrap();
        words[0].store(1, Ordering::SeqCst);
        until("to be told", || words[1].load(Ordering::SeqCst) == 1);
        drop(writer);
    });
    until("the holder", || words[0].load(Ordering::SeqCst) == 1);
    holder.signal(libc::SIGSTOP);
    for _ in 0..20 {
        words[2].store(0, Ordering::SeqCst);
        let waiter = Contained::start(None, || {
            words[2].store(1, Ordering::SeqCst);
            assert!(ring.write_within(HOUR).is_err());
        });
        until("the waiter", || words[2].load(Ordering::SeqCst) == 1);
        thread::sleep(Duration::from_millis(3));
        waiter.signal(libc::SIGKILL);
        assert!(!waiter.ends_well());
        assert!(ring.try_write().is_err(), "the lock was taken from one that stands still");
        assert!(matches!(ring.holder(), Holder::Thread { thread: 1, .. }), "{:?}", ring.holder());
    }
    words[1].store(1, Ordering::SeqCst);
    holder.signal(libc::SIGCONT);
    assert!(holder.ends_well());
    assert!(ring.try_write().is_ok());
    assert_eq!(ring.header().repairs.load(Ordering::Relaxed), 0);
}

/// So many rounds of holders that are left alone, and of waiters of their number that are killed
/// wherever they are.
fn rounds() -> u64 {
    std::env::var("CONTAINERS_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap())
}

#[test]
fn no_two_ever_write_whoever_is_killed_meanwhile() {
    let (_dir, place) = place();
    let ring = open(&place);
    let words = shared();
    let (inside, told_to_end, held) = (&words[0], &words[1], &words[2]);
    // Both are the first of their namespace, have the same number, and hold the lock in turn.
    let hold = |seed: u64| {
        let mut state = seed;
        while told_to_end.load(Ordering::SeqCst) == 0 {
            let Ok(writer) = ring.write_within(Duration::from_secs(20)) else {
                panic!("the lock is lost");
            };
            assert_eq!(inside.swap(seed, Ordering::SeqCst), 0, "two write");
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            thread::sleep(Duration::from_micros(state >> 56));
            assert_eq!(inside.swap(0, Ordering::SeqCst), seed, "two write");
            held.fetch_add(1, Ordering::SeqCst);
            drop(writer);
            thread::sleep(Duration::from_micros(state >> 58));
        }
    };
    let holders = [1, 2].map(|seed| Contained::start(None, move || hold(seed)));
    for round in 0..rounds() {
        let waiter = Contained::start(None, || {
            loop {
                let writer = ring.write_within(HOUR).unwrap();
                assert_eq!(inside.load(Ordering::SeqCst), 0, "two write");
                drop(writer);
            }
        });
        waiter.pid();
        thread::sleep(Duration::from_micros(round * 37 % 500));
        waiter.signal(libc::SIGKILL);
        drop(waiter);
    }
    told_to_end.store(1, Ordering::SeqCst);
    for holder in holders {
        assert!(holder.ends_well());
    }
    assert!(held.load(Ordering::SeqCst) > 0);
    assert!(ring.write_within(Duration::from_secs(20)).is_ok());
}

#[test]
fn what_a_killed_one_of_another_container_asked_for_no_longer_counts() {
    let (_dir, place) = place();
    let ring = open(&place);
    let words = shared();
    let server = Contained::start(None, || {
        let keyring: &'static Keyring =
            Box::leak(Box::new(Keyring::new(open(&place), BootClock, &SOURCE)));
        let rotate_every = Some(Duration::from_secs(60));
        keyring.configure(&Config { rotate_every, ..Config::default() }).unwrap();
        keyring.settle();
        thread::spawn(move || {
            // SAFETY: the ring is there until the process ends.
            let shown = unsafe { keyring.ring().show_life(process::id()) };
            assert!(shown.is_some());
            words[0].store(1, Ordering::SeqCst);
            until("the end", || words[1].load(Ordering::SeqCst) == 1);
        });
        until("the end", || words[1].load(Ordering::SeqCst) == 1);
    });
    until("the server", || words[0].load(Ordering::SeqCst) == 1);
    // However long it shows nothing but its life.
    let later = || BootClock.now() + HOUR;
    let askers = || ring.askers_but(process::id(), later());
    assert_eq!(askers().len(), 1);
    assert!(askers()[0].to_string().contains("in another container"), "{:?}", askers());
    server.signal(libc::SIGKILL);
    assert!(!server.ends_well());
    assert_eq!(askers(), []);
    assert!(!ring.is_used_by_others(process::id(), BootClock.now()));
}

#[test]
fn every_process_is_told_from_every_other() {
    let (_dir, _place) = place();
    let words = shared();
    let all: Vec<_> = (0..3)
        .map(|at| {
            let tell = || words[at].store(process::id().0, Ordering::SeqCst);
            let one = Contained::start(None, || {
                tell();
                until("all", || words[..3].iter().all(|word| word.load(Ordering::SeqCst) != 0));
            });
            until("its id", || words[at].load(Ordering::SeqCst) != 0);
            (one, words[at].load(Ordering::SeqCst))
        })
        .collect();
    let ids: Vec<u64> = all.iter().map(|(_, id)| *id).collect();
    assert!(ids.iter().all(|id| *id as u32 == 1), "{ids:x?}");
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:x?}");
}
