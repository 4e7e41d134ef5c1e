//! For how long a host whose agent is gone goes on with keys that the others have.

use tktrot::schedule::{Step, next_step};

use super::*;

fn ahead_by(ahead: Duration) -> Limits {
    Limits { ahead: Ahead(Some(ahead)), ..limits() }
}

impl Host {
    /// Until when servers encrypt with a key that is in the ring now, if nobody comes to their aid.
    fn lasts_until(&self) -> Time {
        let mut keys: Vec<KeyTimes> = self.in_all_states().iter().map(|key| key.times).collect();
        let mut now = self.now;
        for _ in 0..24 * 60 {
            keys.retain(|key| key.state(now) != KeyState::Expired);
            match next_step(&keys, &policy(), now) {
                Some(Step::Publish(times)) => return times.encrypt_from,
                Some(Step::Retire(index)) => keys[index].encrypt_until = now,
                Some(Step::Discard(index)) => panic!("{:?} is discarded", keys[index]),
                None => now = now + Duration::from_secs(60),
            }
        }
        now
    }
}

#[test]
fn at_every_moment_the_keys_of_the_ring_last_for_so_long() {
    for (ahead, keys) in [(Ahead(Some(2 * HOUR)), 7), (Ahead(Some(10 * HOUR)), 15)] {
        let mut host = Host::with(Limits { ahead, ..limits() }, policy());
        host.handle(Event::Tick);
        host.handle(Event::Up(BOB));
        host.obliging.push(BOB);
        host.pass(secs(5.0));
        for minute in 0..(24 * 60) {
            host.pass(secs(60.0));
            let lasts = host.now.until(host.lasts_until());
            assert!(lasts >= ahead.of(&policy()), "minute {minute}: {lasts:?}");
            assert!(host.ring.len() <= keys + 1, "{} keys", host.ring.len());
        }
        // Nothing is made and thrown away.
        assert!(host.made < 24 + keys as u32, "{} keys in a day", host.made);
    }
}

/// Nor where keys change more often than peers are waited for, once it has run for so long.
#[test]
fn keys_of_a_second_follow_each_other_without_a_gap() {
    let rotate_every = secs(1.0);
    let policy = Policy { rotate_every, lifetime: secs(20.0), lead: secs(0.5) };
    let limits = Limits { ahead: Ahead(Some(secs(30.0))), capacity: 1000, ..limits() };
    let mut host = Host::with(limits, policy);
    host.handle(Event::Tick);
    host.handle(Event::Up(BOB));
    host.obliging.push(BOB);
    host.pass(secs(10.0));
    for _ in 0..50 {
        host.pass(secs(0.3));
        let mut line: Vec<_> = host.in_state(KeyState::Active);
        line.extend(host.in_state(KeyState::Announced));
        line.sort_by_key(|key| key.times.encrypt_from);
        assert!(line.len() >= 30, "{} keys", line.len());
        for pair in line.windows(2) {
            assert_eq!(pair[0].times.encrypt_until, pair[1].times.encrypt_from);
        }
    }
}

#[test]
fn a_rotation_by_hand_leaves_it_as_far_ahead() {
    let mut host = Host::with(ahead_by(4 * HOUR), policy());
    host.handle(Event::Tick);
    host.pass(HOUR / 3);
    let before = host.active();
    host.handle(Event::Rotate);
    assert_ne!(host.active(), before);
    host.pass(secs(5.0));
    assert!(host.lasts_until() >= host.now + 4 * HOUR);
}

#[test]
fn keys_ahead_leave_the_room_that_the_lifetime_needs() {
    let wide = ahead_by(10 * HOUR);
    assert_eq!(wide.ahead(&policy()), 10 * HOUR);
    for capacity in 1..100 {
        let narrow = Limits { capacity, ..wide };
        let none = Limits { ahead: Ahead::LEAST, ..narrow };
        let fitting = narrow.fitting(policy());
        assert_eq!(fitting, none.fitting(policy()), "capacity {capacity}");
        let kept = Policy::keys_kept(HOUR, fitting.lifetime) as usize;
        let ahead = narrow.ahead(&fitting).as_secs() as usize / 3600;
        assert!(ahead == 0 || kept + ahead < narrow.keys_of_each() / 2, "capacity {capacity}");
    }
}

/// Each key is made once, also by an agent that wakes late.
#[test]
fn who_wakes_late_makes_no_key_twice() {
    for rotate in [1.0, 3.0, 5.0, 60.0] {
        let rotate_every = secs(rotate);
        let policy = Policy { rotate_every, lifetime: 20 * rotate_every, lead: rotate_every / 2 };
        let limits = Limits { ahead: Ahead(Some(30 * rotate_every)), capacity: 1000, ..limits() };
        let mut host = Host::with(limits, policy);
        host.handle(Event::Tick);
        host.handle(Event::Up(BOB));
        host.obliging.push(BOB);
        let end = host.now + 200 * rotate_every;
        while host.now < end {
            let next = host.node.deadline(host.now);
            host.now = next.max(host.now) + Duration::from_millis(30);
            host.handle(Event::Tick);
            host.all_is_taken_by(BOB);
        }
        println!("{rotate}: {} keys", host.made);
        assert!(host.made < 200 + 50, "{} keys in 200 rotations of {rotate} s", host.made);
    }
}
