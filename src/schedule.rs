//! When keys live: a pure function of (key times, policy, now).
//!
//! A node's keys form a line without gaps: one is active, the next one or two
//! are announced, the former ones are retired. [`next_step`] names the one
//! change that brings the line nearer to what the policy asks for; whoever
//! holds the writer lock repeats it until nothing is left to do. Because each
//! step starts from the keys as they are, a writer that dies between two steps
//! leaves work, not damage.
//!
//! ```text
//!          retired          active        announced     (and for the last
//!   ┌────────────────┬───────────────┬───────────────┐   `lead` before a
//!   │ decrypts for L │ encrypts for R│ next R        │   switch, one more)
//!   └────────────────┴───────────────┴───────────────┘
//!                            now
//! ```

use std::time::Duration;

use crate::clock::{Time, nanos};

/// RFC 8446 §4.6.1: no ticket lives longer than seven days.
pub const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest R: a key has to serve longer than it takes to make the next.
pub const MIN_ROTATE_EVERY: Duration = Duration::from_secs(1);

/// The most keys of a line: the active one and three that are announced. Where
/// R stays as it is there are three at most; each change to a longer one leaves
/// short keys in the line and puts long ones behind them.
pub const LONGEST_LINE: usize = 4;

/// The times of one key. Nothing ever makes one of them later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// From here on it encrypts.
    pub encrypt_from: Time,
    /// From here on it only decrypts.
    pub encrypt_until: Time,
    /// From here on it is gone.
    pub decrypt_until: Time,
}

/// What a key is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Readable everywhere, encrypts nothing yet.
    Announced,
    /// Encrypts and decrypts.
    Active,
    /// Only decrypts.
    Retired,
    /// Neither; to be erased.
    Expired,
}

impl KeyTimes {
    /// What the key is good for at `now`.
    #[inline]
    pub fn state(&self, now: Time) -> KeyState {
        if now >= self.decrypt_until {
            KeyState::Expired
        } else if now >= self.encrypt_until {
            KeyState::Retired
        } else if now >= self.encrypt_from {
            KeyState::Active
        } else {
            KeyState::Announced
        }
    }

    /// How long it decrypts after it stopped encrypting.
    #[inline]
    pub fn retention(&self) -> Duration {
        self.encrypt_until.until(self.decrypt_until)
    }

    /// Times that limit nothing: for [`KeyTimes::shortened`].
    pub const ENDLESS: KeyTimes = KeyTimes {
        encrypt_from: Time::NEVER,
        encrypt_until: Time::NEVER,
        decrypt_until: Time::NEVER,
    };

    /// As a limit, lets a key encrypt until `at` at most, and leaves the rest as it is.
    pub const fn retiring(at: Time) -> KeyTimes {
        KeyTimes { encrypt_until: at, ..KeyTimes::ENDLESS }
    }

    /// Each of the times, but none later than that of `limit`.
    #[inline]
    pub fn shortened(&self, limit: &KeyTimes) -> KeyTimes {
        KeyTimes {
            encrypt_from: self.encrypt_from.min(limit.encrypt_from),
            encrypt_until: self.encrypt_until.min(limit.encrypt_until),
            decrypt_until: self.decrypt_until.min(limit.decrypt_until),
        }
    }

    /// True if it encrypts at `now` or later. A key that was retired before it
    /// began does not.
    #[inline]
    pub fn will_encrypt(&self, now: Time) -> bool {
        self.encrypt_until > now.max(self.encrypt_from)
    }

    /// True if the times are in order: no key ends before it begins.
    #[inline]
    pub fn are_ordered(&self) -> bool {
        self.encrypt_from <= self.encrypt_until && self.encrypt_until <= self.decrypt_until
    }
}

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// R: how long a key encrypts.
    pub rotate_every: Duration,
    /// L: how long a ticket lives, and so how long a key decrypts after R.
    pub lifetime: Duration,
    /// How long before a switch the key after the successor is announced, so
    /// that every key that starts to encrypt finds its successor in the ring.
    pub lead: Duration,
}

impl Policy {
    /// The default lead: max(5 s, R/10), at most R/2.
    pub fn default_lead(rotate_every: Duration) -> Duration {
        (rotate_every / 10).max(Duration::from_secs(5)).min(rotate_every / 2)
    }

    /// How many keys are in the ring at once at most: ceil(L/R) retired ones,
    /// the active one, its successor and, during `lead`, one more.
    pub fn keys_kept(rotate_every: Duration, lifetime: Duration) -> u64 {
        nanos(lifetime).div_ceil(nanos(rotate_every).max(1)) + 3
    }

    /// The longest lifetime whose keys fit a ring of `capacity` keys: one slot
    /// stays free for a deliberate rotation.
    pub fn longest_lifetime(rotate_every: Duration, capacity: u32) -> Duration {
        rotate_every.saturating_mul(capacity.saturating_sub(4).max(1)).min(MAX_LIFETIME)
    }

    /// The times of a key that begins to encrypt at `from`.
    #[inline]
    pub fn times_from(&self, from: Time) -> KeyTimes {
        let encrypt_until = from + self.rotate_every;
        KeyTimes { encrypt_from: from, encrypt_until, decrypt_until: encrypt_until + self.lifetime }
    }

    /// When the last copy of a key that ends then is over, on whatever host: one that has not heard
    /// that the key began early keeps it for as much longer as it was announced ahead.
    pub fn last_copy(&self, end: Time) -> Time {
        end + self.rotate_every + self.lead
    }

    /// A key fits if it has no longer to encrypt than R, and decrypts for L.
    #[inline]
    pub fn fits(&self, key: &KeyTimes, now: Time) -> bool {
        let left = key.encrypt_from.max(now).until(key.encrypt_until);
        left <= self.rotate_every && key.retention() >= self.lifetime
    }

    /// The moment from which a line that reaches to `line_end` is too short.
    #[inline]
    pub fn extend_at(&self, line_end: Time) -> Time {
        line_end - self.rotate_every - self.lead
    }
}

/// One change to a node's keys. Indices are those of the slice given to [`next_step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a key with these times.
    Publish(KeyTimes),
    /// A newer key is active: this one encrypts until now and no longer.
    Retire(usize),
    /// This announced key no longer continues the line. It has encrypted
    /// nothing, so it can be erased.
    Discard(usize),
}

/// The times of a key that a deliberate rotation makes; the steps after it
/// retire the old active key and renew its successor.
pub fn rotation(policy: &Policy, now: Time) -> KeyTimes {
    policy.times_from(now)
}

/// The one change to make now to a node's own keys, or `None` if they are as
/// the policy wants them. Early rotation is not a case of its own: an active
/// key that does not fit a changed policy is followed by one that does.
pub fn next_step(own: &[KeyTimes], policy: &Policy, now: Time) -> Option<Step> {
    if now == Time::NEVER {
        return None;
    }
    let active = match active(own, policy, now) {
        Some((index, key)) if policy.fits(key, now) => (index, key),
        _ => return Some(Step::Publish(policy.times_from(now))),
    };
    let superseded = |(index, _): &(usize, &KeyTimes)| *index != active.0;
    if let Some((index, _)) = in_state(own, KeyState::Active, now).find(superseded) {
        return Some(Step::Retire(index));
    }

    let mut line_end = active.1.encrypt_until;
    let announced = announced(own, now);
    let is_full = announced.len() + 1 >= LONGEST_LINE;
    for (index, key) in announced {
        if key.encrypt_from != line_end || !policy.fits(key, now) {
            return Some(Step::Discard(index));
        }
        line_end = key.encrypt_until;
    }
    let is_short = now >= policy.extend_at(line_end) && !is_full;
    is_short.then(|| Step::Publish(policy.times_from(line_end)))
}

/// The keys that encrypt one after the other from `now` on, by index: the
/// active one and the announced ones.
pub fn line(own: &[KeyTimes], policy: &Policy, now: Time) -> Vec<usize> {
    let active = active(own, policy, now).into_iter();
    active.chain(announced(own, now)).map(|(index, _)| index).collect()
}

/// The keys that encrypt now or later, by index and in the order in which they
/// begin: the line of a ring whose keys somebody else sees to.
pub fn whole_line(own: &[KeyTimes], now: Time) -> Vec<usize> {
    let mut line: Vec<_> = (0..own.len()).filter(|index| own[*index].will_encrypt(now)).collect();
    line.sort_by_key(|index| own[*index].encrypt_from);
    line
}

/// The key to encrypt with: of several, which a rotation cut short can leave,
/// the one that fits the policy, and of those the newest.
fn active<'k>(own: &'k [KeyTimes], policy: &Policy, now: Time) -> Option<(usize, &'k KeyTimes)> {
    in_state(own, KeyState::Active, now)
        .max_by_key(|(_, key)| (policy.fits(key, now), key.encrypt_from))
}

/// The announced keys in the order in which they will encrypt.
fn announced(own: &[KeyTimes], now: Time) -> Vec<(usize, &KeyTimes)> {
    let mut announced: Vec<_> = in_state(own, KeyState::Announced, now).collect();
    announced.sort_by_key(|(_, key)| key.encrypt_from);
    announced
}

fn in_state(
    own: &[KeyTimes],
    state: KeyState,
    now: Time,
) -> impl Iterator<Item = (usize, &KeyTimes)> {
    own.iter().enumerate().filter(move |(_, key)| key.state(now) == state)
}

/// The next moment after `now` at which there is something to do: extend the
/// node's own line, or erase a key of anybody's. A line that is full can be
/// extended when its first key ends.
pub fn next_deadline(own: &[KeyTimes], everyone: &[KeyTimes], policy: &Policy, now: Time) -> Time {
    let line = || own.iter().filter(|key| key.will_encrypt(now)).map(|key| key.encrypt_until);
    let extend = match line().min() {
        Some(first_end) if line().count() >= LONGEST_LINE => first_end,
        _ => own
            .iter()
            .map(|key| key.encrypt_until)
            .max()
            .map_or(Time(0), |end| policy.extend_at(end)),
    };
    everyone.iter().map(|key| key.decrypt_until).min().unwrap_or(Time::NEVER).min(extend)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::{Clock, VirtualClock};

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn hourly() -> Policy {
        Policy { rotate_every: HOUR, lifetime: 2 * HOUR, lead: Policy::default_lead(HOUR) }
    }

    /// The keys of a node that has no ring, only times.
    #[derive(Default)]
    struct Node {
        keys: Vec<KeyTimes>,
        generator_broken: bool,
    }

    impl Node {
        fn tend(&mut self, policy: &Policy, now: Time) {
            self.keys.retain(|key| key.state(now) != KeyState::Expired);
            for _ in 0..100 {
                match next_step(&self.keys, policy, now) {
                    None => return,
                    Some(Step::Publish(_)) if self.generator_broken => return,
                    Some(Step::Publish(times)) => self.keys.push(times),
                    Some(Step::Retire(index)) => self.keys[index].encrypt_until = now,
                    Some(Step::Discard(index)) => drop(self.keys.remove(index)),
                }
            }
            panic!("the steps do not come to an end");
        }

        fn count(&self, state: KeyState, now: Time) -> usize {
            self.keys.iter().filter(|key| key.state(now) == state).count()
        }

        fn active(&self, now: Time) -> KeyTimes {
            let mut active = self.keys.iter().filter(|key| key.state(now) == KeyState::Active);
            let key = *active.next().expect("an active key");
            assert!(active.next().is_none(), "two active keys");
            key
        }
    }

    #[test]
    fn a_state_ends_where_the_next_one_begins_to_the_nanosecond() {
        let [encrypt_from, encrypt_until, decrypt_until] = [10, 20, 30].map(Time);
        let key = KeyTimes { encrypt_from, encrypt_until, decrypt_until };
        let states = |at: [u64; 2]| at.map(|at| key.state(Time(at)));
        assert_eq!(states([0, 9]), [KeyState::Announced; 2]);
        assert_eq!(states([10, 19]), [KeyState::Active; 2]);
        assert_eq!(states([20, 29]), [KeyState::Retired; 2]);
        assert_eq!(states([30, 31]), [KeyState::Expired; 2]);
        assert!(key.will_encrypt(Time(19)) && !key.will_encrypt(Time(20)));
    }

    #[test]
    fn the_first_end_of_anybodys_key_is_a_deadline() {
        let policy = hourly();
        let own = [policy.times_from(Time(1)), policy.times_from(Time(1) + HOUR)];
        let short = Time(1) + HOUR / 2;
        let others = KeyTimes { encrypt_until: short, decrypt_until: short, ..own[0] };
        assert_eq!(next_deadline(&own, &[own[0], others, own[1]], &policy, Time(1)), short);
    }

    #[test]
    fn previous_current_and_next_are_always_there() {
        let policy = hourly();
        let clock = VirtualClock::new(Time(1));
        let mut node = Node::default();
        const HOURS: u64 = if cfg!(miri) { 5 } else { 3 * 24 };
        for minute in 0..HOURS * 60 {
            let now = clock.now();
            if minute > 0 {
                // Before the writer gets to it: the successor is there already.
                node.active(now);
                assert!(node.count(KeyState::Announced, now) >= 1);
            }
            node.tend(&policy, now);
            node.active(now);
            assert!((1..=2).contains(&node.count(KeyState::Announced, now)));
            if minute > 121 {
                assert!(node.count(KeyState::Retired, now) >= 2);
            }
            let kept = Policy::keys_kept(policy.rotate_every, policy.lifetime);
            assert!(node.keys.len() as u64 <= kept);
            clock.advance(Duration::from_secs(60));
        }
    }

    #[test]
    fn a_wake_up_at_each_deadline_is_enough() {
        let policy = hourly();
        let mut node = Node::default();
        let mut now = Time(1);
        for _ in 0..200 {
            node.tend(&policy, now);
            let deadline = next_deadline(&node.keys, &node.keys, &policy, now);
            assert!(deadline > now, "no progress at {now:?}");
            now = deadline;
            assert!(node.count(KeyState::Announced, now) >= 1);
        }
        assert!(now > Time(1) + 60 * HOUR);
    }

    #[test]
    fn after_a_long_sleep_a_fresh_key_encrypts_and_old_ones_are_gone() {
        let policy = hourly();
        let mut node = Node::default();
        node.tend(&policy, Time(1));
        let woken = Time(1) + 30 * DAY;
        node.tend(&policy, woken);
        assert_eq!(node.active(woken).encrypt_from, woken);
        assert_eq!(node.keys.len(), 2);
    }

    #[test]
    fn a_longer_ticket_lifetime_rotates_early_and_lengthens_nothing() {
        let mut policy = hourly();
        let mut node = Node::default();
        let start = Time(1);
        node.tend(&policy, start);
        let old = node.active(start);

        policy.lifetime = 5 * HOUR;
        let now = start + HOUR / 2;
        node.tend(&policy, now);
        let new = node.active(now);
        assert_eq!(new.retention(), 5 * HOUR);
        assert_eq!(new.encrypt_from, now);
        let retired = node.keys.iter().find(|key| key.encrypt_from == old.encrypt_from).unwrap();
        assert_eq!(retired.encrypt_until, now);
        assert_eq!(retired.decrypt_until, old.decrypt_until);
        assert!(node.keys.iter().all(|key| key.retention() >= 5 * HOUR || key == retired));
    }

    #[test]
    fn a_shorter_interval_takes_effect_at_once() {
        let mut node = Node::default();
        node.tend(&hourly(), Time(1));
        let minutely = Policy {
            rotate_every: Duration::from_secs(60),
            lead: Duration::from_secs(6),
            ..hourly()
        };
        let now = Time(1) + HOUR / 3;
        node.tend(&minutely, now);
        assert_eq!(node.active(now).encrypt_until, now + Duration::from_secs(60));
    }

    #[test]
    fn an_interval_that_grows_again_and_again_does_not_make_the_line_too_long() {
        let every = |secs| Policy { rotate_every: Duration::from_secs(secs), ..hourly() };
        let mut node = Node::default();
        let mut now = Time(1);
        for secs in [60, 600, 6000, 60_000] {
            node.tend(&every(secs), now);
            assert!(line(&node.keys, &every(secs), now).len() <= LONGEST_LINE);
        }
        for _ in 0..20 {
            let deadline = next_deadline(&node.keys, &node.keys, &every(60_000), now);
            assert!(deadline > now, "no progress at {now:?}");
            now = deadline;
            node.active(now);
            node.tend(&every(60_000), now);
            assert!(node.count(KeyState::Announced, now) >= 1);
        }
    }

    #[test]
    fn a_shorter_lifetime_keeps_the_keys_there_are() {
        let mut node = Node::default();
        node.tend(&hourly(), Time(1));
        let before = node.keys.clone();
        node.tend(&Policy { lifetime: HOUR, ..hourly() }, Time(1) + HOUR / 3);
        assert_eq!(node.keys, before);
    }

    #[test]
    fn a_deliberate_rotation_retires_the_active_key() {
        let policy = hourly();
        let mut node = Node::default();
        node.tend(&policy, Time(1));
        let now = Time(1) + HOUR / 4;
        node.keys.push(rotation(&policy, now));
        node.tend(&policy, now);
        assert_eq!(node.active(now).encrypt_from, now);
        assert_eq!(node.count(KeyState::Retired, now), 1);
        assert_eq!(node.count(KeyState::Announced, now), 1);
    }

    #[test]
    fn without_a_generator_the_keys_end_when_they_said() {
        let policy = hourly();
        let mut node = Node::default();
        node.tend(&policy, Time(1));
        node.generator_broken = true;
        let line_end = node.keys.iter().map(|key| key.encrypt_until).max().unwrap();

        node.tend(&policy, line_end - Duration::from_nanos(1));
        node.active(line_end - Duration::from_nanos(1));
        node.tend(&policy, line_end);
        assert_eq!(node.count(KeyState::Active, line_end), 0);

        node.generator_broken = false;
        node.tend(&policy, line_end + HOUR);
        assert_eq!(node.active(line_end + HOUR).encrypt_from, line_end + HOUR);
    }

    #[test]
    fn a_failing_early_rotation_leaves_the_active_key_alone() {
        let mut node = Node::default();
        node.tend(&hourly(), Time(1));
        let before = node.keys.clone();
        node.generator_broken = true;
        node.tend(&Policy { lifetime: 9 * HOUR, ..hourly() }, Time(1) + HOUR / 2);
        assert_eq!(node.keys, before);
    }

    #[test]
    fn a_clock_that_cannot_be_read_changes_nothing() {
        assert_eq!(next_step(&[], &hourly(), Time::NEVER), None);
    }

    #[test]
    fn lead_and_kept_keys_follow_the_rotation() {
        let lead = |secs| Policy::default_lead(Duration::from_secs(secs));
        assert_eq!(lead(3600), Duration::from_secs(360));
        assert_eq!(lead(20), Duration::from_secs(5));
        assert_eq!(lead(1), Duration::from_millis(500));
        assert_eq!(Policy::keys_kept(HOUR, 2 * HOUR), 5);
        assert_eq!(Policy::longest_lifetime(HOUR, 64), 60 * HOUR);
        assert_eq!(Policy::longest_lifetime(DAY, 64), MAX_LIFETIME);
    }
}
