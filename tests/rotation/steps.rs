//! The schedule alone: from whatever keys there are, made under other
//! policies or left by writers that died, its steps lead to a sound line.

use std::time::Duration;

use proptest::prelude::*;

use tktrot::clock::Time;
use tktrot::schedule::{
    KeyState, KeyTimes, LONGEST_LINE, Policy, Step, line, next_deadline, next_step,
};

use crate::acts::{Settings, settings};
use crate::cases;

const NOW: Time = Time(1 << 60);

fn policy(settings: &Settings) -> Policy {
    let rotate_every = settings.rotate_every;
    Policy {
        rotate_every,
        lifetime: settings.lifetime.unwrap_or(Duration::from_secs(7200)),
        lead: settings
            .lead
            .map_or(Policy::default_lead(rotate_every), |part| rotate_every * part / 16),
    }
}

/// Keys whose times are in order, near to now, in sixteenths of R: so that
/// some of them continue each other.
fn keys(most: usize) -> impl Strategy<Value = Vec<(i64, i64, i64)>> {
    prop::collection::vec((-50..=50_i64, 0..=40_i64, 0..=40_i64), 0..most)
}

fn times((from, encrypts, decrypts): (i64, i64, i64), policy: &Policy) -> KeyTimes {
    let part = policy.rotate_every.as_nanos() as i64 / 16;
    let from = Time(NOW.0.saturating_add_signed(from * part));
    let encrypt_until = from + Duration::from_nanos((encrypts * part) as u64);
    let decrypt_until = encrypt_until + Duration::from_nanos((decrypts * part) as u64);
    KeyTimes { encrypt_from: from, encrypt_until, decrypt_until }
}

/// Takes steps until there is none. Returns the keys then.
fn settle(mut keys: Vec<KeyTimes>, policy: &Policy, now: Time) -> Vec<KeyTimes> {
    for _ in 0..2 * keys.len() + 8 {
        match next_step(&keys, policy, now) {
            None => return keys,
            Some(Step::Publish(times)) => {
                assert!(times.are_ordered() && times.decrypt_until > now);
                keys.push(times);
            }
            Some(Step::Retire(index)) => {
                assert_eq!(keys[index].state(now), KeyState::Active);
                keys[index].encrypt_until = now;
            }
            Some(Step::Discard(index)) => {
                assert_eq!(keys[index].state(now), KeyState::Announced, "it may have sealed");
                keys.remove(index);
            }
        }
    }
    panic!("the steps do not come to an end");
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn from_any_keys_the_steps_lead_to_a_sound_line(
        settings in settings(),
        keys in keys(12),
    ) {
        let policy = policy(&settings);
        let keys: Vec<_> = keys.into_iter().map(|key| times(key, &policy)).collect();
        let keys: Vec<_> =
            keys.into_iter().filter(|key| key.state(NOW) != KeyState::Expired).collect();
        let settled = settle(keys, &policy, NOW);

        let active: Vec<_> =
            settled.iter().filter(|key| key.state(NOW) == KeyState::Active).collect();
        prop_assert_eq!(active.len(), 1);
        let line = line(&settled, &policy, NOW);
        prop_assert!(line.len() >= 2, "an active key without a successor");
        let mut end = NOW;
        for (place, index) in line.iter().enumerate() {
            let key = settled[*index];
            prop_assert!(place == 0 || key.encrypt_from == end, "a gap in the line");
            prop_assert!(policy.fits(&key, NOW));
            prop_assert!(NOW.max(key.encrypt_from).until(key.encrypt_until) <= policy.rotate_every);
            prop_assert!(key.retention() >= policy.lifetime);
            end = key.encrypt_until;
        }
        let reaches = NOW.until(end) > policy.rotate_every + policy.lead;
        prop_assert!(reaches || line.len() == LONGEST_LINE, "the line is too short");
        let deadline = next_deadline(&settled, &settled, &policy, NOW);
        prop_assert!(deadline > NOW, "it is content, and wants to be called at once");
        let last = settled[line[line.len() - 1]];
        prop_assert!(deadline < last.encrypt_from, "it wants to be called too late");
    }
}
