//! Keys of other servers in a ring, on a virtual clock: they decrypt, encrypt nothing, and end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tktrot::clock::{Clock, Time, VirtualClock};
use tktrot::config::Config;
use tktrot::import::{Flaw, NotImported, import};
use tktrot::ring::Ring;
use tktrot::ring::key::Key;
use tktrot::ring::layout::{Capacity, IMPORTED};
use tktrot::rotate::{Failure, Generator, Keyring, NotRandom};
use tktrot::schedule::{KeyState, MAX_LIFETIME};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Nothing secret: distinct bytes.
#[derive(Default)]
struct Source(AtomicU64);

impl Generator for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NotRandom> {
        let draw = self.0.fetch_add(1, Ordering::Relaxed);
        for (index, byte) in bytes.iter_mut().enumerate() {
            let mixed = (draw * 1000 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = (mixed >> 56) as u8;
        }
        Ok(())
    }
}

struct Bench {
    keyring: Keyring<&'static VirtualClock>,
    clock: &'static VirtualClock,
    source: &'static Source,
}

/// A ring that rotates hourly and keeps keys for two hours.
fn bench(capacity: u32) -> Bench {
    let clock: &'static VirtualClock = Box::leak(Box::new(VirtualClock::default()));
    let source: &'static Source = Box::leak(Box::default());
    clock.advance(1000 * HOUR);
    let ring = Ring::private(Capacity::new(capacity).unwrap()).unwrap();
    let keyring = Keyring::new(ring, clock, source);
    let config = Config { rotate_every: Some(HOUR), lifetime: Some(2 * HOUR), ..Config::default() };
    keyring.configure(&config).unwrap();
    Bench { keyring, clock, source }
}

impl Bench {
    /// So many keys as they come out of a file.
    #[allow(clippy::vec_box, reason = "as they are imported: a key that is moved leaves a copy")]
    fn foreign(&self, count: usize) -> Vec<Box<Key>> {
        let make = |_| {
            let mut key = Box::new(Key::blank());
            self.source.fill(&mut key.name.0).unwrap();
            self.source.fill(key.secrets.aes.expose_mut()).unwrap();
            self.source.fill(key.secrets.hmac.expose_mut()).unwrap();
            key.times.decrypt_until = Time::NEVER;
            key
        };
        (0..count).map(make).collect()
    }

    /// The key as it is in the ring.
    fn find(&self, key: &Key) -> Option<Key> {
        let mut found = Key::blank();
        self.keyring.ring().find(&key.name, &mut found).then_some(found)
    }

    fn count(&self) -> usize {
        self.keyring.ring().try_write().unwrap().entries().len()
    }

    fn sealing(&self) -> Key {
        let mut key = Key::blank();
        assert!(
            self.keyring
                .sealing(self.clock.now())
                .is_some_and(|located| self.keyring.ring().find(&located.name, &mut key))
        );
        key
    }

    fn refuses(&self, keys: &mut [Box<Key>], position: usize, flaw: Flaw) {
        let before = self.count();
        let refused = Err(NotImported::Unfit { position, flaw });
        assert_eq!(import(&self.keyring, keys, HOUR), refused);
        assert_eq!(self.count(), before, "nothing of it is in the ring");
    }
}

#[test]
fn imported_keys_decrypt_until_their_end_and_never_encrypt() {
    let bench = bench(64);
    let mut keys = bench.foreign(3);
    import(&bench.keyring, &mut keys, 2 * HOUR + HOUR / 2).unwrap();
    let end = bench.clock.now() + 2 * HOUR + HOUR / 2;
    while bench.clock.now() < end {
        let sealing = bench.sealing();
        assert!(keys.iter().all(|key| key.name != sealing.name));
        for key in &keys {
            let found = bench.find(key).unwrap();
            assert!(found.plain && found.node == IMPORTED && !found.aes_128);
            assert!(found.secrets.aes.same_as(&key.secrets.aes));
            assert!(found.secrets.hmac.same_as(&key.secrets.hmac));
            assert_eq!(found.times.state(bench.clock.now()), KeyState::Retired);
            assert_eq!(found.times.decrypt_until, end);
        }
        bench.clock.advance(HOUR / 4);
    }
    bench.keyring.tick(bench.clock.now());
    assert!(keys.iter().all(|key| bench.find(key).is_none()), "erased at the end");
}

/// The ring wakes a writer at that moment, whether it was tended before or not.
#[test]
fn the_deadline_is_not_after_the_end() {
    for tended in [false, true] {
        let bench = bench(64);
        if tended {
            bench.sealing();
        }
        let mut keys = bench.foreign(2);
        keys[1].times.decrypt_until = bench.clock.now() + 30 * SECOND;
        import(&bench.keyring, &mut keys, 600 * SECOND).unwrap();
        assert!(bench.keyring.ring().deadline() <= bench.clock.now() + 30 * SECOND);
        assert!(bench.keyring.tick_patiently() <= bench.clock.now() + 30 * SECOND);
        bench.clock.advance(30 * SECOND);
        assert!(bench.keyring.tick_patiently() <= bench.clock.now() + 570 * SECOND);
        assert!(bench.find(&keys[0]).is_some() && bench.find(&keys[1]).is_none());
        bench.clock.advance(570 * SECOND);
        bench.keyring.tick_patiently();
        assert!(bench.find(&keys[0]).is_none());
    }
}

#[test]
fn no_key_lives_longer_than_seven_days_or_than_it_says_itself() {
    let bench = bench(64);
    let now = bench.clock.now();
    let mut keys = bench.foreign(2);
    keys[1].times.decrypt_until = now + HOUR;
    import(&bench.keyring, &mut keys, 1000 * HOUR).unwrap();
    let end = |key| bench.find(key).unwrap().times.decrypt_until;
    assert_eq!((end(&keys[0]), end(&keys[1])), (now + MAX_LIFETIME, now + HOUR));
}

#[test]
fn what_is_no_key_keeps_the_others_out() {
    let bench = bench(64);
    let own = bench.sealing();
    let mut keys = bench.foreign(3);
    keys[2].name.0 = [7; 16];
    bench.refuses(&mut keys, 2, Flaw::ConstantName);
    let mut keys = bench.foreign(3);
    keys[1].secrets.hmac.expose_mut().fill(7);
    bench.refuses(&mut keys, 1, Flaw::Weak);
    let mut keys = bench.foreign(3);
    keys[1].aes_128 = true;
    bench.refuses(&mut keys, 1, Flaw::Weak);
    let mut keys = bench.foreign(3);
    keys[2].name = keys[1].name;
    bench.refuses(&mut keys, 2, Flaw::Repeats(1));
    let mut keys = bench.foreign(3);
    let aes = *keys[0].secrets.aes.expose();
    *keys[2].secrets.aes.expose_mut() = aes;
    bench.refuses(&mut keys, 2, Flaw::Repeats(0));
    let mut keys = bench.foreign(3);
    *keys[1].secrets.hmac.expose_mut() = *own.secrets.hmac.expose();
    bench.refuses(&mut keys, 1, Flaw::InRing);
    let mut keys = bench.foreign(1);
    import(&bench.keyring, &mut keys, HOUR).unwrap();
    bench.refuses(&mut keys, 0, Flaw::InRing);
}

#[test]
fn a_short_key_is_one_by_its_first_half() {
    let bench = bench(64);
    let mut keys = bench.foreign(1);
    keys[0].aes_128 = true;
    keys[0].secrets.aes.expose_mut()[16..].fill(0);
    keys[0].secrets.hmac.expose_mut()[16..].fill(0);
    import(&bench.keyring, &mut keys, HOUR).unwrap();
    assert!(bench.find(&keys[0]).unwrap().aes_128);
}

#[test]
fn more_keys_than_the_ring_has_room_for_are_refused_as_a_whole() {
    let bench = bench(8);
    bench.sealing();
    let before = bench.count();
    let room = 8 - before;
    let full = Err(NotImported::Failed(Failure::Full));
    assert_eq!(import(&bench.keyring, &mut bench.foreign(room + 1), HOUR), full);
    assert_eq!(bench.count(), before);
    import(&bench.keyring, &mut bench.foreign(room), HOUR).unwrap();
    // Rotation goes on all the same.
    let first = bench.sealing().name;
    bench.clock.advance(HOUR);
    assert_ne!(bench.sealing().name, first);
}

#[test]
fn revoking_ends_imported_keys_too() {
    let bench = bench(64);
    let mut keys = bench.foreign(2);
    import(&bench.keyring, &mut keys, HOUR).unwrap();
    let sealing = bench.sealing().name;
    let revoked = bench.keyring.revoke_those(|name| *name == keys[0].name).unwrap();
    assert_eq!(revoked, [keys[0].name]);
    assert!(bench.find(&keys[0]).is_none() && bench.find(&keys[1]).is_some());
    assert_eq!(bench.sealing().name, sealing);
    bench.keyring.revoke().unwrap();
    assert!(bench.find(&keys[1]).is_none());
}
