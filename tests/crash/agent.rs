//! What an agent does to a ring that it governs.

use super::*;

/// The same, for what an agent does.
fn survives_death_of_the_agent(
    prepare: impl Fn(&Keyring<Hands<'_>>, &AtomicU64),
    act: impl Fn(&Governed<'_, Hands<'_>>),
    keeps: Keeps,
) {
    let act = |keyring: &Keyring<Hands<'_>>| act(&keyring.govern().unwrap());
    survives(prepare, act, keeps, Heir::GovernedServer);
}

/// The first to write after the agent changes nothing but what is over or broken. It is not
/// needed before the lease ends, and then it is.
pub fn outlives_the_lease(
    keyring: &Keyring<Hands<'_>>,
    now: &AtomicU64,
    before: &[Entry],
    stores: u64,
) {
    let writer = keyring.ring().try_write().unwrap();
    assert_eq!(writer.defect(), None, "store {stores}: after the repair alone");
    let left = writer.entries();
    for entry in &left {
        let former = before.iter().find(|former| former.name == entry.name);
        let longer = |former: &Entry| {
            entry.times.encrypt_from > former.times.encrypt_from
                || entry.times.encrypt_until > former.times.encrypt_until
                || entry.times.decrypt_until > former.times.decrypt_until
        };
        assert!(!former.is_some_and(longer), "store {stores}: {} lives longer", entry.name);
    }
    drop(writer);
    if keyring.is_governed() {
        keyring.tick_patiently();
        let lives = |entry: &&Entry| entry.times.state(keyring.now()) != KeyState::Expired;
        let expected: Vec<_> = left.iter().filter(lives).map(|entry| entry.name).collect();
        let present = keyring.ring().try_write().unwrap().entries();
        let present: Vec<_> = present.iter().map(|entry| entry.name).collect();
        assert_eq!(present, expected, "store {stores}: a server made or erased");
    }
    advance(now, LEASE);
    assert!(!keyring.is_governed());
    assert!(keyring.ring().deadline() <= keyring.now(), "store {stores}: nobody takes over");
}

fn governed(keyring: &Keyring<Hands<'_>>) -> [KeyName; 2] {
    let governed = keyring.govern().unwrap();
    let now = governed.now();
    [now, now + ROTATE].map(|from| governed.make(times(from)).unwrap())
}

fn times(from: Time) -> KeyTimes {
    let encrypt_until = from + ROTATE;
    KeyTimes { encrypt_from: from, encrypt_until, decrypt_until: encrypt_until + LIFETIME }
}

fn foreign(present: Time) -> Box<Key> {
    let mut key = Box::new(Key::blank());
    Counting.fill(&mut key.name.0).unwrap();
    Counting.fill(key.secrets.aes.expose_mut()).unwrap();
    Counting.fill(key.secrets.hmac.expose_mut()).unwrap();
    (key.times, key.node) = (times(present), 99);
    key
}

#[test]
fn at_an_agents_first_keys() {
    let act = |governed: &Governed<'_, Hands<'_>>| {
        governed.make(times(governed.now())).unwrap();
        governed.make(times(governed.now() + ROTATE)).unwrap();
    };
    survives_death_of_the_agent(|_, _| {}, act, Keeps::NoKeyYet);
}

#[test]
fn at_an_agents_rotation_which_begins_a_key_early() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        governed(keyring);
        advance(now, ROTATE / 4);
    };
    let act = |governed: &Governed<'_, Hands<'_>>| {
        let (entries, now) = (governed.entries(), governed.now());
        let of = |state| entries.iter().find(|entry| entry.times.state(now) == state).unwrap();
        let (old, new) = (of(KeyState::Active), of(KeyState::Announced));
        let begins = KeyTimes { encrypt_from: now, ..KeyTimes::retiring(now + ROTATE) };
        assert!(governed.shorten(&new.name, &begins));
        assert!(governed.shorten(&old.name, &KeyTimes::retiring(now)));
        governed.make(times(now + ROTATE)).unwrap();
    };
    survives_death_of_the_agent(prepare, act, Keeps::All);
}

#[test]
fn at_an_agents_erasure() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        governed(keyring);
        keyring.govern().unwrap().take(&foreign(keyring.now())).unwrap();
        advance(now, ROTATE + SECOND);
    };
    let act = |governed: &Governed<'_, Hands<'_>>| {
        let sealing = governed.make(times(governed.now())).unwrap();
        let others = governed.entries().into_iter().filter(|entry| entry.name != sealing);
        others.for_each(|entry| assert!(governed.erase(&entry.name)));
    };
    survives_death_of_the_agent(prepare, act, Keeps::OneThatEncrypts);
}

#[test]
fn at_the_taking_of_a_key() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        governed(keyring);
        advance(now, ROTATE / 4);
    };
    let act = |governed: &Governed<'_, Hands<'_>>| {
        governed.take(&foreign(governed.now())).unwrap();
    };
    survives_death_of_the_agent(prepare, act, Keeps::All);
}

/// Servers have rotated the ring so far, and keys are over.
#[test]
fn at_the_beginning_and_the_end_of_a_lease() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        for _ in 0..6 {
            keyring.tick_patiently();
            advance(now, ROTATE);
        }
    };
    survives_death_of_the_agent(prepare, |_| {}, Keeps::All);
    let release = |keyring: &Keyring<Hands<'_>>| keyring.govern().unwrap().release();
    survives(prepare, release, Keeps::All, Heir::GovernedServer);
}

#[test]
fn at_a_rotation_by_hand_of_a_governed_ring() {
    let prepare = |keyring: &Keyring<Hands<'_>>, now: &AtomicU64| {
        governed(keyring);
        advance(now, ROTATE / 8);
    };
    let rotate = |keyring: &Keyring<Hands<'_>>| keyring.rotate().unwrap();
    survives(prepare, rotate, Keeps::All, Heir::GovernedServer);
}
