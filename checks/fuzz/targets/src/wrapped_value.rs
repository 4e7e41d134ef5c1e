//! What Redis has: a wrapped key, a record of what was revoked, the name of a slot. The first byte
//! says which.

use std::sync::LazyLock;
use std::time::Duration;

use tktrot_fleet::redis::clock::RedisTime;
use tktrot_fleet::redis::stored::{Flaw, Grave, Revoked, Slot, Terms, Turn, start_of};
use tktrot_fleet::wrap::{GRAVE, SIZE, Wrapping};

use crate::made_up;

/// R.
pub const R: Duration = Duration::from_secs(3600);
/// Where the key belongs.
pub const PLACE: Turn = Turn { period: 480_000, number: 3 };

/// A key as it is: the rest of the input is what is in the slot.
pub const VALUE: u8 = 0;
/// A genuine key, changed as the rest of the input says.
pub const CHANGED: u8 = 1;
/// A record as it is.
pub const RECORD: u8 = 2;
/// A genuine record, changed.
pub const CHANGED_RECORD: u8 = 3;
/// The name of a slot.
pub const SLOT: u8 = 4;

static FLEET: LazyLock<Wrapping> = LazyLock::new(|| wrapping("web", &[1, 2]));
static GENUINE: LazyLock<Vec<u8>> = LazyLock::new(value);
static RECORDS: LazyLock<[[u8; GRAVE]; 2]> =
    LazyLock::new(|| graves().map(|grave| FLEET.record(&grave).expect("a record")));
/// What another ring's fleet, and one with another secret, has.
static STRANGERS: LazyLock<[Wrapping; 2]> =
    LazyLock::new(|| [wrapping("mail", &[1]), wrapping("web", &[3])]);

fn wrapping(ring: &str, secrets: &[u32]) -> Wrapping {
    let secrets = secrets.iter().map(|number| made_up::wrapping(*number)).collect();
    Wrapping::new(ring, secrets).expect("OpenSSL has HMAC")
}

/// The terms of the genuine key.
fn terms() -> Terms {
    let start = start_of(PLACE.period, R);
    Terms {
        turn: PLACE,
        rotate_every: R,
        made: RedisTime(start.0 - 5),
        begins: start,
        retires: start.after(R),
        ends: start.after(3 * R),
        epoch: 4,
        plain: true,
    }
}

/// A genuine key, which the fleet of this target wrapped.
pub fn value() -> Vec<u8> {
    let secrets = made_up::secrets(1);
    FLEET.wrap(&made_up::name(1), &terms(), &secrets).expect("OpenSSL has AES-256-GCM")
}

fn graves() -> [Grave; 2] {
    [Revoked::Key(made_up::name(1)), Revoked::All(9)]
        .map(|what| Grave { what, ends: RedisTime(12345) })
}

/// Genuine records.
pub fn records() -> [[u8; GRAVE]; 2] {
    *RECORDS
}

/// See the constants.
pub fn wrapped_value(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    match *kind {
        VALUE => opens(rest),
        CHANGED => {
            let changed = changed(&GENUINE, rest);
            let opens = opens(&changed);
            assert_eq!(opens, changed == *GENUINE, "a changed key opens, or an unchanged does not");
            opens
        }
        RECORD => counts(rest),
        CHANGED_RECORD => {
            let Some((which, rest)) = rest.split_first() else { return false };
            let genuine = &RECORDS[usize::from(which % 2)];
            let changed = changed(genuine, rest);
            let counts = counts(&changed);
            assert_eq!(counts, changed == genuine, "a changed record counts");
            counts
        }
        SLOT => is_slot(&String::from_utf8_lossy(rest)),
        _ => false,
    }
}

/// Each three bytes change one: where, and with what; a place behind the end cuts or adds.
fn changed(genuine: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
        match bytes.get_mut(at) {
            Some(byte) => *byte ^= change[2],
            None if change[2] & 1 == 0 => {
                bytes.truncate(usize::from(change[2]) * bytes.len() / 256)
            }
            None => bytes.extend(std::iter::repeat_n(change[2], at % 64 + 1)),
        }
    }
    bytes
}

/// Whether it is taken for a key; if so it is the genuine one, as it was wrapped.
fn opens(bytes: &[u8]) -> bool {
    let turns = [Slot::At(PLACE), Slot::Kept(made_up::name(1))];
    let opened = turns.map(|slot| FLEET.unwrap(slot, bytes));
    let [at, kept] = &opened;
    assert_eq!(at.is_ok(), kept.is_ok(), "its slot decides more than where it may be");
    for stored in opened.iter().flatten() {
        assert!(stored.name == made_up::name(1) && stored.terms == terms(), "a key nobody made");
        let genuine = made_up::secrets(1);
        assert!(stored.secrets.aes.same_as(&genuine.aes));
        assert!(stored.secrets.hmac.same_as(&genuine.hmac));
        assert_eq!(bytes.len(), SIZE);
    }
    if let Err(flaw) = at {
        assert!(!flaw.to_string().is_empty());
        return false;
    }
    let elsewhere = [Slot::At(Turn { number: 4, ..PLACE }), Slot::Kept(made_up::name(2))];
    for slot in elsewhere {
        assert_eq!(FLEET.unwrap(slot, bytes).err(), Some(Flaw::Misplaced));
    }
    for stranger in &*STRANGERS {
        let flaw = stranger.unwrap(turns[0], bytes).err();
        assert!(matches!(flaw, Some(Flaw::Damaged | Flaw::Secret(_))), "{flaw:?}");
    }
    true
}

/// Whether it is taken for a record; if so it is a genuine one.
fn counts(bytes: &[u8]) -> bool {
    let Some(grave) = FLEET.recorded(bytes) else { return false };
    assert!(graves().contains(&grave), "a revocation by nobody");
    assert!(RECORDS.iter().any(|record| record == bytes), "a record has two spellings");
    assert!(STRANGERS.iter().all(|stranger| stranger.recorded(bytes).is_none()));
    true
}

/// Whether it names a slot; if so no other text names that one.
fn is_slot(text: &str) -> bool {
    let Ok(slot) = text.parse::<Slot>() else { return false };
    assert_eq!(slot.to_string(), text);
    true
}
