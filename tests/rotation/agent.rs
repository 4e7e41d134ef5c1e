//! What an agent does to a ring that it governs.

use proptest::sample::Index;

use tktrot::clock::{Time, VirtualClock};
use tktrot::ring::writer::Entry;
use tktrot::rotate::govern::Governed;
use tktrot::schedule::{KeyState, KeyTimes, LONGEST_LINE, Policy};
use tktrot::secret::KeyName;

use crate::acts::Steer;
use crate::witness::Deed;

/// One act. `works` is whether the generator does.
pub fn steer(
    governed: Governed<'_, &'static VirtualClock>,
    steer: &Steer,
    policy: &Policy,
    works: bool,
) -> Deed {
    let now = governed.now();
    let mut deed = Deed { came_by: Some(now), by_hand: true, ..Deed::default() };
    match steer {
        Steer::Renew => {}
        Steer::Make => make(&governed, policy, works),
        Steer::Begin => deed.shortened = begin(&governed),
        Steer::Shorten(which, encrypts, decrypts) => {
            let part = policy.rotate_every.as_nanos() as i64 / 16;
            let end = |sixteenths: &i32| {
                Time(now.0.saturating_add_signed(part.saturating_mul((*sixteenths).into())))
            };
            let limit =
                KeyTimes { decrypt_until: end(decrypts), ..KeyTimes::retiring(end(encrypts)) };
            deed.shortened.extend(chosen(&governed, which).inspect(|name| {
                assert!(governed.shorten(name, &limit));
            }));
            if limit.decrypt_until <= now {
                deed.revoked.clone_from(&deed.shortened);
            }
        }
        Steer::Erase(which) => {
            deed.revoked.extend(chosen(&governed, which).inspect(|name| {
                assert!(governed.erase(name));
            }));
        }
        Steer::Release => governed.release(),
    }
    deed
}

fn chosen(governed: &Governed<'_, &'static VirtualClock>, which: &Index) -> Option<KeyName> {
    let entries = governed.entries();
    (!entries.is_empty()).then(|| which.get(&entries).name)
}

/// Those that encrypt, now or later: the next one first.
fn line(governed: &Governed<'_, &'static VirtualClock>) -> Vec<Entry> {
    let mut line = governed.entries();
    line.retain(|entry| entry.times.will_encrypt(governed.now()));
    line.sort_by_key(|entry| entry.times.encrypt_from);
    line
}

/// A key that follows all there are.
fn make(governed: &Governed<'_, &'static VirtualClock>, policy: &Policy, works: bool) {
    let line = line(governed);
    if line.len() >= LONGEST_LINE {
        return;
    }
    let end = line.iter().map(|entry| entry.times.encrypt_until).max();
    let encrypt_from = end.unwrap_or(governed.now());
    let encrypt_until = encrypt_from + policy.rotate_every;
    let decrypt_until = encrypt_until + policy.lifetime;
    let made = governed.make(KeyTimes { encrypt_from, encrypt_until, decrypt_until });
    assert!(made.is_ok() || !works, "{made:?}");
}

/// The key that follows takes over from the present one.
fn begin(governed: &Governed<'_, &'static VirtualClock>) -> Vec<KeyName> {
    let (line, now) = (line(governed), governed.now());
    let announced = |entry: &&Entry| entry.times.state(now) == KeyState::Announced;
    let Some(next) = line.iter().find(announced) else { return Vec::new() };
    let span = next.times.encrypt_from.until(next.times.encrypt_until);
    let begins = KeyTimes { encrypt_from: now, ..KeyTimes::retiring(now + span) };
    assert!(governed.shorten(&next.name, &begins));
    let retires = KeyTimes::retiring(now);
    let before: Vec<_> = line.iter().take_while(|entry| !announced(entry)).collect();
    assert!(before.iter().all(|entry| governed.shorten(&entry.name, &retires)));
    before.into_iter().chain([next]).map(|entry| entry.name).collect()
}
