//! A ring grows as keys come, under readers and writers that live, and refuses a key for
//! which there is no memory. As root: each test mounts a tmpfs in a namespace of its own.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testbed::client::{Client, TlsVersion};
use testbed::solo::Solo;
use testbed::{RingDir, artifacts, log, wait};
use tktrot::clock::{BootClock, Clock, Time, VirtualClock};
use tktrot::config::Config;
use tktrot::ring::Ring;
use tktrot::ring::file::Place;
use tktrot::ring::graves::Burial;
use tktrot::ring::key::Key;
use tktrot::ring::layout::{Capacity, FIRST_SLOTS, MORE_GRAVES, MORE_SLOTS, SIZE, bytes_of};
use tktrot::ring::writer::NotPublished;
use tktrot::rotate::{Failure, Generator, Keyring, NotRandom};
use tktrot::schedule::KeyTimes;
use tktrot::secret::KeyName;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(60);
/// A page, where pages are largest.
const PAGE: u64 = 64 << 10;

/// A key of which each number has another, and that shows whether it is whole.
fn key(number: u64) -> Key {
    let mut key = Key::blank();
    (key.node, key.name) = (1 + number, name(number));
    fill(key.secrets.aes.expose_mut(), number, 1);
    fill(key.secrets.hmac.expose_mut(), number, 2);
    let end = Time(1_000_000 + number);
    key.times = KeyTimes { encrypt_from: Time(0), encrypt_until: Time(1), decrypt_until: end };
    key
}

fn name(number: u64) -> KeyName {
    let mut name = KeyName([0; 16]);
    fill(&mut name.0, number, 3);
    name
}

fn fill(bytes: &mut [u8], number: u64, salt: u64) {
    let mut state = number << 8 | salt;
    for byte in bytes {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        *byte = (mixed >> 40) as u8;
    }
}

fn finds(ring: &Ring, number: u64) -> bool {
    let (mut found, wanted) = (Key::blank(), key(number));
    let is_found = ring.find(&name(number), &mut found);
    if is_found {
        assert!(found.secrets.aes.same_as(&wanted.secrets.aes), "a torn key");
        assert!(found.secrets.hmac.same_as(&wanted.secrets.hmac), "a torn key");
        assert_eq!((found.times, found.node), (wanted.times, wanted.node), "a torn key");
    }
    is_found
}

fn publish(ring: &Ring, number: u64) -> std::result::Result<usize, NotPublished> {
    ring.write_within(PATIENCE).unwrap().publish(&key(number))
}

fn fill_with(ring: &Ring, mut numbers: Range<u64>) {
    assert!(numbers.all(|number| publish(ring, number).is_ok()));
}

fn place(dir: &Path) -> Place {
    Place { dir: dir.into(), file: "some.ring".into(), dir_mode: 0o700 }
}

/// Does the work in a child, on a tmpfs of so many bytes that nobody else has, and says
/// whether it ended well: neither by a panic nor by a signal.
fn on_a_tmpfs(bytes: u64, work: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    ends_well(child(|| {
        mount(dir.path(), bytes);
        work(dir.path());
    }));
}

/// Starts a process that does this, and ends with 0 if it does not panic.
fn child(work: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child works alone and leaves with _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: asks the kernel for a signal, so that the child ends whatever goes wrong.
        unsafe { libc::alarm(600) };
        let done = catch_unwind(AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    child
}

fn ends_well(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "a process ended with status {status:#x}");
}

fn mount(dir: &Path, bytes: u64) {
    let c = |text: String| std::ffi::CString::new(text).unwrap();
    let dir = c(dir.display().to_string());
    let options = c(format!("size={bytes},mode=0700"));
    // SAFETY: valid strings; the mounts are of this process's own namespace.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "unshare (as root?)");
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let (root, none) = (c"/".as_ptr(), std::ptr::null());
        assert_eq!(libc::mount(none, root, none, private, none.cast()), 0);
        let tmpfs = c"tmpfs".as_ptr();
        let mounted = libc::mount(tmpfs, dir.as_ptr(), tmpfs, 0, options.as_ptr().cast());
        assert_eq!(mounted, 0, "mount");
    }
}

/// Takes all memory of a tmpfs.
fn fill_up(path: &PathBuf) {
    let mut file = File::create(path).unwrap();
    while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
}

fn taken(place: &Place) -> u64 {
    fs::metadata(place.path()).unwrap().blocks() * 512
}

#[test]
fn a_ring_takes_the_memory_that_its_keys_need() {
    const KEYS: u64 = 5000;
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = place(dir.path());
    let ring = place.open(Capacity::MAX).unwrap();
    let view = place.look().unwrap().unwrap();
    let onlooker = place.open(Capacity::MAX).unwrap();
    // And a page of graves, on one page or two.
    let first = bytes_of(FIRST_SLOTS) as u64 + 4096;
    assert!((first..=first.next_multiple_of(PAGE) + PAGE).contains(&taken(&place)));
    for number in 0..KEYS {
        if number % 1000 == 0 {
            let slots = (number as u32).max(FIRST_SLOTS);
            let range = slots..=slots + MORE_SLOTS;
            assert!(range.contains(&ring.slots_with_memory()), "{number} keys");
            // At least: the kernel may take more at a time than a page.
            assert!(taken(&place) >= bytes_of(slots) as u64, "{number} keys");
        }
        publish(&ring, number).unwrap();
    }
    assert!((0..KEYS).all(|number| finds(&onlooker, number)));
    assert_eq!(view.keys().len() as u64, KEYS);
    assert_eq!(ring.try_write().unwrap().defect(), None);
    assert_eq!(fs::metadata(place.path()).unwrap().len(), SIZE as u64);
    // Who opens it now has all of it.
    let later = place.open(Capacity::MAX).unwrap();
    assert!(finds(&later, KEYS - 1) && u64::from(later.slots_with_memory()) >= KEYS);
    // What has memory is used again.
    let writer = ring.try_write().unwrap();
    writer.erase(999);
    drop(writer);
    assert_eq!(publish(&later, KEYS), Ok(999));
}

#[test]
fn a_bound_is_kept_whatever_there_is_room_for() {
    let ring = Ring::private(Capacity::new(70).unwrap()).unwrap();
    assert!((0..70).all(|number| publish(&ring, number).is_ok()));
    assert_eq!(publish(&ring, 70).err(), Some(NotPublished::Full));
    assert_eq!(ring.try_write().unwrap().room(), 0);
}

/// From 8 keys to the most, with four processes that look all the time and two that write.
#[test]
fn keys_are_found_while_the_ring_grows_under_processes_that_live() {
    const KEYS: u64 = 2000;
    const WRITERS: u64 = 2;
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = place(dir.path());
    let ring = place.open(Capacity::MAX).unwrap();
    fill_with(&ring, 0..8);
    let process = |number: u64| {
        let own = place.open(Capacity::MAX).unwrap();
        if number < WRITERS {
            for key in (8 + number..KEYS).step_by(WRITERS as usize) {
                publish(&own, key).unwrap();
                assert!(finds(&own, key) && finds(&ring, key));
            }
            return;
        }
        let mut seen = 8;
        while seen < KEYS {
            // What was found once stays, and what is published is found.
            assert!(finds(&own, seen * 7 % seen), "a key that is there is not found");
            match finds(&own, seen) {
                true => seen += 1,
                false => thread::yield_now(),
            }
        }
    };
    let children: Vec<_> = (0..6).map(|number| child(|| process(number))).collect();
    children.into_iter().for_each(ends_well);
    assert_eq!(ring.try_write().unwrap().defect(), None);
    assert_eq!(ring.try_write().unwrap().entries().len() as u64, KEYS);
}

#[test]
fn without_memory_a_key_is_refused_and_nothing_else_happens() {
    on_a_tmpfs(1 << 20, |dir| {
        let (place, filler) = (place(dir), dir.join("filler"));
        let ring = place.open(Capacity::MAX).unwrap();
        let mut keys = 0;
        for _ in 0..20 {
            fill_up(&filler);
            let refused = loop {
                match publish(&ring, keys) {
                    Ok(_) => keys += 1,
                    Err(why) => break why,
                }
            };
            assert_eq!(refused, NotPublished::NoMemory);
            assert_eq!(ring.try_write().unwrap().defect(), None);
            assert!((0..keys).all(|number| finds(&ring, number)));
            // Who comes now finds it as it is.
            assert!(finds(&place.open(Capacity::MAX).unwrap(), keys - 1));
            // Where one key goes there is room for another.
            let writer = ring.try_write().unwrap();
            writer.erase(3);
            writer.publish(&key(3)).unwrap();
            drop(writer);
            fs::remove_file(&filler).unwrap();
            publish(&ring, keys).unwrap();
            keys += 1;
        }
        assert!(keys > 20 * u64::from(MORE_SLOTS) / 2, "only {keys} keys");
    });
}

/// A rotation that finds no memory leaves all keys as they are, as long as one encrypts.
#[test]
fn without_memory_keys_rotate_as_far_as_they_can_and_go_on_when_there_is_some() {
    const ROTATE: Duration = Duration::from_secs(100);
    on_a_tmpfs(1 << 20, |dir| {
        let (clock, filler) = (VirtualClock::new(Time(0) + 100 * ROTATE), dir.join("filler"));
        let keyring = Keyring::new(place(dir).open(Capacity::MAX).unwrap(), &clock, &Source);
        let lifetime = Some(3 * ROTATE);
        let config = Config { rotate_every: Some(ROTATE), lifetime, ..Config::default() };
        keyring.configure(&config).unwrap();
        keyring.tick_patiently();
        let far = Time(u64::MAX / 2);
        let writer = keyring.ring().try_write().unwrap();
        for number in (0..).take(FIRST_SLOTS as usize - writer.entries().len()) {
            let mut key = key(number);
            key.times.decrypt_until = far;
            writer.publish(&key).unwrap();
        }
        drop(writer);
        fill_up(&filler);

        let names = || -> Vec<_> {
            let entries = keyring.ring().try_write().unwrap().entries();
            entries.iter().map(|entry| entry.name).collect()
        };
        let before = names();
        assert_eq!(keyring.rotate(), Err(Failure::NoMemory));
        assert_eq!(names(), before);
        for _ in 0..8 {
            clock.advance(ROTATE / 2);
            keyring.tick_patiently();
            assert!(keyring.sealing(clock.now()).is_some(), "none encrypts");
            assert_eq!(names().len(), FIRST_SLOTS as usize);
        }
        let is_there = |number| keyring.ring().locate(&name(number)).is_some();
        assert!((0..50).all(is_there), "another node's key is gone");
        fs::remove_file(&filler).unwrap();
        clock.advance(ROTATE / 2);
        keyring.tick_patiently();
        assert!(keyring.ring().slots_with_memory() > FIRST_SLOTS);
    });
}

/// Random bytes.
struct Source;

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> std::result::Result<(), NotRandom> {
        openssl::rand::rand_bytes(bytes).map_err(|_| NotRandom::Failed)
    }
}

/// On a full tmpfs there is memory for the first page of graves, and then for no more: what ends
/// first gives way, and nobody is hurt.
#[test]
fn graves_take_memory_as_they_come() {
    on_a_tmpfs(256 << 10, |dir| {
        let place = place(dir);
        let ring = place.open(Capacity::MAX).unwrap();
        fill_up(&dir.join("filler"));
        let bury = |number| {
            let writer = ring.write_within(PATIENCE).unwrap();
            writer.bury(&name(number), Time(1000 + number))
        };
        let first = u64::from(MORE_GRAVES);
        assert!((0..first).all(|number| bury(number) == Burial::Done));
        assert_eq!(bury(first), Burial::InPlaceOf(name(0)));
        fs::remove_file(dir.join("filler")).unwrap();
        assert!((first + 1..2 * first).all(|number| bury(number) == Burial::Done));
        // Who opens it now has all of them, and so has who only looks.
        let later = place.open(Capacity::MAX).unwrap();
        assert_eq!(later.graves().len() as u64, 2 * first - 1);
        assert_eq!(place.look().unwrap().unwrap().graves().len(), later.graves().len());
        assert_eq!(later.try_write().unwrap().defect(), None);
    });
}

#[test]
fn a_tmpfs_too_small_for_a_ring_refuses_it() {
    on_a_tmpfs(32 << 10, |dir| {
        let refused = place(dir).open(Capacity::MAX).err().unwrap().to_string();
        assert!(refused.contains("no room for it"), "{refused}");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    });
}

/// As `truncate -s` does. What is gone cannot be used; what is not there is not touched.
#[test]
fn a_truncated_file_does_not_grow() {
    on_a_tmpfs(1 << 20, |dir| {
        let place = place(dir);
        let ring = place.open(Capacity::MAX).unwrap();
        fill_with(&ring, 0..FIRST_SLOTS.into());
        let file = File::options().write(true).open(place.path()).unwrap();
        file.set_len((bytes_of(FIRST_SLOTS) as u64).next_multiple_of(4096)).unwrap();
        let refused = (0..100).find_map(|number| publish(&ring, 1000 + number).err());
        assert_eq!(refused, Some(NotPublished::NoMemory));
        assert!(finds(&ring, 63));
    });
}

/// setrlimit(2): a file beyond the limit would cost the process a signal.
#[test]
fn a_limit_of_file_sizes_refuses_the_ring() {
    on_a_tmpfs(1 << 20, |dir| {
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
        // SAFETY: a valid limit, of this process alone.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let refused = place(dir).open(Capacity::MAX).err().unwrap().to_string();
        assert!(refused.contains("RLIMIT_FSIZE"), "{refused}");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    });
}

/// Each process locks for itself what it has, and what is there of it since.
#[test]
fn memory_is_locked_as_it_comes() {
    on_a_tmpfs(8 << 20, |dir| {
        let place = place(dir);
        let (ring, other) =
            (place.open(Capacity::MAX).unwrap(), place.open(Capacity::MAX).unwrap());
        ring.lock().unwrap();
        let least = locked();
        assert!((bytes_of(FIRST_SLOTS) as u64..=2 * PAGE).contains(&least), "{least} bytes");
        fill_with(&other, 0..1000);
        assert_eq!(locked(), least);
        ring.lock_more().unwrap();
        assert!(locked() >= bytes_of(1000) as u64);
        assert!(!ring.lost_its_file());
        fs::remove_file(place.path()).unwrap();
        assert!(ring.lost_its_file() && other.lost_its_file());
        // Beyond the limit it is said once, and goes on.
        let limit = libc::rlimit { rlim_cur: locked(), rlim_max: locked() };
        drop_the_right_to_lock_all(&limit);
        fill_with(&other, 1000..2000);
        assert!(ring.lock_more().is_err());
        assert!(ring.lock_more().is_ok());
        assert!(ring.lost_its_file());
    });
}

/// As an agent of a large fleet does to a ring that small servers made.
#[test]
fn a_server_goes_on_while_its_ring_grows_and_locks_what_it_got() -> Result<()> {
    const KEYS: u64 = 1000;
    let rings = RingDir::new()?;
    let server = Solo::openssl().preload(artifacts::shim()?).ring(&rings).start()?;
    let client = Client::new(TlsVersion::V12)?;
    let first = client.connect(server.addr(), None, None)?;
    let ticket = first.tickets.last().ok_or("no ticket")?;
    let place = Place { file: "openssl.ring".into(), ..place(rings.path()) };
    let ring = place.open_present().map_err(|refused| refused.to_string())?.ok_or("no ring")?;
    let end = BootClock.now() + PATIENCE;
    for number in 0..KEYS {
        let mut key = key(number);
        key.times.decrypt_until = end;
        ring.write_within(PATIENCE).unwrap().publish(&key).unwrap();
        if number % 100 == 0 {
            assert!(client.connect(server.addr(), None, Some(ticket))?.resumed);
        }
    }
    let pid = server.pid()?;
    wait::until(PATIENCE, "the lock of the memory", || {
        (locked_by(&pid.to_string()) >= bytes_of(KEYS as u32) as u64).then_some(())
    })?;
    assert!(client.connect(server.addr(), None, Some(ticket))?.resumed);
    assert_eq!(log::ours(&server.stderr()), [""; 0]);
    Ok(())
}

fn drop_the_right_to_lock_all(limit: &libc::rlimit) {
    // SAFETY: of this process alone: without CAP_IPC_LOCK the limit counts (mlock(2)).
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, limit), 0);
        assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        // Or it may not look at its own mappings any more (proc(5)).
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
    }
}

fn locked() -> u64 {
    locked_by("self")
}

fn locked_by(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
