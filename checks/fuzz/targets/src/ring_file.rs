//! A ring as it is found on disk. The first byte says whether the rest is the file, or what was
//! changed in a sound one.

use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tktrot::clock::{Time, VirtualClock};
use tktrot::log::Destination;
use tktrot::ring::Ring;
use tktrot::ring::file;
use tktrot::ring::file::Place;
use tktrot::ring::key::Key;
use tktrot::ring::layout::{
    Capacity, FIRST_SLOTS, GATES_AT, Gate, Header, MIN_CAPACITY, SIZE, SLOTS_AT, bytes_of,
};
use tktrot::rotate::Keyring;
use tktrot::schedule::KeyTimes;

use crate::made_up;

/// The rest is the file.
pub const WHOLE: u8 = 0;
/// The rest is changes to a sound ring: where (16 bits, big-endian), how many bytes, the bytes. With
/// [`CUT`] for their number the file ends there.
pub const CHANGES: u8 = 1;
/// See [`CHANGES`].
pub const CUT: u8 = 255;

const HOUR: Duration = Duration::from_secs(3600);
/// When the ring is used.
const NOW: Time = Time(10 * 3600 * 1_000_000_000);
const NODE: u64 = 9;

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(sound);

/// See [`WHOLE`] and [`CHANGES`].
pub fn ring_file(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    let mut file = match *kind {
        WHOLE => rest.to_vec(),
        CHANGES => changed(rest),
        _ => return false,
    };
    let_go(&mut file);
    tktrot::log::open(&Destination::Nothing).expect("no file");
    let (_dir, place) = place();
    fs::write(place.path(), &file).expect("tmpfs has room");
    if file.len() == bytes_of(FIRST_SLOTS) {
        let written = fs::OpenOptions::new().write(true).open(place.path());
        written.expect("a file of ours").set_len(SIZE as u64).expect("tmpfs has room");
    }
    let before = fs::metadata(place.path()).expect("a file").len();
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(place.path(), private).expect("a file of ours");
    if file.len() >= size_of::<Header>() {
        // Else all that is looked at is that it is a copy.
        let written = fs::OpenOptions::new().write(true).open(place.path());
        file::adopt(&written.expect("a file of ours")).expect("tmpfs has room");
    }

    look_at(&place);
    let opened = place.open_present();
    let size = fs::metadata(place.path()).expect("it is still there").len();
    assert_eq!(size, before, "a file that was found has another size now");
    match opened {
        Ok(ring) => {
            use_it(ring.expect("a file that is there"), &place);
            true
        }
        Err(refused) => {
            let reason = refused.to_string();
            assert!(reason.starts_with(&place.path().display().to_string()), "{reason}");
            false
        }
    }
}

fn place() -> (TempDir, Place) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
    (dir, place)
}

/// The bytes of a ring with a line of three keys and others that only decrypt, as far as it has
/// memory.
fn sound() -> Vec<u8> {
    let (_dir, place) = place();
    let ring = place.open(Capacity::new(MIN_CAPACITY).expect("a capacity")).expect("a ring");
    ring.header().node.store(NODE, Ordering::Relaxed);
    let writer = ring.try_write().expect("nobody else writes");
    let times = |hours: u32| {
        let from = Time(0) + hours * HOUR;
        KeyTimes { encrypt_from: from, encrypt_until: from + HOUR, decrypt_until: from + 3 * HOUR }
    };
    let publish = |number, hours, node| {
        writer.publish(&made_up::key(number, times(hours), node)).expect("a key")
    };
    publish(1, 9, NODE);
    let line = [publish(2, 10, NODE), publish(3, 11, NODE)];
    publish(4, 9, NODE + 1);
    writer.set_line(&line);
    writer.set_deadline(NOW + HOUR);
    drop(writer);
    let mut bytes = fs::read(place.path()).expect("the ring");
    bytes.truncate(bytes_of(FIRST_SLOTS));
    bytes
}

fn changed(changes: &[u8]) -> Vec<u8> {
    let mut file = SOUND.clone();
    let mut rest = changes;
    while let [high, low, count, more @ ..] = rest {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % SOUND.len();
        let bytes;
        (bytes, rest) = match *count {
            CUT => {
                file.truncate(at);
                (&more[..0], more)
            }
            count => more.split_at(usize::from(count).min(more.len())),
        };
        for (to, from) in file.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }
    file
}

/// Who opens a ring waits for two seconds for a lock that is held: too long for a fuzzer. So
/// whoever has passed a gate has died there; what that does not change is that it is no free one.
fn let_go(file: &mut [u8]) {
    let Some(gates) = file.get_mut(GATES_AT..SLOTS_AT) else { return };
    for gate in gates.chunks_exact_mut(size_of::<Gate>()) {
        let word = &mut gate[offset_of!(Gate, mutex)..][..4];
        let held = u32::from_ne_bytes(word.try_into().expect("four bytes"));
        if held != 0 {
            word.copy_from_slice(&(held | libc::FUTEX_OWNER_DIED).to_ne_bytes());
        }
    }
}

/// As `tktrot status` does: whatever there is, nothing is changed by it.
fn look_at(place: &Place) {
    let before = fs::read(place.path()).expect("the file");
    if let Ok(view) = place.look() {
        let view = view.expect("a file that is there");
        let keys = view.keys();
        assert!(keys.len() <= view.capacity() as usize);
        let mut key = Key::blank();
        for facts in &keys {
            if view.read(&facts.name, &mut key) {
                assert_eq!(key.name, facts.name);
            }
        }
        if view.encrypting(NOW, &mut key) {
            assert!(key.times.encrypt_from <= NOW && NOW < key.times.encrypt_until);
        }
        let seen = (view.users(NOW).len(), view.totals(), view.rotations(), view.last_problem());
        let held = (view.writer(), view.leader(NOW), view.deadline());
        std::hint::black_box((seen.0, seen.2, held));
    }
    assert!(fs::read(place.path()).expect("the file") == before, "a look changed the ring");
}

/// What was taken for a ring is one: every key is found, and it can be written and rotated.
fn use_it(ring: Ring, place: &Place) {
    let mut key = Key::blank();
    {
        let writer = ring.try_write().expect("the lock works: it was had before");
        assert_eq!(writer.defect(), None);
        let entries = writer.entries();
        assert!(entries.len() <= ring.capacity() as usize);
        for entry in &entries {
            assert!(entry.times.are_ordered());
            assert!(ring.find(&entry.name, &mut key), "a key that is not found");
            assert!(key.name == entry.name && !key.is_weak());
        }
        let new = made_up::key(100, KeyTimes::ENDLESS, NODE);
        if writer.room() > 0 {
            let index = writer.publish(&new).expect("a name that no file has");
            assert!(ring.find(&new.name, &mut key));
            writer.erase(index);
        }
        assert!(!ring.find(&new.name, &mut key));
        assert_eq!(writer.defect(), None);
    }
    let keyring = Keyring::new(ring, VirtualClock::new(NOW), &made_up::GENERATOR);
    for hours in [0, 1, 30] {
        let now = NOW + hours * HOUR;
        keyring.tick(now);
        if keyring.sealing(now).is_some_and(|located| keyring.ring().find(&located.name, &mut key))
        {
            assert!(key.times.encrypt_from <= now && now < key.times.encrypt_until);
            assert!(!key.is_weak() && !key.aes_128);
        }
    }
    let _ = keyring.rotate();
    let writer = keyring.ring().try_write().expect("nobody else writes");
    assert_eq!(writer.defect(), None);
    drop(writer);
    assert!(place.look().is_ok(), "it was opened, and cannot be looked at");
}
