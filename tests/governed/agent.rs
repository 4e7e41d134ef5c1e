//! What an agent does to the keys.

use super::*;

#[test]
fn a_key_begun_early_never_ends_later_than_it_was_published_with() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let old = governed.make(times(now, HOUR)).unwrap();
    let published = times(now + HOUR, HOUR);
    let next = governed.make(published).unwrap();
    assert!(governed.shorten(&next, &begins(now, published.encrypt_until + HOUR)));
    assert!(governed.shorten(&old, &KeyTimes::retiring(now)));
    drop(governed);
    assert_eq!(bench.sealing_name(), Some(next));
    assert_eq!(bench.times(&next), Some(KeyTimes { encrypt_from: now, ..published }));

    // Again, and shorter: only ever earlier.
    bench.clock.advance(SECOND);
    let governed = bench.govern();
    let (later, until) = (governed.now(), governed.now() + HOUR);
    assert!(governed.shorten(&next, &begins(later, until)));
    assert!(governed.shorten(&next, &begins(later, until + HOUR)));
    drop(governed);
    let expected = KeyTimes {
        encrypt_from: now,
        encrypt_until: until,
        decrypt_until: published.decrypt_until,
    };
    assert_eq!(bench.times(&next), Some(expected));

    let governed = bench.govern();
    assert!(governed.shorten(&old, &begins(later, until)));
    let retired = governed.entries().into_iter().find(|entry| entry.name == old).unwrap();
    assert!(!retired.times.will_encrypt(later), "a retired key is revived");
    assert!(!governed.shorten(&KeyName([9; 16]), &begins(later, until)), "there is no such key");
    // An end before the beginning leaves a key that encrypts nothing.
    let late = governed.make(times(until, HOUR)).unwrap();
    assert!(governed.shorten(&late, &begins(later, Time(1))));
    drop(governed);
    assert!(bench.times(&late).unwrap().are_ordered());
    bench.is_sound();
}

#[test]
fn a_key_that_is_retired_before_it_begins_never_encrypts() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let own = governed.make(times(now + SECOND, HOUR)).unwrap();
    assert!(governed.shorten(&own, &KeyTimes::retiring(now)));
    assert!(governed.shorten(&own, &begins(now, now + HOUR)));
    drop(governed);
    assert_eq!(bench.sealing_name(), None, "it is revived");
    bench.pass(2 * SECOND);
    assert_eq!(bench.sealing_name(), None);
    assert!(bench.times(&own).is_some(), "it is gone, not retired");
    bench.is_sound();
}

#[test]
fn a_key_of_another_node_decrypts_and_encrypts_nothing_here() {
    let bench = bench(8);
    let governed = bench.govern();
    let now = governed.now();
    let mut key = foreign(1, times(now, HOUR));
    key.plain = true;
    governed.take(&key).unwrap();
    assert_eq!(governed.take(&key), Err(NotPublished::Unusable), "twice");
    let backwards = KeyTimes { encrypt_until: now, ..times(now + HOUR, HOUR) };
    assert_eq!(governed.take(&foreign(2, backwards)), Err(NotPublished::Unusable));
    assert!(governed.shorten(&key.name, &begins(now, now + HOUR)));
    let entry = governed.entries()[0];
    assert_eq!((entry.name, entry.node, entry.plain), (key.name, 77, true));
    assert_eq!(entry.times, key.times);
    drop(governed);
    assert_eq!(bench.sealing_name(), None);
    let mut found = Key::blank();
    assert!(bench.server.ring().find(&key.name, &mut found));
    assert!(found.secrets.aes.same_as(&key.secrets.aes));
}

#[test]
fn keys_of_others_never_make_room_for_themselves() {
    let bench = bench(8);
    let governed = bench.govern();
    let now = governed.now();
    for number in 0..8 {
        // Retired ones, which a key of the node's own may take the place of.
        governed.take(&foreign(number, times(now, Duration::ZERO))).unwrap();
    }
    assert_eq!(governed.take(&foreign(9, times(now, HOUR))), Err(NotPublished::Full));
    assert_eq!(governed.entries().len(), 8);
    let own = governed.make(times(now, HOUR)).unwrap();
    drop(governed);
    assert_eq!(bench.sealing_name(), Some(own));
}

#[test]
fn erased_and_retired_keys_leave_the_line_to_the_next() {
    let bench = bench(64);
    let governed = bench.govern();
    let now = governed.now();
    let keys: Vec<_> =
        (0..6).map(|place| governed.make(times(now + HOUR * place, HOUR)).unwrap()).collect();
    assert!(governed.shorten(&keys[5], &begins(now, now + HOUR)));
    assert!(governed.erase(&keys[0]) && !governed.erase(&keys[0]));
    assert!(!governed.shorten(&keys[0], &KeyTimes::retiring(now)));
    drop(governed);
    bench.is_sound();
    // It was beyond what the line has room for when it was made.
    assert_eq!(bench.sealing_name(), Some(keys[5]));
    bench.pass(HOUR);
    assert_eq!(bench.sealing_name(), Some(keys[1]));
}

#[test]
fn a_generator_that_fails_is_the_agents_to_know() {
    let bench = bench(64);
    bench.source.fails.store(true, Ordering::Relaxed);
    let governed = bench.govern();
    assert_eq!(governed.make(times(governed.now(), HOUR)), Err(Failure::Generator));
    assert!(governed.entries().is_empty());
}
