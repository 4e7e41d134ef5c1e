//! A ring at a moment at which nobody writes it.

use std::thread;
use std::time::Duration;

use tktrot::clock::{Clock, Time};
use tktrot::ring::key::KeyFacts;
use tktrot::ring::lock::Holder;
use tktrot::ring::view::View;

/// How often a ring is looked at that somebody writes. He needs microseconds, unless he is stopped.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// What belongs together in a ring.
pub struct Snapshot {
    /// When it was taken.
    pub now: Time,
    /// The keys there are.
    pub keys: Vec<KeyFacts>,
    /// From this time on there is something for a writer to do.
    pub deadline: Time,
    /// How much is left of the lease of an agent that governs it.
    pub governed: Option<Duration>,
    /// Who has the writer lock.
    pub writer: Holder,
    /// True if somebody wrote meanwhile, or does.
    between: bool,
    /// True if one thread had the writer lock on every look, and nothing changed.
    pub stuck: bool,
}

impl Snapshot {
    /// Looks until nobody writes, but not for ever.
    pub fn take(view: &View, clock: &impl Clock) -> Snapshot {
        let mut last = look(view, clock);
        let mut stuck = true;
        for _ in 1..LOOKS {
            if !last.between {
                return last;
            }
            thread::sleep(BETWEEN_LOOKS);
            let next = look(view, clock);
            stuck &= next.writer == last.writer && next.deadline == last.deadline;
            last = next;
        }
        let stuck = stuck && matches!(last.writer, Holder::Thread { .. });
        Snapshot { stuck, ..last }
    }
}

fn look(view: &View, clock: &impl Clock) -> Snapshot {
    let seen = || (view.writer(), view.deadline(), view.rotations());
    let before = seen();
    let keys = view.keys();
    let after = seen();
    let now = clock.now();
    let snapshot = Snapshot {
        now,
        keys,
        deadline: after.1,
        governed: view.governed(now),
        writer: after.0,
        between: false,
        stuck: false,
    };
    // Somebody who wrote meanwhile may be gone again, and the keys be partly as before.
    Snapshot { between: before != after || matches!(after.0, Holder::Thread { .. }), ..snapshot }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tktrot::clock::{BootClock, VirtualClock};
    use tktrot::config::Config;
    use tktrot::ring::file::Place;
    use tktrot::ring::layout::Capacity;
    use tktrot::rotate::Keyring;
    use tktrot::schedule::KeyState;

    use super::*;
    use tktrot_keyfile::generator::OpenSsl;

    fn keyring() -> (tempfile::TempDir, Place, Keyring) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = Place { dir: dir.path().into(), file: "some.ring".into(), dir_mode: 0o700 };
        let ring = place.open(Capacity::new(64).unwrap()).unwrap();
        let keyring = Keyring::new(ring, BootClock, &OpenSsl);
        keyring.configure(&Config::default()).unwrap();
        keyring.rotate().unwrap();
        (dir, place, keyring)
    }

    #[test]
    fn keys_that_are_just_being_changed_are_never_half_told() {
        let (_dir, place, keyring) = keyring();
        let view = place.look().unwrap().unwrap();
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    keyring.rotate().unwrap();
                    thread::sleep(Duration::from_micros(200));
                }
            });
            for _ in 0..300 {
                let snapshot = Snapshot::take(&view, &BootClock);
                let active = |key: &&KeyFacts| key.times.state(snapshot.now) == KeyState::Active;
                if !snapshot.between {
                    assert_eq!(snapshot.keys.iter().filter(active).count(), 1);
                }
                assert!(!snapshot.stuck);
            }
            enough.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_lock_that_is_not_given_back_is_stuck() {
        let (_dir, place, keyring) = keyring();
        let view = place.look().unwrap().unwrap();
        let clock = VirtualClock::new(Time(7));
        let writer = keyring.ring().try_write().unwrap();
        let snapshot = Snapshot::take(&view, &clock);
        assert!(snapshot.stuck);
        assert_eq!((snapshot.now, snapshot.keys.len()), (Time(7), 2));
        drop(writer);
        assert!(!Snapshot::take(&view, &clock).stuck);
    }
}
