//! What reader, writer and lock must never do, shown with rings whose memory is in states that no
//! sound writer leaves, or that a dead one left.

use std::sync::atomic::Ordering;

use super::Ring;
use super::key::Key;
use super::layout::{Capacity, MIN_CAPACITY};
use crate::clock::Time;
use crate::schedule::KeyTimes;
use crate::secret::KeyName;

fn ring() -> Ring {
    Ring::private(Capacity::new(MIN_CAPACITY).unwrap()).unwrap()
}

/// A made-up key, of another name and other secrets for each number.
pub(super) fn numbered(number: u8) -> Key {
    let mut key = Key::blank();
    let fill = |bytes: &mut [u8], salt: u8| {
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (index as u8).wrapping_mul(salt) ^ number;
        }
    };
    fill(&mut key.name.0, 3);
    fill(key.secrets.aes.expose_mut(), 5);
    fill(key.secrets.hmac.expose_mut(), 7);
    key
}

fn key(times: KeyTimes) -> Key {
    let mut key = numbered(0);
    key.times = times;
    key
}

fn times(from: u64) -> KeyTimes {
    let [encrypt_from, encrypt_until, decrypt_until] = [from, from + 10, from + 20].map(Time);
    KeyTimes { encrypt_from, encrypt_until, decrypt_until }
}

/// Zeroes are what anybody can send as a key's name, and zeroes are what such a slot holds.
#[test]
fn an_empty_slot_is_no_key_whatever_leads_to_it() {
    let ring = ring();
    let nameless = KeyName([0; 16]);
    ring.memory.buckets()[ring.memory.bucket(&nameless)].store(1, Ordering::Relaxed);
    assert!(ring.locate(&nameless).is_none());
    assert!(!ring.find(&nameless, &mut Key::blank()));
    assert!(!ring.memory.slots()[0].read(&mut Key::blank()));

    // The same with the times of a key that encrypts now.
    let now = times(100);
    let slot = &ring.memory.slots()[0];
    slot.encrypt_from.store(now.encrypt_from.0, Ordering::Relaxed);
    slot.encrypt_until.store(now.encrypt_until.0, Ordering::Relaxed);
    slot.decrypt_until.store(now.decrypt_until.0, Ordering::Relaxed);
    slot.node.store(ring.header().node.load(Ordering::Relaxed), Ordering::Relaxed);
    ring.header().line.store(1, Ordering::Relaxed);
    assert!(ring.locate_encrypting(Time(105)).is_none());
    assert!(!ring.find(&nameless, &mut Key::blank()));
}

#[test]
fn whatever_a_writer_asks_for_no_key_gets_longer() {
    let ring = ring();
    let writer = ring.try_write().unwrap();
    let index = writer.publish(&key(times(100))).unwrap();
    for later in [Time(110), Time(115), Time(1000), Time::NEVER] {
        writer.retire(index, later);
        writer.shorten(index, &times(later.0.saturating_sub(100).max(101)));
        writer.shorten(index, &KeyTimes::ENDLESS);
        assert_eq!(writer.entries()[0].times, times(100), "by {later:?}");
    }
    writer.retire(index, Time(105));
    let retired = KeyTimes { encrypt_until: Time(105), ..times(100) };
    assert_eq!(writer.entries()[0].times, retired);
    writer.retire(index, Time(106));
    assert_eq!(writer.entries()[0].times, retired);
}

#[test]
fn a_key_that_was_retired_before_it_began_never_begins() {
    let ring = ring();
    let writer = ring.try_write().unwrap();
    let index = writer.publish(&key(times(100))).unwrap();
    writer.retire(index, Time(50));
    let retired = KeyTimes { encrypt_until: Time(100), ..times(100) };
    assert_eq!(writer.entries()[0].times, retired);
    writer.shorten(index, &times(50));
    let encrypts_nothing = writer.entries()[0].times;
    assert_eq!(encrypts_nothing.encrypt_until, encrypts_nothing.encrypt_from);
    assert!(encrypts_nothing.decrypt_until < retired.decrypt_until, "it is not shortened at all");
}

#[test]
fn the_lock_of_a_dead_writer_goes_to_the_next_and_then_to_others() {
    let ring = ring();
    // SAFETY: the child writes into memory that it shares, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let writer = ring.try_write();
        let slot = &ring.memory.slots()[3];
        slot.seq.store(1, Ordering::Relaxed);
        slot.aes[0].store(7, Ordering::Relaxed);
        std::mem::forget(writer);
        // SAFETY: ends the child at once, with the lock.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    for _ in 0..3 {
        let writer = ring.try_write().expect("a lock that a writer died with is had again");
        assert_eq!(writer.defect(), None);
        assert_eq!(writer.room(), MIN_CAPACITY as usize);
        assert_eq!(
            ring.memory.slots()[3].aes[0].load(Ordering::Relaxed),
            0,
            "what it left is wiped"
        );
    }
    assert_eq!(ring.header().repairs.load(Ordering::Relaxed), 1);
}
