//! What servers do to a ring.

use super::*;

fn tend(keyring: &Keyring<Hands<'_>>) {
    keyring.tick_patiently();
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
        let shorter = Config { rotate_every: Some(ROTATE / 2), ..Config::default() };
        keyring.configure(&shorter).unwrap();
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

/// Every slot that has memory is taken, by keys of others.
#[test]
fn at_a_rotation_for_which_the_ring_grows() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        keyring.tick_patiently();
        advance(now, ROTATE / 4);
        let writer = keyring.ring().try_write().unwrap();
        while writer.entries().len() < FIRST_SLOTS as usize {
            writer.publish(&foreign(keyring.now() + LIFETIME)).unwrap();
        }
        assert_eq!(keyring.ring().slots_with_memory(), FIRST_SLOTS);
    };
    let act = |keyring: &Keyring<Hands<'_>>| {
        keyring.rotate().unwrap();
        assert!(keyring.ring().slots_with_memory() > FIRST_SLOTS);
    };
    survives_death_at_every_store(prepare, act, Keeps::Used);
}

fn foreign(end: Time) -> Key {
    let mut key = Key::blank();
    key.node = 99;
    for bytes in [key.secrets.aes.expose_mut(), key.secrets.hmac.expose_mut()] {
        Counting.fill(bytes).unwrap();
    }
    Counting.fill(&mut key.name.0).unwrap();
    key.times = KeyTimes { encrypt_from: Time(0), encrypt_until: Time(1), decrypt_until: end };
    key
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
        let mut key = foreign(Time(u64::MAX / 2));
        key.name = name;
        key
    };
    let mut deaths = 0;
    for stores in 1..200 {
        let ring = Ring::private(Capacity::new(32).unwrap()).unwrap();
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
