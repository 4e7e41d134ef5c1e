//! Four processes of sixteen threads read and write one ring. Each key carries
//! a check that only this test computes, so that a torn read would show.

use std::thread;
use std::time::Duration;

use tktrot::clock::Time;
use tktrot::ring::Ring;
use tktrot::ring::key::{Key, KeyFacts};
use tktrot::ring::layout::Capacity;
use tktrot::schedule::KeyTimes;
use tktrot::secret::{KeyName, KeySecrets};

const PROCESSES: u64 = 4;
const READERS: u64 = 13;
const WRITERS: u64 = 3;
const LOOK_UPS: u64 = 30_000;
const WRITES: u64 = 1_500;
/// Keys that stay from beginning to end.
const PINNED: u64 = 4;
/// Keys that come and go, more than there are slots.
const PASSING: u64 = 100;
const CAPACITY: u32 = 64;
const NOW: Time = Time(1_000);
/// For one writer of twelve on a machine that hardly runs.
const PATIENCE: Duration = Duration::from_secs(600);

/// A small generator of numbers that repeat with their seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// All names fall into two look-up chains, so that chains are long and change.
fn name(number: u64) -> KeyName {
    let mut bytes = [0x11; 16];
    bytes[0] = (number % 2) as u8;
    bytes[8..].copy_from_slice(&(number + 1).to_be_bytes());
    KeyName(bytes)
}

/// A key whose every word depends on `version`, with the check over all.
fn key(number: u64, version: u64) -> Key {
    let mut secrets = KeySecrets::zeroed();
    for (index, word) in secrets.aes.expose_mut().chunks_exact_mut(8).enumerate() {
        let mixed =
            (number << 40 | version << 8 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word.copy_from_slice(&mixed.to_le_bytes());
    }
    let times = KeyTimes {
        encrypt_from: Time(version % 1000),
        encrypt_until: Time(2_000 + version),
        decrypt_until: Time(3_000 + version),
    };
    let check = check(&name(number), secrets.aes.expose(), &times);
    secrets.hmac.expose_mut().copy_from_slice(&check);
    let plain = version.is_multiple_of(2);
    Key { facts: KeyFacts { name: name(number), times, node: 1, plain, aes_128: false }, secrets }
}

fn check(name: &KeyName, aes: &[u8; 32], times: &KeyTimes) -> [u8; 32] {
    let times = times.encrypt_from.0 ^ times.encrypt_until.0 ^ times.decrypt_until.0;
    let mut state = 0xcbf2_9ce4_8422_2325_u64 ^ times;
    std::array::from_fn(|index| {
        state = (state ^ u64::from(aes[index] ^ name.0[index % 16])).wrapping_mul(0x100_0000_01b3);
        (state >> 32) as u8
    })
}

fn is_whole(key: &Key) -> bool {
    check(&key.name, key.secrets.aes.expose(), &key.times) == *key.secrets.hmac.expose()
}

fn read(ring: &Ring, seed: u64) {
    let mut dice = Dice(seed);
    let mut found = 0;
    for _ in 0..LOOK_UPS {
        let number = dice.roll(PINNED + PASSING);
        let mut key = Key::blank();
        if ring.find(&name(number), &mut key) {
            assert!(key.name == name(number) && is_whole(&key), "a torn key");
            found += 1;
        } else {
            assert!(number >= PINNED, "a key that is in the ring is not found");
        }
        if ring.encrypting(NOW, &mut key) {
            assert!(is_whole(&key), "a torn key encrypts");
        }
    }
    assert!(found > LOOK_UPS / 100, "the readers saw {found} keys only");
}

fn write(ring: &Ring, seed: u64) {
    let mut dice = Dice(seed);
    let mut written = 0;
    for turn in 0..WRITES {
        let Ok(writer) = ring.write_within(PATIENCE) else {
            panic!("the writer lock was not to be had in {} s", PATIENCE.as_secs());
        };
        let passing: Vec<_> =
            writer.entries().into_iter().filter(|entry| !is_pinned(&entry.name)).collect();
        // No line names a key that is erased.
        writer.set_line(&[]);
        let number = PINNED + dice.roll(PASSING);
        match passing.iter().find(|entry| entry.name == name(number)) {
            Some(entry) => writer.erase(entry.index),
            None => {
                if passing.len() as u64 >= u64::from(CAPACITY) - PINNED {
                    writer.erase(passing[dice.roll(passing.len() as u64) as usize].index);
                }
                let slot = writer.publish(&key(number, seed % 1000 * WRITES + turn)).unwrap();
                writer.set_line(&[slot]);
                written += 1;
            }
        }
    }
    assert!(written > WRITES / 10);
}

fn is_pinned(other: &KeyName) -> bool {
    (0..PINNED).any(|number| name(number) == *other)
}

fn process(ring: &Ring, number: u64) {
    thread::scope(|scope| {
        for thread in 0..READERS + WRITERS {
            let seed = 1 + number * 100 + thread;
            scope.spawn(move || match thread < READERS {
                true => read(ring, seed),
                false => write(ring, seed),
            });
        }
    });
}

#[test]
fn no_key_is_torn_and_none_is_missed() {
    let ring = Ring::private(Capacity::new(CAPACITY).unwrap()).unwrap();
    ring.header().node.store(1, std::sync::atomic::Ordering::Relaxed);
    let writer = ring.try_write().unwrap();
    for number in 0..PINNED {
        writer.publish(&key(number, 0)).unwrap();
    }
    drop(writer);

    let children: Vec<_> = (0..PROCESSES).map(|number| spawn(&ring, number)).collect();
    let mut failed = 0;
    for child in children {
        let mut status = 0;
        // SAFETY: waits for our own child.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        failed += i32::from(status != 0);
    }
    assert_eq!(failed, 0, "{failed} processes failed; their messages are above");
    let writer = ring.try_write().unwrap();
    assert_eq!(writer.defect(), None);
}

fn spawn(ring: &Ring, number: u64) -> libc::pid_t {
    // SAFETY: the child only works on the ring and leaves with _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // Whatever goes wrong, the child ends by itself.
        // SAFETY: asks the kernel for a signal in ten minutes.
        unsafe { libc::alarm(600) };
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| process(ring, number)));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    child
}
