//! Who leads the upkeep of a ring: one at most, and somebody again when that
//! one shows nothing any more.

use std::sync::Arc;

use loom::thread;

use models::clock::Time;
use models::process::ProcessId;
use models::ring::Ring;
use models::ring::life::SILENCE;

use crate::explore;
use crate::keys::ring;

const NOW: Time = Time(1 << 40);

/// As an upkeep thread that comes by twice; says whether it leads.
fn attend(ring: &Ring, process: u64, now: Time) -> bool {
    let [first, second] = [0; 2].map(|_| ring.leads(ProcessId(process), now));
    assert!(second || !first, "a lead was lost");
    second
}

#[test]
fn one_leads_and_when_it_is_silent_another_does() {
    explore(3, || {
        let ring = ring(1);
        let round = |now: Time| {
            let threads = [1, 2].map(|process| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || attend(&ring, process, now))
            });
            let led = threads.map(|thread| thread.join().unwrap());
            assert_eq!(led.into_iter().filter(|led| *led).count(), 1, "{led:?} lead");
        };
        round(NOW);
        assert!(!attend(&ring, 3, NOW), "a lead was taken from one that shows it");
        assert!(attend(&ring, 3, NOW + SILENCE), "a silent one leads on");
        assert!(!attend(&ring, 1, NOW + SILENCE) && !attend(&ring, 2, NOW + SILENCE));
        round(NOW + SILENCE + SILENCE);
    });
}
